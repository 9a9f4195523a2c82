"""How long from an enqueue to the start of the handler: at a thousand jobs a second, and idle.

The loop is open: an enqueue is sent when its time has come, whether or not those before were answered, so a server that
pauses is charged for every job that waited. Each job carries its instant on the clock that all processes share, taken
before the client is called; so the time holds everything: client, network, commit, dispatch, worker.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence

from bench.programs import enqueuing, serving, working
from bench.report import Table, millis, quantile

LOADS = {"1,000/s": (1000, 20_000), "idle, 10/s": (10, 100)}
"""Jobs a second, and how many of them."""
GOAL_S = 0.002
"""The p99 to stay under at 1,000/s in buffered mode."""
SYNCED_SHARE = 0.6


def measure(mode: str, per_second: int, jobs: int) -> list[float]:
    """The seconds of each job, sorted."""
    with (
        serving(mode) as server,
        working(server, jobs, latency=True) as worker,
        enqueuing(server, "paced", jobs, per_second) as enqueuer,
    ):
        sent = enqueuer.line()
        lasted = sent["ended"] - sent["began"]
        if lasted > 1.05 * jobs / per_second:
            print(f"the enqueuer could not keep up: {jobs / lasted:,.0f}/s", file=sys.stderr)
        return sorted(worker.line()["seconds"])


def run(command: str, *, rounds: int, size: float, modes: Sequence[str]) -> Table:
    """Measure every load in every mode; the figures of a row are medians over the rounds."""
    samples: dict[str, list[list[float]]] = {f"{load}, {mode}": [] for load in LOADS for mode in modes}
    for number in range(rounds):
        for mode in modes:
            for load, (per_second, jobs) in LOADS.items():
                seconds = measure(mode, per_second, max(20, int(jobs * size)))
                figures = [*(quantile(seconds, share) for share in (0.5, 0.9, 0.99)), seconds[-1]]
                samples[f"{load}, {mode}"].append(figures)
                print(f"round {number + 1}/{rounds}: {load}, {mode}: p99 {millis(figures[2])} ms", file=sys.stderr)
    rows = [_row(load, mode, samples[f"{load}, {mode}"]) for load in LOADS for mode in modes]
    columns = ["load", "commit mode", "p50 ms", "p90 ms", "p99 ms", "p99 of each round", "max ms", "goal p99"]
    return Table("latency", command, columns, rows, samples, labels=2)


def _row(load: str, mode: str, rounds: list[list[float]]) -> list[str]:
    p50, p90, p99 = (millis(statistics.median(figures[place] for figures in rounds)) for place in range(3))
    each = " ".join(millis(figures[2]) for figures in rounds)
    goal = GOAL_S if mode == "buffered" else GOAL_S / SYNCED_SHARE
    shown = f"< {goal * 1000:.0f}" if load.startswith("1,000") else ""
    return [load, mode, p50, p90, p99, each, millis(max(figures[3] for figures in rounds)), shown]
