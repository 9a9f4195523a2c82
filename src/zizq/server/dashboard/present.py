"""What pages show, made of what is known: texts, steps of a job's life, changes that a form asks for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from zizq.engine.changes import Change, Delete, Patch, Retry
from zizq.engine.selection import Selection
from zizq.errors import BadRequest
from zizq.ids import created_at
from zizq.job import MAX_PRIORITY, ErrorRecord, JobRecord, Status, check_name
from zizq.policy import MAX_MILLIS, Backoff
from zizq.words import parse_duration

NOTHING = "—"
"""What is shown where there is no value."""
MOST_PAYLOAD = 64 * 1024
"""Characters of a payload that a page shows."""
LARGEST_PAYLOAD = 256 * 1024
"""Bytes of a stored payload that are read for a page: a few milliseconds."""
MOST_TRACEBACK = 16 * 1024
"""Characters of a traceback that a page shows; its end says most."""
_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"))


# ── texts ──


def count(number: float | None) -> str:
    """A count with its thousands set apart."""
    return NOTHING if number is None else f"{number:,.0f}"


def rate(per_s: float | None) -> str:
    """How many there are in a second: with a decimal where there are few."""
    if per_s is None:
        return NOTHING
    return f"{per_s:,.1f}" if 0 < per_s < 10 else f"{per_s:,.0f}"


def span(ms: float | None) -> str:
    """A time that something took or has lasted, in its two largest units: `1 h 30 min`, `2.5 s`, `0.4 ms`."""
    if ms is None:
        return NOTHING
    if ms < 10:
        return f"{ms:.1f} ms" if ms % 1 else f"{ms:.0f} ms"
    if ms < 1000:
        return f"{ms:.0f} ms"
    if ms < 60_000:
        return f"{ms / 1000:.3g} s"
    parts, rest = [], round(ms)
    for size, unit in _UNITS:
        number, rest = divmod(rest, size)
        if number:
            parts.append(f"{number} {unit}")
        elif parts:
            break
    return " ".join(parts[:2])


def size(number: int | None) -> str:
    """A size in bytes, in the decimal unit that suits it."""
    if number is None:
        return NOTHING
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return f"{number} B"


def instant(at: int | None) -> str:
    """An instant in Unix milliseconds, as the date and time of day in UTC."""
    if at is None:
        return NOTHING
    try:
        return f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError):
        return "the end of time"


def iso(at: int) -> str:
    """An instant as ISO 8601, for programs; "" where it is beyond what that can say."""
    try:
        return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError):
        return ""


def status(name: str) -> str:
    """A status in plain words."""
    return name.replace("_", " ")


def clip(text: str, most: int) -> str:
    """The beginning of a text that is too long."""
    return text if len(text) <= most else f"{text[:most]}…"


def clip_start(text: str, most: int) -> str:
    """The end of a text that is too long."""
    return text if len(text) <= most else f"…{text[-most:]}"


# ── payloads ──


class Text(NamedTuple):
    """A text to show, and what to say of what is left out of it; "" for nothing."""

    text: str
    note: str = ""


def payload(raw: msgspec.Raw | bytes | None, job_id: str) -> Text:
    """A stored payload as indented JSON, cut where it is too long to be shown."""
    if raw is None:
        return Text("null")
    stored = bytes(raw)
    read_all = f"zizq jobs get {job_id} shows all of it."
    if len(stored) > LARGEST_PAYLOAD:
        return Text("", f"It has {size(len(stored))}, which is too much for a page: {read_all}")
    text = msgspec.json.format(msgspec.json.encode(msgspec.msgpack.decode(stored)), indent=2).decode()
    if len(text) > MOST_PAYLOAD:
        return Text(text[:MOST_PAYLOAD], f"This is the beginning: {read_all}")
    return Text(text)


def excerpt(raw: msgspec.Raw | bytes | None, most: int = 120) -> str:
    """The beginning of a payload on one line; "" where it is long."""
    if raw is None or len(bytes(raw)) > 4096:
        return ""
    return clip(msgspec.json.encode(msgspec.msgpack.decode(bytes(raw))).decode(), most)


# ── the life of a job ──


class Step(NamedTuple):
    """Something in the life of a job.

    Args:
        kind: The status that it led to, or `failure`, for its colour.
        title: What happened.
        at: When, in Unix milliseconds.
        detail: More of it.
        attempt: The attempt that failed, if one did.
    """

    kind: str
    title: str
    at: int | None
    detail: str = ""
    attempt: int | None = None


def timeline(job: JobRecord, errors: Sequence[ErrorRecord], now: int) -> list[Step]:
    """The life of a job, from its enqueue to what is next.

    Args:
        job: The job, in its true status.
        errors: Its failures, the oldest first; those before may have been left out.
        now: The wall clock.
    """
    steps = [Step("enqueued", "Enqueued", created_at(job.id))]
    if errors and errors[0].attempt > 1:
        steps.append(Step("failure", f"{count(errors[0].attempt - 1)} earlier failures are not shown here", None))
    for error in errors:
        what = f"{error.error_type}: {error.message}" if error.error_type else error.message
        detail = f"ran for {span(error.failed_at - error.dequeued_at)}"
        title = f"Attempt {error.attempt} failed: {clip(what.partition(chr(10))[0], 200)}"
        steps.append(Step("failure", title, error.failed_at, detail, error.attempt))
    return [*steps, _now(job, now)]


def _now(job: JobRecord, now: int) -> Step:
    if job.status is Status.SCHEDULED:
        return Step("scheduled", "Is to run", job.ready_at)
    if job.status is Status.IN_FLIGHT:
        held = "" if job.dequeued_at is None else f"held for {span(max(0, now - job.dequeued_at))} so far"
        return Step("in_flight", "Taken by a worker", job.dequeued_at, held)
    if job.status is Status.COMPLETED:
        return Step("completed", "Completed", job.completed_at)
    if job.status is Status.DEAD:
        return Step("dead", "Dead: it is not tried again", job.failed_at)
    waits = max(0, now - job.ready_at)
    return Step("ready", "Ready", job.ready_at, f"waiting for {span(waits)}" if waits else "")


def facts(job: JobRecord) -> list[tuple[str, str, int | None]]:
    """What there is to say of a job: a name, and a text or an instant."""
    retention, draws = job.retention, ", ".join(f"{draw.cost} of {draw.key}" for draw in job.budgets or ())
    texts = {
        "Priority": str(job.priority),
        "Failures": count(job.attempts),
        "Retry limit": None if job.retry_limit is None else count(job.retry_limit),
        "Backoff": None if job.backoff is None else _backoff(job.backoff),
        "Time limit": None if job.timeout_ms is None else span(job.timeout_ms),
        "Unique key": None if job.unique_key is None else f"{job.unique_key} ({job.unique_while})",
        "Batch key": None if job.batch is None else job.batch.key,
        "Budgets": draws or None,
        "Kept when completed": None if retention is None else _kept(retention.completed_ms),
        "Kept when dead": None if retention is None else _kept(retention.dead_ms),
    }
    instants = {"Ready at": job.ready_at, "Last taken at": job.dequeued_at, "Deleted at": job.purge_at}
    texts |= {f"Metadata: {clip(key, 100)}": clip(value, 500) for key, value in (job.metadata or {}).items()}
    shown: list[tuple[str, str, int | None]] = [(name, text, None) for name, text in texts.items() if text is not None]
    return shown + [(name, "", at) for name, at in instants.items() if at is not None]


def _backoff(backoff: Backoff) -> str:
    return f"failures^{backoff.exponent:g} s + {span(backoff.base_ms)} + up to failures * {span(backoff.jitter_ms)}"


def _kept(ms: int | None) -> str | None:
    return None if ms is None else span(ms) if ms else "not at all"


def can_edit(status: Status) -> bool:
    """Whether the time of a job in a status can be changed to any good."""
    return Patch().suits(status) and status is not Status.IN_FLIGHT


# ── forms ──

DRAFTS: dict[str, Change] = {"retry": Retry(), "patch": Patch(), "delete": Delete()}
"""What can be done to all jobs that match; a patch changes nothing before a form says what."""


def suited(selection: Selection, change: Change) -> Selection:
    """The jobs of a selection that a change would be done to, so that they can be counted before."""
    statuses = frozenset(status for status in selection.statuses or Status if change.suits(status))
    return selection if statuses == frozenset(Status) else selection.with_(statuses=statuses)


def change(form: Mapping[str, str], now: int) -> tuple[Change, str]:
    """The change that a form asks for, and its verb.

    Args:
        form: `action`, and for a patch `queue`, `priority` and `ready_at`; what is empty stays as it is.
        now: The wall clock.

    Raises:
        BadRequest: When a value is malformed, or a patch changes nothing.
    """
    action = form.get("action", "")
    change = DRAFTS.get(action)
    if change is None:
        raise BadRequest(f"action {clip(action, 40)!r} is none of {', '.join(DRAFTS)}")
    return (patch(form, now) if action == "patch" else change), action


def patch(form: Mapping[str, str], now: int) -> Patch:
    """The patch that a form asks for.

    Raises:
        BadRequest: When a value is malformed, or it changes nothing.
    """
    given: dict[str, Any] = {}
    if queue := form.get("to_queue", "").strip():
        check_name("queue", queue)
        given["queue"] = queue
    if text := form.get("to_priority", "").strip():
        if not (text.isascii() and text.isdecimal() and len(text) < 9 and int(text) <= MAX_PRIORITY):
            raise BadRequest(f"priority {text!r} is not a whole number up to {MAX_PRIORITY}")
        given["priority"] = int(text)
    if text := form.get("to_ready_at", "").strip():
        given["ready_at"] = when(text, now)
    if not given:
        raise BadRequest("nothing is to be changed: give a queue, a priority or a time")
    return Patch(**given)


def when(text: str, now: int) -> int | None:
    """The instant that somebody means: `now`, a time from now such as `10m`, or a date; None for now.

    Raises:
        BadRequest: When it is none of these.
    """
    if text == "now":
        return None
    try:
        return min(now + parse_duration(text.removeprefix("in ")), MAX_MILLIS)
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise BadRequest(
            f"time {clip(text, 40)!r} is none: write now, a time from now such as 10m or 2h, or 2030-01-31T08:00Z"
        ) from None
    zoned = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max(0, min(round(zoned.timestamp() * 1000), MAX_MILLIS))


# ── what was done ──

_DONE = {
    "delete": "{n} deleted.",
    "retry": "{n} brought back to ready.",
    "patch": "{n} changed.",
    "paused": "Paused: its jobs wait from now on.",
    "resumed": "Resumed: its jobs go on.",
}


def done(what: str, number: str) -> str:
    """The sentence on what an action came to; "" for what is no action.

    The address of a page says what was done, so the words are ours alone and cannot be put there by others.
    """
    if what not in _DONE or not (number.isascii() and number.isdecimal() and len(number) < 16):
        return ""
    jobs = "1 job was" if int(number) == 1 else f"{int(number):,} jobs were"
    return _DONE[what].format(n=jobs)
