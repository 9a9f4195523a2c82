"""What every store must do, as tests to inherit: `store.base` in examples.

A store is held to it by a subclass that says how to make one:

    class TestMyStore(StoreConformance):
        def make(self, place, defaults, dice): return MyStore(place, defaults, dice)

The tests are coroutines, one behaviour each. A store that outlasts its process inherits `DurableStoreConformance`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from zizq.job import Status
from zizq.policy import Backoff, Retention
from zizq.testing.bench import DAY, NOW, PAYLOAD
from zizq.testing.budget_conformance import BudgetConformance
from zizq.testing.catalog_conformance import CatalogConformance
from zizq.testing.copy_conformance import CopyConformance, DurableCopyConformance
from zizq.testing.cron_conformance import CronConformance, DurableCronConformance
from zizq.testing.key_conformance import KeyConformance
from zizq.testing.lease_conformance import DurableLeaseConformance, LeaseConformance
from zizq.testing.pause_conformance import DurablePauseConformance, PauseConformance
from zizq.testing.view_conformance import ViewConformance


class StoreConformance(
    CatalogConformance,
    KeyConformance,
    BudgetConformance,
    CronConformance,
    LeaseConformance,
    PauseConformance,
    ViewConformance,
    CopyConformance,
):
    """The suite; a subclass overrides `make`."""

    # ── enqueue ──

    async def test_an_enqueued_job_is_read_back_whole(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            job = bench.job(
                priority=7,
                retry_limit=3,
                backoff=Backoff(exponent=4.1, base_ms=1, jitter_ms=2),
                retention=Retention(completed_ms=5),
            )
            await bench.enqueue(job)
            read = await bench.store.get(job.id, NOW)
            assert read is not None
            assert bytes(read.payload or b"") == PAYLOAD
            assert read.with_(payload=None) == job.with_(payload=None)

    async def test_metadata_stays_with_its_job_whatever_happens_to_it(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            some, more = {"trace": "1"}, {"trace": "2", "é": ""}
            ids = await bench.enqueue(bench.job(metadata=some), bench.job(metadata={}), bench.job(metadata=more))
            assert [job.metadata for job in await bench.take()] == [some, None, more]
            failed = await bench.fail(ids[0], retry_at=NOW)
            assert failed is not None
            assert failed.metadata == some
            await bench.store.promote(NOW, 10)
            assert [job.metadata for job in await bench.take()] == [some]
            await bench.store.release(1)
            assert [job.metadata for job in await bench.take()] == [some, None, more]

    async def test_a_job_for_later_is_scheduled_and_not_taken(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [job_id] = await bench.enqueue(bench.job(ready_at=NOW + 1))
            assert await bench.status(job_id) is Status.SCHEDULED
            assert await bench.take() == []
            assert (bench.heard.queues, bench.heard.due) == ([], [NOW + 1])

    async def test_an_enqueue_tells_which_queues_have_jobs(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await bench.enqueue(bench.job("b"), bench.job("a"), bench.job("b"))
            assert bench.heard.queues == ["a", "b"]

    # ── take ──

    async def test_a_take_hands_out_whole_jobs_in_flight(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [job_id] = await bench.enqueue(bench.job())
            [job] = await bench.take(now=NOW + 5)
            assert (job.id, job.status, job.dequeued_at) == (job_id, Status.IN_FLIGHT, NOW + 5)
            assert bytes(job.payload or b"") == PAYLOAD
            read = await bench.store.get(job_id, NOW)
            assert read is not None
            assert (read.status, read.dequeued_at) == (Status.IN_FLIGHT, NOW + 5)

    async def test_takes_follow_priority_then_age_over_all_queues(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            jobs = [bench.job("a", priority=5), bench.job("b", priority=1), bench.job("a", priority=1), bench.job("c")]
            await bench.enqueue(*jobs)
            assert await bench.take_ids(3) == [jobs[1].id, jobs[2].id, jobs[0].id]
            assert await bench.take_ids() == [jobs[3].id]

    async def test_a_take_sees_only_its_queues(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            a, b, c = await bench.enqueue(bench.job("a"), bench.job("b"), bench.job("c"))
            assert await bench.take_ids(queues=("b", "a", "none")) == [a, b]
            assert await bench.take_ids(queues=("none",)) == []
            assert await bench.take_ids() == [c]

    async def test_no_job_is_taken_twice(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            ids = await bench.enqueue(*[bench.job() for _ in range(50)])
            takes = await asyncio.gather(*[bench.take_ids(7, owner=owner) for owner in range(10)])
            assert sorted(job_id for taken in takes for job_id in taken) == ids

    async def test_a_backlog_far_beyond_memory_comes_in_order(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            jobs = [bench.job(f"q{n % 3}", priority=n % 5) for n in range(30_000)]
            for start in range(0, len(jobs), 1000):
                await bench.enqueue(*jobs[start : start + 1000])
            taken: list[str] = []
            while batch := await bench.take_ids(997):
                taken += batch
                await bench.store.succeed(batch, NOW)
            assert taken == [job.id for job in sorted(jobs, key=lambda job: (job.priority, job.id))]

    async def test_a_job_enqueued_while_others_are_taken_takes_its_place(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await bench.enqueue(*[bench.job() for _ in range(12_000)])
            await bench.take_ids(100)
            [urgent] = await bench.enqueue(bench.job(priority=0))
            [last] = await bench.enqueue(bench.job(priority=65_535))
            assert (await bench.take_ids(1)) == [urgent]
            rest = await bench.take_ids(20_000)
            while batch := await bench.take_ids(20_000):
                rest += batch
            assert len(rest) == 12_000 - 100 + 1
            assert rest[-1] == last

    async def test_a_heavy_payload_arrives_whole(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            heavy = msgspec.msgpack.encode("x" * 1_000_000)
            light, big = await bench.enqueue(bench.job(), bench.job(payload=heavy))
            taken = {job.id: bytes(job.payload or b"") for job in await bench.take()}
            assert taken == {light: PAYLOAD, big: heavy}

    # ── release ──

    async def test_a_lost_owner_gives_its_jobs_back(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            mine, other = await bench.enqueue(bench.job(), bench.job())
            await bench.take(1, owner=1)
            await bench.take(1, owner=2)
            assert await bench.store.release(1) == 1
            job = await bench.store.get(mine, NOW)
            assert job is not None
            assert (job.status, job.attempts, job.dequeued_at) == (Status.READY, 0, NOW)
            assert await bench.status(other) is Status.IN_FLIGHT
            assert bench.heard.freed_by == {1: 1}
            assert bench.heard.queues == ["q", "q"]

    async def test_a_released_job_goes_ahead_of_younger_ones(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            ids = await bench.enqueue(*[bench.job() for _ in range(4)])
            await bench.take(2, owner=1)
            await bench.store.release(1)
            assert await bench.take_ids(owner=2) == ids

    async def test_a_release_of_nothing_is_nothing(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            assert await bench.store.release(9) == 0

    async def test_a_settled_job_is_not_given_back(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [job_id] = await bench.enqueue(bench.job())
            await bench.take()
            done, given_back = await asyncio.gather(bench.store.succeed([job_id], NOW), bench.store.release(1))
            assert done == [True]
            assert given_back == 0
            assert await bench.take() == []

    # ── in flight ──

    async def test_jobs_in_flight_are_told_from_others(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            done, taken, ready = await bench.enqueue(bench.job("a"), bench.job("a"), bench.job("b"))
            await bench.take(queues=["a"])
            await bench.store.succeed([done], NOW)
            found = await bench.store.in_flight([done, taken, ready, "nonsense"])
            assert {job_id: (job.queue, job.payload) for job_id, job in found.items()} == {taken: ("a", None)}

    # ── succeed ──

    async def test_a_success_deletes_the_job(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [job_id] = await bench.enqueue(bench.job())
            await bench.take()
            assert await bench.store.succeed([job_id], NOW) == [True]
            assert await bench.status(job_id) is None
            assert await bench.store.queues(NOW) == []
            assert bench.heard.freed_by == {1: 1}

    async def test_a_success_of_a_job_that_is_not_in_flight_is_refused(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            ready, taken = await bench.enqueue(bench.job("a"), bench.job("b"))
            await bench.take(queues=["b"])
            assert await bench.store.succeed([ready, "nonsense", taken], NOW) == [False, False, True]
            assert await bench.store.succeed([taken], NOW) == [False]
            assert await bench.status(ready) is Status.READY

    async def test_a_completed_job_is_kept_for_its_retention(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [job_id] = await bench.enqueue(bench.job(retention=Retention(completed_ms=1000)))
            await bench.take()
            await bench.store.succeed([job_id], NOW + 10)
            job = await bench.store.get(job_id, NOW + 1009)
            assert job is not None
            assert (job.status, job.completed_at, job.purge_at) == (Status.COMPLETED, NOW + 10, NOW + 1010)
            assert bytes(job.payload or b"") == PAYLOAD
            assert await bench.status(job_id, NOW + 1010) is None

    # ── fail ──

    async def test_a_failure_is_retried_after_its_backoff(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            bench.dice.value = 0.5
            [job_id] = await bench.enqueue(bench.job())
            await bench.take(now=NOW + 1)
            job = await bench.fail(job_id, now=NOW + 2)
            assert job is not None
            # 1 ** 1.0 seconds, 500 ms, half of 100 ms for the one attempt
            assert (job.status, job.attempts, job.ready_at) == (Status.SCHEDULED, 1, NOW + 2 + 1550)
            assert (job.failed_at, job.dequeued_at, job.payload) == (NOW + 2, NOW + 1, None)
            assert bench.heard.due == [NOW + 1552]
            assert bench.heard.freed_by == {1: 1}
            assert await bench.store.next_due() == NOW + 1552

    async def test_failures_beyond_the_limit_are_death(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [job_id] = await bench.enqueue(bench.job(retry_limit=0))
            await bench.take()
            job = await bench.fail(job_id)
            assert job is not None
            assert (job.status, job.attempts, job.purge_at) == (Status.DEAD, 1, NOW + DAY)
            assert await bench.status(job_id, NOW + DAY - 1) is Status.DEAD
            assert await bench.status(job_id, NOW + DAY) is None

    async def test_a_kill_is_death_whatever_else_is_said(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [job_id] = await bench.enqueue(bench.job(retention=Retention(dead_ms=0)))
            await bench.take()
            job = await bench.fail(job_id, kill=True, retry_at=NOW + 5)
            assert job is not None
            assert (job.status, job.purge_at) == (Status.DEAD, None)
            assert await bench.status(job_id) is None
            assert await bench.store.errors(job_id, None, "asc", 10) == []

    async def test_a_retry_at_wins_over_the_limit(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [job_id] = await bench.enqueue(bench.job(retry_limit=0))
            await bench.take()
            job = await bench.fail(job_id, retry_at=NOW - 5)
            assert job is not None
            assert (job.status, job.ready_at) == (Status.SCHEDULED, NOW - 5)

    async def test_a_failure_of_a_job_that_is_not_in_flight_is_refused(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [job_id] = await bench.enqueue(bench.job())
            assert await bench.fail(job_id) is None
            assert await bench.fail("nonsense") is None

    async def test_errors_are_kept_in_order_of_attempt(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [job_id] = await bench.enqueue(bench.job(retry_limit=9))
            for attempt in range(1, 4):
                await bench.take(now=NOW + attempt)
                await bench.fail(job_id, message=f"m{attempt}", error_type="E", now=NOW + attempt, retry_at=NOW)
                await bench.store.promote(NOW, 10)
            store = bench.store
            assert [e.message for e in await store.errors(job_id, None, "asc", 2)] == ["m1", "m2"]
            assert [e.attempt for e in await store.errors(job_id, None, "desc", 9)] == [3, 2, 1]
            assert [e.attempt for e in await store.errors(job_id, 1, "asc", 9)] == [2, 3]
            assert [e.attempt for e in await store.errors(job_id, 2, "desc", 9)] == [1]
            second = await store.error(job_id, 2)
            assert second is not None
            assert (second.error_type, second.backtrace) == ("E", None)
            assert (second.dequeued_at, second.failed_at) == (NOW + 2, NOW + 2)
            assert await store.error(job_id, 4) is None

    # ── promote and reap ──

    async def test_due_jobs_are_promoted_earliest_first(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            late, soon, _ = await bench.enqueue(*[bench.job(ready_at=NOW + ms) for ms in (20, 10, 30)])
            assert await bench.store.next_due() == NOW + 10
            assert await bench.store.promote(NOW + 9, 10) == 0
            assert await bench.store.promote(NOW + 20, 1) == 1
            assert (await bench.status(soon), await bench.status(late)) == (Status.READY, Status.SCHEDULED)
            assert await bench.store.promote(NOW + 20, 10) == 1
            assert await bench.store.next_due() == NOW + 30
            assert bench.heard.queues == ["q", "q"]
            # Place by identifier, whenever each came due.
            assert await bench.take_ids() == [late, soon]

    async def test_the_reaper_removes_what_is_past_its_retention(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            ids = await bench.enqueue(*[bench.job(retry_limit=0) for _ in range(3)])
            await bench.take()
            for number, job_id in enumerate(ids):
                await bench.fail(job_id, now=NOW + number)
            assert await bench.store.reap(NOW + DAY + 1, 1) == 1
            assert await bench.store.reap(NOW + DAY + 1, 9) == 1
            assert await bench.store.reap(NOW + DAY + 1, 9) == 0
            assert await bench.store.errors(ids[0], None, "asc", 9) == []
            assert await bench.status(ids[2], NOW) is Status.DEAD

    # ── delete, queues, reset ──

    async def test_jobs_of_any_status_are_deleted(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            flying, ready, waiting = await bench.enqueue(
                bench.job(priority=0), bench.job(), bench.job(ready_at=NOW + 9)
            )
            await bench.take(1)
            assert await bench.delete(flying, ready, "nonsense", waiting) == 3
            assert await bench.take() == []
            assert await bench.store.next_due() is None
            assert await bench.store.queues(NOW) == []
            assert await bench.store.succeed([flying], NOW) == [False]
            assert await bench.delete(flying) == 0
            assert bench.heard.freed_by == {1: 1}

    async def test_a_deleted_job_leaves_the_others_in_order(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            ids = await bench.enqueue(*[bench.job(priority=n // 2) for n in range(8)])
            assert await bench.delete(ids[0], ids[3], ids[7]) == 3
            assert await bench.take_ids() == [ids[1], ids[2], ids[4], ids[5], ids[6]]

    async def test_an_expired_job_is_gone_for_a_delete_too(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [job_id] = await bench.enqueue(bench.job(retry_limit=0))
            await bench.take()
            await bench.fail(job_id)
            assert await bench.delete(job_id, now=NOW + DAY) == 0
            assert await bench.store.reap(NOW + DAY, 9) == 1

    async def test_queues_are_those_with_a_job_in_any_status(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await bench.enqueue(bench.job("é"), bench.job("z"), bench.job("later", ready_at=NOW + 1))
            [dying] = await bench.enqueue(bench.job("dead", retry_limit=0))
            await bench.take(queues=["dead", "z"])
            await bench.fail(dying)
            assert await bench.store.queues(NOW) == ["dead", "later", "z", "é"]
            assert await bench.store.queues(NOW + DAY) == ["later", "z", "é"]

    async def test_a_reset_leaves_nothing(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [flying, *_] = await bench.enqueue(bench.job(priority=0), bench.job(), bench.job(ready_at=NOW + 9))
            await bench.take(1)
            await bench.store.reset()
            assert await bench.take() == []
            assert await bench.store.queues(NOW) == []
            assert await bench.store.next_due() is None
            assert await bench.store.succeed([flying], NOW) == [False]
            assert bench.heard.freed_by == {1: 1}
            [again] = await bench.enqueue(bench.job())
            assert await bench.take_ids() == [again]

    # ── upkeep ──

    async def test_compacting_changes_no_job(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            flying, done, ready = await bench.enqueue(bench.job(), bench.job(), bench.job())
            await bench.take(2)
            await bench.store.succeed([done], NOW)
            before, after = await bench.store.compact()
            assert 0 <= after <= before
            assert await bench.page_ids() == [flying, ready]
            assert await bench.status(flying) is Status.IN_FLIGHT
            assert await bench.take_ids() == [ready]


class DurableStoreConformance(
    StoreConformance,
    DurableCronConformance,
    DurableLeaseConformance,
    DurablePauseConformance,
    DurableCopyConformance,
):
    """What a store must do besides when it outlasts its process."""

    async def test_everything_is_there_after_a_restart(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            flying, ready, waiting, failed = await bench.enqueue(
                bench.job(priority=0), bench.job(), bench.job(ready_at=NOW + 9), bench.job("f", retry_limit=0)
            )
            await bench.take(1)
            await bench.take(queues=["f"])
            await bench.fail(failed)
        async with self.bench(tmp_path) as bench:
            assert await bench.status(flying) is Status.READY
            assert await bench.status(waiting) is Status.SCHEDULED
            assert await bench.status(failed) is Status.DEAD
            assert await bench.store.error(failed, 1) is not None
            assert await bench.store.queues(NOW) == ["f", "q"]
            assert await bench.take_ids() == [flying, ready]
            assert await bench.store.next_due() == NOW + 9
