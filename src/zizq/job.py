"""What a job is: its status, its record, and the rule for names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from enum import StrEnum
from operator import attrgetter
from typing import TypeVar

import msgspec

from zizq.budget import Draw
from zizq.errors import BadRequest
from zizq.policy import Backoff, Retention

T = TypeVar("T")
DEFAULT_PRIORITY = 32_768
MAX_PRIORITY = 65_535
MAX_METADATA = 32
"""Entries that the metadata of a job may have (protocol.md#14.5)."""
MAX_METADATA_NAME = 64
"""Characters that the name of an entry may have."""
MAX_METADATA_BYTES = 4096
"""UTF-8 bytes that all names and values may have together: it travels with its job, and waits in memory with it."""
_RESERVED = frozenset("*?[]{}\\")


class Status(StrEnum):
    """Where a job is in its life; `engine.transitions` has the moves between."""

    SCHEDULED = "scheduled"
    READY = "ready"
    IN_FLIGHT = "in_flight"
    COMPLETED = "completed"
    DEAD = "dead"


TERMINAL = frozenset({Status.COMPLETED, Status.DEAD})


class Batch(msgspec.Struct, frozen=True):
    """How jobs that wait under one key are folded into one (protocol.md#6).

    Args:
        key: Under which it waits; the same for all queues.
        when: A jq expression that says whether one more payload may be folded in.
        fold: A jq expression that makes one payload of two.
    """

    key: str
    when: str
    fold: str


class JobRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A job as it rests in a store and as it travels; fields in the order of protocol.md#2.3.

    Fields that are None are left out on the wire. Instants are Unix milliseconds. `payload` is the encoded
    payload, MessagePack in a store, and None where the payload was not loaded.
    """

    id: str
    type: str
    queue: str
    priority: int
    status: Status
    payload: msgspec.Raw | None = None
    ready_at: int
    attempts: int
    retry_limit: int | None = None
    backoff: Backoff | None = None
    dequeued_at: int | None = None
    failed_at: int | None = None
    retention: Retention | None = None
    purge_at: int | None = None
    completed_at: int | None = None
    unique_key: str | None = None
    unique_while: str | None = None
    batch: Batch | None = None
    budgets: tuple[Draw, ...] | None = None
    timeout_ms: int | None = None
    metadata: dict[str, str] | None = None

    @property
    def is_bound(self) -> bool:
        """Whether anything beside itself matters when it is enqueued: other jobs, or budgets."""
        return self.unique_key is not None or self.batch is not None or self.budgets is not None

    def with_(self, **changes: object) -> JobRecord:
        """The same record with some fields changed."""
        return msgspec.structs.replace(self, **changes)


_of_scope, _of_batch, _of_budgets = attrgetter("unique_while"), attrgetter("batch"), attrgetter("budgets")


def any_bound(jobs: Collection[JobRecord]) -> bool:
    """Whether any of some jobs `is_bound`; this is asked of every job that is enqueued, so no call of ours is in it."""
    return any(map(_of_scope, jobs)) or any(map(_of_batch, jobs)) or any(map(_of_budgets, jobs))


def any_batched(jobs: Collection[JobRecord]) -> bool:
    """Whether any of some jobs has a batch; asked as `any_bound` is."""
    return any(map(_of_batch, jobs))


def apart(jobs: Sequence[JobRecord], of: Callable[[JobRecord], T]) -> dict[T, Sequence[JobRecord]]:
    """Jobs in their order, by something of them that is the same for most."""
    found = set(map(of, jobs))
    if len(found) == 1:
        return {found.pop(): jobs}
    some: dict[T, list[JobRecord]] = {}
    for job in jobs:
        some.setdefault(of(job), []).append(job)
    return {**some}


class ErrorRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One failure of a job (protocol.md#2.10)."""

    attempt: int
    message: str
    error_type: str | None = None
    backtrace: str | None = None
    dequeued_at: int
    failed_at: int


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker reports of a job that failed (protocol.md#4.8)."""

    message: str
    error_type: str | None = None
    backtrace: str | None = None
    retry_at: int | None = None
    kill: bool | None = False


def check_name(field: str, name: str) -> None:
    """Hold a queue or type name to the rule of protocol.md#2.1.

    Raises:
        BadRequest: When the name is empty or has a NUL, a comma or a reserved character.
    """
    if not name:
        raise BadRequest(f"{field} must not be empty")
    if "," in name:
        raise BadRequest(f"{field} must not contain ','")
    if "\0" in name:
        raise BadRequest(f"{field} must not contain null bytes")
    for character in name:
        if character in _RESERVED:
            raise BadRequest(f"{field} must not contain '{character}' (reserved)")
