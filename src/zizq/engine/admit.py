"""New jobs: what is checked and filled in before a job may be stored (protocol.md#2.2)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Protocol

import msgspec

from zizq.budget import Draw
from zizq.engine.unique import Scope
from zizq.errors import BadRequest
from zizq.job import DEFAULT_PRIORITY, MAX_METADATA_BYTES, Batch, JobRecord, Status, check_name
from zizq.policy import Backoff, Retention, shortest_f32


class Plain(Protocol):
    """What is asked of a job that may run at once, and has no options."""

    type: str
    queue: str
    priority: int | None


def new_job(  # noqa: PLR0913 - a job has this many fields
    job_id: str,
    now: int,
    *,
    type: str,
    queue: str,
    payload: msgspec.Raw,
    priority: int | None = None,
    ready_at: int | None = None,
    retry_limit: int | None = None,
    backoff: Backoff | None = None,
    retention: Retention | None = None,
    unique_key: str | None = None,
    unique_while: str | None = None,
    batch: Batch | None = None,
    budgets: tuple[Draw, ...] | None = None,
    timeout_ms: int | None = None,
    metadata: dict[str, str] | None = None,
) -> JobRecord:
    """A job as it is stored: ready, or scheduled when its time is still to come.

    Everything given has passed `check` and `check_options`.

    Args:
        job_id: The identifier it gets.
        now: The wall clock, in milliseconds.
        type: Its type.
        queue: Its queue.
        payload: Its payload, in the stored form.
        priority: 0 to 65535, lower first; None is 32768.
        ready_at: When it may run, in Unix milliseconds; None is now.
        retry_limit: Retries after the first run; None leaves it to the server at failure time.
        backoff: Its own backoff; None leaves it to the server at failure time.
        retention: Its own retention; None leaves it to the server when it ends.
        unique_key: What no other job may have while it does.
        unique_while: For how long it does; None is `queued`.
        batch: How it waits to be folded with others.
        budgets: What it draws each time it is taken, as `budgets.check_draws` said.
        timeout_ms: How long a worker may hold it; None leaves it to the stream that takes it.
        metadata: What others than its handler want to know of it.
    """
    job = JobRecord(
        id=job_id,
        type=type,
        queue=queue,
        priority=DEFAULT_PRIORITY if priority is None else priority,
        status=Status.READY if ready_at is None or ready_at <= now else Status.SCHEDULED,
        payload=payload,
        ready_at=now if ready_at is None else ready_at,
        attempts=0,
        retry_limit=retry_limit,
        backoff=backoff,
        retention=retention,
    )
    # Most jobs have none of these, and each member that is named costs time.
    if unique_key is None and batch is None and not budgets and timeout_ms is None and not metadata:
        return job
    scope = None if unique_key is None else unique_while or Scope.QUEUED.value
    return job.with_(
        unique_key=unique_key,
        unique_while=scope,
        batch=batch,
        budgets=budgets or None,
        timeout_ms=timeout_ms,
        metadata=metadata or None,
    )


def plain_jobs(
    ids: Iterable[str], now: int, asked: Iterable[Plain], payloads: Iterable[msgspec.Raw]
) -> list[JobRecord]:
    """What `new_job` makes of each, where nothing is asked but type, queue and priority; in a fifth of the time."""
    ready = Status.READY
    return [
        JobRecord(
            id=job_id,
            type=one.type,
            queue=one.queue,
            priority=DEFAULT_PRIORITY if one.priority is None else one.priority,
            status=ready,
            payload=payload,
            ready_at=now,
            attempts=0,
        )
        for job_id, one, payload in zip(ids, asked, payloads, strict=True)
    ]


@lru_cache(maxsize=4096)
def check(type: str, queue: str) -> None:
    """Hold the names of a job to their rule, in the order of protocol.md#2.2.

    The few names of a busy server are looked at only once.

    Raises:
        BadRequest: When one breaks it.
    """
    check_name("type", type)
    check_name("queue", queue)


def check_options(
    unique_key: str | None,
    unique_while: str | None,
    batch: object | None,
) -> None:
    """Hold what a job asks for beside its names to its rules.

    Raises:
        BadRequest: When options contradict each other.
    """
    if unique_while is not None and unique_key is None:
        raise BadRequest("unique_while requires unique_key")
    if unique_key is not None and batch is not None:
        raise BadRequest("unique_key and batch cannot be combined")
    if unique_while is not None and unique_while not in set(Scope):
        raise BadRequest(
            f'invalid unique_while: "{unique_while}" (expected "queued", "active", or "exists")',
        )


def check_metadata(metadata: dict[str, str]) -> None:
    """Hold the metadata of a job to the size that it may have in all; `wire.messages` has the other limits.

    Raises:
        BadRequest: When it is larger.
    """
    size = sum(len(name.encode()) + len(value.encode()) for name, value in metadata.items())
    if size > MAX_METADATA_BYTES:
        raise BadRequest(
            f"metadata has {size} bytes of names and values, and may have {MAX_METADATA_BYTES}: put what is large into"
            f" the payload"
        )


def checked_backoff(exponent: float, base_ms: int, jitter_ms: int) -> Backoff:
    """A backoff whose exponent is what a 32-bit float can hold.

    Raises:
        BadRequest: When the exponent is not a finite 32-bit number.
    """
    try:
        exponent = shortest_f32(exponent)
    except OverflowError:
        exponent = math.inf
    if not math.isfinite(exponent):
        raise BadRequest("backoff.exponent is out of range: give a finite 32-bit number")
    return Backoff(exponent, base_ms, jitter_ms)
