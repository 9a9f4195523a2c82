"""What one client of the events is told when it is slow, or when too much happens."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import msgspec

from zizq.engine import admit
from zizq.engine.changes import Delete
from zizq.engine.lists import JobList
from zizq.engine.selection import Selection
from zizq.engine.transitions import Cause
from zizq.errors import Unavailable
from zizq.ids import IdGenerator
from zizq.policy import Defaults
from zizq.server.insight import feed
from zizq.server.insight.feed import LAG, REST_S, Feed
from zizq.store.memory import MemoryStore
from zizq.testing.clock import LoadedDice, ManualClock
from zizq.wire.events import Find, Heartbeat, JobChanged, JobSnapshot, Start, Subscribe, Tail
from zizq.wire.insight import Counts

NULL = msgspec.Raw(b"\xc0")


class Told:
    """A client that takes events one by one, when the test lets it."""

    def __init__(self):
        self.events = asyncio.Queue()
        self.may_read = asyncio.Event()
        self.may_read.set()

    async def tell(self, event):
        self.events.put_nowait(event)
        await self.may_read.wait()

    async def next(self):
        async with asyncio.timeout(5):
            event = await self.events.get()
        return event if not isinstance(event, Heartbeat) else await self.next()


class FakeInsights:
    """Says what comes with each event, and passes on what happens."""

    version = "1"

    def __init__(self):
        self.watchers = []
        self.counts = Counts()

    def total(self):
        return self.counts

    def uptime_ms(self):
        return 1


class Scene:
    """A store that tells a feed."""

    def __init__(self, store, feed, told, insights, clock):
        self.store, self.feed, self.told, self.insights, self.clock = store, feed, told, insights, clock
        self.next_id = IdGenerator(ManualClock(), LoadedDice()).next

    async def enqueue(self, count):
        jobs = [
            admit.new_job(self.next_id(), self.clock.wall_ms(), type="t", queue="q", payload=NULL) for _ in range(count)
        ]
        await self.store.enqueue(jobs, self.clock.wall_ms())
        return [job.id for job in jobs]


@asynccontextmanager
async def scene():
    clock, told, insights = ManualClock(), Told(), FakeInsights()
    store = MemoryStore(Defaults(), LoadedDice())

    class Listener:
        def moved(self, cause, jobs, errors=()):
            for watcher in insights.watchers:
                watcher.moved(cause, jobs)

        def __getattr__(self, name):
            return lambda *_: None

    await store.open(Listener())
    feed = Feed(insights, store, clock, told.tell)
    task = asyncio.create_task(feed.run())
    try:
        yield Scene(store, feed, told, insights, clock)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert insights.watchers == []


async def test_what_happens_is_told_after_the_snapshot():
    async with scene() as now:
        assert isinstance(await now.told.next(), JobSnapshot)
        [job_id] = await now.enqueue(1)
        event = await now.told.next()
        assert isinstance(event, JobChanged)
        assert (event.id, event.status, event.server.total_ready) == (job_id, "ready", 1)


async def test_a_client_that_does_not_read_costs_no_memory_and_then_hears_the_whole():
    async with scene() as now:
        now.told.may_read.clear()
        await now.told.next()
        for _ in range(20):
            await now.enqueue(LAG // 2)
        assert len(now.feed._gathered) <= 3
        now.clock.advance(int(REST_S * 1000) + 1)
        now.told.may_read.set()
        event = await now.told.next()
        assert isinstance(event, JobSnapshot)
        assert (event.ready.total, len(event.ready.items)) == (20 * (LAG // 2), 200)


async def test_too_much_at_once_waits_for_its_turn_and_a_wish_does_not():
    async with scene() as now:
        await now.told.next()
        await now.enqueue(LAG + 1)
        await asyncio.sleep(0)
        assert now.told.events.empty()
        now.feed.subscribe(Subscribe("ready", Tail(), 3))
        event = await now.told.next()
        assert isinstance(event, JobSnapshot)
        assert (event.ready.first_position, len(event.ready.items)) == (LAG - 2, 3)


async def test_totals_that_went_wrong_are_put_right_once_nothing_happens():
    async with scene() as now:
        await now.told.next()
        [job_id] = await now.enqueue(1)
        await now.told.next()
        # An event that was wrong: nothing of it is true.
        gone = await now.store.get(job_id, now.clock.wall_ms())
        now.feed.moved(Cause.DELETE, [gone])
        assert (await now.told.next()).status == "ready_removed"
        now.insights.counts = Counts(ready=1)
        now.clock.advance(10_000)
        now.feed.find(Find("ready", Start(), "forward", 1))
        await now.told.next()
        now.clock.advance(10_000)
        now.feed.moved(Cause.ENQUEUE, [])
        async with asyncio.timeout(5):
            event = await now.told.next()
        assert (event.id, event.status, event.server.total_ready) == (job_id, "ready", 1)


async def test_a_store_that_cannot_be_read_is_asked_again(monkeypatch):
    async with scene() as now:
        await now.told.next()
        read, refused = now.store.window, []

        async def window(*arguments):
            if not refused:
                refused.append(arguments)
                raise Unavailable("not now")
            return await read(*arguments)

        monkeypatch.setattr(now.store, "window", window)
        await now.enqueue(3)
        now.feed.subscribe(Subscribe("ready", Tail(), 3))
        assert (await now.told.next()).ready.items == []
        now.clock.advance(int(REST_S * 1000) + 1)
        now.feed.moved(Cause.DELETE, None)
        now.feed._news.set()
        assert len((await now.told.next()).ready.items) == 3


async def test_a_search_that_takes_too_long_is_given_up_and_says_so(monkeypatch):
    async with scene() as now:
        await now.told.next()
        [job_id] = await now.enqueue(1)
        await now.told.next()
        search = Find("ready", Start(), "forward", 5)
        now.feed.find(search)
        event = await now.told.next()
        assert (event.matched_position, event.incomplete) == (0, False)

        async def endless(*_):
            await asyncio.Event().wait()

        monkeypatch.setattr(now.store, "find", endless)
        monkeypatch.setattr(feed, "FIND_S", 0.01)
        now.feed.find(search)
        event = await now.told.next()
        assert (event.matched_position, event.incomplete) == (None, True)
        assert [job.id for job in event.window.items] == [job_id]


async def test_what_happens_while_windows_are_read_is_neither_lost_nor_told_twice(monkeypatch):
    async with scene() as now:
        await now.told.next()
        [gone] = await now.enqueue(1)
        await now.told.next()
        read = now.store.window
        ids = []

        async def window(of, place, limit, at, heard):
            if of is JobList.READY and not ids:
                ids.extend(await now.enqueue(1))
                await now.store.change(Selection(ids=frozenset([gone])), Delete(), at)
                found = await read(of, place, limit, at, heard)
                ids.extend(await now.enqueue(1))
                return found
            return await read(of, place, limit, at, heard)

        monkeypatch.setattr(now.store, "window", window)
        now.feed.subscribe(Subscribe("ready", Tail(), 3))
        event = await now.told.next()
        assert [job.id for job in event.ready.items] == ids
        assert event.ready.total == 2
