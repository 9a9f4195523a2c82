"""Request and response bodies, as msgspec structs.

Fields stand in the order in which they are sent. On requests None means "not given", for a null and an absent
field are the same there (protocol.md#1.4).
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from zizq.job import DEFAULT_PRIORITY, ErrorRecord, JobRecord

U16 = Annotated[int, Meta(ge=0, le=2**16 - 1)]
U32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]
U64 = Annotated[int, Meta(ge=0)]


class BackoffBody(msgspec.Struct, frozen=True):
    """A backoff as it is sent: all three members are required."""

    exponent: float
    base_ms: U32
    jitter_ms: U32


class RetentionBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """A retention as it is sent."""

    completed_ms: U64 | None = None
    dead_ms: U64 | None = None


class Enqueue(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One job to enqueue (protocol.md#2.2)."""

    type: str
    queue: str
    payload: msgspec.Raw
    priority: U16 | None = DEFAULT_PRIORITY
    ready_at: U64 | None = None
    retry_limit: U32 | None = None
    backoff: BackoffBody | None = None
    retention: RetentionBody | None = None
    unique_key: str | None = None
    unique_while: str | None = None
    batch: dict[str, Any] | None = None
    budgets: list[dict[str, Any]] | None = None


class EnqueueBulk(msgspec.Struct):
    """Many jobs to enqueue, all or none."""

    jobs: list[Enqueue]


class Enqueued(JobRecord, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The answer to an enqueue: the job without its payload, and whether it is a new one."""

    # Both flags are always sent, so they have no default (protocol.md#2.2).
    duplicate: bool
    folded: bool


class EnqueuedBulk(msgspec.Struct):
    """The answers to a bulk enqueue, in the order of the request."""

    jobs: list[Enqueued]


class SuccessBulk(msgspec.Struct):
    """Identifiers of jobs that succeeded."""

    ids: list[str]


class NotFoundIds(msgspec.Struct):
    """Which of the acknowledged jobs were not in flight; the rest are completed (protocol.md#4.7)."""

    not_found: list[str]


class FailureBody(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a worker says of a failed job (protocol.md#4.8)."""

    message: str
    error_type: str | None = None
    backtrace: str | None = None
    retry_at: U64 | None = None
    kill: bool | None = None


class Pages(msgspec.Struct, rename={"self_": "self"}):
    """Links around a page; `next` and `prev` are sent as null where there is none."""

    self_: str
    next: str | None
    prev: str | None


class ErrorPage(msgspec.Struct):
    """A page of the errors of a job."""

    errors: list[ErrorRecord]
    pages: Pages


class Queues(msgspec.Struct):
    """Names of the queues that hold jobs."""

    queues: list[str]


class Health(msgspec.Struct):
    """Whether the server serves."""

    status: str


class Version(msgspec.Struct):
    """The version of the server."""

    version: str


class ErrorBody(msgspec.Struct, omit_defaults=True):
    """The body of every refusal."""

    error: str
    supported: list[str] | None = None
