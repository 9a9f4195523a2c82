"""An old state of the database that somebody looks at for long: nothing that is gone since can be swept meanwhile.

What is counted is the pages that a drain touches, which no other load on the machine changes.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import psycopg
import pytest

from zizq.policy import Defaults
from zizq.store.base import Silence
from zizq.store.postgres.claims import Take, claim
from zizq.store.postgres.floors import ALL, FIRST, Key
from zizq.store.postgres.settling import Settling, Succeed
from zizq.store.postgres.store import PostgresStore
from zizq.testing.bench import NOW, Bench, Recorder
from zizq.testing.clock import LoadedDice

AT_ONCE = 100
LOTS = 80


class Counting:
    """Stands for a transaction: carries statements out, and counts the pages that they touch."""

    def __init__(self, db: Any) -> None:
        self._db = db
        self.pages = 0

    async def fetch(self, text: str, *values: Any) -> list[Any]:
        found = await self._db.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {text}", *values)
        plan = json.loads(found)[0]["Plan"]
        self.pages += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        return []


async def pages(store: PostgresStore, do: Callable[[Any], Awaitable[Any]], *, in_order: bool = False) -> int:
    """The pages that something touches, which is then undone."""
    async with store._db.writing(durable=False, hot=True, in_order=in_order) as db:
        await db.execute("SAVEPOINT before")
        counting = Counting(db)
        await do(counting)
        await db.execute("ROLLBACK TO SAVEPOINT before")
    return counting.pages


async def taking(store: PostgresStore, queues: frozenset[str], limit: int, floors: Mapping[str, Key]) -> int:
    """What it costs to take jobs from some floors on."""
    takes = [Take(1, queues, limit, NOW, None)]
    return await pages(store, lambda db: claim(db, store._fence, 10**9, floors, takes), in_order=True)


async def cost(store: PostgresStore, queues: frozenset[str]) -> int:
    """What it costs to take jobs and to be done with them."""
    count = await taking(store, queues, AT_ONCE, store._floors.of(queues))
    ids = [job.id for job in await store.take(1, queues, AT_ONCE, NOW)]
    assert len(ids) == AT_ONCE

    def settle(db: Any) -> Awaitable[Any]:
        return Settling(db, store._fence, store._holdings, Defaults(), LoadedDice()).succeed([Succeed(ids, NOW)])

    count += await pages(store, settle)
    await store.succeed(ids, NOW)
    return count


@pytest.mark.parametrize("queues", [(), ("q",), ("q", "r")])
async def test_under_an_old_snapshot_the_drain_goes_on_at_more_than_half_its_rate(
    postgres_url: str, queues: tuple[str, ...]
) -> None:
    store = PostgresStore(postgres_url, Defaults(), LoadedDice())
    await store.open(Silence())
    bench, some = Bench(store, Recorder(), LoadedDice()), frozenset(queues)  # type: ignore[arg-type]

    async def drain(lots: int) -> None:
        for _ in range(lots):
            await bench.enqueue(*[bench.job() for _ in range(AT_ONCE)])
            assert await store.succeed([job.id for job in await bench.take(AT_ONCE, queues=queues)], NOW)

    try:
        await bench.enqueue(*[bench.job() for _ in range(3 * AT_ONCE)])
        await drain(2)
        before = await cost(store, some)
        with psycopg.connect(postgres_url, autocommit=True) as old:
            old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            assert old.execute("SELECT count(*) FROM zizq.jobs").fetchone() == (2 * AT_ONCE,)
            await drain(LOTS)
            assert await cost(store, some) < 2 * before
            # Without floors each take would walk over all that cannot be swept.
            near = await taking(store, some, 1, store._floors.of(some))
            assert await taking(store, some, 1, dict.fromkeys(queues or (ALL,), FIRST)) > 3 * near
    finally:
        await store.close()
