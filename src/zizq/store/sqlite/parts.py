"""What the calls of the store on SQLite share: its parts, how a write is called for, and who hears of ready jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from zizq.engine.decide import Settled
from zizq.engine.purse import Purse
from zizq.engine.transitions import Cause
from zizq.engine.window import ReadySet
from zizq.job import JobRecord, Status
from zizq.policy import Defaults
from zizq.store import rows
from zizq.store.base import Listener
from zizq.store.sqlite.changes import Changes, Ice
from zizq.store.sqlite.flight import Flight
from zizq.store.sqlite.readers import Readers
from zizq.store.sqlite.statements import Step
from zizq.store.sqlite.writer import Writer

_READY = Status.READY  # looked up in its class once, and not for every job


class Parts:
    """The parts of an open store; the store makes them, and its calls, which are in several files, use them."""

    _defaults: Defaults
    _durable: bool
    _listener: Listener
    _writer: Writer
    _readers: Readers
    _listers: Readers
    _ready: ReadySet
    _purse: Purse
    _flight: Flight
    _ice: Ice
    _changes: Changes
    _max_budgets: int

    def _write(
        self,
        step: Step,
        argument: Any,
        *,
        then: Callable[[Any], None] | None = None,
        otherwise: Callable[[], None] | None = None,
    ) -> asyncio.Future[Any]:
        """Put in a call that is no enqueue."""
        return self._writer.call(step, argument, durable=self._durable, then=then, otherwise=otherwise)

    def _announce(self, jobs: Sequence[JobRecord]) -> None:
        """Put ready jobs into their windows, and tell the listener of ready and scheduled ones."""
        held = self._changes.held
        ready = rows.without_heavy_payloads([job for job in jobs if job.status is _READY and job.id not in held])
        if ready:
            self._listener.available(self._ready.insert(ready))
        if len(ready) < len(jobs):
            self._announce_scheduled(jobs)

    def _announce_scheduled(self, jobs: Sequence[JobRecord]) -> None:
        waiting = [job.ready_at for job in jobs if job.status is Status.SCHEDULED]
        if waiting:
            self._listener.scheduled(min(waiting))

    def _tell_settled(self, settled: Sequence[Settled]) -> None:
        """Tell of jobs that succeeded, or of such that failed."""
        jobs = [one.job for one in settled]
        if settled[0].error is None:
            self._listener.moved(Cause.SUCCEED, jobs)
        else:
            self._announce_scheduled(jobs)
            self._listener.moved(Cause.FAIL, jobs, [one.error for one in settled if one.error is not None])

    def _land(self, ids: Sequence[str]) -> None:
        for owner, count in self._flight.land(ids).items():
            self._listener.freed(owner, count)
