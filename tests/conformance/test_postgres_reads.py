"""What reading costs on PostgreSQL: no more rows than are shown, whatever the planner believes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from postgres import Databases
from zizq.engine.lists import JobList, ListQuery
from zizq.policy import Defaults
from zizq.store.base import Silence
from zizq.store.postgres import pages, windows
from zizq.store.postgres.database import Database, Transaction
from zizq.store.postgres.store import PostgresStore
from zizq.testing.bench import NOW, selection
from zizq.testing.clock import LoadedDice

MANY = 20_000
FLYING = 500
PAGE = 50
_FILL = f"""
    INSERT INTO zizq.jobs (id, queue, type, priority, status, ready_at, payload)
    SELECT lpad(n::text, 25, '0'), 'bulk', 't', 9, 1, n, '\\xc0' FROM generate_series(1, {MANY}) AS n;
    ANALYZE zizq.jobs;
    -- These came later, and the planner does not know that there is any of their kinds.
    INSERT INTO zizq.jobs (id, queue, type, priority, status, ready_at, payload, failed_at, purge_at)
    SELECT lpad(n::text, 25, 'z'), queue, 't', 9, status, n, '\\xc0', failed_at, purge_at
    FROM (VALUES
        (1, 'rare', 1, NULL, NULL), (2, 'rare', 1, NULL, NULL),
        (3, 'later', 0, NULL, NULL), (4, 'bulk', 3, 1, {2 * NOW})
    ) AS new (n, queue, status, failed_at, purge_at);
    INSERT INTO zizq.servers (fence, name, lease_until) VALUES (1, 'one', 'infinity');
    INSERT INTO zizq.flight (id, fence, owner, dequeued_at, turn)
    SELECT lpad(n::text, 25, '0'), 1, 1, {NOW} + n, n FROM generate_series(1, {FLYING}) AS n;
"""
_READ = """
    SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_all_tables
    WHERE relid = 'zizq.jobs'::regclass"""
Ask = Callable[[Transaction], Awaitable[Any]]


def fill(url: str) -> None:
    """Put jobs into an empty database."""
    asyncio.run(_fill(url))


async def _fill(url: str) -> None:
    store, database = PostgresStore(url, Defaults(), LoadedDice()), Database(url)
    await store.open(Silence())
    await store.close()
    await database.open()
    async with database.writing(durable=False) as db:
        await db.execute(_FILL)
    await database.close()


@pytest.fixture
def full_url(databases: Databases) -> str:
    """The URL of a full database."""
    return databases.fresh(fill)


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[Transaction]:
    """A database at one instant."""
    database = Database(url)
    await database.open()
    try:
        async with database.reading() as db:
            yield db
    finally:
        await database.close()


def page(order: str = "asc", after: str | None = None, **conditions: Any) -> Ask:
    return lambda db: pages.page(db, selection(**conditions), after, order, PAGE, NOW)  # type: ignore[arg-type]


def window(of: JobList, place: int | str) -> Ask:
    return lambda db: windows.window(db, of, place, PAGE, NOW)


def find(of: JobList, queue: str, backward: bool = False) -> Ask:
    return lambda db: windows.find(db, of, ListQuery(queues=(queue,)), None, backward, PAGE, NOW)


FEW: dict[str, Ask] = {
    "page": page(),
    "page from the middle": page("desc", f"{MANY // 2:0>25}"),
    "page of a queue": page(queues=["bulk"]),
    "page of a rare queue": page(queues=["rare"]),
    "page of the dead": page(statuses=["dead"]),
    "page of ready jobs from the end": page("desc", statuses=["ready"]),
    "page of jobs in flight": page(statuses=["in_flight"]),
    "page of jobs in flight from the end": page("desc", statuses=["in_flight"], queues=["bulk"]),
    "page of two statuses": page(statuses=["in_flight", "scheduled"]),
    "page of some": page(ids=[f"{n:0>25}" for n in range(90)]),
    "count": lambda db: pages.count(db, selection(statuses=["ready"]), NOW),
    "count of a rare queue": lambda db: pages.count(db, selection(queues=["rare"], types=["t"]), NOW),
    "queues": lambda db: pages.queues(db, NOW),
    "held": lambda db: windows.held(db, 1, [f"{number:025d}" for number in range(1, PAGE + 1)]),
    **{f"head of {of}": window(of, 0) for of in JobList if of is not JobList.READY},
    **{f"tail of {of}": window(of, 2**40) for of in JobList},
    "rare in scheduled": find(JobList.SCHEDULED, "later"),
    "none in dead": find(JobList.DEAD, "later"),
}
PASSING_FLYING: dict[str, Ask] = {
    "head of ready": window(JobList.READY, 0),
    "rare in ready": find(JobList.READY, "rare", backward=True),
    "page of ready jobs": page(statuses=["ready"]),
    "tally": lambda db: pages.tally(db, NOW),
    "oldest": lambda db: windows.oldest_ready(db),
}


@pytest.mark.parametrize("name", FEW)
async def test_no_more_rows_are_read_than_are_shown(full_url: str, name: str) -> None:
    async with reading(full_url) as db:
        assert await FEW[name](db) is not None or name == "none in dead"
        assert await db.fetchval(_READ) <= 4 * PAGE


@pytest.mark.parametrize("name", PASSING_FLYING)
async def test_what_passes_over_jobs_in_flight_reads_little_more_than_these(full_url: str, name: str) -> None:
    async with reading(full_url) as db:
        assert await PASSING_FLYING[name](db)
        assert await db.fetchval(_READ) <= 2 * FLYING + 4 * PAGE
