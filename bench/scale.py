"""What a million queued jobs cost, or ten with `--size 10`: memory, start, and the rate at the head of the queue.

One store is filled, and lives through it all: the server is stopped and started on it, then killed and started again.
Parts are drained from its head, and in between as many from stores that hold no more: the share is that of neighbours.
"""

from __future__ import annotations

import signal
import statistics
import sys
import time
from pathlib import Path

import zizq
from bench.programs import Server, enqueuing, scratch, serving, working
from bench.report import Table, mebibytes

JOBS = 1_000_000
DRAINED = 100_000
PARTS = 3
GROWTH_GOAL = 60 * 2**20
MEMORY_GOAL = 300 * 2**20
START_GOAL_S = 2.0
SHARE_GOAL = 0.85


def start(store: Path) -> tuple[Server, float]:
    """A server on a store that exists, and the seconds until it has answered a take with a job."""
    server = Server(store, "buffered")
    try:
        with zizq.SyncClient(server.url) as client, client.take() as jobs:
            next(jobs)
            return server, time.monotonic() - server.began
    except BaseException:
        server.stop()
        raise


def run(command: str, *, rounds: int, size: float, modes: object = None) -> Table:
    """Fill, weigh, restart, drain; once, for it takes long and hardly varies. `rounds` and `modes` are of no use."""
    jobs = max(1000, int(JOBS * size))
    drained = min(DRAINED, jobs // (2 * PARTS))
    with scratch() as folder:
        store = folder / "store"
        samples = _fill(store, jobs)
        server, samples["start after a stop, s"] = start(store)
        server.stop(signal.SIGKILL)
        server, samples["start after kill -9, s"] = start(store)
        with server:
            samples["memory after the start"] = server.memory()
            samples |= _drain(server, drained)
            samples["highest memory while draining"] = server.memory("VmHWM")
    return Table("scale", command, ["figure", f"with {jobs:,} queued jobs", "goal"], _rows(samples), samples)


def _drain(server: Server, jobs: int) -> dict[str, float]:
    """Drain parts from the head of a backlog, and as many jobs from stores without one, in turn."""
    head, alone = [], []
    for _ in range(PARTS):
        head.append(_drained(server, jobs))
        with serving("buffered") as other:
            with enqueuing(other, "bulk", jobs) as enqueuer:
                enqueuer.line()
            alone.append(_drained(other, jobs))
    return {
        "drain at the head, jobs/s": statistics.median(head),
        "drain without a backlog, jobs/s": statistics.median(alone),
        "share": statistics.median(one / other for one, other in zip(head, alone, strict=True)),
    }


def _drained(server: Server, jobs: int) -> float:
    with working(server, jobs) as worker:
        done = worker.line()
    return jobs / (done["ended"] - done["began"])


def _fill(store: Path, jobs: int) -> dict[str, float]:
    """Weigh the server before and after so many jobs are enqueued."""
    with Server(store, "buffered") as server:
        with zizq.SyncClient(server.url) as client:
            client.health()
        empty = server.memory()
        with enqueuing(server, "bulk", jobs) as enqueuer:
            done = enqueuer.line()
        print(f"{jobs:,} jobs are queued", file=sys.stderr)
        return {
            "enqueue in bulk, jobs/s": jobs / (done["ended"] - done["began"]),
            "memory, empty": empty,
            "memory, full": server.memory(),
            "store on disk": sum(file.stat().st_size for file in store.rglob("*") if file.is_file()),
        }


def _rows(samples: dict[str, float]) -> list[list[str]]:
    goals = {name: f"< {START_GOAL_S:.0f}" for name in samples if name.startswith("start")}
    goals["memory, full, MiB"] = goals["highest memory while draining, MiB"] = f"< {MEMORY_GOAL / 2**20:.0f}"
    goals["growth of memory, MiB"] = f"< {GROWTH_GOAL / 2**20:.0f}"
    goals["share"] = f"> {SHARE_GOAL:.0%}"
    rows = []
    for name, figure in samples.items():
        if name.endswith("jobs/s"):
            rows.append([name, f"{figure:,.0f}"])
        elif name.endswith(", s"):
            rows.append([name, f"{figure:.2f}"])
        elif name == "share":
            rows.append([name, f"{figure:.0%}"])
        else:
            rows.append([f"{name}, MiB", mebibytes(figure)])
        if name == "memory, full":
            rows.append(["growth of memory, MiB", mebibytes(figure - samples["memory, empty"])])
    return [[*row, goals.get(row[0], "")] for row in rows]
