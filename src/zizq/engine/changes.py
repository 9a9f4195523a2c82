"""What a client may do to jobs that are already there: patch, retry, delete (protocol.md#2.8, protocol.md#2.9)."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec
from msgspec import UNSET, UnsetType

from zizq.budget import Draw
from zizq.engine.transitions import Cause, allows, move
from zizq.errors import BadRequest, Unprocessable
from zizq.job import TERMINAL, JobRecord, Status, check_name
from zizq.policy import Backoff, Retention


class Delete(msgspec.Struct, frozen=True, tag="delete"):
    """Remove jobs in any status, with payloads and errors."""

    cause: ClassVar = Cause.DELETE

    def suits(self, status: Status) -> bool:
        """Whether jobs in a status can be deleted: all can."""
        return True

    def apply(self, job: JobRecord, now: int) -> JobRecord | None:
        """None: the job is gone."""
        return None


class RetentionPatch(msgspec.Struct, frozen=True):
    """Changes to a retention, member by member; None clears a member."""

    completed_ms: int | UnsetType | None = UNSET
    dead_ms: int | UnsetType | None = UNSET

    def apply(self, retention: Retention | None) -> Retention | None:
        """The retention after it; None when no member is left."""
        before = retention or Retention()
        after = Retention(
            before.completed_ms if self.completed_ms is UNSET else self.completed_ms,
            before.dead_ms if self.dead_ms is UNSET else self.dead_ms,
        )
        return None if after == Retention() else after


class Patch(msgspec.Struct, frozen=True, kw_only=True, tag="patch"):
    """Changes to a job that is not finished; what is unset stays as it is, and None clears.

    Args:
        queue: The queue to move it to.
        priority: Its priority.
        ready_at: When it may run, in Unix milliseconds; None makes a scheduled job ready at once.
        retry_limit: Its own retry limit.
        backoff: Its own backoff.
        retention: Changes to its own retention.
        timeout_ms: How long a worker may hold it.
    """

    queue: str | UnsetType = UNSET
    priority: int | UnsetType = UNSET
    ready_at: int | UnsetType | None = UNSET
    retry_limit: int | UnsetType | None = UNSET
    backoff: Backoff | UnsetType | None = UNSET
    retention: RetentionPatch | UnsetType | None = UNSET
    timeout_ms: int | UnsetType | None = UNSET

    cause: ClassVar = Cause.PATCH

    def suits(self, status: Status) -> bool:
        """Whether jobs in a status can be patched: those that are not finished."""
        return status not in TERMINAL

    def apply(self, job: JobRecord, now: int) -> JobRecord:
        """The job after it."""
        changes: dict[str, object] = {
            name: value
            for name in ("queue", "priority", "retry_limit", "backoff", "timeout_ms")
            if (value := getattr(self, name)) is not UNSET
        }
        if self.retention is not UNSET:
            changes["retention"] = self.retention and self.retention.apply(job.retention)
        status, ready_at = self._time(job, now)
        return move(job, Cause.PATCH, status, ready_at=ready_at, **changes)

    def _time(self, job: JobRecord, now: int) -> tuple[Status, int]:
        """The status and `ready_at` after it (protocol.md#2.9)."""
        if self.ready_at is UNSET:
            return job.status, job.ready_at
        if self.ready_at is None:
            return (Status.READY, now) if job.status is Status.SCHEDULED else (job.status, job.ready_at)
        if job.status is Status.IN_FLIGHT:
            return job.status, self.ready_at
        return (Status.SCHEDULED if self.ready_at > now else Status.READY), self.ready_at


class Retry(msgspec.Struct, frozen=True, tag="retry"):
    """Bring dead jobs back to ready, as if they had never run: no attempts, no errors (protocol.md#2.11)."""

    cause: ClassVar = Cause.RETRY

    def suits(self, status: Status) -> bool:
        """Whether jobs in a status can be retried: dead ones."""
        return allows(status, Cause.RETRY, Status.READY)

    def apply(self, job: JobRecord, now: int) -> JobRecord:
        """The job after it."""
        return move(job, Cause.RETRY, Status.READY, ready_at=now, attempts=0, purge_at=None)


class Rebind(msgspec.Struct, frozen=True, kw_only=True, tag="rebind"):
    """Change what jobs draw on that wait in their queues (protocol.md#8.4); exactly one of the three is given.

    Args:
        all: What they draw on from now on, and on nothing else.
        put: A draw to add, or to put in the place of the one on the same budget.
        drop: A budget that they draw on no more.
        only: With `put`: `new` leaves alone jobs that draw on the budget already, `old` those that do not.
    """

    all: tuple[Draw, ...] | None = None
    put: Draw | None = None
    drop: str | None = None
    only: Literal["new", "old"] | None = None

    @property
    def draws(self) -> tuple[Draw, ...]:
        """The draws that it brings, which their budgets must be able to pay."""
        return self.all or ((self.put,) if self.put is not None else ())

    cause: ClassVar = Cause.PATCH

    def suits(self, status: Status) -> bool:
        """Whether what jobs in a status draw on can be changed: while they wait."""
        return status in (Status.SCHEDULED, Status.READY)

    def apply(self, job: JobRecord, now: int) -> JobRecord:
        """The job after it."""
        return move(job, Cause.PATCH, job.status, budgets=self._draws(job.budgets or ()) or None)

    def _draws(self, before: tuple[Draw, ...]) -> tuple[Draw, ...]:
        if self.all is not None:
            return self.all
        if self.put is None:
            return tuple(draw for draw in before if draw.key != self.drop)
        put, drawn = self.put, any(draw.key == self.put.key for draw in before)
        if self.only == ("new" if drawn else "old"):
            return before
        return tuple(put if draw.key == put.key else draw for draw in before) if drawn else (*before, put)


Change = Delete | Patch | Retry | Rebind


def check_patch(queue: str | UnsetType | None, priority: int | UnsetType | None) -> None:
    """Hold the members of a patch that cannot be cleared to their rules (protocol.md#2.9).

    Raises:
        Unprocessable: When one is None, or the queue's name is malformed.
    """
    for name, value in (("queue", queue), ("priority", priority)):
        if value is None:
            raise Unprocessable(f"{name} cannot be null")
    if isinstance(queue, str):
        try:
            check_name("queue", queue)
        except BadRequest as error:
            raise Unprocessable(str(error)) from error
