"""What applications post in transactions of their own comes into the queues of a real database."""

from __future__ import annotations

import asyncio
import random
import string
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

import zizq.postgres
from postgres import Databases
from zizq import Draw, RawBatch, TimeBased, ids
from zizq.clock import SharedClock, SystemClock, SystemDice
from zizq.job import Status
from zizq.policy import Defaults
from zizq.server.broker import Broker
from zizq.server.inbox import Mover
from zizq.server.payloads import Payloads
from zizq.store.inbox import NAMELESS
from zizq.store.opening import migrate_store
from zizq.store.postgres.inbox import BACK_MS, MOST_BYTES, WHOLE_EVERY
from zizq.store.postgres.store import PostgresStore
from zizq.store.url import StoreUrl
from zizq.testing.server import RunningServer, running_server


class Sums:
    """A folder that adds numbers."""

    async def check_batch(self, when: str, fold: str, payload: bytes) -> None:
        """Nothing is wrong."""

    async def fold(self, existing: bytes, when: str, fold: str, news: Sequence[bytes]) -> tuple[bytes, int, str | None]:
        numbers = [msgspec.msgpack.decode(one) for one in (existing, *news)]
        return msgspec.msgpack.encode(sum(numbers)), len(news), None


class Server:
    """The parts of a server that matter here."""

    def __init__(self, url: str) -> None:
        self.clock = SharedClock(SystemClock())
        self.store = PostgresStore(url, Defaults(), SystemDice(), clock=self.clock)
        self.broker = Broker(self.store, self.clock, SystemDice(), Sums())
        self.mover = Mover(self.store, self.broker, Payloads(), self.clock)

    async def taken(self) -> list[tuple[str, object]]:
        """The jobs that are ready: identifiers and payloads."""
        jobs = await self.store.take(1, frozenset(), 10_000, self.clock.wall_ms())
        return [(job.id, msgspec.msgpack.decode(job.payload or b"")) for job in jobs]


def migrate(url: str) -> None:
    asyncio.run(migrate_store(StoreUrl(url), dry_run=False))


@pytest.fixture
def url(databases: Databases) -> str:
    return databases.fresh(migrate)


@asynccontextmanager
async def server(url: str) -> AsyncIterator[Server]:
    one = Server(url)
    await one.broker.start()
    try:
        yield one
    finally:
        await one.broker.stop()


def ask(url: str, statement: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return connection.execute(statement).fetchall()  # type: ignore[call-overload,no-any-return]


async def test_a_commit_is_a_job_and_a_rollback_is_none(url: str) -> None:
    async with server(url) as one:
        with psycopg.connect(url) as connection:
            job_id = zizq.postgres.enqueue_raw(connection, "t", {"n": 1})
            assert await one.mover.move() == 0
        assert await one.mover.move() == 1
        with psycopg.connect(url) as connection:
            zizq.postgres.enqueue_raw(connection, "t", {"n": 2})
            connection.rollback()
        assert await one.mover.move() == 0
        assert await one.taken() == [(job_id, {"n": 1})]


async def test_what_waits_is_told_until_it_is_moved(url: str) -> None:
    async with server(url) as one:
        assert await one.store.waiting() == (0, None)
        with psycopg.connect(url) as connection:
            first, _ = (zizq.postgres.enqueue_raw(connection, "t", n) for n in range(2))
            assert await one.store.waiting() == (0, None)
        assert await one.store.waiting() == (2, ids.created_at(first))
        await one.mover.move()
        assert await one.store.waiting() == (0, None)
        ask(url, "INSERT INTO zizq.inbox VALUES ('by hand', '{}', 0) RETURNING id")
        assert await one.store.waiting() == (1, None)


async def test_metrics_tell_of_posts_that_wait(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(UNMOVABLE)
    async with running_server(store=StoreUrl(url), no_admin=False) as running:
        assert await figures(running) == {"zizq_inbox_posts": 0}
        with psycopg.connect(url) as connection:
            old = ids.encode(SystemClock().wall_ms() - 90_000 << 80)
            connection.execute("INSERT INTO zizq.inbox VALUES (%s, '{}', 0)", [old])
        found = await figures(running)
    assert found["zizq_inbox_posts"] == 1
    assert 90 <= found["zizq_oldest_post_age_seconds"] < 200


UNMOVABLE = """
    CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no post leaves the inbox'; END $$;
    CREATE TRIGGER failing BEFORE DELETE ON zizq.inbox FOR EACH ROW EXECUTE FUNCTION fail()"""


async def figures(running: RunningServer) -> dict[str, float]:
    """What metrics tell of the inbox."""
    with await asyncio.to_thread(urllib.request.urlopen, f"{running.admin_url}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    samples = [sample for family in families for sample in family.samples]
    return {sample.name: sample.value for sample in samples if "inbox" in sample.name or "post" in sample.name}


async def test_what_cannot_be_enqueued_is_a_dead_job(url: str) -> None:
    async with server(url) as one:
        with psycopg.connect(url) as connection:
            refused = zizq.postgres.enqueue_raw(connection, "t", 1, queue="mail", budgets="none")
            whole = zizq.postgres.enqueue_raw(connection, "t", 2, budgets=Draw("b", create_with=TimeBased(5, 60)))
        await one.mover.move()
        assert await one.taken() == [(whole, 2)]
    assert ask(url, "SELECT id, queue, status, attempts FROM zizq.jobs WHERE status = 3") == [(refused, "mail", 3, 1)]
    [(job_id, error)] = ask(url, "SELECT job_id, error FROM zizq.errors")
    assert (job_id, b"budget 'none' does not exist" in bytes(error)) == (refused, True)
    assert ask(url, "SELECT budget, finished FROM zizq.draws ORDER BY 1") == [("b", False), ("none", True)]


async def test_two_servers_move_each_post_once(url: str) -> None:
    async with server(url) as one, server(url) as other:
        with psycopg.connect(url) as connection:
            ids = zizq.postgres.enqueue_bulk(connection, [zizq.Enqueue("t", n) for n in range(3000)])

        async def empty(mover: Mover) -> int:
            total = 0
            while moved := await mover.move():
                total += moved
            return total

        moved = await asyncio.gather(empty(one.mover), empty(other.mover))
        assert sum(moved) == 3000
        assert [job_id for job_id, _ in await one.taken()] == ids


async def test_batched_posts_are_folded_into_what_waits(url: str) -> None:
    batch = RawBatch(key="k", when="true", fold=".")
    async with server(url) as one, server(url) as other:
        for numbers, by in (((1, 2), one), ((3,), other)):
            with psycopg.connect(url) as connection:
                for number in numbers:
                    zizq.postgres.enqueue_raw(connection, "t", number, batch=batch)
            await by.mover.move()
        assert [payload for _, payload in await one.taken()] == [6]


async def test_a_post_that_was_committed_late_is_found_within_a_second(url: str) -> None:
    async with server(url) as one:
        with psycopg.connect(url) as connection:
            young = zizq.postgres.enqueue_raw(connection, "t", 1)
        await one.mover.move()
        with psycopg.connect(url) as connection:
            late = zizq.postgres.enqueue_raw(connection, "t", 2)
            old = ids.encode((ids.created_at(young) - BACK_MS - 1) << 80)
            connection.execute("UPDATE zizq.inbox SET id = %s WHERE id = %s", [old, late])
        moved = [await one.mover.move() for _ in range(WHOLE_EVERY)]
        assert moved == [0] * (WHOLE_EVERY - 1) + [1]


async def test_what_was_moved_is_not_walked_over_again(url: str) -> None:
    async with server(url) as one:
        with psycopg.connect(url) as reader:
            # It holds all rows that die from now on.
            reader.execute("SELECT txid_current()")
            with psycopg.connect(url) as connection:
                zizq.postgres.enqueue_bulk(connection, [zizq.Enqueue("t", n) for n in range(2000)])
                # As if that had been long ago.
                connection.execute("UPDATE zizq.inbox SET id = overlay(id placing '0' from 1)")
                zizq.postgres.enqueue_raw(connection, "t", 1)
            while await one.mover.move():
                pass
            front = one.store._front()
            plan = reader.execute(
                "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT id FROM zizq.inbox WHERE id >= %s ORDER BY id", [front]
            ).fetchone()
            whole = reader.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT id FROM zizq.inbox ORDER BY id")
            assert plan is not None
            few, many = (one[0][0]["Plan"]["Shared Hit Blocks"] for one in (plan, whole.fetchone() or plan))
        assert few * 5 < many


async def test_one_that_the_database_cannot_hold_does_not_hold_up_the_others(url: str) -> None:
    # Such a name comes there by hand alone. Nothing in it can be made shorter.
    name = "".join(random.Random(1).choices(string.ascii_letters, k=5000))
    async with server(url) as one:
        with psycopg.connect(url) as connection:
            ids = zizq.postgres.enqueue_bulk(connection, [zizq.Enqueue("t", n) for n in range(3)])
            connection.execute(
                "UPDATE zizq.inbox SET job = job || jsonb_build_object('queue', %s::text) WHERE id = %s", [name, ids[1]]
            )
        assert await one.mover.move() == 3
        assert [job_id for job_id, _ in await one.taken()] == [ids[0], ids[2]]
        dead = await one.store.get(ids[1], one.clock.wall_ms())
        assert dead is not None
        assert (dead.status, (dead.type, dead.queue)) == (Status.DEAD, NAMELESS)
        [error] = await one.store.errors(ids[1], None, "asc", 9)
        assert "the database cannot hold it" in error.message


async def test_large_posts_are_moved_a_few_at_a_time(url: str) -> None:
    large = "x" * (MOST_BYTES // 3 + 1)
    async with server(url) as one:
        with psycopg.connect(url) as connection:
            zizq.postgres.enqueue_bulk(connection, [zizq.Enqueue("t", large) for _ in range(5)])
        assert [await one.mover.move() for _ in range(3)] == [3, 2, 0]
