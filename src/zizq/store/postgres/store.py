"""The store port on PostgreSQL: many servers, one database.

Nothing of what counts is in memory: any call may come to any server, and what one has answered all others see. What a
server does know is what it holds itself, for as long as its lease lasts.
"""

from __future__ import annotations

from zizq.clock import Dice, SharedClock
from zizq.engine.budgets import MAX_BUDGETS
from zizq.policy import Defaults
from zizq.store.base import CommitMode, Listener, Silence
from zizq.store.postgres import schema
from zizq.store.postgres.database import Database
from zizq.store.postgres.parts import Parts
from zizq.store.postgres.time import Timed


class PostgresStore(Timed, Parts):
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

    async def open(self, listener: Listener) -> None:
        """Connect; an empty database gets its tables."""
        self._listener = listener
        await self._db.open()
        async with self._db.writing(durable=True) as db:
            await schema.prepare(db)
        await self._measure()

    async def close(self) -> None:
        """Give up all connections; a second call does nothing."""
        await self._db.close()

    def trouble(self) -> str | None:
        """Why the last write was refused."""
        return self._db.trouble
