"""The store port: what every store promises, whatever it is made of.

Operations come in lists and are atomic as a list: either all of it is stored or none is. A call that returns has
*committed*; one that raises `Unavailable` has changed nothing that any reader can see. Calls made at the same time
may be committed together and in any order; a call sees everything that was committed before it was made.

**Durability.** A store is opened with two commit modes, one for enqueues and one for all else. `FSYNC`: what is
committed survives a power cut. `BUFFERED`: it survives the death of the process.

**Ownership.** A job in flight belongs to an *owner*: one open take stream. No job is ever taken by two owners. A
settled or released job leaves its owner, and `Listener.freed` says so, wherever the settling call came from. A store
need not write down who holds what: when it is opened, no job is in flight, and every job that was is ready again.

**Limits.** A job that sets a `timeout_ms`, or is taken by an owner that does, is *overdue* when it has been held for
longer: `fail_overdue` fails it. How many workers died while they held a job is written down with it; one too many, and
it is dead (`engine.decide.on_worker_death`).

**Order.** Takes see the ready jobs of their queues in order of (priority, id), exactly, at the moment of the take.

**Pauses.** Nothing is taken of a paused queue; all else that befalls its jobs goes on. It is as if its ready jobs were
not there for takes: nobody waits behind them for a budget. A pause outlives whatever the store outlives.

**Time.** A store reads no clock: the caller passes `now`, in Unix milliseconds. A finished job whose `purge_at` has
come is gone for every reader, whether or not `reap` has removed it yet.

**Events.** The listener is called on the event loop, after the commit, and never before the call that caused it is
certain to succeed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol

from zizq.budget import Budget
from zizq.cron import CronEntry, CronGroup
from zizq.engine.changes import Change
from zizq.engine.selection import Selection
from zizq.engine.transitions import Cause
from zizq.job import ErrorRecord, Failure, JobRecord
from zizq.store.contents import Copies
from zizq.store.views import Views

Order = Literal["asc", "desc"]


class CommitMode(StrEnum):
    """How far a write has gone when it is answered."""

    BUFFERED = "buffered"
    FSYNC = "fsync"


NO_BUDGETS: Mapping[str, Budget] = MappingProxyType({})
NOTHING: Mapping[str, str | None] = MappingProxyType({})
PAGE_BYTES = 32 * 2**20
"""Payloads that a page carries at most, but for the first: it ends early rather than fill the memory."""


class Page(NamedTuple):
    """Some jobs in the order of their identifiers, and whether more of the selection follow."""

    jobs: list[JobRecord]
    more: bool


class Changed(NamedTuple):
    """How many jobs were changed; and, where the selection names just one, that job as it is now, without payload."""

    jobs: int
    job: JobRecord | None = None


class Compacted(NamedTuple):
    """The bytes that a store took before it was compacted, and those that it takes now."""

    before: int
    after: int


class Due(NamedTuple):
    """A cron entry whose time has come, and its group, without any entries."""

    group: CronGroup
    entry: CronEntry


class Listener(Protocol):
    """Hears what became possible; each method must return at once and must not raise."""

    def available(self, queues: Collection[str]) -> None:
        """Jobs of these queues became ready."""

    def scheduled(self, at: int) -> None:
        """A job was scheduled for this instant."""

    def freed(self, owner: int, count: int) -> None:
        """This many jobs left this owner."""

    def overdue(self, at: int) -> None:
        """A job in flight will be overdue at this instant."""

    def moved(self, cause: Cause, jobs: Sequence[JobRecord] | None, errors: Sequence[ErrorRecord] = ()) -> None:
        """Jobs went through a move of `engine.transitions`, but for takes, of which whoever takes knows.

        Told once for all that moved together, and so mostly of many.

        Args:
            cause: Which move. A rebind is told of as a patch.
            jobs: The jobs as they are after it, or as they were where they are gone; maybe without payloads. None where
                so many changed at once that lists are better read anew.
            errors: Of a failure: the error of each of the jobs.
        """


class Silence:
    """A listener that does nothing."""

    def available(self, queues: Collection[str]) -> None:
        """Nothing."""

    def scheduled(self, at: int) -> None:
        """Nothing."""

    def freed(self, owner: int, count: int) -> None:
        """Nothing."""

    def overdue(self, at: int) -> None:
        """Nothing."""

    def moved(self, cause: Cause, jobs: Sequence[JobRecord] | None, errors: Sequence[ErrorRecord] = ()) -> None:
        """Nothing."""


class Store(Views, Copies, Protocol):
    """Jobs, their payloads and their errors; and the crons that enqueue some."""

    async def open(self, listener: Listener) -> None:
        """Make ready for use; every job that was in flight is ready.

        Takes no longer with ten million jobs than with ten.

        Raises:
            ConfigError: When the place cannot be opened or holds something else.
        """

    async def close(self) -> None:
        """Commit what was called for and give up all resources; a second call does nothing."""

    def enqueue(
        self,
        jobs: Sequence[JobRecord],
        now: int,
        folds: Sequence[JobRecord] = (),
        pending: Mapping[str, str | None] = NOTHING,
        create: Mapping[str, Budget] = NO_BUDGETS,
    ) -> Awaitable[Sequence[JobRecord]]:
        """Store new jobs, ready or scheduled, in the enqueue commit mode.

        A job whose unique key another job holds (`engine.unique`) is not stored. A ready job with a batch is from now
        on the one that waits under its key. The answer is to be awaited at once: whether anything happens before that
        is the store's affair.

        Args:
            jobs: New jobs with payloads, identifiers ascending.
            now: The wall clock.
            folds: Jobs that wait under batch keys, with the payloads that they get.
            create: Budgets to create where jobs draw on them and they are missing.
            pending: Which job waits under each batch key that is concerned, as `pending` said; None for none.

        Returns:
            For each job, itself, or the one that has its unique key, without payload.

        Raises:
            Outdated: When another job waits under a batch key, or none; nothing is stored.
            Unprocessable: When a job draws on a budget that is missing or too small; nothing is stored.
            Unavailable: When the store cannot write; nothing is stored.
        """

    async def pending(self, keys: Collection[str]) -> dict[str, JobRecord]:
        """The jobs that wait under batch keys, with payloads: ready, and never taken since they were enqueued."""

    async def budgets(self) -> list[Budget]:
        """All budgets, sorted by their keys."""

    async def save_budget(self, key: str, before: Budget | None, after: Budget | None, now: int) -> bool:
        """Create, change or delete a budget, if it is still as it was.

        Args:
            key: Its key.
            before: The budget as it is thought to be; None for not there.
            after: What it becomes; None deletes it.
            now: The wall clock.

        Returns:
            Whether it was as it was thought to be; where not, nothing is changed.

        Raises:
            Conflicting: When unfinished jobs or cron entries draw on a budget that is to be deleted.
            Unprocessable: When unfinished jobs or cron entries draw more than it is to hold, or it is one too many.
            Unavailable: When the store cannot write; nothing is changed.
        """

    async def take(
        self, owner: int, queues: Collection[str], limit: int, now: int, timeout_ms: int | None = None
    ) -> list[JobRecord]:
        """Hand out the first ready jobs, with payloads, in flight, `dequeued_at` set to `now`.

        Never waits for jobs to come: an empty list means that none was ready. The jobs belong to `owner`. A job that
        draws on budgets is passed over, with all behind it that draw on one of them, until they can pay together.

        Args:
            owner: The stream that gets them; 0 or more.
            queues: The queues to take from; empty for all. They need not exist.
            limit: How many at most, 1 or more.
            now: The wall clock.
            timeout_ms: How long `owner` may hold a job that does not say so itself; None for as long as it likes.

        Raises:
            Unavailable: When the store cannot read; nothing was taken.
        """

    async def release(self, owner: int, *, died_at: int | None = None, running: int | None = None) -> int:
        """Give back everything an owner holds: ready, same place, `dequeued_at` kept, no attempt counted.

        Where its worker died, that is counted for the jobs that may have been running. One for which it happened too
        often is not given back but dead.

        Jobs that are being settled at this moment are settled. Never fails: a store that cannot write gives the jobs
        back all the same, and forgets their `dequeued_at` and the death.

        Args:
            owner: The stream that ended.
            died_at: When its worker died, by the wall clock; None where it left in good order.
            running: How many jobs it ran at once: those it has held longest. None for any number.

        Returns:
            How many it held.
        """

    async def release_jobs(self, ids: Sequence[str], owners: Collection[int] | None = None) -> list[bool]:
        """Give back jobs that are in flight, as `release` does where a worker left in good order.

        Args:
            ids: Identifiers without repetition, of any shape.
            owners: Only jobs that these hold; None for whoever holds them.

        Returns:
            For each id, whether the job was in flight and is now given back.
        """

    async def in_flight(self, ids: Collection[str]) -> dict[str, JobRecord]:
        """Those of the jobs that are in flight, by their identifiers, without payloads."""

    async def succeed(self, ids: Sequence[str], now: int) -> list[bool]:
        """Complete jobs that are in flight; the others are left alone.

        Args:
            ids: Identifiers without repetition, of any shape.
            now: The wall clock.

        Returns:
            For each id, whether the job was in flight and is now completed.

        Raises:
            Unavailable: When the store cannot write; all of the jobs stay in flight.
        """

    async def fail(self, job_id: str, failure: Failure, now: int) -> JobRecord | None:
        """Count and record a failure; the job is scheduled again or dead (`engine.decide.on_failure`).

        Returns:
            The job after it, without payload; None when it was not in flight.

        Raises:
            Unavailable: When the store cannot write; the job stays in flight.
        """

    async def fail_overdue(self, now: int, limit: int) -> int:
        """Fail up to `limit` jobs that are overdue (`engine.decide.on_timeout`), earliest first; returns how many.

        Jobs that are being settled or released at this moment are not overdue.

        Raises:
            Unavailable: When the store cannot write; all of the jobs stay in flight.
        """

    async def next_overdue(self) -> int | None:
        """The earliest instant at which a job in flight is overdue; None where there is none."""

    async def change(self, selection: Selection, change: Change, now: int) -> Changed:
        """Delete, patch, retry or rebind the jobs of a selection that the change suits; the others are left alone.

        All of them change at one instant: no reader, no take and no crash sees some changed and some not. Expired jobs
        are gone, and so never selected. A job in flight that is deleted leaves its owner; one that is patched stays
        with it.

        Raises:
            Unprocessable: When jobs are to draw on a budget that is missing or too small; nothing was changed.
            Unavailable: When the store cannot write; nothing was changed.
        """

    async def promote(self, now: int, limit: int) -> int:
        """Make up to `limit` scheduled jobs ready whose time has come, earliest first; returns how many.

        Tells as well of ready jobs whose budgets can pay by now.

        Raises:
            Unavailable: When the store cannot write; nothing was promoted.
        """

    async def next_due(self) -> int | None:
        """The earliest instant for which a job is scheduled, or at which a budget lets one go; None for neither."""

    async def reap(self, now: int, limit: int) -> int:
        """Remove up to `limit` finished jobs past their retention; returns how many.

        Raises:
            Unavailable: When the store cannot write; nothing was removed.
        """

    async def page(self, selection: Selection, after: str | None, order: Order, limit: int, now: int) -> Page:
        """The first jobs of a selection by identifier, with payloads, all as they are at one instant.

        Args:
            selection: Which jobs; expired ones are never among them.
            after: Only identifiers beyond this text, in the given order; None for all.
            order: By identifier, ascending or descending.
            limit: How many at most; fewer where their payloads come to more than `PAGE_BYTES`.
            now: The wall clock.
        """

    async def count(self, selection: Selection, now: int) -> int:
        """How many jobs a selection has at one instant, expired ones left out."""

    async def get(self, job_id: str, now: int) -> JobRecord | None:
        """One job with its payload and its true status; None when there is none or it is expired."""

    async def errors(self, job_id: str, after: int | None, order: Order, limit: int) -> list[ErrorRecord]:
        """Failures of a job by attempt.

        Args:
            job_id: The job.
            after: Only attempts beyond this one, in the given order; None for all.
            order: By attempt, ascending or descending.
            limit: How many at most.
        """

    async def error(self, job_id: str, attempt: int) -> ErrorRecord | None:
        """One failure of a job; None when there is none."""

    async def queues(self, now: int) -> list[str]:
        """The names of all queues that hold a job in any status, sorted by their UTF-8 bytes."""

    async def paused_queues(self) -> dict[str, int]:
        """The queues that are paused, and since when, in Unix milliseconds."""

    async def pause_queue(self, queue: str, now: int) -> int:
        """Let no job of a queue be taken any more; it need not have any.

        Holds for every take that begins after the answer. Jobs in flight are not touched.

        Args:
            queue: Its name.
            now: The wall clock.

        Returns:
            Since when it is paused: where it was already, that has not changed.

        Raises:
            Unprocessable: When it is one too many (`engine.pauses`).
            Unavailable: When the store cannot write; nothing is changed.
        """

    async def resume_queue(self, queue: str) -> bool:
        """Let jobs of a queue be taken again, and tell of them; returns whether it was paused.

        Raises:
            Unavailable: When the store cannot write; nothing is changed.
        """

    async def crons(self) -> list[str]:
        """The names of all cron groups, sorted by their UTF-8 bytes."""

    async def cron(self, name: str) -> CronGroup | None:
        """A cron group with its entries as they are at one instant, in the order of their names; None for none."""

    async def save_cron(
        self,
        name: str,
        before: CronGroup | None,
        after: CronGroup | None,
        now: int,
        create: Mapping[str, Budget] = NO_BUDGETS,
    ) -> bool:
        """Create, change or delete a cron group with all its entries, if it is still as it was.

        Args:
            name: Its name.
            before: The group as it is thought to be; None for not there.
            after: What it becomes; None deletes it.
            now: The wall clock.
            create: Budgets to create where jobs of the entries draw on them and they are missing.

        Returns:
            Whether it was as it was thought to be; where not, nothing is changed.

        Raises:
            Unprocessable: When a job draws on a budget that is missing or too small; nothing is changed.
            Unavailable: When the store cannot write; nothing is changed.
        """

    async def delete_crons(self) -> int:
        """Delete all cron groups; returns how many.

        Raises:
            Unavailable: When the store cannot write; nothing is changed.
        """

    async def due_crons(self, now: int, limit: int) -> list[Due]:
        """Cron entries whose next time has come, paused ones too, earliest first, `limit` at most."""

    async def next_cron(self) -> int | None:
        """The earliest next time of all cron entries; None when there is none."""

    async def fire(
        self,
        due: Due,
        after: CronEntry,
        jobs: Sequence[JobRecord],
        now: int,
        folds: Sequence[JobRecord] = (),
        pending: Mapping[str, str | None] = NOTHING,
    ) -> Sequence[JobRecord]:
        """Change a cron entry that is due, and enqueue its job, in one commit: both or neither.

        Args:
            due: The entry, and its group, as they are thought to be.
            after: What the entry becomes.
            jobs: Its job; none where it is only passed over, or was folded.
            now: The wall clock, as all that follows, as in `enqueue`.
            folds: As there.
            pending: As there.

        Returns:
            What `enqueue` returns.

        Raises:
            Conflicting: When the entry or its group is not as it was thought to be; nothing is changed.
            Outdated: As in `enqueue`; nothing is changed.
            Unprocessable: As in `enqueue`; nothing is changed.
            Unavailable: When the store cannot write; nothing is changed.
        """

    async def reset(self) -> None:
        """Remove everything, pauses as well. Owners are freed of what they hold.

        Raises:
            Unavailable: When the store cannot write.
        """

    def snapshot(self) -> AbstractAsyncContextManager[Sequence[Path]]:
        """Files that together are the store as it is at one instant, for as long as the block lasts.

        The instant is after the call: all that was answered before it is in them. Who opens a store on them finds no
        job in flight, as after a crash. Other calls go on meanwhile, and none of them waits for this one.

        Raises:
            Conflicting: When another snapshot is not over yet.
            Unavailable: When there is no room for it, or the store cannot be read.
            Unsupported: When the store has no files that would be worth keeping.
        """

    async def compact(self) -> Compacted:
        """Give all space back that is free, while other calls go on; returns what it came to.

        Raises:
            Unavailable: When the store cannot write; some space may have been given back.
        """

    def trouble(self) -> str | None:
        """Why the last write was refused; None when writes succeed."""
