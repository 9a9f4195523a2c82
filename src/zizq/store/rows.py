"""Rows to jobs and back, once for all statements of all databases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any

import msgspec

from zizq.budget import Draw
from zizq.engine.changes import Change, Rebind, Retry
from zizq.engine.purse import budget_keys
from zizq.engine.unique import Scope
from zizq.job import Batch, ErrorRecord, JobRecord, Status
from zizq.policy import Backoff, Retention

STATUS = {Status.SCHEDULED: 0, Status.READY: 1, Status.IN_FLIGHT: 1, Status.COMPLETED: 2, Status.DEAD: 3}
"""How a status is stored. A job in flight is stored as ready, so that it is ready again after a crash."""
NAMED = (Status.SCHEDULED, Status.READY, Status.COMPLETED, Status.DEAD)
"""The statuses as they are stored, by number."""
_IN_FLIGHT = Status.IN_FLIGHT  # looked up in its class once, and not for every job

LIGHT = 4096
"""The largest payload, in bytes, that waits in memory with its job; heavier ones are read when they are taken."""

_TIMES = "dequeued_at, failed_at, completed_at, purge_at"
_META = f"id, queue, type, priority, status, ready_at, attempts, options, {_TIMES}"
WHOLE = f"{_META}, payload"
BARE = f"{_META}, NULL"
LIGHT_ONLY = f"{_META}, CASE WHEN length(payload) <= {LIGHT} THEN payload END"

Row = tuple[Any, ...]


class Options(msgspec.Struct, array_like=True, frozen=True):
    """What most jobs leave out, in one column. Append only: old rows hold fewer members."""

    retry_limit: int | None = None
    backoff: Backoff | None = None
    retention: Retention | None = None
    unique_key: str | None = None
    unique_while: str | None = None
    batch: Batch | None = None
    budgets: tuple[Draw, ...] | None = None
    timeout_ms: int | None = None
    metadata: dict[str, str] | None = None


_of_options = attrgetter(*Options.__struct_fields__)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Options).decode
OPEN = _encode(Options())[:4]
"""How options begin that say nothing of retention, and of retries: the header, and three members that are left out."""


PLAIN = "id, queue, type, priority, status, ready_at, payload, options"
"""The columns of a new job."""
BOUND = f"{PLAIN}, key, budgets"
"""The columns of a new job that has a key or draws on budgets."""


def to_rows(jobs: Iterable[JobRecord]) -> list[Row]:
    """The columns of `PLAIN`."""
    return [
        (job.id, job.queue, job.type, job.priority, STATUS[job.status], job.ready_at, job.payload, _options(job))
        for job in jobs
    ]


def to_row(job: JobRecord) -> Row:
    """The same of one job."""
    return to_rows((job,))[0]


def to_bound_row(job: JobRecord) -> Row:
    """The columns of `BOUND`."""
    return (*to_row(job), key_of(job), budget_keys(job))


DRAW_COLUMNS = "budget, id, cost, finished"


def to_draw_rows(jobs: Iterable[JobRecord]) -> list[Row]:
    """The columns of `DRAW_COLUMNS`, for each budget that a job draws on."""
    return [(draw.key, job.id, draw.cost, is_finished(job)) for job in jobs for draw in job.budgets or ()]


COPIED = f"{BOUND}, attempts, {_TIMES}, deaths"
"""The columns of a job of whatever age."""


def to_copied_row(job: JobRecord, deaths: int, name: Any) -> Row:
    """The columns of `COPIED`; `name` is what the job is found by, as it is stored."""
    times = (job.dequeued_at, job.failed_at, job.completed_at, job.purge_at)
    return (*to_row(job), name, budget_keys(job), job.attempts, *times, deaths)


def to_values(job: JobRecord, columns: Sequence[str]) -> list[Any]:
    """What a job has in some of its columns."""
    return [_SPECIAL[name](job) if name in _SPECIAL else getattr(job, name) for name in columns]


def changed_columns(change: Change) -> tuple[str, ...]:
    """What a change rewrites of jobs that stay: never the key, by which others found them already."""
    if isinstance(change, Rebind):
        return ("budgets", "options")
    if isinstance(change, Retry):
        return ("status", "ready_at", "attempts", "purge_at", "deaths")
    named = [some for name, some in _PATCHED.items() if getattr(change, name, msgspec.UNSET) is not msgspec.UNSET]
    return tuple(dict.fromkeys(column for some in named for column in some))


_PATCHED = {
    "queue": ("queue",), "priority": ("priority",), "ready_at": ("status", "ready_at"), "retry_limit": ("options",),
    "backoff": ("options",), "retention": ("options",), "timeout_ms": ("options",),
}  # fmt: skip


def key_of(job: JobRecord) -> str | None:
    """What jobs of its unique or batch key find a new job by; None where none may.

    A job with a unique key is found by it for good, and its scope stands before it. One with a batch key is found
    while others can be folded into it, and so not when it is for later.
    """
    if job.unique_key is not None:
        return f"{(job.unique_while or '')[0]}{job.unique_key}"
    return batch_name(job.batch.key) if job.batch is not None and job.status is Status.READY else None


def known_by(job: JobRecord, *, is_pending: bool) -> str | None:
    """What a job of whatever age is found by; one with a batch key only while others can be folded into it."""
    if job.unique_key is None and job.batch is not None:
        return batch_name(job.batch.key) if is_pending else None
    return key_of(job)


def is_finished(job: JobRecord) -> bool:
    """Whether a job does not hold its budgets back any more."""
    return STATUS[job.status] >= STATUS[Status.COMPLETED]


def unique_names(key: str) -> list[str]:
    """What jobs with a unique key are found by, whatever their scopes."""
    return [f"{scope.value[0]}{key}" for scope in Scope]


def batch_name(key: str) -> str:
    """What the job that waits under a batch key is found by."""
    return f"b{key}"


def _options(job: JobRecord) -> bytes | None:
    # Looked at one by one, which takes a third of the time of fetching them.
    if (
        job.retry_limit is None and job.backoff is None and job.retention is None and job.unique_key is None
        and job.unique_while is None and job.batch is None and job.budgets is None and job.timeout_ms is None
        and job.metadata is None
    ):  # fmt: skip
        return None
    return _encode(_of_options(job))


_SPECIAL: dict[str, Callable[[JobRecord], Any]] = {
    "status": lambda job: STATUS[job.status],
    "options": _options,
    "budgets": budget_keys,
    # Written where a job begins anew, and nowhere else: what happens to jobs does not depend on it.
    "deaths": lambda job: 0,
}


def to_job(row: Row, taken_at: int | None = None) -> JobRecord:
    """The job in a row of `WHOLE`, `LIGHT_ONLY` or `BARE`.

    Args:
        row: The row.
        taken_at: When it was taken, of one that is in flight and stored as ready: it is then what `decide.on_take`
            makes of it, in one step rather than two, since this runs for every job that is worked.
    """
    payload = row[12]
    job = JobRecord(
        id=row[0],
        queue=row[1],
        type=row[2],
        priority=row[3],
        status=NAMED[row[4]] if taken_at is None else _IN_FLIGHT,
        payload=msgspec.Raw(payload) if payload is not None else None,
        ready_at=row[5],
        attempts=row[6],
        dequeued_at=row[8] if taken_at is None else taken_at,
        failed_at=row[9],
        completed_at=row[10],
        purge_at=row[11],
    )
    return job if row[7] is None else msgspec.structs.replace(job, **_set_options(row[7]))


def draws_of(stored: bytes | None) -> tuple[Draw, ...] | None:
    """What a job draws, of its column `options`."""
    return None if stored is None else _set_options(stored).get("budgets")


@lru_cache(maxsize=1024)
def _set_options(stored: bytes) -> dict[str, Any]:
    """The options that a job sets; those of jobs that draw on the same budgets are mostly the same bytes."""
    options = _decode(stored)
    return {name: value for name in Options.__struct_fields__ if (value := getattr(options, name)) is not None}


def without_heavy_payloads(jobs: Iterable[JobRecord]) -> list[JobRecord]:
    """Jobs as they may wait in memory."""
    return [
        job if (payload := job.payload) is None or len(payload) <= LIGHT else job.with_(payload=None) for job in jobs
    ]


ERROR_COLUMNS = "job_id, attempt, message, error_type, backtrace, dequeued_at, failed_at"


def to_error_row(error: ErrorRecord) -> Row:
    """The columns of `ERROR_COLUMNS`, `job_id` left out."""
    return (
        error.attempt, error.message, error.error_type, error.backtrace, error.dequeued_at, error.failed_at
    )  # fmt: skip


def to_error(row: Row) -> ErrorRecord:
    """The error in a row of `ERROR_COLUMNS`, `job_id` left out."""
    return ErrorRecord(
        attempt=row[0], message=row[1], error_type=row[2], backtrace=row[3], dequeued_at=row[4], failed_at=row[5]
    )
