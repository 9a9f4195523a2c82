"""What budgets cost: the drain of jobs that draw on none, with and without budgets there, and of jobs that draw."""

from __future__ import annotations

import statistics

import zizq
from bench.enqueuer import TYPE
from bench.programs import Server, serving, working
from bench.report import Table, rate, share
from bench.throughput import check_done

JOBS = 100_000
KINDS = {
    "no budgets": None,
    "budgets are there, jobs draw on none": None,
    "each job draws on one while in flight": "flight",
    "each job draws on one by time": "time",
}


def run(command: str, *, rounds: int, size: float, modes: object = None) -> Table:
    """Enqueue, drain, for each kind in turn. `modes` is of no use: what is measured is the taking."""
    jobs = max(1000, int(JOBS * size))
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    costs: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number in range(rounds):
        # Forth and back, so that a machine that becomes slower or faster favours none.
        for kind in list(KINDS)[:: -1 if number % 2 else 1]:
            with serving("buffered") as server:
                _fill(server, jobs, KINDS[kind], defined=kind != "no budgets")
                used = server.cpu()
                with working(server, jobs) as worker:
                    done = worker.line()
                costs[kind].append((server.cpu() - used) / jobs * 1e6)
                check_done(server, done["ran"], jobs)
            rates[kind].append(jobs / (done["ended"] - done["began"]))
    goals = dict(zip(KINDS, ("", "> 97 %", "> 70 %", "> 70 %"), strict=True))
    plain = "no budgets"
    rows = [
        [
            kind,
            rate(rates[kind]),
            share([one / first for one, first in zip(rates[kind], rates[plain], strict=True)]),
            f"{statistics.median(costs[kind]):.1f}",
            share([first / one for one, first in zip(costs[kind], costs[plain], strict=True)]),
            goals[kind],
        ]
        for kind in KINDS
    ]
    columns = ["drain", "jobs/s", "beside the first", "server CPU, µs a job", "its share, first to this", "goal"]
    return Table("budgets", command, columns, rows, {"rates": rates, "costs": costs})


def _fill(server: Server, jobs: int, budget: str | None, *, defined: bool) -> None:
    with zizq.SyncClient(server.url) as client:
        if defined:
            client.define_budget("flight", zizq.WhileInFlight(100_000))
            client.define_budget("time", zizq.TimeBased(1_000_000, per=1))
        for _ in range(0, jobs, 1000):
            client.enqueue_bulk(
                [zizq.Enqueue(TYPE, {"n": n, "text": "x" * 150}, queue="bench", budgets=budget) for n in range(1000)]
            )
