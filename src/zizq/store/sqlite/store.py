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
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import apsw
import msgspec

from zizq.budget import Budget
from zizq.clock import Dice
from zizq.engine import decide, purse
from zizq.engine.budgets import MAX_BUDGETS
from zizq.engine.changes import Change
from zizq.engine.decide import Settled
from zizq.engine.selection import Selection
from zizq.engine.window import FIRST, ReadySet
from zizq.job import ErrorRecord, Failure, JobRecord, Status, any_bound
from zizq.policy import Defaults
from zizq.store.base import NO_BUDGETS, NOTHING, Changed, CommitMode, Listener, Order, Page, Silence
from zizq.store.sqlite import key_statements, pages, rows
from zizq.store.sqlite.budget_statements import SaveBudget
from zizq.store.sqlite.change_statements import unless_pending
from zizq.store.sqlite.changes import Changes, Ice
from zizq.store.sqlite.checkpoints import Checkpoints
from zizq.store.sqlite.crons import CronCalls
from zizq.store.sqlite.flight import IN_TRANSIT, Flight, settled_ids
from zizq.store.sqlite.key_statements import AdmitCall, Admitted
from zizq.store.sqlite.pages import Instant
from zizq.store.sqlite.readers import Readers, whatever_happens
from zizq.store.sqlite.schema import FolderLock, open_database
from zizq.store.sqlite.statements import Refill, Refilled, Release, Step
from zizq.store.sqlite.writer import Writer

T = TypeVar("T")

REFILL_MOST = 2048
"""Jobs a refill reads at most: some 3 ms of the writer's time."""
READER_CACHE_BYTES = 2 * 2**20
READERS = 2
"""Threads for what takes and duties ask."""
LISTERS = 2
"""Threads for lists and counts, which may take long."""
ROOM_PAGES = 2048
"""Free pages that the file keeps in any case, 16 MB: a queue that empties will fill again."""
TRIM_PAGES = 64
"""Pages that are given back in one commit: a few milliseconds of the writer's time."""


class SqliteStore(CronCalls):
    """Jobs in one SQLite database; used by one process at a time.

    Args:
        root: The folder of the server; the database is in `data/` inside.
        defaults: What jobs get where they say nothing.
        dice: Places retries inside their jitter.
        enqueue_mode: The commit mode of enqueues.
        default_mode: The commit mode of all other writes.
        cache_bytes: Memory for pages of the file.
        enqueue_batch: How many enqueue calls share a commit at most.
        complete_batch: How many calls of each other kind share a commit at most.
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
        self._folder = root / "data"
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
        self._lock = FolderLock(self._folder)
        path = self._folder / "jobs.db"
        try:
            db = await asyncio.to_thread(open_database, path, self._cache_bytes)
        except BaseException:
            self._lock.release()
            self._lock = None
            raise
        self._writer = Writer(db, self._batch, self._announce)
        self._checkpoints = Checkpoints(path, db)
        self._readers = Readers(path, READER_CACHE_BYTES, READERS)
        self._listers = Readers(path, READER_CACHE_BYTES, LISTERS)
        self._ice = Ice(self._ready, self._announce)
        self._changes = Changes(
            self._write, self._find, self._announce, self._reopen, self._land, self._flight, self._ice
        )
        for lane in await asyncio.to_thread(self._writer.statements.ready_lanes):
            self._ready.open(lane)
        armed = await asyncio.to_thread(self._writer.statements.changes.resume)
        for budget, state in self._writer.statements.budgets.load():
            self._purse.put(budget, budget.updated_at, state)
        self._purse.on_revived = listener.available
        self._flight.on_left = self._purse.give_back
        self._writer.start()
        self._changes.resume(armed)

    async def close(self) -> None:
        """Commit what was called for, stop the threads, unlock the folder."""
        if self._lock is None:
            return
        await self._changes.stop()
        if self._purse.dirty:
            await asyncio.wait([self._write(Step.TOKENS, self._purse.states(0))])
        await asyncio.to_thread(self._checkpoints.stop)
        await self._writer.stop()
        await self._readers.stop()
        await self._listers.stop()
        self._lock.release()
        self._lock = None

    def trouble(self) -> str | None:
        """Why the last write was refused."""
        return self._writer.trouble

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

    # ── enqueue ──

    async def enqueue(
        self,
        jobs: Sequence[JobRecord],
        now: int,
        folds: Sequence[JobRecord] = (),
        pending: Mapping[str, str | None] = NOTHING,
        create: Mapping[str, Budget] = NO_BUDGETS,
    ) -> Sequence[JobRecord]:
        """Insert new jobs."""
        if folds or pending or any_bound(jobs):
            flying = self._flight.with_keys(jobs, pending)
            return await self._admit(AdmitCall(jobs, folds, pending, now, flying, create, self._max_budgets))
        await self._writer.call(Step.ENQUEUE, jobs, durable=self._enqueue_durable)
        return jobs

    async def _admit(self, call: AdmitCall) -> Sequence[JobRecord]:
        """Insert new jobs of which some have keys, or draw on budgets."""
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

    def _note_tokens(self, now: int) -> None:
        """Write down how many tokens are left, soon: a restart must not hand them out again."""
        if self._purse.dirty and (self._noting is None or self._noting.done()):
            self._noting = self._write(Step.TOKENS, self._purse.states(now))
        alarm = self._purse.next_alarm()
        if alarm is not None:
            self._listener.scheduled(alarm)

    async def pending(self, keys: Collection[str]) -> dict[str, JobRecord]:
        """The jobs that wait under batch keys."""
        return await self._at_an_instant(lambda at: key_statements.pending(at.db, keys, at.flying), 0)

    def _announce(self, jobs: Sequence[JobRecord]) -> None:
        """Put ready jobs into their windows, and tell the listener of ready and scheduled ones."""
        held = self._changes.held
        ready = [rows.without_heavy_payload(job) for job in jobs if job.status is Status.READY and job.id not in held]
        if ready:
            self._listener.available(self._ready.insert(ready))
        if len(ready) < len(jobs):
            self._announce_scheduled(jobs)

    # ── take and release ──

    async def take(self, owner: int, queues: Collection[str], limit: int, now: int) -> list[JobRecord]:
        """Hand out the first ready jobs; reads only where memory does not have them."""
        while not (jobs := self._sifted(found := self._ready.take(queues, limit, now))):
            if found:
                continue
            blind = self._ready.blind(queues)
            if not blind:
                self._note_tokens(now)
                return []
            # Waited for and not awaited: a stream that closes must not cancel the refill that others wait for.
            refills, _ = await asyncio.wait([self._refill(lane) for lane in blind])
            for refill in refills:
                refill.result()
        for lane in self._ready.low(queues):
            self._refill(lane)
        if len(self._purse):
            self._note_tokens(now)
        taken = [decide.on_take(job, now) for job in jobs]
        batched = [job.id for job in taken if job.batch is not None]
        if batched:
            self._write(Step.SEAL, batched)
        if any(job.payload is None for job in taken):
            return await self._hand_out(owner, jobs, taken)
        self._flight.add([job.with_(payload=None) for job in taken], owner)
        return taken

    def _sifted(self, found: list[JobRecord]) -> list[JobRecord]:
        """What of the jobs that a window gave may be handed out."""
        jobs = self._ice.sift(found)
        if len(jobs) < len(found):
            for job in found:
                if job.budgets is not None and job not in jobs:
                    self._purse.refund(job)
        return jobs

    async def _hand_out(self, owner: int, jobs: list[JobRecord], taken: list[JobRecord]) -> list[JobRecord]:
        """Hand out jobs of which some wait for their payloads; when those cannot be read, nothing was taken."""
        self._flight.add([job.with_(payload=None) for job in taken], IN_TRANSIT)
        try:
            whole = await self._with_payloads(taken)
        except BaseException:
            ids = set(self._flight.recall([job.id for job in jobs]))
            back = [job for job in jobs if job.id in ids]
            for job in back:
                self._purse.refund(job)
            self._announce(back)
            raise
        whole = [job for job in whole if job.id in self._flight]
        self._flight.hand([job.id for job in whole], owner)
        return whole

    async def release(self, owner: int) -> int:
        """Give back what an owner holds."""
        claimed = self._flight.claim_owned(owner)
        if claimed:
            await self._release(claimed)
        return len(claimed)

    async def _release(self, claimed: Sequence[JobRecord]) -> None:
        def give_back(_: object = None) -> None:
            # Those deleted meanwhile are not in flight any more, and others may have been patched.
            jobs = [decide.on_release(job) for job in self._flight.among([job.id for job in claimed]).values()]
            self._land([job.id for job in jobs])
            self._announce(jobs)

        releases = [Release(job.id, job.dequeued_at) for job in claimed]
        await asyncio.wait([self._write(Step.RELEASE, releases, then=give_back, otherwise=give_back)])

    def _refill(self, lane: str) -> asyncio.Future[Any]:
        """Ask for the ready jobs behind the edge of a lane; one question at a time for each."""
        waiting = self._refills.get(lane)
        if waiting is not None and not waiting.done():
            return waiting
        edge = self._ready.edge(lane) or FIRST

        def put_in(refilled: Refilled) -> None:
            # An insert may have pulled the edge in meanwhile: then the answer has a gap, and is asked for again.
            if self._ready.edge(lane) == edge:
                jobs = [job for job in refilled.jobs if job.id not in self._flight]
                self._ready.refill(lane, jobs, refilled.edge)

        limit = min(REFILL_MOST, self._ready.wanted(lane))
        call = self._writer.call(Step.REFILL, Refill(lane, edge, limit), then=put_in)
        self._refills[lane] = call
        return call

    async def _with_payloads(self, taken: Sequence[JobRecord]) -> list[JobRecord]:
        """Jobs with the payloads that were too heavy to wait in memory; those deleted meanwhile are left out."""
        ids = [job.id for job in taken if job.payload is None]

        def question(db: apsw.Connection) -> dict[str, bytes]:
            found: dict[str, bytes] = {}
            for job_id in ids:
                found.update(db.execute("SELECT id, payload FROM jobs WHERE id = ?", (job_id,)))
            return found

        payloads = await self._readers.read(question)
        whole = []
        for job in taken:
            if job.payload is not None:
                whole.append(job)
            elif job.id in payloads:
                whole.append(job.with_(payload=msgspec.Raw(payloads[job.id])))
        return whole

    # ── settle ──

    async def succeed(self, ids: Sequence[str], now: int) -> list[bool]:
        """Complete jobs that are in flight."""
        claimed = self._flight.claim(ids)
        settled = [decide.on_success(job, now, self._defaults) for job in claimed if job is not None]
        if settled:
            await self._settle(settled)
        return [job is not None for job in claimed]

    async def fail(self, job_id: str, failure: Failure, now: int) -> JobRecord | None:
        """Count and record a failure."""
        [job] = self._flight.claim([job_id])
        if job is None:
            return None
        settled = decide.on_failure(job, failure, now, self._defaults, self._dice.unit())
        await self._settle([settled])
        return settled.job

    def _settle(self, settled: Sequence[Settled]) -> asyncio.Future[Any]:
        ids = settled_ids(settled)

        def then(_: object) -> None:
            self._land(ids)
            self._announce_scheduled([one.job for one in settled])
            if self._changes.held:
                self._changes.ended(settled)

        return self._write(Step.SETTLE, settled, then=then, otherwise=partial(self._unclaim, ids))

    def _announce_scheduled(self, jobs: Sequence[JobRecord]) -> None:
        waiting = [job.ready_at for job in jobs if job.status is Status.SCHEDULED]
        if waiting:
            self._listener.scheduled(min(waiting))

    def _unclaim(self, ids: Sequence[str]) -> None:
        """The store refused the write: the jobs stay in flight, or are ready where their owner has gone."""
        orphans = self._flight.unclaim(ids)
        self._land([job.id for job in orphans])
        self._announce([decide.on_release(job) for job in orphans])

    def _land(self, ids: Sequence[str]) -> None:
        for owner, count in self._flight.land(ids).items():
            self._listener.freed(owner, count)

    # ── duties ──

    async def promote(self, now: int, limit: int) -> int:
        """Make scheduled jobs ready whose time has come."""
        self._purse.ring(now)
        return len(await self._write(Step.PROMOTE, (now, limit), then=self._announce))

    async def next_due(self) -> int | None:
        """The earliest instant for which a job is scheduled, or at which a budget lets one go."""
        held_back = unless_pending(self._changes.in_bulk)
        text = f"SELECT ready_at FROM jobs INDEXED BY due WHERE status = 0 {held_back} ORDER BY ready_at LIMIT 1"  # noqa: S608
        due: int | None = await self._readers.read(lambda db: db.execute(text).get)
        return min((at for at in (due, self._purse.next_alarm()) if at is not None), default=None)

    async def reap(self, now: int, limit: int) -> int:
        """Remove finished jobs past their retention; once there are none, give free space back to the disk."""
        reaped: int = await self._write(Step.REAP, (now, limit))
        if reaped < limit:
            await self._trim()
        return reaped

    async def _trim(self) -> None:
        """Shorten the file while a large part of it is empty, a little at a time."""
        while await self._readers.read(_has_too_much_room):
            await self._write(Step.TRIM, TRIM_PAGES)

    # ── change ──

    async def change(self, selection: Selection, change: Change, now: int) -> Changed:
        """Delete, patch, retry or rebind jobs."""
        return await self._changes.change(selection, change, now)

    async def _find(self, selection: Selection, after: str | None, limit: int, now: int) -> list[str]:
        return await self._at_an_instant(lambda at: pages.ids(at, selection, after, limit), now)

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

        await self._write(Step.RESET, None, then=then)

    # ── read ──

    async def _at_an_instant(self, question: Callable[[Instant], T], now: int) -> T:
        """Ask a question of what is stored and what is in flight, both as they are at the same commit."""
        await self._changes.whole()
        async with self._listers.lease() as db:
            instant: list[Instant] = []

            def pinned(_: object) -> None:
                # Heard of all commits up to this one, and of none after it: memory is at the same instant.
                instant.append(Instant(db, self._flight.snapshot(), self._changes.leaving, now))

            await whatever_happens(self._writer.call(Step.PIN, db, then=pinned))
            return await self._listers.ask(lambda: question(instant[0]))

    async def page(self, selection: Selection, after: str | None, order: Order, limit: int, now: int) -> Page:
        """The first jobs of a selection by identifier."""
        return await self._at_an_instant(lambda at: pages.page(at, selection, after, order, limit), now)

    async def count(self, selection: Selection, now: int) -> int:
        """How many jobs a selection has."""
        return await self._at_an_instant(lambda at: pages.count(at, selection), now)

    async def queues(self, now: int) -> list[str]:
        """The queues that hold a job."""
        return await self._at_an_instant(lambda at: sorted({kind[0] for kind in pages.tally(at)}, key=str.encode), now)

    async def get(self, job_id: str, now: int) -> JobRecord | None:
        """One job with its payload and its true status."""
        while True:
            # Read between two looks at memory that agree, so that a job taken or settled meanwhile is not misread.
            holding = self._flight.get(job_id)
            job = await self._readers.read(lambda db: pages.one(db, job_id))
            if self._flight.get(job_id) is holding:
                break
        if job is None or holding is None:
            return None if job is None or decide.is_expired(job, now) else job
        return holding.with_(payload=job.payload)

    async def errors(self, job_id: str, after: int | None, order: Order, limit: int) -> list[ErrorRecord]:
        """Failures of a job by attempt."""
        return await self._readers.read(lambda db: pages.errors(db, job_id, after, order, limit))

    async def error(self, job_id: str, attempt: int) -> ErrorRecord | None:
        """One failure of a job."""
        found = await self.errors(job_id, attempt - 1, "asc", 1)
        return found[0] if found and found[0].attempt == attempt else None


def _has_too_much_room(db: apsw.Connection) -> bool:
    free, pages_in_all = db.execute("PRAGMA freelist_count").get, db.execute("PRAGMA page_count").get
    return bool(free > ROOM_PAGES and free > pages_in_all // 4)
