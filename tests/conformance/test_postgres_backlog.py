"""No call reads the backlog, whatever the planner thinks of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from zizq.job import Batch
from zizq.policy import Defaults
from zizq.store.postgres.database import Database, Transaction
from zizq.store.postgres.store import PostgresStore
from zizq.testing.bench import DAY, NOW, Bench, Recorder
from zizq.testing.clock import LoadedDice

BACKLOG = 20_000
FEW = 1000
"""Rows that a call may read."""

_ROWS = """SELECT coalesce(sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)), 0)::bigint
           FROM pg_stat_xact_user_tables"""


class Metered(Database):
    """Counts the rows that transactions read."""

    rows = 0

    @asynccontextmanager
    async def _transaction(self, begin: str) -> AsyncIterator[Transaction]:
        async with super()._transaction(begin) as db:
            before = await db.fetchval(_ROWS)
            yield db
            self.rows += await db.fetchval(_ROWS) - before


class Led(PostgresStore):
    """A server that does nothing by itself."""

    async def _keep_lease(self) -> None:
        """Nothing."""

    async def _look_around(self) -> None:
        """Nothing."""


class Calls:
    def __init__(self, store: PostgresStore, db: Metered) -> None:
        self.bench = Bench(store, Recorder(), LoadedDice())  # type: ignore[arg-type]
        self.store = store
        self.db = db
        self.read: dict[str, int] = {}

    async def count(self, name: str, call: Awaitable[Any]) -> Any:
        self.db.rows = 0
        outcome = await call
        self.read[name] = self.db.rows
        return outcome

    async def fill(self) -> None:
        for start in range(0, BACKLOG, 1000):
            jobs = [self.bench.job(f"q{number % 4}", priority=9) for number in range(start, start + 1000)]
            await self.bench.enqueue(*jobs)
        for number in range(1000):
            await self.store.enqueue([self.bench.job(unique_key=f"k{number}", ready_at=NOW + DAY)], NOW)

    async def all_of_them(self) -> None:
        bench, store, count = self.bench, self.store, self.count
        await count("enqueue", store.enqueue([bench.job() for _ in range(10)], NOW))
        await count("enqueue keyed", store.enqueue([bench.job(unique_key=f"k{number}") for number in range(5)], NOW))
        await count("enqueue later", store.enqueue([bench.job(ready_at=NOW + 5) for _ in range(5)], NOW))
        batch = Batch("b", "true", "$new")
        await count("enqueue batched", store.enqueue([bench.job("b", batch=batch)], NOW, (), {"b": None}))
        await count("pending", store.pending(["b"]))
        for name, queues in {"all": (), "one": ("q1",), "several": ("q2", "q3", "b")}.items():
            jobs = await count(f"take of {name}", bench.take(20, queues=queues))
            assert len(jobs) == 20
            ids = [job.id for job in jobs]
            await count("in flight", store.in_flight(ids))
            await count("succeed", store.succeed(ids[:5], NOW))
            await count("fail", bench.fail(ids[5], kill=True))
            await count("release jobs", store.release_jobs(ids[6:10]))
            await count("release", store.release(1, died_at=NOW))
        await count("next overdue", store.next_overdue())
        await count("fail overdue", store.fail_overdue(NOW, 10))
        assert await count("promote", store.promote(NOW + 5, 10)) == 5
        await count("next due", store.next_due())
        assert await count("reap", store.reap(NOW + 100 * DAY, 10)) == 3
        await bench.take(1, queues=("q1",), owner=2)
        await bench.take(1, owner=3)
        await count("look", store._look_once())
        # The first one adds the tally up.
        await store._renew()
        # And now and then one searches all that is in flight.
        store._renewals = 1
        await count("renew", store._renew())


async def nothing(url: str) -> None:
    """The planner knows nothing."""


async def emptiness(url: str) -> None:
    """The planner has last seen empty tables."""
    db = Database(url)
    await db.open()
    assert db._pool is not None
    await db._pool.execute("VACUUM ANALYZE")
    await db.close()


@pytest.mark.parametrize("planner_knows", [nothing, emptiness])
async def test_no_call_reads_the_backlog(postgres_url: str, planner_knows: Callable[[str], Awaitable[None]]) -> None:
    for fill in (False, True):
        store = Led(postgres_url, Defaults(), LoadedDice())
        store._db = db = Metered(postgres_url)
        await store.open(Recorder())
        try:
            if not fill:
                await planner_knows(postgres_url)
                continue
            calls = Calls(store, db)
            await calls.fill()
            await calls.all_of_them()
        finally:
            await store.close()
    assert {name: rows for name, rows in calls.read.items() if rows > FEW} == {}
