"""What the calls of the store on PostgreSQL share: its database, and who hears of jobs that moved."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, TypeVar

from zizq.clock import Dice, SharedClock
from zizq.engine.purse import Key, lane_of
from zizq.engine.transitions import Cause
from zizq.errors import Unavailable
from zizq.job import ErrorRecord, JobRecord, Status
from zizq.policy import Defaults
from zizq.store.base import Listener
from zizq.store.postgres.database import Database, Transaction
from zizq.store.postgres.floors import FIRST, Floors, Watched
from zizq.store.postgres.holdings import Holdings
from zizq.store.postgres.lanes import Lanes, drawn_by
from zizq.store.postgres.news import News

T = TypeVar("T")


class Arrived:
    """What there is to tell of jobs that are ready or scheduled now."""

    def __init__(self) -> None:
        self.ready: dict[str, Key] = {}
        """By queue, the first of the ready ones."""
        self.lanes: dict[str, Key] = {}
        """By lane, the same of those that draw on budgets."""
        self.due: int | None = None
        """When the first of the scheduled ones is due."""

    def add(self, jobs: Iterable[JobRecord]) -> None:
        """More jobs; those in another status are left out."""
        for job in jobs:
            if job.status is Status.READY:
                key = (job.priority, job.id)
                if job.queue not in self.ready or key < self.ready[job.queue]:
                    self.ready[job.queue] = key
                if job.budgets:
                    name = lane_of(job)
                    self.lanes[name] = min(key, self.lanes.get(name, key))
            elif job.status is Status.SCHEDULED and (self.due is None or job.ready_at < self.due):
                self.due = job.ready_at


class Parts:
    """The parts of an open store; the store makes them, and its calls, which are in several files, use them."""

    _db: Database
    _defaults: Defaults
    _dice: Dice
    _clock: SharedClock | None
    _listener: Listener
    _enqueue_durable: bool
    _durable: bool
    _max_budgets: int
    _fence: int
    """The number under which this server holds jobs; another one after it has lost its lease."""
    _holdings: Holdings
    _floors: Floors
    _lanes: Lanes
    _news: News
    """What the other servers are to hear."""
    _watched: Watched
    _quiet: set[str]
    """Queues that were paused here: nobody need hear of their jobs. A resume elsewhere is seen by looking."""
    _chores: set[asyncio.Task[Any]]

    async def _whole(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something to its end, even if whoever waits for it is told to stop."""
        task = asyncio.create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)
        return await asyncio.shield(task)

    def _later(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Do something that nobody waits for; where the database refuses it, that was said to whoever called before."""
        task = asyncio.create_task(_quietly(work))
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)
        return task

    def _write(self) -> AbstractAsyncContextManager[Transaction]:
        """A transaction for what is no enqueue."""
        return self._db.writing(durable=self._durable)

    def _moved(self, cause: Cause, jobs: Sequence[JobRecord], errors: Sequence[ErrorRecord] = ()) -> None:
        """A commit has moved jobs: those that are ready or scheduled now are announced."""
        if jobs:
            if cause is not Cause.SUCCEED:
                self._announce(jobs)
            if cause not in (Cause.ENQUEUE, Cause.PROMOTE):
                self._stirred(drawn_by(jobs))
            self._listener.moved(cause, jobs, errors)
            self._news.moved(cause)

    def _stirred(self, budgets: Collection[str]) -> None:
        """Tell everybody of budgets that have tokens again, or shorter lines."""
        if budgets:
            self._lanes.revive(budgets)
            self._news.budgets(budgets)

    def _announce(self, jobs: Sequence[JobRecord]) -> None:
        """Tell everybody of ready and scheduled jobs."""
        arrived = Arrived()
        arrived.add(jobs)
        self._arrived(arrived)

    def _arrived(self, arrived: Arrived) -> None:
        """Tell everybody of jobs that became ready or scheduled."""
        if arrived.ready:
            # First the floors, so that whoever is woken finds the jobs.
            self._floors.lower(arrived.ready)
            if arrived.lanes:
                self._lanes.ready(arrived.lanes)
                self._news.lanes(arrived.lanes)
            if told := arrived.ready.keys() - self._quiet:
                self._listener.available(told)
            self._news.ready(arrived.ready)
        if arrived.due is not None:
            self._listener.scheduled(arrived.due)
            self._news.scheduled(arrived.due)

    def _revive(self, queues: Collection[str]) -> None:
        """Tell everybody of queues that have jobs which can be taken again."""
        if queues:
            self._floors.lower(dict.fromkeys(queues, FIRST))
            self._listener.available(queues)
            self._news.ready(dict.fromkeys(queues, FIRST))

    def _left(self, left: Iterable[tuple[str, int]]) -> None:
        """A commit has ended the flight of jobs, which were held under these fences: their owners have room again."""
        own, others = [], set()
        for job_id, fence in left:
            if fence == self._fence:
                own.append(job_id)
            else:
                others.add(fence)
        for owner, count in self._holdings.leave(own).items():
            self._listener.freed(owner, count)
        if others:
            self._news.freed(others)


async def _quietly(work: Coroutine[Any, Any, Any]) -> None:
    with suppress(Unavailable):
        await work
