"""The store port: what every store promises, whatever it is made of.

Operations come in lists and are atomic as a list: either all of it is stored or none is. A call that returns has
*committed*; one that raises `Unavailable` has changed nothing that any reader can see. Calls made at the same time
may be committed together and in any order; a call sees everything that was committed before it was made.

**Durability.** A store is opened with two commit modes, one for enqueues and one for all else. `FSYNC`: what is
committed survives a power cut. `BUFFERED`: it survives the death of the process.

**Ownership.** A job in flight belongs to an *owner*: one open take stream. No job is ever taken by two owners. A
settled or released job leaves its owner, and `Listener.freed` says so, wherever the settling call came from. A store
need not write down who holds what: when it is opened, no job is in flight, and every job that was is ready again.

**Order.** Takes see the ready jobs of their queues in order of (priority, id), exactly, at the moment of the take.

**Time.** A store reads no clock: the caller passes `now`, in Unix milliseconds. A finished job whose `purge_at` has
come is gone for every reader, whether or not `reap` has removed it yet.

**Events.** The listener is called on the event loop, after the commit, and never before the call that caused it is
certain to succeed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Literal, Protocol

from zizq.job import ErrorRecord, Failure, JobRecord

Order = Literal["asc", "desc"]


class CommitMode(StrEnum):
    """How far a write has gone when it is answered."""

    BUFFERED = "buffered"
    FSYNC = "fsync"


class Listener(Protocol):
    """Hears what became possible; each method must return at once and must not raise."""

    def available(self, queues: Collection[str]) -> None:
        """Jobs of these queues became ready."""

    def scheduled(self, at: int) -> None:
        """A job was scheduled for this instant."""

    def freed(self, owner: int, count: int) -> None:
        """This many jobs left this owner."""


class Silence:
    """A listener that does nothing."""

    def available(self, queues: Collection[str]) -> None:
        """Nothing."""

    def scheduled(self, at: int) -> None:
        """Nothing."""

    def freed(self, owner: int, count: int) -> None:
        """Nothing."""


class Store(Protocol):
    """Jobs, their payloads and their errors."""

    async def open(self, listener: Listener) -> None:
        """Make ready for use; every job that was in flight is ready.

        Takes no longer with ten million jobs than with ten.

        Raises:
            ConfigError: When the place cannot be opened or holds something else.
        """

    async def close(self) -> None:
        """Commit what was called for and give up all resources; a second call does nothing."""

    async def enqueue(self, jobs: Sequence[JobRecord]) -> None:
        """Store new jobs, ready or scheduled, in the enqueue commit mode.

        Args:
            jobs: New jobs with payloads, identifiers ascending.

        Raises:
            Unavailable: When the store cannot write; none of the jobs is stored.
        """

    async def take(self, owner: int, queues: Collection[str], limit: int, now: int) -> list[JobRecord]:
        """Hand out the first ready jobs, with payloads, in flight, `dequeued_at` set to `now`.

        Never waits for jobs to come: an empty list means that none was ready. The jobs belong to `owner`.

        Args:
            owner: The stream that gets them; 0 or more.
            queues: The queues to take from; empty for all. They need not exist.
            limit: How many at most, 1 or more.
            now: The wall clock.

        Raises:
            Unavailable: When the store cannot read; nothing was taken.
        """

    async def release(self, owner: int) -> int:
        """Give back everything an owner holds: ready, same place, `dequeued_at` kept, no attempt counted.

        Jobs that are being settled at this moment are settled. Returns how many were given back. Never fails: a
        store that cannot write gives the jobs back all the same and forgets their `dequeued_at`.
        """

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

    async def delete(self, ids: Sequence[str], now: int) -> list[bool]:
        """Remove jobs in any status, with payloads and errors.

        Returns:
            For each id, whether there was such a job; an expired one is removed, and counts as gone before.

        Raises:
            Unavailable: When the store cannot write; nothing was removed.
        """

    async def promote(self, now: int, limit: int) -> int:
        """Make up to `limit` scheduled jobs ready whose time has come, earliest first; returns how many.

        Raises:
            Unavailable: When the store cannot write; nothing was promoted.
        """

    async def next_due(self) -> int | None:
        """The earliest instant for which a job is scheduled; None when there is none."""

    async def reap(self, now: int, limit: int) -> int:
        """Remove up to `limit` finished jobs past their retention; returns how many.

        Raises:
            Unavailable: When the store cannot write; nothing was removed.
        """

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

    async def reset(self) -> None:
        """Remove everything. Owners are freed of what they hold.

        Raises:
            Unavailable: When the store cannot write.
        """

    def trouble(self) -> str | None:
        """Why the last write was refused; None when writes succeed."""
