"""What lists, counts and changes of many jobs cost at depth where jobs are in PostgreSQL.

`python -m bench.postgres_lists [JOBS]` makes a cluster, fills it, and asks the store itself, without a server.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from zizq.engine.changes import Change, Delete, Patch, Retry
from zizq.engine.lists import JobList, ListQuery
from zizq.engine.selection import Range
from zizq.policy import Defaults
from zizq.store.base import Silence
from zizq.store.postgres.store import PostgresStore
from zizq.testing.bench import NOW, selection
from zizq.testing.clock import LoadedDice
from zizq.testing.postgres import Cluster

JOBS = 1_000_000
FLYING = 5000
ASKED = 20
_FILL = """
    INSERT INTO zizq.jobs (id, queue, type, priority, status, ready_at, payload, purge_at)
    SELECT lpad(n::text, 25, '0'), 'q' || n % 10, 't' || n % 2, 32768,
           CASE WHEN n % 20 < 15 THEN 1 WHEN n % 20 < 19 THEN 0 ELSE 3 END, {now} + n, decode(repeat('c4', 190), 'hex'),
           CASE WHEN n % 20 = 19 THEN 2 * {now} END
    FROM generate_series(1, {jobs}) AS n"""
Ask = Callable[[], Awaitable[Any]]


def _questions(store: PostgresStore, jobs: int) -> dict[str, Ask]:
    middle = f"{jobs // 2:0>25}"

    def page(after: str | None = None, limit: int = 50, **conditions: Any) -> Ask:
        return lambda: store.page(selection(**conditions), after, "asc", limit, NOW)

    def count(**conditions: Any) -> Ask:
        return lambda: store.count(selection(**conditions), NOW)

    def window(of: JobList, place: int | str) -> Ask:
        return lambda: store.window(of, place, 50, NOW)

    return {
        "page of everything": page(),
        "page from the middle": page(middle),
        "page of a queue's ready jobs": page(middle, queues=["q3"], statuses=["ready"]),
        "page of ready jobs, beyond those in flight": page(statuses=["ready"]),
        "page of jobs in flight": page(statuses=["in_flight"]),
        "page of one type": page(types=["t1"]),
        "page of 2,000 of one type": page(limit=2000, types=["t1"]),
        "page of priorities that none has (not indexed)": page(priority=Range(1, 1)),
        "one job": lambda: store.get(middle, NOW),
        "count of everything": count(),
        "count of ready jobs": count(statuses=["ready"]),
        "count of priorities (not indexed)": count(priority=Range(1, 9)),
        "tally": lambda: store.tally(NOW),
        "oldest ready job of each queue": lambda: store.oldest_ready(NOW),
        "window at the head of ready jobs": window(JobList.READY, 0),
        "window in their middle": window(JobList.READY, jobs * 3 // 8),
        "window at their end": window(JobList.READY, jobs),
        "window of scheduled jobs": window(JobList.SCHEDULED, 0),
        "window of dead jobs": window(JobList.DEAD, 0),
        "search in ready jobs": lambda: store.find(JobList.READY, ListQuery(("q7",)), None, False, 50, NOW),
    }


async def _ask(store: PostgresStore, jobs: int) -> None:
    for name, ask in _questions(store, jobs).items():
        times = []
        for _ in range(ASKED):
            began = time.perf_counter()
            await ask()
            times.append(time.perf_counter() - began)
        print(f"| {name} | {min(times) * 1e3:,.1f} ms |", flush=True)


async def _change(store: PostgresStore) -> None:
    changes: dict[str, tuple[Change, dict[str, Any]]] = {
        "patch the priority of a queue": (Patch(priority=7), {"queues": ["q3"]}),
        "retry all dead jobs": (Retry(), {}),
        "delete everything": (Delete(), {}),
    }
    for name, (change, conditions) in changes.items():
        began = time.perf_counter()
        changed = await store.change(selection(**conditions), change, NOW)
        print(f"| {name} | {changed.jobs:,} jobs in {time.perf_counter() - began:,.1f} s |", flush=True)


async def _run(url: str, cluster: Cluster, jobs: int) -> None:
    store = PostgresStore(url, Defaults(), LoadedDice())
    await store.open(Silence())
    try:
        cluster.psql(_FILL.format(now=NOW, jobs=jobs))
        await store.take(1, frozenset(), FLYING, NOW)
        cluster.psql("VACUUM ANALYZE")
        await _ask(store, jobs)
        await _change(store)
    finally:
        await store.close()


def main() -> None:
    """Print the table."""
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else JOBS
    cluster = Cluster(fsync=True, settings={"shared_buffers": "512MB", "max_wal_size": "4GB"})
    try:
        cluster.start()
        asyncio.run(_run(cluster.url(), cluster, jobs))
    finally:
        cluster.remove()


if __name__ == "__main__":
    main()
