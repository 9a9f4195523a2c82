"""How many batched jobs a second are folded into one that waits: one job a request, 64 callers, all under one key.

No worker runs, so that the job that waits is never taken: every enqueue after the first is a fold. In the end all that
was enqueued must be in the jobs that there are.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence

import zizq
from bench.enqueuer import APPENDED
from bench.programs import Server, enqueuing, serving
from bench.report import Table, rate

SHAPES = ("append", "objects", "count")
JOBS = 10_000
GOAL = 2000
"""Folds a second, in either mode."""


def measure(server: Server, shape: str, jobs: int) -> float:
    """Enqueues a second."""
    with enqueuing(server, shape, jobs) as enqueuer:
        done = enqueuer.line()
    _check(server, shape, jobs)
    return jobs / (done["ended"] - done["began"])


def run(command: str, *, rounds: int, size: float, modes: Sequence[str]) -> Table:
    """Measure every shape in every mode."""
    samples: dict[str, list[float]] = {f"{shape}, {mode}": [] for shape in SHAPES for mode in modes}
    for number in range(rounds):
        for mode in modes:
            for shape in SHAPES:
                with serving(mode) as server:
                    figure = measure(server, shape, max(100, int(JOBS * size)))
                samples[f"{shape}, {mode}"].append(figure)
                print(f"round {number + 1}/{rounds}: {shape}, {mode}: {figure:,.0f} folds/s", file=sys.stderr)
    rows = [_row(shape, mode, samples[f"{shape}, {mode}"]) for shape in SHAPES for mode in modes]
    return Table("folds", command, ["shape", "commit mode", "folds/s", "goal", "of goal"], rows, samples, labels=2)


def _check(server: Server, shape: str, jobs: int) -> None:
    """Make sure that all that was enqueued is there.

    Raises:
        RuntimeError: When it is not so.
    """
    with zizq.SyncClient(server.url) as client:
        payloads = [job.payload for job in client.jobs()]
    there = sum(payload["count"] if shape == "count" else len(payload["items"]) for payload in payloads)
    most = 1 if shape == "count" else -(-jobs // APPENDED)
    if there != jobs or len(payloads) > most:
        raise RuntimeError(f"{jobs} enqueues are {there} in {len(payloads)} jobs; {most} jobs would do")


def _row(shape: str, mode: str, samples: Sequence[float]) -> list[str]:
    return [shape, mode, rate(samples), f"{GOAL:,}", f"{statistics.median(samples) / GOAL:.0%}"]
