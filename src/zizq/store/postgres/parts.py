"""What the calls of the store on PostgreSQL share: its database, and who hears of jobs that moved."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from zizq.clock import Dice, SharedClock
from zizq.job import JobRecord, Status
from zizq.policy import Defaults
from zizq.store.base import Listener
from zizq.store.postgres.database import Database, Transaction


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

    def _write(self) -> AbstractAsyncContextManager[Transaction]:
        """A transaction for what is no enqueue."""
        return self._db.writing(durable=self._durable)

    def _announce(self, jobs: Sequence[JobRecord]) -> None:
        """Tell the listener of ready and scheduled jobs."""
        ready = {job.queue for job in jobs if job.status is Status.READY}
        if ready:
            self._listener.available(ready)
        waiting = [job.ready_at for job in jobs if job.status is Status.SCHEDULED]
        if waiting:
            self._listener.scheduled(min(waiting))
