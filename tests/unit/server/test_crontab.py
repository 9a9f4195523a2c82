"""The crontab and its ticker, with the clock in hand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, tzinfo
from itertools import chain
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from zizq.cron import CronEntry, CronGroup, CronJob
from zizq.engine.cron.rules import GroupPatch, NewEntry, NewGroup
from zizq.engine.selection import EVERYTHING
from zizq.errors import BadRequest, Unavailable, Unprocessable
from zizq.job import Batch, JobRecord
from zizq.policy import Defaults
from zizq.server.broker import Broker
from zizq.server.crontab import Crontab
from zizq.server.duties import Ticker
from zizq.store.base import Due, Store
from zizq.store.memory import MemoryStore
from zizq.store.sqlite.store import SqliteStore
from zizq.testing.clock import LoadedDice, ManualClock

MINUTE = 60_000
STARTS_AT = "2026-03-07T00:00:30Z"


def ms(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp() * 1000)


def template(**more: Any) -> CronJob:
    plain = CronJob(type="t", queue="q", payload=msgspec.Raw(msgspec.msgpack.encode([1])), priority=5)
    return msgspec.structs.replace(plain, **more)


def every(expression: str = "0 * * * *", name: str = "e", **more: Any) -> NewEntry:
    return NewEntry(name=name, expression=expression, job=more.pop("job", template()), **more)


class Adder:
    """Folds payloads that are lists, and fails where `broken` says so."""

    def __init__(self) -> None:
        self.broken = False

    async def check_batch(self, when: str, fold: str, payload: bytes) -> None:
        if when == "bad":
            raise Unprocessable("batch expression: when: bad")

    async def fold(self, existing: bytes, when: str, fold: str, news: Sequence[bytes]) -> tuple[bytes, int, str | None]:
        if self.broken:
            return existing, 0, "no"
        lists = [msgspec.msgpack.decode(payload) for payload in (existing, *news)]
        return msgspec.msgpack.encode(list(chain(*lists))), len(news), None


class Bench:
    """A crontab, and what it needs."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock
        self.folder = Adder()
        self.unknown: set[str] = set()
        self.broker = Broker(store, clock, LoadedDice(), self.folder)
        self.crontab = Crontab(store, self.broker, clock, self.zone)

    def zone(self, name: str | None) -> tzinfo:
        if name in self.unknown:
            raise BadRequest(f'invalid timezone: "{name}"')
        return ZoneInfo(name or "UTC")

    async def put(self, *entries: NewEntry, name: str = "g", **more: Any) -> CronGroup:
        return await self.crontab.replace(name, NewGroup(entries=entries, **more))

    async def tick(self, moment: str | None = None, *, limit: int = 100) -> int | None:
        """Fire what is due at a moment."""
        if moment is not None:
            self.clock.set_wall(ms(moment))
        return await self.crontab.fire(limit)

    async def jobs(self) -> list[JobRecord]:
        return (await self.store.page(EVERYTHING, None, "asc", 2000, 0)).jobs

    async def payloads(self) -> list[Any]:
        return [msgspec.msgpack.decode(job.payload or b"") for job in await self.jobs()]

    async def entry(self, name: str = "e") -> CronEntry:
        return await self.crontab.get_entry("g", name)


@asynccontextmanager
async def bench(store: Store | None = None, start: str = STARTS_AT) -> AsyncIterator[Bench]:
    made = Bench(store or MemoryStore(Defaults(), LoadedDice()), ManualClock(ms(start)))
    await made.broker.start()
    try:
        yield made
    finally:
        await made.broker.stop()


# ── firing ──


async def test_an_entry_fires_when_its_time_has_come() -> None:
    async with bench() as here:
        await here.put(every("*/10 * * * *"))
        assert await here.tick("2026-03-07T00:09:59.999Z") == ms("2026-03-07T00:10:00Z")
        assert await here.jobs() == []
        assert await here.tick("2026-03-07T00:10:00Z") == ms("2026-03-07T00:20:00Z")
        [job] = await here.jobs()
        assert (job.type, job.queue, job.priority, job.ready_at) == ("t", "q", 5, here.clock.wall_ms())
        assert (await here.entry()).last_enqueue_at == here.clock.wall_ms()
        assert await here.tick() == ms("2026-03-07T00:20:00Z")
        assert len(await here.jobs()) == 1


async def test_nothing_is_due_where_there_is_nothing() -> None:
    async with bench() as here:
        assert await here.tick() is None
        await here.put(every("0 0 0 1 1 * 2020"))
        assert await here.tick() is None


async def test_all_that_is_due_fires_however_small_the_batch() -> None:
    async with bench() as here:
        await here.put(*[every("0 1 * * *", str(number)) for number in range(7)])
        await here.put(every("0 2 * * *"), name="h")
        assert await here.tick("2026-03-07T01:00:00Z", limit=3) == ms("2026-03-07T02:00:00Z")
        assert len(await here.jobs()) == 7


@pytest.mark.parametrize(
    ("zone", "start", "at_half_past_one", "at_half_past_two", "each_half_hour"),
    [
        ("America/New_York", "2026-03-08T05:30Z", ["06:30"], ["07:00"], ["06:00", "06:30"]),
        (
            "America/New_York", "2026-11-01T04:30Z", ["05:30"], ["07:30"],
            ["05:00", "05:30", "06:00", "06:30", "07:00", "07:30"],
        ),
        ("Europe/London", "2026-03-29T00:30Z", ["01:00"], ["01:30"], ["01:00", "01:30"]),
        (
            "Europe/London", "2026-10-24T23:30Z", ["00:30"], ["02:30"],
            ["00:00", "00:30", "01:00", "01:30", "02:00", "02:30"],
        ),
        # There the clocks change by half an hour.
        ("Australia/Lord_Howe", "2026-10-03T14:00Z", ["15:00"], ["15:30"], ["14:30", "15:00", "15:30"]),
        (
            "Australia/Lord_Howe", "2026-04-04T13:30Z", ["14:30"], ["16:00"],
            ["14:00", "14:30", "15:00", "15:30", "16:00"],
        ),
    ],
)  # fmt: skip
async def test_a_group_goes_through_a_change_of_the_clocks(
    zone: str, start: str, at_half_past_one: list[str], at_half_past_two: list[str], each_half_hour: list[str]
) -> None:
    expressions = {"one": "30 1 * * *", "two": "30 2 * * *", "each": "*/30 1,2 * * *"}
    async with bench(start=start) as here:
        entries = [every(text, name, job=template(type=name)) for name, text in expressions.items()]
        await here.put(*entries, timezone=zone)
        for _ in range(5 * 60):
            here.clock.advance(MINUTE)
            await here.tick()
        found: dict[str, list[str]] = {name: [] for name in expressions}
        for job in await here.jobs():
            found[job.type].append(datetime.fromtimestamp(job.ready_at / 1000, ZoneInfo("UTC")).strftime("%H:%M"))
        assert found == {"one": at_half_past_one, "two": at_half_past_two, "each": each_half_hour}


async def test_after_a_time_away_an_entry_fires_just_once() -> None:
    async with bench() as here:
        await here.put(every("*/10 * * * *"))
        assert await here.tick("2026-03-09T17:42:10.500Z") == ms("2026-03-09T17:50Z")
        assert len(await here.jobs()) == 1
        assert (await here.entry()).last_enqueue_at == ms("2026-03-09T17:42:10.500Z")


@pytest.mark.parametrize("whole_group", [True, False])
async def test_after_a_pause_nothing_is_made_up_for(whole_group: bool) -> None:
    async def pause(flag: bool) -> None:
        if whole_group:
            await here.crontab.patch("g", GroupPatch(paused=flag))
        else:
            await here.crontab.pause_entry("g", "e", flag)

    async with bench() as here:
        await here.put(every("*/10 * * * *"))
        await pause(True)
        assert await here.tick("2026-03-07T00:10Z") == ms("2026-03-07T00:20Z")
        here.clock.set_wall(ms("2026-03-07T00:25Z"))
        # The last time of the pause has come and has not been passed over yet.
        await pause(False)
        assert await here.tick() == ms("2026-03-07T00:30Z")
        assert await here.jobs() == []
        assert (await here.entry()).last_enqueue_at is None
        await here.tick("2026-03-07T00:30Z")
        assert len(await here.jobs()) == 1


async def test_a_duplicate_counts_as_fired() -> None:
    async with bench() as here:
        await here.put(every("* * * * *", job=template(unique_key="k", unique_while="queued")))
        for moment in ("2026-03-07T00:01Z", "2026-03-07T00:02Z"):
            await here.tick(moment)
        assert len(await here.jobs()) == 1
        assert (await here.entry()).last_enqueue_at == ms("2026-03-07T00:02Z")


async def test_a_batched_job_is_folded_into_the_one_that_waits() -> None:
    async with bench() as here:
        batched = template(batch=Batch("k", "true", "$new"))
        await here.put(every("* * * * *", "a", job=batched), every("* * * * *", "b", job=batched))
        for moment in ("2026-03-07T00:01Z", "2026-03-07T00:02Z"):
            await here.tick(moment)
        assert await here.payloads() == [[1, 1, 1, 1]]
        assert [(await here.entry(name)).last_enqueue_at for name in "ab"] == [ms("2026-03-07T00:02Z")] * 2
        await here.store.take(1, (), 9, 0)
        await here.tick("2026-03-07T00:03Z")
        assert await here.payloads() == [[1, 1, 1, 1], [1, 1]]


# ── what goes wrong ──


class Faulty(MemoryStore):
    """A store that fails to fire entries of some names, or to write at all."""

    def __init__(self) -> None:
        super().__init__(Defaults(), LoadedDice())
        self.faulty: dict[str, Exception] = {}

    async def fire(self, due: Due, after: CronEntry, jobs: Sequence[JobRecord], *rest: Any) -> Sequence[JobRecord]:
        if jobs and due.entry.name in self.faulty:
            raise self.faulty[due.entry.name]
        return await super().fire(due, after, jobs, *rest)


@pytest.mark.parametrize("error", [Unprocessable("no"), RuntimeError("no")])
async def test_an_entry_that_fails_is_passed_over_and_the_others_go_on(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    store = Faulty()
    async with bench(store) as here:
        await here.put(*[every("* * * * *", name, job=template(type=name)) for name in "abc"])
        store.faulty["b"] = error
        with caplog.at_level(logging.ERROR, "zizq.cron"):
            assert await here.tick("2026-03-07T00:01Z") == ms("2026-03-07T00:02Z")
        assert [job.type for job in await here.jobs()] == ["a", "c"]
        entry = await here.entry("b")
        assert (entry.last_enqueue_at, entry.next_enqueue_at) == (None, ms("2026-03-07T00:02Z"))
        [record] = caplog.records
        assert vars(record)["fields"] == {"group": "g", "entry": "b", "error": "no"}
        assert bool(record.exc_info) == isinstance(error, RuntimeError)
        store.faulty.clear()
        await here.tick("2026-03-07T00:02Z")
        assert (await here.entry("b")).last_enqueue_at == ms("2026-03-07T00:02Z")


async def test_a_fold_that_fails_is_passed_over() -> None:
    async with bench() as here:
        batched = template(batch=Batch("k", "true", "$new"))
        await here.put(every("* * * * *", "a", job=batched), every("* * * * *", "b"))
        await here.tick("2026-03-07T00:01Z")
        here.folder.broken = True
        await here.tick("2026-03-07T00:02Z")
        assert len(await here.jobs()) == 1 + 2
        entry = await here.entry("a")
        assert (entry.last_enqueue_at, entry.next_enqueue_at) == (ms("2026-03-07T00:01Z"), ms("2026-03-07T00:03Z"))


async def test_when_the_store_cannot_write_the_time_is_not_lost() -> None:
    store = Faulty()
    async with bench(store) as here:
        await here.put(every("* * * * *", "a"), every("* * * * *", "b"))
        store.faulty["a"] = Unavailable("the disk is full")
        with pytest.raises(Unavailable):
            await here.tick("2026-03-07T00:01Z")
        assert len(await here.jobs()) == 1
        store.faulty.clear()
        await here.tick("2026-03-07T00:01:30Z")
        assert len(await here.jobs()) == 2
        assert (await here.entry("a")).last_enqueue_at == ms("2026-03-07T00:01:30Z")


async def test_an_entry_whose_zone_has_vanished_rests_until_it_is_set_anew(caplog: pytest.LogCaptureFixture) -> None:
    async with bench() as here:
        await here.put(every(timezone="Europe/London"), every(name="other"))
        here.unknown.add("Europe/London")
        with caplog.at_level(logging.ERROR, "zizq.cron"):
            await here.tick("2026-03-07T01:00Z")
        assert len(await here.jobs()) == 1
        assert (await here.entry()).next_enqueue_at is None
        assert "set anew" in caplog.records[-1].getMessage()
        here.unknown.clear()
        await here.put(every(timezone="Europe/London"))
        assert (await here.entry()).next_enqueue_at == ms("2026-03-07T02:00Z")


class Racing(MemoryStore):
    """A store in which somebody else is faster, once."""

    def __init__(self) -> None:
        super().__init__(Defaults(), LoadedDice())
        self.first: Any = None

    async def cron(self, name: str) -> CronGroup | None:
        found = await super().cron(name)
        await self._somebody_else()
        return found

    async def due_crons(self, now: int, limit: int) -> list[Due]:
        found = await super().due_crons(now, limit)
        await self._somebody_else()
        return found

    async def _somebody_else(self) -> None:
        first, self.first = self.first, None
        if first is not None:
            await first()


async def test_a_change_is_made_to_what_is_there_when_it_is_saved() -> None:
    store = Racing()
    async with bench(store) as here:
        await here.put(every(name="a"))
        store.first = lambda: here.crontab.create_entry("g", every(name="b"))
        await here.crontab.create_entry("g", every(name="c"))
        assert [entry.name for entry in (await here.crontab.get("g")).entries] == ["a", "b", "c"]
        store.first = lambda: here.crontab.delete_entry("g", "a")
        await here.crontab.delete("g")
        assert await here.crontab.names() == []


async def test_what_another_server_has_fired_is_not_fired_again() -> None:
    store = Racing()
    async with bench(store) as here:
        await here.put(every("* * * * *"))
        here.clock.set_wall(ms("2026-03-07T00:01Z"))
        store.first = lambda: here.crontab.fire(9)
        await here.tick()
        assert len(await here.jobs()) == 1


# ── restart ──


async def test_a_restart_keeps_schedules_and_fires_what_came_due_meanwhile_once(tmp_path: Path) -> None:
    def store() -> Store:
        return SqliteStore(tmp_path, Defaults(), LoadedDice())

    async with bench(store()) as here:
        await here.put(every("*/10 * * * *"), every("0 0 * * *", "paused", paused=True), timezone="Asia/Tokyo")
        await here.tick("2026-03-07T00:10Z")
        before = await here.crontab.get("g")
    async with bench(store(), "2026-03-07T00:10:01Z") as here:
        assert await here.crontab.get("g") == before
        assert await here.tick() == ms("2026-03-07T00:20Z")
        assert len(await here.jobs()) == 1
    async with bench(store(), "2026-03-08T00:00Z") as here:
        assert await here.tick() == ms("2026-03-08T00:10Z")
        assert len(await here.jobs()) == 2
        assert (await here.entry("paused")).last_enqueue_at is None


# ── the ticker ──


async def fired(here: Bench, count: int) -> None:
    """Wait until so many jobs are there."""
    async with asyncio.timeout(5):
        while len(await here.jobs()) < count:  # noqa: ASYNC110 - the pass goes on meanwhile
            await asyncio.sleep(0)


async def test_the_ticker_wakes_for_an_entry_that_comes_before_all_others() -> None:
    async with bench() as here:
        ticker = asyncio.create_task(Ticker(here.crontab, here.clock, 10).run())
        await here.put(every("0 0 1 1 *", "far"))
        here.clock.set_wall(ms("2026-03-07T00:00:59.990Z"))
        await here.put(every("* * * * *", "near"))
        here.clock.set_wall(ms("2026-03-07T00:01Z"))
        await fired(here, 1)
        ticker.cancel()


async def test_the_ticker_fires_at_its_start_what_came_due_before() -> None:
    async with bench() as here:
        await here.put(every("* * * * *"))
        here.clock.set_wall(ms("2026-03-07T00:05Z"))
        ticker = asyncio.create_task(Ticker(here.crontab, here.clock, 10).run())
        await fired(here, 1)
        ticker.cancel()


class Slow(MemoryStore):
    """A store that carries out a change of a cron when it is let."""

    def __init__(self) -> None:
        super().__init__(Defaults(), LoadedDice())
        self.let = asyncio.Event()

    async def save_cron(self, *args: Any, **more: Any) -> bool:
        await self.let.wait()
        return await super().save_cron(*args, **more)


async def test_a_change_is_heard_of_although_whoever_asked_for_it_has_left() -> None:
    store = Slow()
    bench = Bench(store, ManualClock(ms(STARTS_AT)))
    heard: asyncio.Queue[int] = asyncio.Queue()
    bench.crontab.on_saved = heard.put_nowait
    asked = asyncio.create_task(bench.put(every("* * * * *")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    store.let.set()
    assert await heard.get() == ms("2026-03-07T00:01:00Z")
