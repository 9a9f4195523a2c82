"""What every store must do where jobs may be held for so long only, and where workers die that hold some."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from zizq.budget import Budget, Draw, Strategy, StrategyType
from zizq.engine.changes import Change, Delete, Patch, Rebind, Retry
from zizq.job import JobRecord, Status
from zizq.policy import Retention
from zizq.testing.bench import NOW, Bench, Suite


class LeaseConformance(Suite):
    """The suite of time limits and worker deaths."""

    async def die(self, bench: Bench, times: int = 1, *, owner: int = 1, running: int | None = None) -> None:
        """Let workers that take all there is die with it, one after the other."""
        for _ in range(times):
            await bench.take(owner=owner)
            await bench.store.release(owner, died_at=NOW, running=running)

    async def read(self, bench: Bench, job_id: str) -> JobRecord:
        """A job that is there, without its payload."""
        job = await bench.store.get(job_id, NOW)
        assert job is not None
        return job.with_(payload=None)

    # ── time limits ──

    async def test_a_job_is_read_back_with_its_timeout(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            ids = await bench.enqueue(bench.job(timeout_ms=5), bench.job(timeout_ms=7, retry_limit=1), bench.job())
            assert [(await self.read(bench, job_id)).timeout_ms for job_id in ids] == [5, 7, None]
            assert [job.timeout_ms for job in await bench.take()] == [5, 7, None]

    async def test_a_job_that_is_held_for_too_long_has_failed(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [job_id] = await bench.enqueue(bench.job(timeout_ms=90_000))
            await bench.take(now=NOW + 3)
            overdue_at = NOW + 3 + 90_000
            assert bench.heard.overdue_at == [overdue_at]
            assert await bench.store.next_overdue() == overdue_at
            assert await bench.store.fail_overdue(overdue_at - 1, 9) == 0
            assert await bench.status(job_id) is Status.IN_FLIGHT
            assert await bench.store.fail_overdue(overdue_at, 9) == 1
            job = await self.read(bench, job_id)
            assert (job.status, job.attempts, job.ready_at) == (Status.SCHEDULED, 1, overdue_at + 1500)
            error = await bench.store.error(job_id, 1)
            assert error is not None
            assert (error.error_type, error.dequeued_at, error.failed_at) == ("Timeout", NOW + 3, overdue_at)
            assert "within its timeout of 1m 30s" in error.message
            assert bench.heard.freed_by == {1: 1}
            assert bench.heard.due == [job.ready_at]
            assert await bench.store.next_overdue() is None

    async def test_a_late_report_is_of_a_job_that_is_not_in_flight(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [job_id] = await bench.enqueue(bench.job(timeout_ms=1))
            await bench.take()
            await bench.store.fail_overdue(NOW + 1, 9)
            assert await bench.store.succeed([job_id], NOW) == [False]
            assert await bench.fail(job_id) is None
            assert await bench.store.release(1) == 0

    async def test_a_job_without_retries_is_dead_when_its_time_is_up(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [job_id] = await bench.enqueue(bench.job(timeout_ms=1, retry_limit=0))
            await bench.take()
            await bench.store.fail_overdue(NOW + 1, 9)
            assert await bench.status(job_id) is Status.DEAD

    async def test_a_stream_limits_the_jobs_that_set_no_timeout(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            own, other = await bench.enqueue(bench.job(timeout_ms=500), bench.job())
            await bench.take(timeout_ms=100)
            assert await bench.store.next_overdue() == NOW + 100
            assert await bench.store.fail_overdue(NOW + 499, 9) == 1
            assert await bench.status(own) is Status.IN_FLIGHT
            error = await bench.store.error(other, 1)
            assert error is not None
            assert "within its stream's timeout of 100ms" in error.message

    async def test_without_a_timeout_a_job_is_held_for_ever(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            await bench.enqueue(bench.job())
            await bench.take()
            assert await bench.store.next_overdue() is None
            assert await bench.store.fail_overdue(2**62, 9) == 0
            assert bench.heard.overdue_at == []

    async def test_a_job_that_left_in_time_is_not_overdue(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            done, failed, deleted, back = await bench.enqueue(*[bench.job(timeout_ms=5) for _ in range(4)])
            await bench.take()
            await bench.store.succeed([done], NOW)
            await bench.fail(failed)
            await bench.delete(deleted)
            assert await bench.store.release_jobs([back]) == [True]
            assert await bench.store.next_overdue() is None
            # Taken again, its time begins anew.
            await bench.take(now=NOW + 4)
            assert await bench.store.fail_overdue(NOW + 8, 9) == 0
            assert await bench.store.fail_overdue(NOW + 9, 9) == 1

    async def test_overdue_jobs_fail_earliest_first_and_so_many_at_a_time(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            a, b, c = await bench.enqueue(*[bench.job(timeout_ms=ms) for ms in (30, 10, 20)])
            await bench.take()
            assert await bench.store.fail_overdue(NOW + 99, 2) == 2
            assert [await bench.status(job_id) for job_id in (a, b, c)] == [
                Status.IN_FLIGHT, Status.SCHEDULED, Status.SCHEDULED
            ]  # fmt: skip
            assert await bench.store.next_overdue() == NOW + 30

    async def test_a_success_and_its_time_being_up_are_one_or_the_other(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [job_id] = await bench.enqueue(bench.job(timeout_ms=1))
            await bench.take()
            [done], failed = await asyncio.gather(
                bench.store.succeed([job_id], NOW + 1), bench.store.fail_overdue(NOW + 1, 9)
            )
            assert (done, failed) in ((True, 0), (False, 1))
            assert await bench.store.next_overdue() is None
            assert await bench.status(job_id) is (None if done else Status.SCHEDULED)

    async def test_a_patched_timeout_counts_for_the_run_under_way(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            ids = await bench.enqueue(bench.job(), bench.job(timeout_ms=50), bench.job(timeout_ms=60))
            await bench.take(timeout_ms=1000)
            await bench.change(Patch(timeout_ms=10), ids=[ids[0]])
            await bench.change(Patch(timeout_ms=None), ids=[ids[1]])
            await bench.change(Patch(priority=3), ids=[ids[2]])
            assert await bench.store.next_overdue() == NOW + 10
            assert await bench.store.fail_overdue(NOW + 999, 9) == 2
            assert await bench.status(ids[1]) is Status.IN_FLIGHT
            assert (await self.read(bench, ids[0])).timeout_ms == 10
            assert (await self.read(bench, ids[1])).timeout_ms is None

    async def test_a_heavy_job_has_its_time_limit_too(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            payload = msgspec.msgpack.encode("x" * 100_000)
            await bench.enqueue(bench.job(payload=payload, timeout_ms=10), bench.job(payload=payload))
            # Windows keep no heavy payloads: these are read when they are taken.
            await bench.take(timeout_ms=20)
            assert bench.heard.overdue_at[-1] == NOW + 10
            assert await bench.store.fail_overdue(NOW + 20, 9) == 2

    async def test_tokens_come_back_when_the_time_is_up(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            budget = Budget("one", 1, Strategy(StrategyType.WHILE_IN_FLIGHT), NOW, NOW)
            assert await bench.store.save_budget("one", None, budget, NOW)
            draws = (Draw("one", 1),)
            first, second = await bench.enqueue(bench.job(timeout_ms=5, budgets=draws), bench.job(budgets=draws))
            assert await bench.take_ids() == [first]
            await bench.store.fail_overdue(NOW + 5, 9)
            assert await bench.take_ids(owner=2) == [second]

    # ── given back by identifier ──

    async def test_jobs_are_given_back_by_their_identifiers(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            first, second, ready = await bench.enqueue(bench.job(), bench.job(), bench.job())
            await bench.take(2, now=NOW + 7)
            bench.heard.queues.clear()
            assert await bench.store.release_jobs([first, "none", ready]) == [True, False, False]
            job = await self.read(bench, first)
            assert (job.status, job.attempts, job.dequeued_at) == (Status.READY, 0, NOW + 7)
            assert await bench.status(second) is Status.IN_FLIGHT
            assert bench.heard.freed_by == {1: 1}
            assert bench.heard.queues == ["q"]
            assert await bench.store.release_jobs([first]) == [False]
            assert await bench.take_ids() == [first, ready]

    async def test_only_what_an_owner_holds_is_given_back_in_its_name(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            lost, own = await bench.enqueue(bench.job(), bench.job())
            await bench.take()
            await bench.store.release(1)
            assert await bench.take_ids(1, owner=2) == [lost]
            assert await bench.take_ids(1, owner=1) == [own]
            assert await bench.store.release_jobs([lost, own], [1]) == [False, True]
            assert await bench.store.release_jobs([lost], []) == [False]
            assert await bench.status(lost) is Status.IN_FLIGHT

    async def test_a_job_that_is_given_back_twice_is_ready_once(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [job_id] = await bench.enqueue(bench.job())
            await bench.take()
            [found], count = await asyncio.gather(bench.store.release_jobs([job_id]), bench.store.release(1))
            assert (found, count) in ((True, 0), (False, 1))
            assert await bench.take_ids() == [job_id]
            assert await bench.take_ids() == []

    # ── workers that die ──

    async def test_a_job_is_dead_when_too_many_workers_died_holding_it(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [job_id] = await bench.enqueue(bench.job(retry_limit=99))
            await self.die(bench, 5)
            job = await self.read(bench, job_id)
            assert (job.status, job.attempts) == (Status.READY, 0)
            bench.heard.freed_by.clear()
            await self.die(bench)
            job = await self.read(bench, job_id)
            assert (job.status, job.attempts) == (Status.DEAD, 1)
            assert (job.failed_at, job.purge_at) == (NOW, NOW + self.defaults.dead_ms)
            assert bench.heard.freed_by == {1: 1}
            error = await bench.store.error(job_id, 1)
            assert error is not None
            assert (error.error_type, error.dequeued_at) == ("WorkerDied", NOW)
            assert error.message.startswith("6 workers died, or lost their connections, while they held it, and 5 may")
            assert await bench.take() == []

    async def test_a_job_that_is_dead_by_its_workers_and_not_kept_is_gone(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [job_id] = await bench.enqueue(bench.job(retention=Retention(dead_ms=0)))
            await self.die(bench, 6)
            assert await bench.status(job_id) is None
            assert await bench.store.errors(job_id, None, "asc", 9) == []

    async def test_only_jobs_that_may_have_been_running_count(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            late = await bench.enqueue(*[bench.job(priority=9) for _ in range(2)])
            await bench.take()
            held_longest = [await bench.enqueue(bench.job(priority=1)), await bench.enqueue(bench.job(priority=1))]
            await bench.store.release_jobs(late)
            for _ in range(6):
                # In the order in which they were taken, whatever their priorities and ages.
                await bench.take(queues=["q"], limit=2)
                await bench.take()
                await bench.store.release(1, died_at=NOW, running=2)
            assert [await bench.status(job_id) for [job_id] in held_longest] == [Status.DEAD] * 2
            assert [await bench.status(job_id) for job_id in late] == [Status.READY] * 2
            assert await bench.take_ids() == late

    async def test_a_job_that_is_being_settled_does_not_count_as_running(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            done, poison = await bench.enqueue(bench.job(priority=1), bench.job(priority=2))
            await self.die(bench, 5)
            await bench.take()
            await asyncio.gather(bench.store.succeed([done], NOW), bench.store.release(1, died_at=NOW, running=1))
            assert await bench.status(poison) is Status.DEAD

    async def test_workers_that_left_in_good_order_do_not_count(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [job_id] = await bench.enqueue(bench.job())
            for _ in range(7):
                await bench.take()
                await bench.store.release(1)
                await bench.take()
                await bench.store.release_jobs([job_id])
            assert await bench.status(job_id) is Status.READY

    @pytest.mark.parametrize("turns", [0, 4, 16, 64])
    @pytest.mark.parametrize("change", [Delete(), Patch(queue="other"), Rebind(all=())])
    async def test_a_worker_dies_in_the_midst_of_a_change_of_many(
        self, tmp_path: Path, change: Change, turns: int
    ) -> None:
        async with self.bench(tmp_path) as bench:
            flying = await bench.enqueue(*[bench.job(priority=1) for _ in range(20)])
            for _ in range(5):
                await bench.take(20)
                await bench.store.release(1, died_at=NOW)
            await bench.take(20)
            await bench.enqueue(*[bench.job() for _ in range(2500)])
            changing = asyncio.ensure_future(bench.change(change))
            for _ in range(turns):
                await asyncio.sleep(0)
            await bench.store.release(1, died_at=NOW, running=2)
            await changing
            gone = isinstance(change, Delete)
            dead = await bench.page_ids(statuses=["dead"])
            assert dead == ([] if gone else flying[:2])
            assert await bench.count(statuses=["dead"]) == len(dead)
            rest = await bench.page_ids(statuses=["ready"])
            assert rest[:18] == ([] if gone else flying[2:])
            assert await bench.count(statuses=["ready"]) == (0 if gone else 2518)
            assert await bench.count(statuses=["in_flight"]) == 0

    async def test_nobody_counts_where_any_number_may_die(self, tmp_path: Path) -> None:
        defaults = msgspec.structs.replace(self.defaults, max_worker_deaths=0)
        async with self.bench(tmp_path, defaults) as bench:
            [job_id] = await bench.enqueue(bench.job())
            await self.die(bench, 9)
            assert await bench.status(job_id) is Status.READY

    async def test_a_retry_begins_to_count_anew_and_a_failure_does_not(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [job_id] = await bench.enqueue(bench.job(retry_limit=99))
            await self.die(bench, 6)
            await bench.change(Retry(), ids=[job_id])
            await self.die(bench, 3)
            assert await bench.status(job_id) is Status.READY
            await bench.take()
            await bench.fail(job_id, retry_at=NOW)
            await bench.store.promote(NOW, 9)
            await self.die(bench, 2)
            assert await bench.status(job_id) is Status.READY
            await self.die(bench)
            assert await bench.status(job_id) is Status.DEAD
            assert [error.attempt for error in await bench.store.errors(job_id, None, "asc", 9)] == [1, 2]


class DurableLeaseConformance(Suite):
    """The suite of worker deaths, for stores that outlast their process."""

    async def test_worker_deaths_are_counted_over_a_restart(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            [job_id] = await bench.enqueue(bench.job(timeout_ms=5))
            for _ in range(5):
                await bench.take()
                await bench.store.release(1, died_at=NOW)
            await bench.take()
        async with self.bench(tmp_path) as bench:
            assert await bench.status(job_id) is Status.READY
            # It is in flight no more, so its time is not up.
            assert await bench.store.next_overdue() is None
            [job] = await bench.take()
            assert job.timeout_ms == 5
            await bench.store.release(1, died_at=NOW)
            assert await bench.status(job_id) is Status.DEAD
