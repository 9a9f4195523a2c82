"""What is told over `GET /events`: to each client its windows, and what changes in them.

What happens is only gathered, batch by batch, and looked at ten times a second. When that was too much to be told one
by one, the windows are read anew, at most twice a second, and told whole. So what a client costs has a limit, whatever
the server does; and nobody who does not look costs anything. A client that does not read holds up its own feed alone:
what it has missed by then is told as a whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from zizq.clock import Clock
from zizq.engine.lists import JobList, ListQuery
from zizq.engine.transitions import Cause
from zizq.errors import Unavailable
from zizq.job import JobRecord
from zizq.server.insight.listview import ListView, Turn, end_of, turns
from zizq.server.insight.service import Insights
from zizq.store.base import Store
from zizq.store.views import Window
from zizq.wire import events
from zizq.wire.events import (
    Anchor,
    Around,
    Find,
    Head,
    JobChanged,
    Offset,
    ServerFacts,
    SetDetailLevel,
    Subscribe,
    Tail,
)

BEAT_S = 2.0
TICK_S = 0.1
"""For so long what happens is gathered before it is told."""
LAG = 500
"""Jobs that moved in a tick: if there are more, their moves are not told one by one."""
MOST_TOLD = 200
"""Events of a tick: if there are more, the windows are told instead."""
REST_S = 0.5
"""The least time between two looks at all windows that nobody asked for."""
MOST_REST_S = 2.0
REST = 20
"""How many times as long as such a look took it is put off, within these bounds: a busy machine has better to do."""
WORN_S = 5.0
"""After so long a window that has lost some jobs is read anew, however few they are."""
FIND_S = 3.0
"""How long a search may take, in which the client hears of nothing else."""
MOST_FINDS = 16
"""Searches of a client that wait; of more the first are given up."""
_ENDLESS = 2**62

Tell = Callable[[Any], Awaitable[None]]
"""Sends an event to the client."""


class Told(NamedTuple):
    """One change, as it is told."""

    id: str
    status: str
    job: JobRecord | None = None


class Place(NamedTuple):
    """Which part of a list a client wants."""

    anchor: Anchor | None = None
    limit: int = events.DEFAULT_LIMIT


class Feed:
    """Tells one client; hears what happens as a `Watcher`.

    Args:
        insights: Tells what happens, and what comes with each event.
        store: Where windows are read.
        clock: The time.
        tell: Sends an event to the client; returns when there is room for the next.
    """

    def __init__(self, insights: Insights, store: Store, clock: Clock, tell: Tell) -> None:
        self._insights = insights
        self._store = store
        self._clock = clock
        self._tell = tell
        self._places = {of: Place() for of in (JobList.READY, JobList.IN_FLIGHT, JobList.SCHEDULED)}
        self._views: dict[JobList, ListView] = {}
        self._resolved: dict[JobList, Anchor | None] = {}
        self._detail = False
        self._finds: list[Find] = []
        self._gathered: list[tuple[Cause, Sequence[JobRecord]]] = []
        self._count = 0
        # Set where events were lost, or cannot tell what has changed.
        self._lags = False
        # Set where the client waits for a snapshot.
        self._asked = True
        self._whole_since_s = self._told_at_s = -WORN_S
        # How much had been gathered when a list was read.
        self._marks: dict[JobList, int] = {}
        self._rest_s = REST_S
        self._news = asyncio.Event()
        self._news.set()

    # ── what happens ──

    def moved(self, cause: Cause, jobs: Sequence[JobRecord] | None) -> None:
        """Jobs moved."""
        if self._lags:
            return
        if jobs is None or cause is Cause.PATCH or self._count + len(jobs) > LAG:
            # Where a patched job came from is not known.
            self._lags = True
            self._gathered.clear()
        else:
            self._gathered.append((cause, jobs))
            self._count += len(jobs)
        self._news.set()

    # ── what the client wants ──

    def subscribe(self, wish: Subscribe) -> None:
        """Show another window of a list."""
        of = JobList(wish.list)
        self._places[of] = Place(wish.anchor, min(wish.limit, events.MAX_LIMIT))
        self._resolved.pop(of, None)
        self._asked = True
        self._news.set()

    def set_detail(self, wish: SetDetailLevel) -> None:
        """Show more of each job, or no more."""
        self._detail, self._asked = wish.detail, True
        self._news.set()

    def find(self, wish: Find) -> None:
        """Look for a job."""
        self._finds = [*self._finds, wish][-MOST_FINDS:]
        self._news.set()

    # ── telling ──

    async def run(self) -> None:
        """Tell the client what there is to tell, for ever."""
        self._insights.watchers.append(self)
        try:
            beat_at_s = self._clock.mono_s() + BEAT_S
            while True:
                await self._wait(min(beat_at_s, self._told_at_s + self._rest_s) if self._lags else beat_at_s)
                await self._step()
                if self._clock.mono_s() >= beat_at_s:
                    await self._tell(events.Heartbeat(server=self.facts()))
                    beat_at_s = self._clock.mono_s() + BEAT_S
        finally:
            self._insights.watchers.remove(self)

    async def _wait(self, until_s: float) -> None:
        """Wait until something happens, or it is time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, until_s - self._clock.mono_s())):
                await self._news.wait()

    async def _step(self) -> None:
        """Tell what there is to tell now."""
        has_news = self._news.is_set()
        self._news.clear()
        if self._asked or self._finds:
            await self._answer()
        elif self._lags:
            # Until then nothing but a wish is news.
            if self._clock.mono_s() >= self._told_at_s + self._rest_s:
                await self._snapshot()
        elif has_news:
            # More is mostly on its way.
            await asyncio.sleep(TICK_S)
            await self._catch_up()
        else:
            await self._refresh()

    async def _answer(self) -> None:
        if self._asked:
            self._asked = False
            await self._snapshot()
        finds, self._finds = self._finds, []
        for wish in finds:
            await self._tell_found(wish)

    async def _catch_up(self) -> None:
        """Tell what has happened, unless that is too much to be told one by one."""
        self._news.clear()
        if self._lags:
            return
        gathered, self._gathered, self._count = self._gathered, [], 0
        told = [one for cause, jobs in gathered for job in jobs for one in self._changes(cause, job)]
        if len(told) > MOST_TOLD:
            self._lags = True
            return
        await self._tell_all(told)
        if any(view.is_worn for view in self._views.values()):
            await self._refresh()

    def _changes(self, cause: Cause, job: JobRecord) -> list[Told]:
        """What there is to tell of a move."""
        changes = turns(self._views.values(), cause, job)
        left = [turn for turn in changes if turn.job.id == job.id and not turn.came]
        return [*map(_told, left), *_ended(cause, job, changes), *(_told(turn) for turn in changes if turn not in left)]

    async def _tell_all(self, told: Sequence[Told]) -> None:
        server = self.facts() if told else None
        for job_id, status, job in told:
            shown = None if job is None else events.admin_job(job, self._detail)
            await self._tell(JobChanged(server=server or self.facts(), id=job_id, status=status, job=shown))

    # ── reading ──

    async def _snapshot(self) -> None:
        """Read all windows, and tell them whole."""
        self._begin_to_gather()
        began_s = self._clock.mono_s()
        lists = list(self._places)
        try:
            for of, window in (await self._read_all()).items():
                self._view(of).load(window)
            self._go_on()
        except Unavailable:
            # What is known is shown all the same; the next look may do better.
            self._lags = True
        self._told_at_s = self._whole_since_s = self._clock.mono_s()
        self._rest_s = min(MOST_REST_S, max(REST_S, REST * (self._told_at_s - began_s)))
        # What was asked for meanwhile comes with the next.
        shown = {of.value: self._shown(of) for of in lists}
        await self._tell(events.JobSnapshot(server=self.facts(), **shown))

    async def _refresh(self) -> None:
        """Read windows anew that have lost jobs, and tell what came in their places."""
        now_s = self._clock.mono_s()
        is_old = now_s >= self._whole_since_s + WORN_S
        is_wrong = any(view.is_worn or (is_old and view.is_short) for view in self._views.values())
        if now_s < self._told_at_s + self._rest_s or not (is_wrong or (is_old and self._differs())):
            return
        self._begin_to_gather()
        try:
            windows = await self._read_all()
        except Unavailable:
            self._lags = True
            return
        different = [turn for of, window in windows.items() for turn in self._view(of).reload(window)]
        self._told_at_s = self._whole_since_s = self._clock.mono_s()
        await self._tell_all([_told(turn) for turn in different] + self._go_on())

    def _differs(self) -> bool:
        """Whether what was reckoned from events is not what was counted; while nothing happens, it should be."""
        counts = self._insights.total()
        return not self._count and any(view.total != getattr(counts, of.value) for of, view in self._views.items())

    def _begin_to_gather(self) -> None:
        """Forget what was gathered: what is read from now on has all of it."""
        self._lags, self._count = False, 0
        self._gathered.clear()
        self._marks.clear()

    def _go_on(self) -> list[Told]:
        """Let windows go on from the instants at which they were read; returns what there is to tell of that."""
        gathered, self._gathered, self._count = self._gathered, [], 0
        told: list[Told] = []
        for number, (cause, jobs) in enumerate(gathered):
            # Those that were read before it happened.
            views = [view for of, view in self._views.items() if self._marks.get(of, 0) <= number]
            for job in jobs:
                changes = turns(views, cause, job)
                told += [*map(_told, changes), *_ended(cause, job, changes)]
        return told

    async def _read_all(self) -> dict[JobList, Window]:
        return {of: await self._read(of) for of in list(self._places)}

    async def _read(self, of: JobList) -> Window:
        """The window that is wanted of a list."""
        anchor, limit = self._places[of]
        view, now = self._view(of), self._clock.wall_ms()

        def heard() -> None:
            self._marks[of] = len(self._gathered)

        if isinstance(anchor, Around):
            window = await self._store.window(of, anchor.id, limit, now, heard)
            if window is None and self._resolved.get(of) is anchor:
                # It was there, and has gone: what stood beside it is still wanted.
                window = await self._store.window(of, view.first, limit, now, heard)
            if window is not None:
                self._resolved[of], view.keeps_tail = anchor, False
                return window
            if anchor.fallback == "nowhere":
                anchor, limit = None, 0
            else:
                anchor = Tail() if anchor.fallback == "tail" else Head()
        self._resolved[of], view.keeps_tail = anchor, isinstance(anchor, Tail)
        place = anchor.offset if isinstance(anchor, Offset) else _ENDLESS if isinstance(anchor, Tail) else 0
        return await self._store.window(of, min(place, _ENDLESS), limit, now, heard) or Window([], 0, 0)

    def _view(self, of: JobList) -> ListView:
        limit = self._places[of].limit
        view = self._views.get(of)
        if view is None or view.limit != limit:
            view = self._views[of] = ListView(of, limit)
        return view

    async def _tell_found(self, wish: Find) -> None:
        of, limit = JobList(wish.list), min(wish.limit, events.MAX_LIMIT)
        position, window, is_incomplete = None, None, False
        try:
            async with asyncio.timeout(FIND_S):
                position, window = await self._found(of, wish, limit)
        except (TimeoutError, Unavailable):
            is_incomplete = True
        shown = self._shown(of) if window is None else self._shaped(window.jobs, window.first, window.total, None)
        found = events.FindResult(
            server=self.facts(), list=wish.list, matched_position=position, window=shown, incomplete=is_incomplete
        )
        await self._tell(found)

    async def _found(self, of: JobList, wish: Find, limit: int) -> tuple[int | None, Window | None]:
        query = ListQuery(tuple(wish.query.queues), tuple(wish.query.types))
        beside = wish.anchor.id if isinstance(wish.anchor, events.JobIdAnchor) else None
        now = self._clock.wall_ms()
        if wish.direction == "locate":
            window = None if beside is None else await self._store.window(of, beside, max(1, limit), now)
            for place, job in enumerate(window.jobs if window is not None else ()):
                if window is not None and job.id == beside and query.lets_in(job.queue, job.type):
                    return window.first + place, window
            return None, None
        backward = wish.direction == "backward"
        if isinstance(wish.anchor, events.End if not backward else events.Start):
            return None, None
        found = await self._store.find(of, query, beside, backward, limit, now)
        return (None, None) if found is None else found

    # ── showing ──

    def facts(self) -> ServerFacts:
        """What comes with each event."""
        counts = self._insights.total()
        totals = {
            of: self._views[of].total if of in self._views else getattr(counts, of.value)
            for of in (JobList.READY, JobList.IN_FLIGHT, JobList.SCHEDULED)
        }
        return ServerFacts(
            version=self._insights.version,
            uptime_ms=self._insights.uptime_ms(),
            tier="pro",
            total_ready=totals[JobList.READY],
            total_in_flight=totals[JobList.IN_FLIGHT],
            total_scheduled=totals[JobList.SCHEDULED],
        )

    def _shown(self, of: JobList) -> events.ShownWindow:
        view = self._views.get(of)
        if view is None:
            return self._shaped([], 0, 0, None)
        return self._shaped(view.jobs, view.first, view.total, self._resolved.get(of))

    def _shaped(self, jobs: Sequence[JobRecord], first: int, total: int, resolved: Anchor | None) -> events.ShownWindow:
        items = [events.admin_job(job, self._detail) for job in jobs]
        return events.ShownWindow(items=items, first_position=first, total=total, resolved_anchor=resolved)


def _told(turn: Turn) -> Told:
    return Told(turn.job.id, turn.of.value, turn.job) if turn.came else Told(turn.job.id, f"{turn.of.value}_removed")


def _ended(cause: Cause, job: JobRecord, changes: Sequence[Turn]) -> list[Told]:
    """That a job has succeeded or failed, unless it is told already that it came to the dead ones."""
    end = end_of(cause, job)
    is_told = any(turn.came and turn.of is JobList.DEAD for turn in changes)
    return [] if end is None or is_told else [Told(job.id, end)]
