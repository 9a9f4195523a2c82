"""Changes of jobs that other servers hold, take and change at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from conformance.test_postgres_servers import Server, both, two
from zizq.engine.changes import Change, Delete, Patch, Rebind
from zizq.engine.selection import EVERYTHING, Range
from zizq.engine.transitions import Cause
from zizq.errors import Unavailable
from zizq.job import Status
from zizq.store.postgres import changes, database
from zizq.store.postgres.changes import Changing
from zizq.store.postgres.database import Transaction
from zizq.store.postgres.store import PostgresStore
from zizq.testing.bench import NOW


@both
async def test_a_delete_frees_whoever_holds_the_job(postgres_url: str, kind: type[PostgresStore]) -> None:
    async with two(postgres_url, kind) as (one, other):
        ids = await one.enqueue(one.job(), one.job(), one.job())
        await one.take(2, owner=7)
        await other.take(1, owner=8)
        assert (await other.change(Delete(), statuses=["in_flight"])).jobs == 3
        assert other.heard.freed_by == {8: 1}
        await one.heard.until(lambda heard: heard.freed_by == {7: 2})
        assert await one.store.succeed(ids, NOW) == [False] * 3
        assert await one.count() == 0


async def test_a_patched_job_stays_with_its_holder_and_ends_as_patched(postgres_url: str) -> None:
    async with two(postgres_url) as (one, other):
        [job_id] = await one.enqueue(one.job())
        await one.take(owner=7)
        assert (await other.change(Patch(queue="other", retry_limit=0), ids=[job_id])).jobs == 1
        assert one.heard.freed_by == {}
        failed = await one.fail(job_id)
        assert failed is not None
        assert (failed.status, failed.queue) == (Status.DEAD, "other")


async def test_a_time_limit_that_is_set_elsewhere_is_kept(postgres_url: str) -> None:
    async with two(postgres_url) as (one, other):
        [job_id] = await one.enqueue(one.job())
        await one.take(owner=7)
        await other.change(Patch(timeout_ms=5), ids=[job_id])
        assert one.heard.overdue_at == []
        await one.store._renew()
        assert one.heard.overdue_at == [NOW + 5]
        assert await one.store.fail_overdue(NOW + 4, 9) == 0
        assert await one.store.fail_overdue(NOW + 5, 9) == 1


async def test_what_one_server_patches_another_takes(postgres_url: str) -> None:
    async with two(postgres_url) as (one, other):
        await one.enqueue(one.job(ready_at=NOW + 9), one.job(ready_at=NOW + 9, priority=1))
        assert await other.take() == []
        await one.change(Patch(ready_at=None))
        await other.heard.until(lambda heard: "q" in heard.queues)
        assert len(await other.take()) == 2
        await other.heard.until(lambda heard: (Cause.PATCH, None) in heard.moves)


async def drain(server: Server, counts: list[str]) -> None:
    """Take and end jobs until none is to be had."""
    while taken := await server.take_ids(50):
        done = await server.store.succeed(taken, NOW)
        counts += [job_id for job_id, is_done in zip(taken, done, strict=True) if is_done]


async def test_each_job_is_either_ended_or_deleted(postgres_url: str) -> None:
    async with two(postgres_url) as (one, other):
        ids = await one.enqueue(*[one.job("ab"[n % 2]) for n in range(3 * changes.FEW)])
        ended: list[str] = []
        deleted, *_ = await asyncio.gather(one.change(Delete()), drain(one, ended), drain(other, ended))
        assert len(ended) == len(set(ended))
        assert deleted.jobs + len(ended) == len(ids)
        assert await other.count() == 0
        assert await other.store.tally(NOW) == {}


async def test_changes_of_many_that_meet_all_come_to_an_end(postgres_url: str) -> None:
    async with two(postgres_url) as (one, other):
        many = 3 * changes.FEW
        ids = await one.enqueue(*[one.job() for _ in range(many)])
        found = await asyncio.gather(
            one.change(Patch(priority=1)),
            other.change(Patch(retry_limit=3)),
            *(server.change(Patch(queue="other"), ids=ids[start::9]) for start in range(9) for server in (one, other)),
        )
        assert [changed.jobs for changed in found[:2]] == [many, many]
        assert sum(changed.jobs for changed in found[2:]) == 2 * many
        page = await one.store.page(EVERYTHING, None, "asc", 2000, NOW)
        assert {(job.queue, job.priority, job.retry_limit) for job in page.jobs} == {("other", 1, 3)}


# ── jobs that end, and servers that die, in the midst of a change ──


class Interrupted(Changing):
    """A change in which something happens once all jobs are changed that nobody holds."""

    meanwhile: Callable[[], Awaitable[object]]

    async def _lock_flight(self) -> None:
        await self.meanwhile()
        await super()._lock_flight()


async def die(one: Server, job_id: str) -> None:
    await one.fail(job_id, kill=True)


async def succeed(one: Server, job_id: str) -> None:
    await one.store.succeed([job_id], NOW)


async def lose_worker(one: Server, job_id: str) -> None:
    await one.store.release(7, died_at=NOW)


@pytest.mark.parametrize("change", [Patch(queue="other"), Rebind(all=()), Delete()])
@pytest.mark.parametrize(("end", "left"), [(die, Status.DEAD), (succeed, None), (lose_worker, Status.READY)])
async def test_a_job_that_leaves_flight_in_the_midst_of_a_change_holds_up_nothing(
    postgres_url: str, change: Change, end: Callable[[Server, str], Awaitable[None]], left: Status | None
) -> None:
    async with two(postgres_url) as (one, other):
        ending, *others = await one.enqueue(*[one.job() for _ in range(5)])
        assert await one.take_ids(1, owner=7) == [ending]
        async with other.store._db.writing(durable=True) as db:
            changing = Interrupted(db, other.store._fence, EVERYTHING, change, NOW)
            changing.meanwhile = lambda: end(one, ending)
            await changing.run()
        is_reached = left is Status.READY or (left is Status.DEAD and isinstance(change, Delete))
        assert changing.count == len(others) + is_reached
        job = await one.store.get(ending, NOW)
        assert (job and job.status) == (None if isinstance(change, Delete) else left)
        if left is Status.DEAD and job is not None:
            assert job.queue == "q"
        # What comes later goes on.
        rest = await other.page_ids()
        assert len(rest) == (0 if isinstance(change, Delete) else len(others) + (job is not None))
        assert (await one.change(Delete())).jobs == len(rest)


async def test_a_job_that_dies_before_a_change_is_certain_dies_as_it_was_changed(postgres_url: str) -> None:
    async with two(postgres_url) as (one, other):
        [job_id] = await one.enqueue(one.job())
        await one.take(owner=7)
        async with other.store._db.writing(durable=True) as db:
            await Changing(db, other.store._fence, EVERYTHING, Patch(queue="other"), NOW).run()
            dying = asyncio.create_task(one.fail(job_id, kill=True))
            while not await db.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
                pass
            assert not dying.done()
        job = await dying
        assert job is not None
        assert (job.status, job.queue) == (Status.DEAD, "other")


async def delete_all(one: Server, meanwhile: Callable[[Transaction], Awaitable[object]]) -> None:
    """Delete all jobs, and before that is certain let something happen."""
    async with one.store._db.writing(durable=True) as db:
        await Changing(db, one.store._fence, EVERYTHING, Delete(), NOW).run()
        await meanwhile(db)


async def cut_off(db: Transaction) -> None:
    """End the connection as the end of a process does."""
    db.terminate()


async def test_a_change_of_a_server_that_is_killed_is_undone_and_holds_up_nothing(postgres_url: str) -> None:
    async with two(postgres_url) as (one, other):
        ids = await one.enqueue(*[one.job() for _ in range(5)])
        with pytest.raises(Unavailable):
            await delete_all(one, cut_off)
        assert await other.page_ids() == ids
        assert (await other.change(Patch(priority=1))).jobs == len(ids)


async def test_a_change_of_a_server_whose_machine_is_gone_does_not_hold_up_others_for_ever(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "ABANDONED_S", 1)
    async with two(postgres_url) as (one, other):
        ids = await one.enqueue(*[one.job() for _ in range(5)])
        with pytest.raises(Unavailable):
            await delete_all(one, lambda _: other.change(Patch(priority=1)))
        assert await one.page_ids(priority=Range(1, 1)) == ids
