"""Rows to jobs and back, once for all statements."""

from __future__ import annotations

from typing import Any

import msgspec

from zizq.job import ErrorRecord, JobRecord, Status
from zizq.policy import Backoff, Retention

STATUS = {Status.SCHEDULED: 0, Status.READY: 1, Status.IN_FLIGHT: 1, Status.COMPLETED: 2, Status.DEAD: 3}
"""How a status is stored. A job in flight is stored as ready, so that it is ready again after a crash."""
_NAMED = (Status.SCHEDULED, Status.READY, Status.COMPLETED, Status.DEAD)

LIGHT = 4096
"""The largest payload, in bytes, that waits in memory with its job; heavier ones are read when they are taken."""

_META = "id, queue, type, priority, status, ready_at, attempts, options, dequeued_at, failed_at, completed_at, purge_at"
WHOLE = f"{_META}, payload"
LIGHT_ONLY = f"{_META}, CASE WHEN length(payload) <= {LIGHT} THEN payload END"

Row = tuple[Any, ...]


class Options(msgspec.Struct, array_like=True, frozen=True):
    """What most jobs leave out, in one column. Append only: old rows hold fewer members."""

    retry_limit: int | None = None
    backoff: Backoff | None = None
    retention: Retention | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Options).decode


def to_row(job: JobRecord) -> Row:
    """The columns that an insert fills: id, queue, type, priority, status, ready_at, payload, options."""
    if job.retry_limit is None and job.backoff is None and job.retention is None:
        options = None
    else:
        options = _encode(Options(job.retry_limit, job.backoff, job.retention))
    status = STATUS[job.status]
    return (job.id, job.queue, job.type, job.priority, status, job.ready_at, job.payload, options)


def to_job(row: Row) -> JobRecord:
    """The job in a row of `WHOLE` or `LIGHT_ONLY`."""
    payload = row[12]
    job = JobRecord(
        id=row[0],
        queue=row[1],
        type=row[2],
        priority=row[3],
        status=_NAMED[row[4]],
        payload=msgspec.Raw(payload) if payload is not None else None,
        ready_at=row[5],
        attempts=row[6],
        dequeued_at=row[8],
        failed_at=row[9],
        completed_at=row[10],
        purge_at=row[11],
    )
    if row[7] is None:
        return job
    options = _decode(row[7])
    return job.with_(retry_limit=options.retry_limit, backoff=options.backoff, retention=options.retention)


def without_heavy_payload(job: JobRecord) -> JobRecord:
    """The job as it may wait in memory."""
    if job.payload is None or len(job.payload) <= LIGHT:
        return job
    return job.with_(payload=None)


def to_error(row: Row) -> ErrorRecord:
    """The error in a row of `errors`, `job_id` left out."""
    return ErrorRecord(
        attempt=row[0], message=row[1], error_type=row[2], backtrace=row[3], dequeued_at=row[4], failed_at=row[5]
    )
