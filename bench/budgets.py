"""What budgets cost: the drain of jobs that draw on none, with and without budgets there, and of jobs that draw."""

from __future__ import annotations

import zizq
from bench.enqueuer import TYPE
from bench.programs import Server, serving, working
from bench.report import Table, rate

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
    samples: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind, budget in KINDS.items():
            with serving("buffered") as server:
                _fill(server, jobs, budget, defined=kind != "no budgets")
                with working(server, jobs) as worker:
                    done = worker.line()
            samples[kind].append(jobs / (done["ended"] - done["began"]))
    plain = sorted(samples["no budgets"])[rounds // 2]
    goals = dict(zip(KINDS, ("", "> 97 %", "> 70 %", "> 70 %"), strict=True))
    rows = [
        [kind, rate(taken), f"{sorted(taken)[rounds // 2] / plain:.0%}", goals[kind]] for kind, taken in samples.items()
    ]
    return Table("budgets", command, ["drain", "jobs/s", "of the first", "goal"], rows, samples)


def _fill(server: Server, jobs: int, budget: str | None, *, defined: bool) -> None:
    with zizq.SyncClient(server.url) as client:
        if defined:
            client.define_budget("flight", zizq.WhileInFlight(100_000))
            client.define_budget("time", zizq.TimeBased(1_000_000, per=1))
        for _ in range(0, jobs, 1000):
            client.enqueue_bulk(
                [zizq.Enqueue(TYPE, {"n": n, "text": "x" * 150}, queue="bench", budgets=budget) for n in range(1000)]
            )
