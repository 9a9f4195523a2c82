"""Figures and tables: what a measurement is told as, on the screen, in README.md and as JSON."""

from __future__ import annotations

import os
import platform
import statistics
import time
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
        rule = ["---" if place < self.labels else "---:" for place in range(len(self.columns))]
        lines = [self.columns, rule, *self.rows]
        return f"`{self.command}`\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


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
    """What it ran on, and how long its disk takes to sync: the fsync figures hang on that."""
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} cores, {system}, a synced append of 4 KiB takes {millis(_sync_time())} ms"


def fill(table: Table) -> None:
    """Put a table into its place in README.md."""
    text = README.read_text()
    begin, end = f"<!-- {table.name} -->\n", f"<!-- end of {table.name} -->"
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    README.write_text(f"{head}{begin}\n{table}\n\nMachine: {machine()}.\n\n{end}{tail}")


def _sync_time() -> float:
    took = []
    with scratch() as folder, (folder / "probe").open("wb", buffering=0) as probe:
        for _ in range(50):
            began = time.monotonic()
            probe.write(bytes(4096))
            os.fdatasync(probe.fileno())
            took.append(time.monotonic() - began)
    return statistics.median(took)
