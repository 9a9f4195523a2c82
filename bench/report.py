"""Figures and tables: what a measurement is told as, on the screen, in README.md and as JSON."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
import timeit
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.programs import scratch

README = Path(__file__).with_name("README.md")


@dataclass(frozen=True)
class Table:
    """The results of one program.

    Args:
        name: The program; README.md has a place marked with it.
        command: What was run.
        columns: Their headings.
        rows: Their cells, as text.
        samples: Every single measurement, for those who want to reckon again.
        labels: How many columns say what was measured; the others are figures.
    """

    name: str
    command: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    samples: dict[str, Any] = field(default_factory=dict)
    labels: int = 1

    def __str__(self) -> str:
        return f"`{self.command}`\n\n{markdown(self.columns, self.rows, self.labels)}"


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]], labels: int) -> str:
    """A table; the first columns are labels, and the others are figures."""
    rule = ["---" if place < labels else "---:" for place in range(len(columns))]
    return "\n".join(f"| {' | '.join(line)} |" for line in [columns, rule, *rows])


def rate(samples: Sequence[float]) -> str:
    """The median of rates, and in brackets the lowest and the highest."""
    middle = f"{statistics.median(samples):,.0f}"
    return middle if len(samples) == 1 else f"{middle} ({min(samples):,.0f}-{max(samples):,.0f})"


def share(samples: Sequence[float]) -> str:
    """The median of ratios, and in brackets the lowest and the highest."""
    middle = f"{statistics.median(samples):.0%}"
    return middle if len(samples) == 1 else f"{middle} ({min(samples):.0%}-{max(samples):.0%})"


def millis(seconds: float) -> str:
    """A duration in milliseconds."""
    return f"{seconds * 1000:.2f}"


def mebibytes(size: float) -> str:
    """A size in MiB."""
    return f"{size / 2**20:.1f}"


def quantile(sorted_samples: Sequence[float], share: float) -> float:
    """The sample that so large a share of the samples does not exceed."""
    return sorted_samples[min(len(sorted_samples) - 1, int(share * len(sorted_samples)))]


def machine() -> str:
    """What it ran on, and how fast that was in this hour: its disk, its wakings of processes, its interpreter."""
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return (
        f"{os.cpu_count()} cores, {system}, a synced append of 4 KiB takes {millis(sync_time())} ms, "
        f"a byte to another core and back {millis(wake_time())} ms, "
        f"a loop of 100,000 turns {millis(loop_time())} ms"
    )


def caution(commands: str) -> str:
    """What a page says of figures that were made with a share of the jobs; empty where it was all of them."""
    if "--size" not in commands:
        return ""
    return "**This was a trial**, with a share of the jobs, on a machine with other work: take no figure from it."


def fill(table: Table) -> None:
    """Put a table into its place in README.md."""
    put(README, table.name, f"{table}\n\nMachine: {machine()}.")


def put(page: Path, name: str, text: str) -> None:
    """Put a text into its place in a page, which is marked with its name.

    Raises:
        ValueError: When the page has no such place.
    """
    page.write_text(placed(page.read_text(), name, text))


def placed(page: str, name: str, text: str) -> str:
    """The text of a page with another text in a place of it.

    Raises:
        ValueError: When the page has no such place.
    """
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    if begin not in page or end not in page:
        raise ValueError(f"the page has no place marked {begin.strip()} and {end}")
    head, _, rest = page.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}\n{text}\n\n{end}{tail}"


def sync_time() -> float:
    """The seconds that the disk takes to make an append of 4 KiB certain."""
    took = []
    with scratch() as folder, (folder / "probe").open("wb", buffering=0) as probe:
        for _ in range(50):
            began = time.monotonic()
            probe.write(bytes(4096))
            os.fdatasync(probe.fileno())
            took.append(time.monotonic() - began)
    return statistics.median(took)


def wake_time() -> float:
    """The seconds that a byte takes to a process on another core and back: each of the two is woken once."""
    took = []
    cores = os.sched_getaffinity(0)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as echo:
        assert echo.stdin is not None
        assert echo.stdout is not None
        os.sched_setaffinity(echo.pid, {max(cores)})
        os.sched_setaffinity(0, {min(cores)})
        try:
            for _ in range(1000):
                began = time.monotonic()
                echo.stdin.write(b".")
                echo.stdout.read(1)
                took.append(time.monotonic() - began)
        finally:
            os.sched_setaffinity(0, cores)
        echo.stdin.close()
    return statistics.median(took)


def loop_time() -> float:
    """The seconds that the interpreter takes to go round a small loop 100,000 times."""
    return statistics.median(timeit.repeat("sum(i * i for i in range(100_000))", number=1, repeat=20))
