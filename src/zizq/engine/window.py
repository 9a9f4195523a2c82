"""The head of the ready jobs, in memory: who is next, whatever the backlog.

A store may hold ten million ready jobs; only the first few thousand of each queue are kept here, in order of
(priority, id). Each queue has a *window* and an *edge*: every ready job before the edge is in the window, every one
from the edge on is only in the store. No edge means that the window has them all.

    window:  job job job job │edge            store:  · · · job job job job job job …

Four things move the edge. An insert past the limit drops the last jobs and pulls the edge in over them. A refill
brings what the store has behind the edge and pushes it out. Jobs that arrive behind the edge are left to the store.
A queue first met on disk opens with its edge at the very beginning.

A window that is empty with an edge is *blind*: its next job is known to the store alone. Order over several queues
is exact, so nothing is taken from any of them until the blind one was refilled (protocol.md#4.1).

A paused queue is passed over whole: nothing is taken from its windows, and none of its jobs stands before another.
They are filled and trimmed like any other, so that a resume has jobs at hand.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from heapq import heapify, heappop, heapreplace
from itertools import islice, takewhile
from operator import attrgetter

from zizq.engine.purse import Key, Purse, lane_of, parts
from zizq.job import JobRecord, apart

FIRST: Key = (-1, "")
"""A key before that of every job."""

TOTAL = 32_768
"""How many jobs all windows hold together; about 20 MB with small payloads."""
LIMIT = 8_192
"""How many jobs one window holds at most: four or more refills ahead of the fastest worker measured."""
LEAST = 16
_of_id, _of_priority = attrgetter("id"), attrgetter("priority")
_of_queue, _of_budgets = attrgetter("queue"), attrgetter("budgets")


def key_of(job: JobRecord) -> Key:
    """Where a job stands in the order of dispatch."""
    return (job.priority, job.id)


class Window:
    """The head of one queue."""

    __slots__ = ("_gone", "_lanes", "_priorities", "count", "edge")

    def __init__(self, edge: Key | None = None) -> None:
        self.edge = edge
        self.count = 0
        self._lanes: dict[int, deque[JobRecord]] = {}
        self._priorities: list[int] = []
        # Discarded jobs that still sit in a lane: they are stepped over when they come to its end.
        self._gone: set[str] = set()

    @property
    def blind(self) -> bool:
        """Whether the next job is known to the store alone."""
        return not self.count and self.edge is not None

    def head(self) -> Key:
        """The key of the first job; the window must not be empty."""
        priority = self._priorities[0]
        return (priority, self._lanes[priority][0].id)

    def first(self) -> JobRecord:
        """The first job; the window must not be empty."""
        return self._lanes[self._priorities[0]][0]

    def alike(self, most: int) -> list[JobRecord]:
        """The first job and those behind it that draw the same, `most` at most; the window must not be empty."""
        lane = self._lanes[self._priorities[0]]
        draws, gone = lane[0].budgets, self._gone
        return list(takewhile(lambda job: job.budgets == draws and job.id not in gone, islice(lane, most)))

    def pop(self, count: int) -> list[JobRecord]:
        """Take out the first jobs; the window must hold as many."""
        jobs: list[JobRecord] = []
        while count:
            lane = self._lanes[self._priorities[0]]
            # What was discarded may be among them.
            some = 1 if self._gone else min(count, len(lane))
            jobs += [lane.popleft() for _ in range(some)]
            self.count -= some
            count -= some
            self._tidy()
        return jobs

    def insert(self, jobs: Sequence[JobRecord], limit: int) -> None:
        """Put in ready jobs, in any order, but for those from the edge on; keep at most `limit`."""
        if self._gone:
            self._sweep(jobs)
        for priority, some in apart(jobs, _of_priority).items():
            some = sorted(some, key=_of_id)
            if self.edge is not None and priority >= self.edge[0]:
                some = some[: bisect_left(some, self.edge[1], key=_of_id)] if priority == self.edge[0] else []
            if some:
                self._extend(priority, some)
        self.trim(limit)

    def _extend(self, priority: int, jobs: list[JobRecord]) -> None:
        """Put jobs of one priority, which are in their order, into its lane."""
        lane = self._lanes.get(priority)
        if lane is None:
            lane = self._lanes[priority] = deque()
            insort(self._priorities, priority)
        is_astray = bool(lane) and lane[-1].id > jobs[0].id
        lane += jobs
        self.count += len(jobs)
        if is_astray:
            self._lanes[priority] = deque(sorted(lane, key=_of_id))

    def discard(self, job_id: str, priority: int) -> None:
        """Forget a ready job that was not taken; one from the edge on is not held anyway."""
        if self.edge is not None and (priority, job_id) >= self.edge:
            return
        lane = self._lanes.get(priority)
        if lane is None:
            return
        self._gone.add(job_id)
        self.count -= 1
        self._tidy()

    def _sweep(self, coming: Iterable[JobRecord]) -> None:
        """Drop all that was discarded, where one of it comes back: it must not be taken for gone."""
        if all(job.id not in self._gone for job in coming):
            return
        for priority in list(self._lanes):
            left = deque(job for job in self._lanes[priority] if job.id not in self._gone)
            if left:
                self._lanes[priority] = left
            else:
                del self._lanes[priority]
                self._priorities.remove(priority)
        self._gone.clear()

    def trim(self, limit: int) -> None:
        """Leave the last jobs to the store until `limit` are held."""
        while self.count > limit:
            lane = self._lanes[self._priorities[-1]]
            job = lane.pop()
            if not lane:
                del self._lanes[self._priorities.pop()]
            self.edge = key_of(job)
            if job.id in self._gone:
                self._gone.discard(job.id)
            else:
                self.count -= 1

    def _tidy(self) -> None:
        """Make the first entry of the first lane a job that is there."""
        while self._priorities:
            lane = self._lanes[self._priorities[0]]
            while lane and self._gone and lane[0].id in self._gone:
                self._gone.discard(lane.popleft().id)
            if lane:
                return
            del self._lanes[self._priorities.pop(0)]


class ReadySet:
    """The windows of all queues, and the order over them.

    Args:
        total: How many jobs all windows may hold together.
        limit: How many one window may hold.
    """

    def __init__(self, total: int = TOTAL, limit: int = LIMIT) -> None:
        self._total = total
        self._most = limit
        self._windows: dict[str, Window] = {}
        self._budgeted: dict[str, set[str]] = {}
        self.paused: dict[str, int] = {}
        """The queues that hand out nothing, and since when, in Unix milliseconds."""
        self.purse = Purse()
        """The budgets that jobs draw on."""

    @property
    def _limit(self) -> int:
        return max(LEAST, min(self._most, self._total // max(1, len(self._windows))))

    def open(self, name: str) -> None:
        """Say that the store holds ready jobs of a lane which were never given to `insert`, or that were forgotten."""
        self._add(name, Window(FIRST))

    def _add(self, name: str, window: Window) -> Window:
        self._windows[name] = window
        queue, keys = parts(name)
        if keys:
            self._budgeted.setdefault(queue, set()).add(name)
        return window

    def insert(self, jobs: Sequence[JobRecord]) -> set[str]:
        """Put in jobs that became ready; returns their queues, but for paused ones."""
        lanes = apart(jobs, lane_of if any(map(_of_budgets, jobs)) else _of_queue)
        for name, some in lanes.items():
            window = self._windows.get(name)
            if window is None:
                window = self._add(name, Window())
            window.insert(some, self._limit)
            if some[0].budgets is not None:
                self.purse.unpark(name)
        queues = {parts(name)[0] for name in lanes} if self._budgeted else set(lanes)
        return queues - self.paused.keys() if self.paused else queues

    def discard(self, job: JobRecord) -> None:
        """Forget a job that is no longer ready."""
        name = lane_of(job)
        window = self._windows.get(name)
        if window is not None:
            window.discard(job.id, job.priority)
            self._close(name, window)
            self.purse.unpark(name)

    # ── pause ──

    def pause(self, queue: str, at: int) -> None:
        """Hand out no job of a queue from now on; none of its jobs is waited behind for a budget any more.

        Args:
            queue: Its name; it need not have any jobs.
            at: When it was paused, in Unix milliseconds.
        """
        self.paused[queue] = at
        for name in self._budgeted.get(queue, ()):
            self.purse.unpark(name)

    def resume(self, queue: str) -> None:
        """Hand out jobs of a queue again."""
        self.paused.pop(queue, None)

    # ── take ──

    def take(self, queues: Collection[str], limit: int, now: int) -> list[JobRecord]:
        """Take out up to `limit` jobs in order of (priority, id); fewer where a blind lane stops it.

        Jobs that draw on budgets have paid when they are returned.

        Args:
            queues: The queues to take from; empty for all.
            limit: How many at most.
            now: The wall clock.
        """
        # Whoever takes may come before the duty that looks at the clock.
        self.purse.ring(now)
        windows = self._windows
        names = self._names(queues)
        heads = []
        for name in names:
            window = windows[name]
            if window.blind:
                return []
            heads.append((window.head(), name))

        jobs = self._merge(heads, limit, now, _sight(queues))
        self.purse.end_take(now)
        for name in names:
            self._close(name, windows[name])
        return jobs

    def _names(self, queues: Collection[str]) -> list[str]:
        """The lanes of the queues (empty: all), but for those that are paused or wait for budgets."""
        windows = self._windows
        names = [name for name in queues if name in windows] if queues else list(windows)
        if queues and self._budgeted:
            names += [name for queue in queues for name in self._budgeted.get(queue, ())]
        if self.paused:
            names = [name for name in names if parts(name)[0] not in self.paused]
        if not self._budgeted:
            return names
        sees = _sight(queues)
        return [name for name in names if not self.purse.is_parked(name, sees)]

    def _merge(
        self, heads: list[tuple[Key, str]], limit: int, now: int, sees: Callable[[str], bool]
    ) -> list[JobRecord]:
        """Take out the first jobs of lanes, but for lanes whose first job cannot pay."""
        jobs: list[JobRecord] = []
        heapify(heads)
        while heads and len(jobs) < limit:
            name = heads[0][1]
            window = self._windows[name]
            # The last lane has nobody between its jobs.
            count = min(limit - len(jobs), window.count) if len(heads) == 1 else 1
            if window.first().budgets is not None:
                count = self.purse.pay(name, window.alike(count), now, sees)
            if not count:
                heappop(heads)
                continue
            jobs += window.pop(count)
            if window.count:
                heapreplace(heads, (window.head(), name))
            elif window.edge is None:
                heappop(heads)
            else:
                break
        return jobs

    def blind(self, queues: Collection[str]) -> list[str]:
        """The lanes of the queues (empty: all) that must be refilled before anything can be taken."""
        return [name for name in self._names(queues) if self._windows[name].blind]

    def low(self, queues: Collection[str]) -> list[str]:
        """The lanes of the queues (empty: all) that should be refilled soon: half empty, with more in the store."""
        half = self._limit // 2
        windows = self._windows
        return [name for name in self._names(queues) if windows[name].edge is not None and windows[name].count < half]

    def edge(self, name: str) -> Key | None:
        """Where a refill of a lane starts; None when its window has everything."""
        window = self._windows.get(name)
        return window.edge if window is not None else None

    def wanted(self, name: str) -> int:
        """How many jobs a refill of a lane should bring."""
        window = self._windows.get(name)
        return max(1, self._limit - (window.count if window is not None else 0))

    def refill(self, name: str, jobs: list[JobRecord], edge: Key | None) -> None:
        """Put in what the store had from the old edge on.

        Args:
            name: The lane.
            jobs: Its ready jobs from the old edge up to the new one.
            edge: Where the rest begins, or None when there is no more.
        """
        window = self._windows.get(name) or self._add(name, Window())
        window.edge = edge
        window.insert(jobs, self._limit)
        self._close(name, window)

    def clear(self) -> None:
        """Forget everything; the store holds no ready job."""
        self.paused.clear()
        self._windows.clear()
        self._budgeted.clear()
        self.purse.clear()

    def _close(self, name: str, window: Window) -> None:
        if window.count or window.edge is not None:
            return
        self._windows.pop(name, None)
        queue, keys = parts(name)
        if keys and queue in self._budgeted:
            self._budgeted[queue].discard(name)
            if not self._budgeted[queue]:
                del self._budgeted[queue]


def _sight(queues: Collection[str]) -> Callable[[str], bool]:
    """Whether whoever takes from some queues (empty: all) would get jobs of a lane."""
    return lambda name: not queues or parts(name)[0] in queues
