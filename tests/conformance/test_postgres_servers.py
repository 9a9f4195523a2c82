"""What only several servers on one PostgreSQL database show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager

import msgspec
import pytest

from zizq.engine.transitions import Cause
from zizq.errors import Outdated
from zizq.job import Batch, ErrorRecord, JobRecord, Status
from zizq.policy import Backoff, Defaults, Retention
from zizq.store.postgres import leases
from zizq.store.postgres.database import CONNECTIONS
from zizq.store.postgres.store import PostgresStore
from zizq.testing.bench import NOW, Bench, Recorder
from zizq.testing.clock import LoadedDice

PATIENCE_S = 20.0
DEFAULTS = Defaults(retry_limit=2, backoff=Backoff(exponent=1.0, base_ms=500, jitter_ms=0))


class Listening(Recorder):
    """A listener that can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._bell = asyncio.Event()

    def available(self, queues: Collection[str]) -> None:
        super().available(queues)
        self._bell.set()

    def freed(self, owner: int, count: int) -> None:
        super().freed(owner, count)
        self._bell.set()

    def scheduled(self, at: int) -> None:
        super().scheduled(at)
        self._bell.set()

    def moved(self, cause: Cause, jobs: Sequence[JobRecord] | None, errors: Sequence[ErrorRecord] = ()) -> None:
        super().moved(cause, jobs, errors)
        self._bell.set()

    async def until(self, heard: Callable[[Recorder], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not heard(self):
                self._bell.clear()
                await self._bell.wait()


class Led(PostgresStore):
    """A server that renews its lease when the test does it."""

    async def _keep_lease(self) -> None:
        """Nothing."""


class Deaf(Led):
    """A server to which no notification comes, as behind a pooler."""

    async def _listen(self) -> None:
        """Nothing."""


class Server(Bench):
    store: PostgresStore
    heard: Listening

    async def hears(self) -> None:
        """Wait until notifications come through."""
        async with asyncio.timeout(PATIENCE_S):
            await self.store._echo.wait()


@asynccontextmanager
async def server(url: str, kind: type[PostgresStore] = Led) -> AsyncIterator[Server]:
    heard, dice = Listening(), LoadedDice()
    store = kind(url, DEFAULTS, dice)
    await store.open(heard)
    try:
        yield Server(store, heard, dice)  # type: ignore[arg-type]
    finally:
        await store.close()


@asynccontextmanager
async def two(url: str, kind: type[PostgresStore] = Led) -> AsyncIterator[tuple[Server, Server]]:
    """Two servers that know of each other."""
    async with server(url, kind) as one, server(url, kind) as other:
        await one.store._renew()
        # Otherwise both would make the same identifiers.
        other.next_id = one.next_id
        if kind is not Deaf:
            await asyncio.gather(one.hears(), other.hears())
        yield one, other


both = pytest.mark.parametrize("kind", [Led, Deaf])


async def flying(one: Server, *ids: str) -> list[str]:
    return sorted(await one.store.in_flight(ids))


async def end(one: Server) -> None:
    """Let the lease of a server run out without its knowing."""
    text = "UPDATE zizq.servers SET lease_until = clock_timestamp() - interval '1 s' WHERE fence = $1"
    async with one.store._db.writing(durable=True) as db:
        await db.execute(text, one.store._fence)


# ── news ──


@both
async def test_an_enqueue_on_one_server_wakes_the_other(postgres_url: str, kind: type[PostgresStore]) -> None:
    async with two(postgres_url, kind) as (one, other):
        assert await other.take() == []
        assert await other.take(queues=["a", "b"]) == []
        [job_id] = await one.enqueue(one.job("b"))
        await other.heard.until(lambda heard: "b" in heard.queues)
        assert await other.take_ids(queues=["a", "b"]) == [job_id]


@both
async def test_what_was_taken_from_one_server_can_be_settled_on_another(
    postgres_url: str, kind: type[PostgresStore]
) -> None:
    async with two(postgres_url, kind) as (one, other):
        done, failed, back, kept = await one.enqueue(
            one.job(), one.job(), one.job(), one.job(retention=Retention(completed_ms=5))
        )
        await one.take(owner=7)
        assert await other.store.succeed([done, kept], NOW) == [True, True]
        assert await other.store.succeed([done], NOW) == [False]
        assert await one.store.succeed([done], NOW) == [False]
        job = await other.fail(failed)
        assert job is not None
        assert job.status is Status.SCHEDULED
        assert await other.store.release_jobs([back]) == [True]
        await one.heard.until(lambda heard: heard.freed_by.get(7) == 4)
        assert other.heard.freed_by == {}
        assert await flying(one, done, failed, back, kept) == []


async def test_others_hear_when_something_is_due_and_that_jobs_have_moved(postgres_url: str) -> None:
    async with two(postgres_url) as (one, other):
        await one.enqueue(one.job(ready_at=NOW + 5))
        await other.heard.until(lambda heard: NOW + 5 in heard.due)
        await other.heard.until(lambda heard: (Cause.ENQUEUE, None) in heard.moves)


@both
async def test_what_one_server_gives_back_goes_ahead_on_the_other(postgres_url: str, kind: type[PostgresStore]) -> None:
    async with two(postgres_url, kind) as (one, other):
        ids = await other.enqueue(*[one.job() for _ in range(6)])
        other.heard.queues.clear()
        assert await one.take_ids(2) == ids[:2]
        assert await other.take_ids(2) == ids[2:4]
        await one.store.release(1)
        await other.heard.until(lambda heard: "q" in heard.queues)
        assert await other.take_ids(1) == ids[:1]


async def test_a_server_that_stops_leaves_what_it_held_to_the_others(postgres_url: str) -> None:
    async with server(postgres_url) as one:
        await one.hears()
        async with server(postgres_url) as other:
            [job_id] = await other.enqueue(other.job())
            assert await other.take_ids() == [job_id]
            assert await one.take() == []
            one.heard.queues.clear()
        await one.heard.until(lambda heard: "q" in heard.queues)
        assert await one.take_ids() == [job_id]


# ── leases ──


@both
async def test_a_server_that_lost_its_lease_has_lost_its_jobs(postgres_url: str, kind: type[PostgresStore]) -> None:
    async with two(postgres_url, kind) as (one, other):
        first, second = await one.enqueue(one.job(), one.job())
        assert await one.take_ids(owner=7) == [first, second]
        assert await other.take() == []
        await end(one)
        await other.store._renew()
        assert "q" in other.heard.queues
        assert await other.take_ids() == [first, second]
        # Late, and under a fence that no row has any more.
        assert await one.store.succeed([first], NOW) == [False]
        assert await one.fail(first) is None
        assert await one.store.release_jobs([second]) == [False]
        await one.store._renew()
        assert one.heard.freed_by == {7: 2}
        # It knows by now, and refuses them still, though others' jobs may be settled here.
        assert await one.store.succeed([first], NOW) == [False]
        assert await one.store.release(7) == 0
        assert await flying(one, first, second) == [first, second]
        assert await other.store.succeed([first, second], NOW) == [True, True]


async def test_a_server_takes_nothing_after_its_lease_is_lost(postgres_url: str) -> None:
    async with two(postgres_url) as (one, other):
        [job_id] = await one.enqueue(one.job())
        await end(one)
        await other.store._renew()
        assert await one.take() == []
        await one.store._renew()
        assert await one.take_ids() == [job_id]


async def test_what_a_dead_server_held_runs_elsewhere(postgres_url: str) -> None:
    # This one does all by itself.
    async with server(postgres_url, PostgresStore) as one:
        [job_id] = await one.enqueue(one.job())
        assert await one.take_ids() == [job_id]
        one.heard.queues.clear()
        async with one.store._db.writing(durable=True) as db:
            dead = await db.fetchval(
                """INSERT INTO zizq.servers (fence, name, lease_until)
                   VALUES (nextval('zizq.fences'), 'dead', clock_timestamp() + interval '0.1 s') RETURNING fence"""
            )
            await db.execute("UPDATE zizq.flight SET fence = $1", dead)
            await db.execute("INSERT INTO zizq.freed VALUES ($1, '{x}')", dead)
        await one.heard.until(lambda heard: "q" in heard.queues)
        assert await one.take_ids() == [job_id]
        async with one.store._db.reading() as read:
            assert await read.fetchval("SELECT count(*) FROM zizq.servers") == 1
            assert await read.fetchval("SELECT count(*) FROM zizq.freed") == 0


async def test_what_no_server_holds_is_found_in_time(postgres_url: str) -> None:
    async with server(postgres_url) as one:
        [job_id] = await one.enqueue(one.job())
        await one.take()
        async with one.store._db.writing(durable=True) as db:
            await db.execute("UPDATE zizq.flight SET fence = 0")
        for _ in range(leases.SEARCH_EVERY + 1):
            await one.store._renew()
        assert await one.take_ids() == [job_id]


async def test_a_lease_that_ran_out_and_was_not_taken_away_goes_on(postgres_url: str) -> None:
    async with server(postgres_url) as one:
        [job_id] = await one.enqueue(one.job())
        await one.take()
        fence = one.store._fence
        async with one.store._db.writing(durable=True) as db:
            await db.execute("UPDATE zizq.servers SET lease_until = clock_timestamp() - interval '1 hour'")
        await one.store._renew()
        assert one.store._fence == fence
        assert await one.store.succeed([job_id], NOW) == [True]


async def test_jobs_of_a_take_whose_end_is_unknown_are_given_back(postgres_url: str) -> None:
    async with server(postgres_url) as one:
        first, second = await one.enqueue(one.job(), one.job())
        assert await one.take_ids(1) == [first]
        before = one.store._turn
        assert await one.take_ids(1) == [second]
        # As after a commit whose answer was lost.
        one.store._doubtful.append((one.store._fence, before, one.store._turn))
        await one.store._renew()
        assert await flying(one, first, second) == [first]
        assert await one.take_ids() == [second]


async def test_what_cannot_be_given_back_now_is_given_back_later(postgres_url: str) -> None:
    async with server(postgres_url) as one:
        ids = await one.enqueue(one.job(), one.job(retry_limit=0))
        assert await one.take_ids() == ids
        connect, one.store._db._pool = one.store._db._pool, None
        assert await one.store.release(1, died_at=NOW) == 2
        one.store._db._pool = connect
        assert await flying(one, *ids) == ids
        await one.store._renew()
        assert await flying(one, *ids) == []
        assert one.heard.freed_by == {1: 2}
        assert await one.take_ids() == ids


async def test_long_reads_hold_up_neither_jobs_nor_the_lease(postgres_url: str) -> None:
    async with server(postgres_url) as one:
        over = asyncio.Event()

        async def read() -> None:
            async with one.store._db.reading():
                await over.wait()

        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as reads:
            for _ in range(2 * CONNECTIONS):
                reads.create_task(read())
            await asyncio.sleep(0)
            ids = await one.enqueue(one.job(), one.job(unique_key="k"))
            assert await one.take_ids() == ids
            assert await one.store.succeed(ids[:1], NOW) == [True]
            await one.store.release(1)
            await one.store._renew_lease()
            over.set()


# ── at the same time ──


async def test_no_job_is_taken_by_two_servers_and_none_is_left(postgres_url: str) -> None:
    async with two(postgres_url) as servers:
        ids = []
        for _ in range(20):
            ids += await servers[0].enqueue(*[servers[0].job(f"q{number % 3}") for number in range(50)])
        taken: list[str] = []

        async def drain(one: Server, queues: Sequence[str]) -> None:
            while len(taken) < len(ids):
                found = await one.take_ids(17, queues=queues)
                taken.extend(found)
                await one.store.succeed(found, NOW)
                if not found:
                    await asyncio.sleep(0.001)

        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*[drain(one, queues) for one in servers for queues in ((), ("q0",), ("q1", "q2"))])
        assert sorted(taken) == ids


async def test_a_job_that_is_settled_on_two_servers_at_once_is_settled_once(postgres_url: str) -> None:
    async with two(postgres_url) as (one, other):
        ids = await one.enqueue(*[one.job() for _ in range(50)])
        await one.take()
        outcomes = await asyncio.gather(
            *[some.store.succeed([job_id], NOW) for job_id in ids for some in (one, other)],
            *[some.fail(job_id, kill=True) for job_id in ids for some in (other, one)],
        )
        done = [outcome for outcome in outcomes if outcome not in ([False], None)]
        assert len(done) == 50
        assert await flying(one, *ids) == []


async def test_a_key_is_held_by_one_job_over_all_servers(postgres_url: str) -> None:
    async with two(postgres_url) as servers:
        jobs = [one.job(unique_key=f"k{number % 3}") for number in range(15) for one in servers]
        stands = await asyncio.gather(
            *[servers[number % 2].store.enqueue([job], NOW) for number, job in enumerate(jobs)]
        )
        assert len({job.id for [job] in stands}) == 3
        assert len(await servers[0].take()) == 3


async def test_a_fold_on_one_server_and_a_take_on_another_lose_nothing(postgres_url: str) -> None:
    async with two(postgres_url) as (one, other):
        for value in range(20):
            first = one.job(batch=Batch("k", "true", "$new"), payload=msgspec.msgpack.encode(0))
            await one.store.enqueue([first], NOW, (), {"k": None})
            new = msgspec.Raw(msgspec.msgpack.encode(value))
            fold = one.store.enqueue([], NOW, [first.with_(payload=new)], {"k": first.id})
            taken, folded = await asyncio.gather(other.take(), fold, return_exceptions=True)
            assert not isinstance(taken, BaseException)
            taken = taken or await one.take() or await other.take()
            expected = 0 if isinstance(folded, Outdated) else value
            assert [msgspec.msgpack.decode(job.payload or b"") for job in taken] == [expected]


async def test_who_goes_away_before_it_gets_its_jobs_does_not_keep_them(postgres_url: str) -> None:
    async with server(postgres_url) as one:
        ids = await one.enqueue(*[one.job() for _ in range(3)])
        for turns in range(40):
            take = asyncio.ensure_future(one.take())
            for _ in range(turns):
                await asyncio.sleep(0)
            take.cancel()
            await asyncio.wait([take])
            await one.store._takes.idle()
            await asyncio.sleep(0)
            await one.store._settles.idle()
            if not take.cancelled():
                await one.store.release(1)
        assert await one.take_ids() == ids
