"""Background duties, with the clock in hand."""

from __future__ import annotations

import asyncio

import msgspec

from zizq.engine import admit
from zizq.job import JobRecord, Status
from zizq.policy import Defaults
from zizq.server.broker import Broker
from zizq.server.duties import Alarm, Promoter, Reaper
from zizq.server.jq import Jq
from zizq.store.memory import MemoryStore
from zizq.testing.clock import LoadedDice, ManualClock

PAYLOAD = msgspec.Raw(b"\xc0")


async def enqueue(broker: Broker, ready_at: int | None = None) -> JobRecord:
    job = admit.new_job(broker.next_id(), broker.now(), type="t", queue="q", payload=PAYLOAD, ready_at=ready_at)
    await broker.enqueue([job])
    return job


class Watched(MemoryStore):
    """A store that says when it was asked to promote or reap, and can be made to fail."""

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
