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
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import msgspec

from zizq.clock import Dice
from zizq.engine import decide
from zizq.engine.decide import Settled
from zizq.engine.window import FIRST, ReadySet
from zizq.job import ErrorRecord, Failure, JobRecord, Status
from zizq.policy import Defaults
from zizq.store.base import CommitMode, Listener, Order, Silence
from zizq.store.sqlite import rows
from zizq.store.sqlite.checkpoints import Checkpoints
from zizq.store.sqlite.flight import IN_TRANSIT, Flight, settled_ids
from zizq.store.sqlite.readers import Readers
from zizq.store.sqlite.schema import FolderLock, open_database
from zizq.store.sqlite.statements import Refill, Refilled, Release, Step
from zizq.store.sqlite.writer import Writer

REFILL_MOST = 2048
"""Jobs a refill reads at most: some 3 ms of the writer's time."""
READER_CACHE_BYTES = 2 * 2**20


class SqliteStore:
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
        self._readers = Readers(path, READER_CACHE_BYTES)
        for queue in self._writer.statements.ready_queues():
            self._ready.open(queue)
        self._writer.start()

    async def close(self) -> None:
        """Commit what was called for, stop the threads, unlock the folder."""
        if self._lock is None:
            return
        await asyncio.to_thread(self._checkpoints.stop)
        await self._writer.stop()
        await self._readers.stop()
        self._lock.release()
        self._lock = None

    def trouble(self) -> str | None:
        """Why the last write was refused."""
        return self._writer.trouble

    # ── enqueue ──

    async def enqueue(self, jobs: Sequence[JobRecord]) -> None:
        """Insert new jobs."""
        await self._writer.call(Step.ENQUEUE, jobs, durable=self._enqueue_durable)

    def _announce(self, jobs: Sequence[JobRecord]) -> None:
        """Put ready jobs into their windows, and tell the listener of ready and scheduled ones."""
        ready = [rows.without_heavy_payload(job) for job in jobs if job.status is Status.READY]
        if ready:
            self._listener.available(self._ready.insert(ready))
        if len(ready) < len(jobs):
            self._listener.scheduled(min(job.ready_at for job in jobs if job.status is Status.SCHEDULED))

    # ── take and release ──

    async def take(self, owner: int, queues: Collection[str], limit: int, now: int) -> list[JobRecord]:
        """Hand out the first ready jobs; reads only where memory does not have them."""
        while not (jobs := self._ready.take(queues, limit)):
            blind = self._ready.blind(queues)
            if not blind:
                return []
            # Waited for and not awaited: a stream that closes must not cancel the refill that others wait for.
            refills, _ = await asyncio.wait([self._refill(queue) for queue in blind])
            for refill in refills:
                refill.result()
        for queue in self._ready.low(queues):
            self._refill(queue)
        taken = [decide.on_take(job, now) for job in jobs]
        if any(job.payload is None for job in taken):
            return await self._hand_out(owner, jobs, taken)
        self._flight.add([job.with_(payload=None) for job in taken], owner)
        return taken

    async def _hand_out(self, owner: int, jobs: list[JobRecord], taken: list[JobRecord]) -> list[JobRecord]:
        """Hand out jobs of which some wait for their payloads; when those cannot be read, nothing was taken."""
        self._flight.add([job.with_(payload=None) for job in taken], IN_TRANSIT)
        try:
            whole = await self._with_payloads(taken)
        except BaseException:
            back = set(self._flight.recall([job.id for job in jobs]))
            self._announce([job for job in jobs if job.id in back])
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
            # Those deleted meanwhile are not in flight any more.
            jobs = [decide.on_release(job) for job in claimed if job.id in self._flight]
            self._land([job.id for job in jobs])
            self._announce(jobs)

        releases = [Release(job.id, job.dequeued_at) for job in claimed]
        call = self._writer.call(Step.RELEASE, releases, durable=self._durable, then=give_back, otherwise=give_back)
        await asyncio.wait([call])

    def _refill(self, queue: str) -> asyncio.Future[Any]:
        """Ask for the ready jobs behind the edge of a queue; one question at a time for each."""
        waiting = self._refills.get(queue)
        if waiting is not None and not waiting.done():
            return waiting
        edge = self._ready.edge(queue) or FIRST

        def put_in(refilled: Refilled) -> None:
            # An insert may have pulled the edge in meanwhile: then the answer has a gap, and is asked for again.
            if self._ready.edge(queue) == edge:
                jobs = [job for job in refilled.jobs if job.id not in self._flight]
                self._ready.refill(queue, jobs, refilled.edge)

        limit = min(REFILL_MOST, self._ready.wanted(queue))
        call = self._writer.call(Step.REFILL, Refill(queue, edge, limit), then=put_in)
        self._refills[queue] = call
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

        return self._writer.call(
            Step.SETTLE, settled, durable=self._durable, then=then, otherwise=partial(self._unclaim, ids)
        )

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
        call = self._writer.call(Step.PROMOTE, (now, limit), durable=self._durable, then=self._announce)
        return len(await call)

    async def next_due(self) -> int | None:
        """The earliest instant for which a job is scheduled."""
        sql = "SELECT ready_at FROM jobs INDEXED BY due WHERE status = 0 ORDER BY ready_at LIMIT 1"
        due: int | None = await self._readers.read(lambda db: db.execute(sql).get)
        return due

    async def reap(self, now: int, limit: int) -> int:
        """Remove finished jobs past their retention."""
        reaped: int = await self._writer.call(Step.REAP, (now, limit), durable=self._durable)
        return reaped

    # ── the rest ──

    async def delete(self, ids: Sequence[str], now: int) -> list[bool]:
        """Remove jobs in any status."""
        held = [job.id for job in self._flight.claim(ids) if job is not None]

        def then(removed: list[JobRecord]) -> None:
            for job in removed:
                if job.id in self._flight:
                    self._land([job.id])
                elif job.status is Status.READY:
                    self._ready.discard(job)

        removed = await self._writer.call(
            Step.DELETE, ids, durable=self._durable, then=then, otherwise=partial(self._unclaim, held)
        )
        gone = {job.id for job in removed if not decide.is_expired(job, now)}
        return [job_id in gone for job_id in ids]

    async def reset(self) -> None:
        """Remove everything."""

        def then(_: object) -> None:
            self._ready.clear()
            for owner, count in self._flight.clear().items():
                self._listener.freed(owner, count)

        await self._writer.call(Step.RESET, None, durable=self._durable, then=then)

    async def get(self, job_id: str, now: int) -> JobRecord | None:
        """One job with its payload and its true status."""
        sql = f"SELECT {rows.WHOLE} FROM jobs WHERE id = ?"  # noqa: S608 - a constant
        while True:
            # Read between two looks at memory that agree, so that a job taken or settled meanwhile is not misread.
            holding = self._flight.get(job_id)
            row = await self._readers.read(lambda db: db.execute(sql, (job_id,)).fetchone())
            if self._flight.get(job_id) is holding:
                break
        if row is None:
            return None
        job = rows.to_job(row)
        if holding is not None:
            return holding.with_(payload=job.payload)
        return None if decide.is_expired(job, now) else job

    async def errors(self, job_id: str, after: int | None, order: Order, limit: int) -> list[ErrorRecord]:
        """Failures of a job by attempt."""
        sign, start = (">", 0) if order == "asc" else ("<", 2**62)
        sql = f"""SELECT attempt, message, error_type, backtrace, dequeued_at, failed_at FROM errors
                  WHERE job_id = ? AND attempt {sign} ? ORDER BY attempt {order} LIMIT ?"""  # noqa: S608 - constants
        values = (job_id, start if after is None else after, limit)
        return await self._readers.read(lambda db: [rows.to_error(row) for row in db.execute(sql, values)])

    async def error(self, job_id: str, attempt: int) -> ErrorRecord | None:
        """One failure of a job."""
        found = await self.errors(job_id, attempt - 1, "asc", 1)
        return found[0] if found and found[0].attempt == attempt else None

    async def queues(self, now: int) -> list[str]:
        """The queues that hold a job."""
        sql = """WITH expired AS (SELECT queue, count(*) AS jobs FROM jobs INDEXED BY purge
                                  WHERE purge_at <= ? GROUP BY queue)
                 SELECT tally.queue FROM tally LEFT JOIN expired USING (queue)
                 GROUP BY tally.queue HAVING sum(tally.jobs) > coalesce(max(expired.jobs), 0) ORDER BY tally.queue"""
        return await self._readers.read(lambda db: [row[0] for row in db.execute(sql, (now,))])
