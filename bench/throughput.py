"""How many jobs a second: enqueued one by one, in bulk, drained by one worker process, and both at once.

The server, the enqueuer and the worker are a process each. Every measurement has a new server with an empty store; the
shapes take turns, round after round, so that a slow minute of the machine falls on all of them.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence

import zizq
from bench.programs import Server, enqueuing, serving, working
from bench.report import Table, rate


def single(server: Server, jobs: int) -> float:
    """Enqueue from 64 clients of one caller each, a job a request."""
    return _enqueue(server, "single", jobs)


def shared(server: Server, jobs: int) -> float:
    """Enqueue from 64 callers of one Client, which joins what waits."""
    return _enqueue(server, "shared", jobs)


def single_sync(server: Server, jobs: int) -> float:
    """Enqueue one by one from one thread, with a SyncClient."""
    return _enqueue(server, "single-sync", jobs)


def bulk(server: Server, jobs: int) -> float:
    """Enqueue a hundred a request from 16 callers of one Client."""
    return _enqueue(server, "bulk", jobs)


def drain(server: Server, jobs: int) -> float:
    """Work off a queue with one worker, from its start to its last acknowledgement."""
    bulk(server, jobs)
    with working(server, jobs) as worker:
        done = worker.line()
    check_done(server, done["ran"], jobs)
    return jobs / (done["ended"] - done["began"])


def mixed(server: Server, jobs: int) -> float:
    """Enqueue in bulk while a worker drains, from the first enqueue to the last acknowledgement."""
    with working(server, jobs) as worker, enqueuing(server, "bulk", jobs) as enqueuer:
        began, done = enqueuer.line()["began"], worker.line()
    check_done(server, done["ran"], jobs)
    return jobs / (done["ended"] - began)


SHAPES: dict[str, tuple[Callable[[Server, int], float], int, int]] = {
    "single": (single, 50_000, 30_000),
    "shared": (shared, 100_000, 30_000),
    "single-sync": (single_sync, 10_000, 5_000),
    "bulk": (bulk, 300_000, 120_000),
    "drain": (drain, 200_000, 80_000),
    "mixed": (mixed, 200_000, 50_000),
}
"""What measures, how many jobs it takes for that, and the jobs a second to reach in buffered mode."""
SYNCED_SHARE = 0.6
"""Of the buffered goals, what is to be reached with fsync."""


def run(command: str, *, rounds: int, size: float, modes: Sequence[str]) -> Table:
    """Measure every shape in every mode."""
    samples: dict[str, list[float]] = {f"{shape}, {mode}": [] for shape in SHAPES for mode in modes}
    for number in range(rounds):
        for mode in modes:
            for shape, (measure, jobs, _) in SHAPES.items():
                with serving(mode) as server:
                    figure = measure(server, max(100, int(jobs * size)))
                samples[f"{shape}, {mode}"].append(figure)
                print(f"round {number + 1}/{rounds}: {shape}, {mode}: {figure:,.0f} jobs/s", file=sys.stderr)
    rows = [_row(shape, mode, samples[f"{shape}, {mode}"]) for shape in SHAPES for mode in modes]
    return Table("throughput", command, ["shape", "commit mode", "jobs/s", "goal", "of goal"], rows, samples, labels=2)


def check_done(server: Server, ran: int, jobs: int) -> None:
    """Make sure that each job ran once, and that nothing is left on the server.

    Raises:
        RuntimeError: When it is not so.
    """
    with zizq.SyncClient(server.url) as client:
        queues = client.queues()
    if ran != jobs or queues:
        raise RuntimeError(f"{ran} handlers ran for {jobs} jobs; queues with jobs left: {queues}")


def _enqueue(server: Server, shape: str, jobs: int) -> float:
    with enqueuing(server, shape, jobs) as enqueuer:
        done = enqueuer.line()
    return jobs / (done["ended"] - done["began"])


def _row(shape: str, mode: str, samples: Sequence[float]) -> list[str]:
    goal = SHAPES[shape][2] * (1.0 if mode == "buffered" else SYNCED_SHARE)
    return [shape, mode, rate(samples), f"{goal:,.0f}", f"{statistics.median(samples) / goal:.0%}"]
