"""What the calls of the store on PostgreSQL share: its database, and who hears of jobs that moved."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

from zizq.clock import Dice, SharedClock
from zizq.engine.purse import Key
from zizq.engine.transitions import Cause
from zizq.errors import Unavailable
from zizq.job import ErrorRecord, JobRecord, Status
from zizq.policy import Defaults
from zizq.store.base import Listener
from zizq.store.postgres.database import Database, Transaction
from zizq.store.postgres.floors import FIRST, Floors, Watched
from zizq.store.postgres.holdings import Holdings
from zizq.store.postgres.news import News


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
    _news: News
    """What the other servers are to hear."""
    _watched: Watched
    _chores: set[asyncio.Task[Any]]

    async def _whole(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do something to its end, even if whoever waits for it is told to stop."""
        task = asyncio.create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)
        await asyncio.shield(task)

    def _later(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do something that nobody waits for; where the database refuses it, that was said to whoever called before."""
        task = asyncio.create_task(_quietly(work))
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)

    def _write(self) -> AbstractAsyncContextManager[Transaction]:
        """A transaction for what is no enqueue."""
        return self._db.writing(durable=self._durable)

    def _moved(self, cause: Cause, jobs: Sequence[JobRecord], errors: Sequence[ErrorRecord] = ()) -> None:
        """A commit has moved jobs: those that are ready or scheduled now are announced."""
        if jobs:
            self._announce(jobs)
            self._listener.moved(cause, jobs, errors)
            self._news.moved(cause)

    def _announce(self, jobs: Sequence[JobRecord]) -> None:
        """Tell everybody of ready and scheduled jobs."""
        ready: dict[str, Key] = {}
        due = None
        for job in jobs:
            if job.status is Status.READY:
                key = (job.priority, job.id)
                if job.queue not in ready or key < ready[job.queue]:
                    ready[job.queue] = key
            elif job.status is Status.SCHEDULED and (due is None or job.ready_at < due):
                due = job.ready_at
        if ready:
            # First the floors, so that whoever is woken finds the jobs.
            self._floors.lower(ready)
            self._listener.available(ready)
            self._news.ready(ready)
        if due is not None:
            self._listener.scheduled(due)
            self._news.scheduled(due)

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
