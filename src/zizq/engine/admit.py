"""New jobs: what is checked and filled in before a job may be stored (protocol.md#2.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import msgspec

from zizq.errors import BadRequest, Unprocessable
from zizq.job import DEFAULT_PRIORITY, JobRecord, Status, check_name
from zizq.policy import Backoff, Retention, shortest_f32

_SCOPES = ("queued", "active", "exists")


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
    """
    return JobRecord(
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


def check(type: str, queue: str) -> None:
    """Hold the names of a job to their rule, in the order of protocol.md#2.2.

    Raises:
        BadRequest: When one breaks it.
    """
    _known_name("type", type)
    _known_name("queue", queue)


def check_options(
    unique_key: str | None,
    unique_while: str | None,
    batch: Mapping[str, object] | None,
    budgets: Sequence[object] | None,
) -> None:
    """Hold what a job asks for beside its names to its rules.

    Raises:
        BadRequest: When options contradict each other.
        Unprocessable: When one is given that this version does not offer: a job that asks for it must not run
            without it.
    """
    if unique_while is not None and unique_key is None:
        raise BadRequest("unique_while requires unique_key")
    if unique_key is not None and batch is not None:
        raise BadRequest("unique_key and batch cannot be combined")
    if unique_while is not None and unique_while not in _SCOPES:
        raise BadRequest(
            f'invalid unique_while: "{unique_while}" (expected "queued", "active", or "exists")',
        )
    for name, given in (("unique_key", unique_key is not None), ("batch", batch is not None), ("budgets", budgets)):
        if given:
            raise Unprocessable(f"{name} is not supported by this version of the server")


@lru_cache(maxsize=4096)
def _known_name(field: str, name: str) -> None:
    """`check_name`, which the few names of a busy server pass only once."""
    check_name(field, name)


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
