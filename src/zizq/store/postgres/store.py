"""The store port on PostgreSQL: many servers, one database.

Nothing of what counts is in memory: any call may come to any server, and what one has answered all others see. What a
server does know is what it holds itself, for as long as its lease lasts.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from zizq.clock import Dice, SharedClock
from zizq.engine.budgets import MAX_BUDGETS
from zizq.errors import Unavailable
from zizq.policy import Defaults
from zizq.store.base import CommitMode, Listener, Silence
from zizq.store.postgres import schema
from zizq.store.postgres.budgets import BudgetCalls
from zizq.store.postgres.changes import ChangeCalls
from zizq.store.postgres.copies import CopyCalls
from zizq.store.postgres.crons import CronCalls
from zizq.store.postgres.database import Database
from zizq.store.postgres.duties import DutyCalls
from zizq.store.postgres.floors import Floors, Watched
from zizq.store.postgres.holdings import Holdings
from zizq.store.postgres.inbox import InboxCalls
from zizq.store.postgres.lanes import Lanes
from zizq.store.postgres.leases import LeaseCalls
from zizq.store.postgres.news import News
from zizq.store.postgres.pauses import PauseCalls
from zizq.store.postgres.settling import Call
from zizq.store.postgres.takes import TakeCalls
from zizq.store.postgres.upkeep import UpkeepCalls
from zizq.store.postgres.view_calls import ViewCalls
from zizq.store.postgres.watching import WatchCalls


class PostgresStore(
    InboxCalls, TakeCalls, DutyCalls, ChangeCalls, ViewCalls, BudgetCalls, CronCalls, PauseCalls, LeaseCalls,
    WatchCalls, UpkeepCalls, CopyCalls,
):  # fmt: skip
    """Jobs in one PostgreSQL database, which any number of servers share.

    Args:
        url: Where the database is.
        defaults: What jobs get where they say nothing.
        dice: Places retries inside their jitter.
        enqueue_mode: The commit mode of enqueues.
        default_mode: The commit mode of all other writes.
        max_budgets: How many budgets there may be.
        prepared: Whether statements may be prepared; not where a pooler shares sessions.
        clock: What is told the time of the database, at opening and from time to time; None for nothing.
    """

    def __init__(
        self,
        url: str,
        defaults: Defaults,
        dice: Dice,
        *,
        enqueue_mode: CommitMode = CommitMode.FSYNC,
        default_mode: CommitMode = CommitMode.BUFFERED,
        max_budgets: int = MAX_BUDGETS,
        prepared: bool = True,
        clock: SharedClock | None = None,
    ) -> None:
        self._db = Database(url, prepared=prepared)
        self._defaults = defaults
        self._dice = dice
        self._enqueue_durable = enqueue_mode is CommitMode.FSYNC
        self._durable = default_mode is CommitMode.FSYNC
        self._max_budgets = max_budgets
        self._clock = clock
        self._listener: Listener = Silence()
        self._holdings = Holdings()
        self._floors = Floors()
        self._lanes = Lanes(lambda queues: self._listener.available(queues))
        self._watched = Watched()
        self._news = News()
        self._turn = 0
        self._doubtful: list[tuple[int, int, int]] = []
        self._owed: list[Call] = []
        self._renewals = 0
        self._chores: set[asyncio.Task[Any]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._alone = False
        self._look, self._urgent, self._echo = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._enqueues = self._gather_enqueues()
        self._takes = self._gather_takes()
        self._settles = self._gather_settles()
        self._quiet: set[str] = set()
        self._pausing = asyncio.Lock()

    async def open(self, listener: Listener) -> None:
        """Connect; an empty database gets its tables."""
        self._listener = listener
        await self._db.open()
        try:
            async with self._db.writing(durable=True) as db:
                await schema.prepare(db)
            await self._measure()
            await self._register()
        except BaseException:
            await self._db.close()
            raise
        works = (self._keep_lease, self._speak, self._listen, self._look_around)
        self._loops = [asyncio.create_task(work()) for work in works]

    async def close(self) -> None:
        """Commit what was called for, give back what is held, give up all connections; a second call does nothing."""
        if self._loops:
            for gather in (self._enqueues, self._takes, self._settles):
                await gather.idle()
            loops, self._loops = self._loops, []
            for loop in loops:
                loop.cancel()
            await asyncio.wait([*loops, *self._chores])
            # Where it cannot be said to the others, they find that the lease runs out.
            with suppress(Unavailable):
                await self._resign()
        await self._db.close()

    def trouble(self) -> str | None:
        """Why the last write was refused."""
        return self._db.trouble
