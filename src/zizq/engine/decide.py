"""What a success, a failure or a lost worker makes of one job."""

from __future__ import annotations

import msgspec

from zizq.engine.transitions import Cause, move
from zizq.job import ErrorRecord, Failure, JobRecord, Status
from zizq.policy import Defaults, later
from zizq.words import duration

_IN_FLIGHT = Status.IN_FLIGHT  # to look a member up in its class takes longer than to copy a job


class Settled(msgspec.Struct, frozen=True, gc=False):
    """What becomes of a job that was in flight.

    Args:
        job: The job after the move, without its payload.
        kept: Whether it stays in the store; False means that its row, payload and errors go at once.
        error: The error record to add, for a failure.
    """

    job: JobRecord
    kept: bool
    error: ErrorRecord | None = None


def on_success(job: JobRecord, now: int, defaults: Defaults) -> Settled:
    """A success ends the job; its retention says for how long it can still be read (protocol.md#4.10)."""
    keep_ms = defaults.completed_ms
    if job.retention is not None and job.retention.completed_ms is not None:
        keep_ms = job.retention.completed_ms
    if keep_ms == 0:
        return Settled(job, kept=False)
    done = move(job, Cause.SUCCEED, Status.COMPLETED, completed_at=now, purge_at=later(now, keep_ms))
    return Settled(done, kept=True)


def on_failure(job: JobRecord, failure: Failure, now: int, defaults: Defaults, unit: float) -> Settled:
    """A failure is counted, recorded, and leads to a retry or to death (protocol.md#4.8).

    Args:
        job: The job in flight.
        failure: What the worker reported.
        now: The wall clock, in milliseconds.
        defaults: The server's options, for what the job leaves open.
        unit: A number in [0, 1) that places the retry inside its jitter.
    """
    attempts = job.attempts + 1
    error = ErrorRecord(
        attempt=attempts,
        message=failure.message,
        error_type=failure.error_type,
        backtrace=failure.backtrace,
        dequeued_at=job.dequeued_at if job.dequeued_at is not None else now,
        failed_at=now,
    )
    retry_at = _retry_at(job, failure, attempts, now, defaults, unit)
    if retry_at is not None:
        job = move(job, Cause.FAIL, Status.SCHEDULED, attempts=attempts, failed_at=now, ready_at=retry_at)
        return Settled(job, kept=True, error=error)
    keep_ms = defaults.dead_ms
    if job.retention is not None and job.retention.dead_ms is not None:
        keep_ms = job.retention.dead_ms
    purge_at = later(now, keep_ms) if keep_ms else None
    job = move(job, Cause.FAIL, Status.DEAD, attempts=attempts, failed_at=now, purge_at=purge_at)
    return Settled(job, kept=keep_ms > 0, error=error)


def overdue_at(job: JobRecord, stream_ms: int | None) -> int | None:
    """Until when a worker may hold a job in flight (protocol.md#14.1); None for as long as it likes.

    Args:
        job: The job in flight.
        stream_ms: The time that the stream which took it grants jobs that set none.
    """
    limit = _time_limit(job, stream_ms)
    return None if limit is None else later(job.dequeued_at or 0, limit)


def on_timeout(job: JobRecord, stream_ms: int | None, now: int, defaults: Defaults, unit: float) -> Settled:
    """A job that was held for longer than it may be has failed (protocol.md#14.1).

    Args:
        job: The job in flight, whose `overdue_at` has come.
        stream_ms: As for `overdue_at`.
        now: The wall clock, in milliseconds, as all that follows as for `on_failure`.
        defaults: As there.
        unit: As there.
    """
    whose = "its" if job.timeout_ms is not None else "its stream's"
    message = (
        f"not finished within {whose} timeout of {duration(_time_limit(job, stream_ms) or 0)}: raise the timeout, or"
        f" find out what keeps the handler"
    )
    return on_failure(job, Failure(message=message, error_type="Timeout"), now, defaults, unit)


def on_worker_death(job: JobRecord, deaths: int, now: int, defaults: Defaults) -> Settled | None:
    """A job is dead when too many workers died while they held it (protocol.md#14.2); None: it is ready again.

    Args:
        job: The job in flight.
        deaths: How many workers died that way, the last one included.
        now: The wall clock, in milliseconds.
        defaults: The server's options, which say how many are too many.
    """
    if not 0 < defaults.max_worker_deaths < deaths:
        return None
    message = (
        f"{deaths} workers died, or lost their connections, while they held it, and {defaults.max_worker_deaths} may:"
        f" find out whether its handler ends the process, then retry it"
    )
    return on_failure(job, Failure(message=message, error_type="WorkerDied", kill=True), now, defaults, 0.0)


def _time_limit(job: JobRecord, stream_ms: int | None) -> int | None:
    return stream_ms if job.timeout_ms is None else job.timeout_ms


def _retry_at(job: JobRecord, failure: Failure, attempts: int, now: int, defaults: Defaults, unit: float) -> int | None:
    """When a failed job runs again; None when it is dead."""
    if failure.kill:
        return None
    if failure.retry_at is not None:
        return failure.retry_at
    limit = job.retry_limit if job.retry_limit is not None else defaults.retry_limit
    if attempts > limit:
        return None
    backoff = job.backoff if job.backoff is not None else defaults.backoff
    return later(now, backoff.delay_ms(attempts, unit))


def on_take(job: JobRecord, now: int) -> JobRecord:
    """A ready job as the worker gets it."""
    # Not by `move`: this runs once for every job that is worked.
    return msgspec.structs.replace(job, status=_IN_FLIGHT, dequeued_at=now)


def on_release(job: JobRecord) -> JobRecord:
    """A job whose holder is gone is ready again, as if never taken, but for its `dequeued_at` (protocol.md#4.4)."""
    return move(job, Cause.RELEASE, Status.READY)


def on_promote(job: JobRecord) -> JobRecord:
    """A scheduled job that came due is ready; it keeps its place by its identifier (protocol.md#4.2)."""
    return move(job, Cause.PROMOTE, Status.READY)


def is_expired(job: JobRecord, now: int) -> bool:
    """Whether a finished job is past its retention, and so gone for every reader (protocol.md#4.10)."""
    return job.purge_at is not None and job.purge_at <= now
