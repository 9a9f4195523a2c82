"""Changes of jobs that other servers hold, take and change at the same time."""

from __future__ import annotations

import asyncio

from conformance.test_postgres_servers import Server, both, two
from zizq.engine.changes import Delete, Patch
from zizq.engine.selection import EVERYTHING
from zizq.engine.transitions import Cause
from zizq.job import Status
from zizq.store.postgres import changes
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
