"""Background duties, with the clock in hand."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from zizq.engine import admit
from zizq.job import JobRecord, Status
from zizq.policy import Defaults
from zizq.server import duties
from zizq.server.broker import Broker
from zizq.server.duties import NAP_S, Alarm, Promoter, Punctual, Reaper, Timekeeper
from zizq.server.jq import Jq
from zizq.store.memory import MemoryStore
from zizq.testing.clock import LoadedDice, ManualClock

PAYLOAD = msgspec.Raw(b"\xc0")


async def enqueue(broker: Broker, ready_at: int | None = None, timeout_ms: int | None = None) -> JobRecord:
    job = admit.new_job(
        broker.next_id(), broker.now(), type="t", queue="q", payload=PAYLOAD, ready_at=ready_at, timeout_ms=timeout_ms
    )
    await broker.enqueue([job])
    return job


class Watched(MemoryStore):
    """A store that says when it was asked to do a duty, and can be made to fail."""

    def __init__(self) -> None:
        super().__init__(Defaults(), LoadedDice())
        self.asked = asyncio.Event()
        self.failures = 0

    async def promote(self, now: int, limit: int) -> int:
        self.asked.set()
        if self.failures:
            self.failures -= 1
            raise RuntimeError("broken")
        return await super().promote(now, limit)

    async def reap(self, now: int, limit: int) -> int:
        self.asked.set()
        return await super().reap(now, limit)

    async def fail_overdue(self, now: int, limit: int) -> int:
        self.asked.set()
        return await super().fail_overdue(now, limit)


async def started(clock: ManualClock) -> tuple[Watched, Broker]:
    store = Watched()
    broker = Broker(store, clock, LoadedDice(), Jq(1000, 2**28))
    await broker.start()
    return store, broker


async def status(store: Watched, job: JobRecord) -> Status:
    found = await store.get(job.id, 0)
    assert found is not None
    return found.status


async def test_a_new_earliest_job_wakes_the_promoter() -> None:
    clock = ManualClock()
    store, broker = await started(clock)
    promoter = asyncio.create_task(Promoter(broker, clock, 10).run())
    await store.asked.wait()
    store.asked.clear()
    job = await enqueue(broker, clock.wall_ms() + 3)
    clock.advance(5)
    await asyncio.wait_for(store.asked.wait(), 5)
    while await status(store, job) is not Status.READY:  # noqa: ASYNC110 - the pass goes on meanwhile
        await asyncio.sleep(0)
    promoter.cancel()


async def test_all_due_jobs_are_promoted_however_small_the_batch() -> None:
    clock = ManualClock()
    store, broker = await started(clock)
    jobs = [await enqueue(broker, clock.wall_ms() + 1) for _ in range(7)]
    late = await enqueue(broker, clock.wall_ms() + 100)
    clock.advance(1)
    assert await broker.promote(2) == late.ready_at
    assert [await status(store, job) for job in jobs] == [Status.READY] * 7


async def test_a_new_earliest_time_limit_wakes_the_timekeeper() -> None:
    clock = ManualClock()
    store, broker = await started(clock)
    timekeeper = asyncio.create_task(Timekeeper(broker, clock).run())
    await store.asked.wait()
    store.asked.clear()
    job = await enqueue(broker, timeout_ms=3)
    await broker.take(broker.open_stream((), 1), 1)
    clock.advance(5)
    await asyncio.wait_for(store.asked.wait(), 5)
    while await status(store, job) is not Status.SCHEDULED:  # noqa: ASYNC110 - the pass goes on meanwhile
        await asyncio.sleep(0)
    timekeeper.cancel()


async def test_all_overdue_jobs_fail_however_small_the_batch() -> None:
    clock = ManualClock()
    store, broker = await started(clock)
    jobs = [await enqueue(broker, timeout_ms=1) for _ in range(7)]
    await enqueue(broker, timeout_ms=100)
    await broker.take(broker.open_stream((), 9), 9)
    clock.advance(1)
    assert await broker.fail_overdue(2) == clock.wall_ms() + 99
    assert [await status(store, job) for job in jobs] == [Status.SCHEDULED] * 7


async def test_a_duty_that_failed_is_tried_again_soon_and_tells_of_it_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duties, "RETRY_S", 0.0)
    clock = ManualClock()
    store, broker = await started(clock)
    job = await enqueue(broker, clock.wall_ms() + 1)
    clock.advance(1)
    store.failures = 3
    promoter = asyncio.create_task(Promoter(broker, clock, 10).run())
    async with asyncio.timeout(NAP_S / 2):
        while await status(store, job) is not Status.READY:  # noqa: ASYNC110 - the pass goes on meanwhile
            await asyncio.sleep(0)
    promoter.cancel()
    assert [record.getMessage() for record in caplog.records] == ["duty failed, will be tried again"]


async def test_a_pass_that_rings_for_a_later_time_leads_to_no_other_pass() -> None:
    passes = 0

    async def duty() -> int:
        nonlocal passes
        passes += 1
        punctual.scheduled(clock.wall_ms() + 3_600_000)
        await asyncio.sleep(0)
        return clock.wall_ms() + 3_600_000

    clock = ManualClock()
    punctual = Punctual("duty", clock, duty)
    running = asyncio.create_task(punctual.run())
    for _ in range(20):
        await asyncio.sleep(0)
    running.cancel()
    assert passes == 1


async def test_the_reaper_goes_on_until_nothing_is_left() -> None:
    clock = ManualClock()
    store, broker = await started(clock)
    reaper = asyncio.create_task(Reaper(broker, 1).run())
    await asyncio.wait_for(store.asked.wait(), 5)
    store.asked.clear()
    await asyncio.wait_for(store.asked.wait(), 5)
    reaper.cancel()


async def test_a_rung_alarm_ends_its_sleep_at_once() -> None:
    alarm = Alarm()
    alarm.ring()
    await asyncio.wait_for(alarm.sleep(3600), 5)
    await alarm.sleep(0)
