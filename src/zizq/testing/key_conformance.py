"""What every store must do with unique keys and batch keys."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from zizq.engine.changes import Patch, Retry
from zizq.engine.selection import EVERYTHING
from zizq.errors import Outdated
from zizq.job import Batch, JobRecord, Status
from zizq.policy import Retention
from zizq.testing.bench import DAY, NOW, Bench, Suite

SCOPES = ("queued", "active", "exists")
BLOCKED = {
    # By the scope of the job that comes; the statuses are those of a job that holds its key in all of them.
    "queued": {Status.SCHEDULED, Status.READY},
    "active": {Status.SCHEDULED, Status.READY, Status.IN_FLIGHT},
    "exists": set(Status),
}


def raw(value: object) -> msgspec.Raw:
    """A payload."""
    return msgspec.Raw(msgspec.msgpack.encode(value))


class KeyConformance(Suite):
    """The suite of jobs with keys."""

    async def in_status(self, bench: Bench, status: Status, scope: str, key: str = "k") -> str:
        """A job with a unique key, brought to a status."""
        job = bench.job(
            unique_key=key,
            unique_while=scope,
            ready_at=NOW + 1000 if status is Status.SCHEDULED else None,
            retention=Retention(completed_ms=DAY),
            retry_limit=0,
        )
        [job_id] = await bench.enqueue(job)
        if status in (Status.IN_FLIGHT, Status.COMPLETED, Status.DEAD):
            assert await bench.take_ids() == [job_id]
        if status is Status.COMPLETED:
            await bench.store.succeed([job_id], NOW)
        if status is Status.DEAD:
            await bench.fail(job_id)
        return job_id

    async def twin(self, bench: Bench, scope: str = "exists", *, key: str = "k", now: int = NOW) -> JobRecord:
        """What an enqueue under a key answers."""
        [stands] = await bench.store.enqueue([bench.job("other", unique_key=key, unique_while=scope)], now)
        return stands

    # ── unique ──

    @pytest.mark.parametrize("status", list(Status))
    @pytest.mark.parametrize("coming", SCOPES)
    async def test_a_key_blocks_by_the_scope_of_the_job_that_comes(
        self, tmp_path: Path, status: Status, coming: str
    ) -> None:
        async with self.bench(tmp_path) as bench:
            there = await self.in_status(bench, status, "exists")
            stands = await self.twin(bench, coming)
            assert (stands.id == there) == (status in BLOCKED[coming])
            if stands.id == there:
                assert (stands.queue, stands.status, stands.payload) == ("q", status, None)
                assert await bench.page_ids() == [there]
            else:
                assert await bench.page_ids() == [there, stands.id]

    @pytest.mark.parametrize("status", list(Status))
    @pytest.mark.parametrize("own", SCOPES)
    async def test_a_key_is_free_by_the_scope_of_the_job_that_has_it(
        self, tmp_path: Path, status: Status, own: str
    ) -> None:
        async with self.bench(tmp_path) as bench:
            there = await self.in_status(bench, status, own)
            stands = await self.twin(bench, "exists")
            assert (stands.id == there) == (status in BLOCKED[own])

    async def test_a_job_is_read_back_with_its_key(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [plain, scoped] = await bench.enqueue(
                bench.job(unique_key=""), bench.job(unique_key="é\0,", unique_while="active", retry_limit=3)
            )
            first, second = (await bench.store.page(EVERYTHING, None, "asc", 9, NOW)).jobs
            assert (first.id, first.unique_key, first.unique_while) == (plain, "", "queued")
            assert (second.id, second.unique_key, second.unique_while) == (scoped, "é\0,", "active")
            assert [job.unique_while for job in await bench.take()] == ["queued", "active"]

    async def test_the_first_of_a_bulk_has_the_key_whatever_the_scopes(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            jobs = [bench.job(unique_key="k", unique_while=scope) for scope in ("exists", "queued", "active")]
            other = bench.job(unique_key="l")
            stands = await bench.store.enqueue([*jobs, other, bench.job()], NOW)
            assert [job.id for job in stands][:4] == [jobs[0].id] * 3 + [other.id]
            assert len(await bench.take()) == 3

    async def test_a_duplicate_tells_nobody_of_a_job(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await self.in_status(bench, Status.READY, "queued")
            bench.heard.queues.clear()
            await self.twin(bench)
            assert bench.heard.queues == []

    async def test_enqueues_at_the_same_time_make_one_job(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            stands = await asyncio.gather(*[self.twin(bench) for _ in range(20)])
            assert len({job.id for job in stands}) == 1
            assert await bench.count() == 1

    async def test_a_key_goes_with_its_job(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            for key, status in (("a", Status.READY), ("b", Status.IN_FLIGHT), ("c", Status.DEAD)):
                there = await self.in_status(bench, status, "exists", key)
                assert (await self.twin(bench, key=key)).id == there
                await bench.delete(there)
                assert (await self.twin(bench, key=key)).id != there
                await bench.store.reset()

    async def test_a_job_that_is_done_and_not_kept_frees_its_key(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [there] = await bench.enqueue(bench.job(unique_key="k", unique_while="exists"))
            await bench.take()
            await bench.store.succeed([there], NOW)
            assert (await self.twin(bench)).id != there

    async def test_an_expired_job_does_not_block(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            there = await self.in_status(bench, Status.COMPLETED, "exists")
            assert (await self.twin(bench, now=NOW + DAY - 1)).id == there
            assert (await self.twin(bench, now=NOW + DAY)).id != there

    async def test_a_job_that_comes_back_has_its_key_again(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [there] = await bench.enqueue(bench.job(unique_key="k"))
            for turn in range(2):
                await bench.take()
                between = await self.twin(bench, "queued")
                assert between.id != there
                await bench.delete(between.id)
                if turn:
                    await bench.fail(there)
                else:
                    await bench.store.release(1)
                assert (await self.twin(bench, "queued")).id == there

    async def test_of_two_jobs_with_a_key_the_younger_is_the_duplicate(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [there] = await bench.enqueue(bench.job(unique_key="k"))
            await bench.take()
            other = await self.twin(bench, "queued")
            await bench.store.release(1)
            assert (await self.twin(bench)).id == other.id
            await bench.delete(other.id)
            assert (await self.twin(bench)).id == there

    async def test_a_retried_job_has_its_key_again(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            there = await self.in_status(bench, Status.DEAD, "queued")
            other = await self.twin(bench, "queued")
            await bench.delete(other.id)
            await bench.change(Retry(), ids=[there])
            assert (await self.twin(bench)).id == there

    async def test_a_patch_leaves_the_key_alone(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            there = await self.in_status(bench, Status.READY, "queued")
            await bench.change(Patch(queue="z", retry_limit=4), ids=[there])
            assert (await self.twin(bench)).id == there
            [taken] = await bench.take()
            assert (taken.unique_key, taken.retry_limit) == ("k", 4)

    # ── batched ──

    def batched(self, bench: Bench, value: object = 1, key: str = "k", **more: Any) -> JobRecord:
        """A job that waits under a batch key."""
        return bench.job(batch=Batch(key, "true", "$new"), payload=bytes(raw(value)), **more)

    async def test_a_batched_job_waits_until_it_is_taken(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            job = self.batched(bench)
            assert await bench.store.pending(["k", "l"]) == {}
            await bench.store.enqueue([job], NOW, (), {"k": None})
            pending = await bench.store.pending(["k", "l"])
            assert {key: (one.id, one.batch) for key, one in pending.items()} == {"k": (job.id, job.batch)}
            assert bytes(pending["k"].payload or b"") == bytes(raw(1))
            await bench.take()
            assert await bench.store.pending(["k"]) == {}

    async def test_a_job_that_was_taken_waits_no_more(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [released, failed] = [self.batched(bench), self.batched(bench, key="l")]
            await bench.store.enqueue([released, failed], NOW, (), {"k": None, "l": None})
            await bench.take()
            await bench.fail(failed.id, retry_at=NOW)
            await bench.store.release(1)
            await bench.store.promote(NOW, 9)
            assert await bench.count(statuses=["ready"]) == 2
            assert await bench.store.pending(["k", "l"]) == {}

    async def test_a_job_for_later_never_waits_to_be_folded(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await bench.store.enqueue([self.batched(bench, ready_at=NOW + 1)], NOW)
            await bench.store.promote(NOW + 1, 9)
            assert await bench.store.pending(["k"]) == {}

    async def test_a_fold_replaces_the_payload_and_nothing_else(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            first, last = self.batched(bench), bench.job(priority=40_000)
            await bench.store.enqueue([first, last], NOW, (), {"k": None})
            folded = first.with_(payload=raw({"n": 2}))
            bench.heard.queues.clear()
            assert await bench.store.enqueue([], NOW, [folded], {"k": first.id}) == []
            read = await bench.store.get(first.id, NOW)
            assert read is not None
            assert bytes(read.payload or b"") == bytes(raw({"n": 2}))
            assert read.with_(payload=None) == first.with_(payload=None)
            one, two = await bench.take()
            assert (one.id, bytes(one.payload or b""), two.id) == (first.id, bytes(raw({"n": 2})), last.id)

    async def test_what_has_changed_meanwhile_is_not_folded(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            first, second = self.batched(bench), self.batched(bench)
            with pytest.raises(Outdated):
                await bench.store.enqueue([second], NOW, (), {"k": "another"})
            await bench.store.enqueue([first], NOW, (), {"k": None})
            with pytest.raises(Outdated):
                await bench.store.enqueue([second], NOW, (), {"k": None})
            await bench.take()
            with pytest.raises(Outdated):
                await bench.store.enqueue([second], NOW, [first.with_(payload=raw(9))], {"k": first.id})
            assert await bench.page_ids() == [first.id]

    async def test_a_fold_and_a_take_at_the_same_time_lose_nothing(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            for value in range(20):
                first = self.batched(bench, 0)
                await bench.store.enqueue([first], NOW, (), {"k": None})
                fold = bench.store.enqueue([], NOW, [first.with_(payload=raw(value))], {"k": first.id})
                taken, folded = await asyncio.gather(bench.take(), fold, return_exceptions=True)
                assert not isinstance(taken, BaseException)
                taken = taken or await bench.take()
                # Either the worker gets what was folded in, or whoever folded is told that it was too late.
                expected = raw(0) if isinstance(folded, Outdated) else raw(value)
                assert [bytes(job.payload or b"") for job in taken] == [bytes(expected)]

    async def test_a_job_that_was_put_off_waits_no_more_once_another_does(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            first, second = self.batched(bench), self.batched(bench)
            await bench.store.enqueue([first], NOW, (), {"k": None})
            await bench.change(Patch(ready_at=NOW + 1), ids=[first.id])
            assert await bench.store.pending(["k"]) == {}
            await bench.store.enqueue([second], NOW, (), {"k": None})
            await bench.change(Patch(ready_at=None), ids=[first.id])
            assert (await bench.store.pending(["k"]))["k"].id == second.id
            await bench.delete(second.id)
            assert await bench.store.pending(["k"]) == {}

    async def test_the_last_of_a_bulk_waits(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            sealed, waiting = self.batched(bench), self.batched(bench)
            await bench.store.enqueue([sealed, waiting], NOW, (), {"k": None})
            assert (await bench.store.pending(["k"]))["k"].id == waiting.id
            await bench.delete(waiting.id)
            assert await bench.store.pending(["k"]) == {}
