"""The store port on SQLite.

What is on disk and what is in memory:

* Every job is a row. A job in flight is stored as ready: taking writes nothing, and after a crash all that was in
  flight is ready again by itself.
* `ReadySet` has the head of each queue, `Flight` who holds what. Both belong to the event loop; the writer's answers
  change them, in the order of the commits.

So at any moment: ready = stored as ready, less what is in flight.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import apsw

from zizq.budget import Budget
from zizq.clock import Dice, SystemClock
from zizq.engine import purse
from zizq.engine.budgets import MAX_BUDGETS
from zizq.engine.changes import Change
from zizq.engine.selection import Selection
from zizq.engine.transitions import Cause
from zizq.engine.window import ReadySet
from zizq.errors import ConfigError
from zizq.job import JobRecord, any_bound
from zizq.policy import Defaults
from zizq.store.base import NO_BUDGETS, NOTHING, Changed, CommitMode, Listener, Silence
from zizq.store.sqlite.backups import Backups
from zizq.store.sqlite.budget_statements import SaveBudget
from zizq.store.sqlite.changes import Changes, Ice
from zizq.store.sqlite.checkpoints import Checkpoints
from zizq.store.sqlite.copies import CopyCalls
from zizq.store.sqlite.crons import CronCalls
from zizq.store.sqlite.flight import Flight
from zizq.store.sqlite.key_statements import AdmitCall, Admitted
from zizq.store.sqlite.pause_statements import SavePause
from zizq.store.sqlite.readers import Readers
from zizq.store.sqlite.schema import FolderLock, check_restored, open_database
from zizq.store.sqlite.statements import Begun, Statements, Step
from zizq.store.sqlite.takes import TakeCalls
from zizq.store.sqlite.upkeep import UpkeepCalls
from zizq.store.sqlite.view_calls import ViewCalls
from zizq.store.sqlite.writer import Writer

READER_CACHE_BYTES = 2 * 2**20
READERS = 2
"""Threads for what takes and duties ask."""
LISTERS = 2
"""Threads for lists and counts, which may take long."""


class SqliteStore(TakeCalls, ViewCalls, CronCalls, UpkeepCalls, CopyCalls):
    """Jobs in one SQLite database; used by one process at a time.

    Args:
        root: The folder of the server; the database is in `data/` inside.
        defaults: What jobs get where they say nothing.
        dice: Places retries inside their jitter.
        enqueue_mode: The commit mode of enqueues.
        default_mode: The commit mode of all other writes.
        cache_bytes: Memory for pages of the file.
        enqueue_batch: How many enqueue calls share a commit at most.
        complete_batch: How many calls of each other kind share a commit at most; see `writer.MOST_JOBS`.
        max_budgets: How many budgets there may be.
        ready: The windows on the ready jobs, empty; None for those of the usual size.
    """

    def __init__(  # noqa: PLR0913 - a store has this many options
        self,
        root: Path,
        defaults: Defaults,
        dice: Dice,
        *,
        enqueue_mode: CommitMode = CommitMode.FSYNC,
        default_mode: CommitMode = CommitMode.BUFFERED,
        cache_bytes: int = 8 * 2**20,
        enqueue_batch: int = 1000,
        complete_batch: int = 1000,
        max_budgets: int = MAX_BUDGETS,
        ready: ReadySet | None = None,
    ) -> None:
        self._path = root / "data" / "jobs.db"
        self._defaults = defaults
        self._dice = dice
        self._enqueue_durable = enqueue_mode is CommitMode.FSYNC
        self._durable = default_mode is CommitMode.FSYNC
        self._cache_bytes = cache_bytes
        self._batch = dict.fromkeys(Step, complete_batch) | {Step.ENQUEUE: enqueue_batch}
        self._listener: Listener = Silence()
        self._ready = ready or ReadySet()
        self._purse = self._ready.purse
        self._noting: asyncio.Future[Any] | None = None
        self._max_budgets = max_budgets
        self._flight = Flight()
        self._refills: dict[str, asyncio.Future[Any]] = {}
        self._lock: FolderLock | None = None

    # ── opening and closing ──

    async def open(self, listener: Listener) -> None:
        """Lock the folder, bring the database up to date, start the threads."""
        self._listener = listener
        path = self._path
        check_restored(path.parent)
        self._lock = FolderLock(path.parent)
        try:
            statements, begun = await asyncio.to_thread(self._begin)
        except BaseException:
            self._lock.release()
            self._lock = None
            raise
        self._checkpoints = Checkpoints(path, statements.db)
        self._writer = Writer(statements, self._checkpoints, self._batch, self._enqueued)
        self._backups = Backups(path, SystemClock())
        self._readers = Readers(path, READER_CACHE_BYTES, READERS, self._checkpoints)
        self._listers = Readers(path, READER_CACHE_BYTES, LISTERS, self._checkpoints)
        self._ice = Ice(self._ready, self._announce)
        self._changes = Changes(
            self._write, self._find, self._announce, self._reopen, self._land, self._flight, self._ice, listener.moved
        )
        self._ready.paused.update(begun.paused)
        for lane in begun.lanes:
            self._ready.open(lane)
        for budget, state in begun.budgets:
            self._purse.put(budget, budget.updated_at, state)
        self._purse.on_revived = listener.available
        self._flight.on_left = self._purse.give_back
        self._writer.start()
        self._changes.resume(begun.armed)

    def _begin(self) -> tuple[Statements, Begun]:
        """Open the database, and read what has to be known of it."""
        db = open_database(self._path, self._cache_bytes)
        try:
            statements = Statements(db)
            return statements, statements.begin()
        except apsw.Error as error:
            db.close()
            raise ConfigError(f"cannot read the store {self._path}: {error}") from error

    async def close(self) -> None:
        """Commit what was called for, stop the threads, unlock the folder."""
        if self._lock is None:
            return
        await self._backups.stop()
        await self._changes.stop()
        if self._purse.dirty:
            await asyncio.wait([self._write(Step.TOKENS, self._purse.states(0))])
        await asyncio.to_thread(self._checkpoints.stop)
        await self._readers.stop()
        await self._listers.stop()
        # The last connection: it copies what is left of the log.
        await self._writer.stop()
        self._lock.release()
        self._lock = None

    # ── enqueue ──

    def enqueue(
        self,
        jobs: Sequence[JobRecord],
        now: int,
        folds: Sequence[JobRecord] = (),
        pending: Mapping[str, str | None] = NOTHING,
        create: Mapping[str, Budget] = NO_BUDGETS,
    ) -> Awaitable[Sequence[JobRecord]]:
        """Insert new jobs."""
        if folds or pending or any_bound(jobs):
            return self._admit(AdmitCall(jobs, folds, pending, now, create, self._max_budgets))
        return self._writer.call(Step.ENQUEUE, jobs, durable=self._enqueue_durable)

    def _enqueued(self, jobs: Sequence[JobRecord]) -> None:
        """A commit has added jobs."""
        self._announce(jobs)
        self._listener.moved(Cause.ENQUEUE, jobs)

    async def _admit(self, call: AdmitCall) -> Sequence[JobRecord]:
        """Insert new jobs of which some have keys, or draw on budgets."""
        # Asked in the turn in which the call is put in: what is in flight changes from turn to turn.
        call = call._replace(flying=self._flight.with_keys(call.jobs, call.pending))
        # No take may hand out a job whose payload is being written.
        on_ice = [job.id for job in call.folds]

        def then(admitted: Admitted) -> None:
            for budget in admitted.created:
                self._purse.put(budget, call.now)
            for job in admitted.folded:
                self._ice.withdraw(job)
            stored = [job for job, stands in zip(call.jobs, admitted.jobs, strict=True) if stands is job]
            self._announce([*stored, *admitted.folded])
            self._ice.thaw(on_ice)
            if stored:
                self._listener.moved(Cause.ENQUEUE, stored)

        self._ice.freeze(on_ice)
        admitted: Admitted = await self._writer.call(
            Step.ADMIT, call, durable=self._enqueue_durable, then=then, otherwise=partial(self._ice.thaw, on_ice)
        )
        return admitted.jobs

    async def budgets(self) -> list[Budget]:
        """All budgets."""
        return self._purse.budgets()

    async def save_budget(self, key: str, before: Budget | None, after: Budget | None, now: int) -> bool:
        """Create, change or delete a budget."""

        def then(saved: bool) -> None:
            if saved and after is not None:
                self._purse.put(after, now)
            elif saved:
                self._purse.remove(key)

        saved: bool = await self._write(Step.BUDGET, SaveBudget(key, before, after, self._max_budgets), then=then)
        return saved

    # ── pauses ──

    async def paused_queues(self) -> dict[str, int]:
        """The queues that are paused."""
        return dict(self._ready.paused)

    async def pause_queue(self, queue: str, now: int) -> int:
        """Let no job of a queue be taken any more."""
        since: int = await self._write(Step.PAUSE, SavePause(queue, now), then=partial(self._ready.pause, queue))
        return since

    async def resume_queue(self, queue: str) -> bool:
        """Let jobs of a queue be taken again."""

        def then(since: int | None) -> None:
            self._ready.resume(queue)
            if since is not None:
                self._listener.available([queue])

        return await self._write(Step.PAUSE, SavePause(queue, None), then=then) is not None

    # ── duties ──

    async def promote(self, now: int, limit: int) -> int:
        """Make scheduled jobs ready whose time has come."""
        self._purse.ring(now)

        def then(jobs: Sequence[JobRecord]) -> None:
            self._announce(jobs)
            if jobs:
                self._listener.moved(Cause.PROMOTE, jobs)

        return len(await self._write(Step.PROMOTE, (now, limit), then=then))

    async def reap(self, now: int, limit: int) -> int:
        """Remove finished jobs past their retention; once there are none, give free space back to the disk."""

        def then(jobs: Sequence[JobRecord]) -> None:
            if jobs:
                self._listener.moved(Cause.REAP, jobs)

        reaped = len(await self._write(Step.REAP, (now, limit), then=then))
        if reaped < limit:
            await self._trim()
        return reaped

    # ── change ──

    async def change(self, selection: Selection, change: Change, now: int) -> Changed:
        """Delete, patch, retry or rebind jobs."""
        return await self._changes.change(selection, change, now)

    def _reopen(self, lanes: Sequence[str]) -> None:
        for lane in lanes:
            self._ready.open(lane)
        self._listener.available({purse.parts(lane)[0] for lane in lanes})

    async def reset(self) -> None:
        """Remove everything."""

        def then(_: object) -> None:
            self._ready.clear()
            self._changes.clear()
            self._ice.clear()
            for owner, count in self._flight.clear().items():
                self._listener.freed(owner, count)
            self._listener.moved(Cause.DELETE, None)

        await self._write(Step.RESET, None, then=then)
