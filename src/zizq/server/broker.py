"""The broker: enqueue, take, succeed, fail, release. It asks the store, and wakes those who wait.

It holds no rule of a job's life (those are the engine's) and no format (those are the wire's).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from itertools import count

from zizq.budget import Budget
from zizq.clock import Clock, Dice
from zizq.cron import CronEntry
from zizq.engine.transitions import Cause
from zizq.errors import Missing
from zizq.ids import IdGenerator
from zizq.job import ErrorRecord, Failure, JobRecord
from zizq.server.batches import Batches, Folder, Write, any_foldable
from zizq.server.consumers import NO_TERMS, Consumer, Consumers, Terms
from zizq.store.base import NO_BUDGETS, NOTHING, Due, Store


class Broker:
    """What the server does with jobs; hears the store as its `Listener`.

    Args:
        store: Where jobs rest; the broker opens and closes it.
        clock: The time for all that is stored.
        dice: Fills identifiers.
        folder: Runs the expressions of batched jobs.
        in_flight_limit: How many jobs may be in flight over all streams; 0 for any number.
    """

    def __init__(self, store: Store, clock: Clock, dice: Dice, folder: Folder, in_flight_limit: int = 0) -> None:
        self._store = store
        self._batches = Batches(store, clock, folder)
        self._clock = clock
        ids = IdGenerator(clock, dice)
        self.next_id, self.next_ids = ids.next, ids.some
        """Make the identifiers of new jobs."""
        self._consumers = Consumers(in_flight_limit)
        self._owners = count(1)
        self._is_open = False
        # Steps with every job that becomes ready, so that a take knows whether it looked too early.
        self._news = 0
        self.on_scheduled: Callable[[int], None] = lambda at: None
        """Hears for when a job is scheduled."""
        self.on_overdue: Callable[[int], None] = lambda at: None
        """Hears when a job in flight will be overdue."""
        self.on_moved: Callable[[Cause, Sequence[JobRecord] | None, Sequence[ErrorRecord]], None] = _ignore
        """Hears of jobs that moved, as `store.base.Listener` says it."""
        self.on_taken: Callable[[Sequence[JobRecord], int], None] = lambda jobs, now: None
        """Hears of jobs that were taken, and when."""

    async def start(self) -> None:
        """Open the store.

        Raises:
            ConfigError: When it cannot be opened.
        """
        await self._store.open(self)
        self._is_open = True

    async def stop(self) -> None:
        """Close the store; streams and requests must have ended."""
        self._is_open = False
        await self._store.close()

    # ── what the store tells (store.base.Listener) ──

    def available(self, queues: Collection[str]) -> None:
        """Jobs became ready."""
        self._news += 1
        self._consumers.available(queues)

    def scheduled(self, at: int) -> None:
        """A job was scheduled."""
        self.on_scheduled(at)

    def freed(self, owner: int, count: int) -> None:
        """Jobs left an owner."""
        self._consumers.freed(owner, count)

    def overdue(self, at: int) -> None:
        """A job in flight will be overdue."""
        self.on_overdue(at)

    def moved(self, cause: Cause, jobs: Sequence[JobRecord] | None, errors: Sequence[ErrorRecord] = ()) -> None:
        """Jobs moved."""
        self.on_moved(cause, jobs, errors)

    # ── enqueue ──

    def now(self) -> int:
        """The time for what is stored, in Unix milliseconds."""
        return self._clock.wall_ms()

    def enqueue(
        self, jobs: Sequence[JobRecord], create: Mapping[str, Budget] = NO_BUDGETS
    ) -> Awaitable[Sequence[JobRecord]]:
        """Store new jobs, all or none; returns, for each, itself or the one that has its unique key.

        Args:
            jobs: Jobs that `engine.admit` made, with identifiers of `next_id`, in their order.
            create: Budgets to create where jobs draw on them and they are missing.

        Raises:
            Unprocessable: When one cannot be folded into the job that waits under its batch key, or draws on a budget
                that is missing or too small.
            Unavailable: When the store cannot write; nothing is stored.
        """
        if any_foldable(jobs):
            return self._batches.enqueue(jobs, create=create)
        return self._store.enqueue(jobs, self._clock.wall_ms(), create=create)

    async def fire(self, due: Due, after: CronEntry, jobs: Sequence[JobRecord]) -> None:
        """Change a cron entry that is due, and enqueue its job, both or neither.

        Args:
            due: The entry, and its group, as they were read.
            after: What the entry becomes.
            jobs: Its job, made as for `enqueue`; none where it is only passed over.

        Raises:
            Conflicting: When the entry or its group has changed meanwhile.
            Unprocessable: When the job cannot be enqueued.
            Unavailable: When the store cannot write.
        """
        await self.enqueue_by(jobs, partial(self._store.fire, due, after))

    async def enqueue_by(self, jobs: Sequence[JobRecord], write: Write) -> None:
        """Enqueue jobs by a write that does more than that, all in one commit.

        Args:
            jobs: The jobs, made as for `enqueue`.
            write: Stores them, as `Store.enqueue` does by its first four arguments.

        Raises:
            Unprocessable: When one cannot be enqueued, as for `enqueue`.
            ZizqError: What `write` raises beside that.
        """
        if any_foldable(jobs):
            await self._batches.enqueue(jobs, write)
        else:
            await write(jobs, self._clock.wall_ms(), (), NOTHING)

    async def check_batch(self, job: JobRecord) -> None:
        """Try the expressions of a batched job on its own payload.

        Raises:
            Unprocessable: When one cannot work.
        """
        await self._batches.check(job)

    # ── take ──

    def open_stream(self, queues: Collection[str], prefetch: int, terms: Terms = NO_TERMS) -> Consumer:
        """Begin a take stream.

        Args:
            queues: The queues to take from; empty for all.
            prefetch: How many unacknowledged jobs it may hold; 0 for any number.
            terms: What its worker says of itself.
        """
        consumer = Consumer(next(self._owners), queues, prefetch, terms, self._clock.wall_ms())
        self._consumers.add(consumer)
        return consumer

    async def take(self, consumer: Consumer, most: int) -> list[JobRecord]:
        """Hand a stream as many ready jobs as it has room for, `most` of them at a time.

        An empty list means that there are none, or no room; the consumer is woken when that may have changed.

        Raises:
            Unavailable: When the store cannot read.
        """
        while True:
            room = min(self._consumers.room(consumer), most)
            if room <= 0:
                break
            news = self._news
            self._consumers.reserve(consumer, room)
            taken = 0
            try:
                now, timeout_ms = self._clock.wall_ms(), consumer.terms.timeout_ms
                jobs = await self._store.take(consumer.owner, consumer.queues, room, now, timeout_ms)
                taken = len(jobs)
            finally:
                self._consumers.handed(consumer, room, taken)
            if jobs:
                self.on_taken(jobs, now)
                return jobs
            if news == self._news:
                break
        self._consumers.starve(consumer)
        return []

    async def close_stream(self, consumer: Consumer, *, dismissed: bool = False) -> int:
        """End a take stream: what it holds is ready again. Returns how many jobs that were.

        Its worker counts as dead, unless it is we who end all streams or have dismissed this one (protocol.md#14.2).
        """
        self._consumers.remove(consumer)
        died_at = None if dismissed or self._consumers.closed else self._clock.wall_ms()
        return await self._store.release(consumer.owner, died_at=died_at, running=consumer.terms.concurrency)

    async def release(self, ids: Sequence[str], stream: str | None = None) -> list[str]:
        """Give back jobs in flight, as a worker does that is about to leave (protocol.md#14.3).

        Args:
            ids: The jobs.
            stream: The name of a take stream that is to get no more jobs, and to end once it holds none; then only
                jobs that it holds are given back, for it may have lost some that others hold by now.

        Returns:
            Those of the ids that were not in flight there.
        """
        # First, or the stream would be handed the jobs that it has just given back.
        owners = None if stream is None else self._consumers.retire(stream)
        unique = list(dict.fromkeys(ids))
        return _missing(unique, await self._store.release_jobs(unique, owners))

    def rest(self, consumer: Consumer) -> None:
        """Wake others until the stream asks for jobs again: it sends something that is none."""
        self._consumers.rest(consumer)

    def close_streams(self) -> None:
        """Ask all take streams to end."""
        self._consumers.close()

    def stream_count(self) -> int:
        """How many take streams are open."""
        return len(self._consumers)

    def streams(self, limit: int) -> list[Consumer]:
        """The take streams that have been open for longest, `limit` at most."""
        return self._consumers.oldest(limit)

    # ── settle ──

    async def in_flight(self, ids: Collection[str]) -> dict[str, JobRecord]:
        """Those of the jobs that are in flight, by their identifiers, without payloads."""
        return await self._store.in_flight(ids)

    async def succeed(self, ids: Sequence[str]) -> list[str]:
        """Complete jobs in flight; returns those of the ids that were not (protocol.md#4.7)."""
        unique = list(dict.fromkeys(ids))
        return _missing(unique, await self._store.succeed(unique, self._clock.wall_ms()))

    async def fail(self, job_id: str, failure: Failure) -> JobRecord:
        """Count and record a failure; returns the job after it.

        Raises:
            Missing: When the job is not in flight.
        """
        job = await self._store.fail(job_id, failure, self._clock.wall_ms())
        if job is None:
            raise Missing("job not found in in-flight set")
        return job

    # ── the whole ──

    async def reset(self) -> None:
        """Remove everything."""
        await self._store.reset()

    def trouble(self) -> str | None:
        """Why writes are refused; None when they are not."""
        return self._store.trouble()

    def unready(self) -> str | None:
        """Why requests should go elsewhere just now; None when they need not."""
        if not self._is_open:
            return "the store is not open"
        if self._consumers.closed:
            return "the server is stopping"
        trouble = self.trouble()
        return None if trouble is None else f"writes are refused: {trouble}"

    # ── duties ──

    async def promote(self, limit: int) -> int | None:
        """Make all due jobs ready, `limit` at a time; returns when the next one is due, in Unix milliseconds."""
        promoted = limit
        while promoted == limit:
            promoted = await self._store.promote(self._clock.wall_ms(), limit)
        return await self._store.next_due()

    async def fail_overdue(self, limit: int) -> int | None:
        """Fail all jobs that are overdue, `limit` at a time; returns when the next one will be."""
        failed = limit
        while failed == limit:
            failed = await self._store.fail_overdue(self._clock.wall_ms(), limit)
        return await self._store.next_overdue()

    async def reap(self, limit: int) -> int:
        """Delete all finished jobs past their retention, `limit` at a time; returns how many."""
        total = 0
        while reaped := await self._store.reap(self._clock.wall_ms(), limit):
            total += reaped
        return total


def _ignore(cause: Cause, jobs: Sequence[JobRecord] | None, errors: Sequence[ErrorRecord]) -> None:
    """For want of anybody who wants to hear it."""


def _missing(ids: Sequence[str], found: Sequence[bool]) -> list[str]:
    return [job_id for job_id, one in zip(ids, found, strict=True) if not one]
