"""How jobs look: to people as text, to programs as JSON; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from zizq import words
from zizq.cli.table import Column
from zizq.client.job import Job, JobError
from zizq.wire.codec import read_payload
from zizq.words import away, instant, printable

JOB_COLUMNS = (
    Column("ID"),
    Column("STATUS"),
    Column("QUEUE", may_be_cut=True),
    Column("TYPE", may_be_cut=True),
    Column("PRIORITY", is_number=True),
    Column("ATTEMPTS", is_number=True),
    Column("WHEN"),
)
_SINCE = {"in_flight": "dequeued_at_ms", "completed": "completed_at_ms", "dead": "failed_at_ms"}
"""Which of its instants a status began with, where that is not `ready_at`."""


def count_of(number: int, noun: str = "job") -> str:
    """A count of things: `1 job`, `1,234 jobs`."""
    return f"{words.count(number)} {noun}{'' if number == 1 else 's'}"


# ── for programs ─────────────────────────────────────────────────────────────────────────────────────


def as_json(value: object) -> str:
    """A value as a line of JSON."""
    return msgspec.json.encode(value).decode()


def record(job: Job) -> dict[str, Any]:
    """A job as the server sent it, with the fields that this version does not know."""
    fields: dict[str, Any] = read_payload(job.frame, job.format)
    return fields


def error_record(error: JobError) -> dict[str, Any]:
    """An error of a job as the server sent it."""
    return {name: value for name, value in plain(error).items() if value is not None}


def plain(value: msgspec.Struct) -> dict[str, Any]:
    """What the server sent, but for fields that this version does not know."""
    fields: dict[str, Any] = msgspec.to_builtins(value)
    return fields


# ── for people ───────────────────────────────────────────────────────────────────────────────────────


def job_row(job: Job, now: int) -> list[str]:
    """A job as a row of `JOB_COLUMNS`.

    Args:
        job: The job.
        now: The wall clock, in Unix milliseconds.
    """
    texts = (job.id, job.status, job.queue, job.type, str(job.priority), str(job.attempts), when(job, now))
    return [printable(text) for text in texts]


def when(job: Job, now: int) -> str:
    """When a scheduled job is due, and since when any other is what it is: `in 5m`, `3h ago`."""
    at = getattr(job, _SINCE.get(job.status, "ready_at_ms"))
    return away(job.ready_at_ms if at is None else at, now)


def description(job: Job, errors: Iterable[JobError], now: int) -> Iterator[str]:
    """Everything there is to know of a job, as lines.

    Args:
        job: The job, with its payload.
        errors: Its errors, the oldest first.
        now: The wall clock, in Unix milliseconds.
    """
    fields = record(job)
    payload = fields.pop("payload", None)
    yield from lines_of(fields, now)
    yield "payload"
    yield from indented(pretty(payload))
    for error in errors:
        kind = f"{error.error_type}: " if error.error_type else ""
        yield printable(f"attempt {error.attempt} failed {instant(error.failed_at_ms, now)}: {kind}{error.message}")
        yield from indented(error.backtrace or "")


def lines_of(fields: dict[str, Any], now: int) -> Iterator[str]:
    """Fields as lines: the name, then the value; instants are told in local time.

    Args:
        fields: Values by their names, those of instants ending in `_at`.
        now: The wall clock, in Unix milliseconds.
    """
    width = max(map(len, fields))
    for name, value in fields.items():
        yield f"{name.ljust(width)}  {printable(_value(name, value, now))}"


def _value(name: str, value: Any, now: int) -> str:
    if name.endswith("_at") and isinstance(value, int):
        return instant(value, now)
    return value if isinstance(value, str) else as_json(value)


def pretty(value: object) -> str:
    """A value as JSON over several lines."""
    return msgspec.json.format(as_json(value), indent=2)


def indented(text: str) -> list[str]:
    """The lines of a text, set in from the left."""
    return [f"  {line}" for line in printable(text, "\n\t").splitlines()]
