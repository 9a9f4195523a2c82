"""What can be wrong with one row, for `check`: each flaw as its kind and a text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from zizq.budget import Budget, Draw
from zizq.cron import CronEntry, CronGroup
from zizq.engine import admit
from zizq.engine.cron.grammar import parse
from zizq.engine.purse import budget_keys
from zizq.engine.unique import Scope
from zizq.errors import BadRequest
from zizq.ids import is_id
from zizq.job import MAX_PRIORITY, TERMINAL, JobRecord, Status, check_name
from zizq.store import rows

Flaw = tuple[str, str]
"""Of which kind it is, and what is wrong."""

JOB_COLUMNS = f"{rows.WHOLE}, key, budgets"

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_STATUS, _PAYLOAD, _KEY, _BUDGETS = 4, 12, -2, -1
_payload = msgspec.msgpack.Decoder().decode
_entry = msgspec.msgpack.Decoder(CronEntry).decode
_group = msgspec.msgpack.Decoder(CronGroup).decode


def read_job(row: rows.Row) -> JobRecord | Flaw:
    """The job in a row of `JOB_COLUMNS`, or why there is none."""
    if row[_STATUS] not in range(len(rows.NAMED)):
        return "status", f"status is {row[_STATUS]}, which is none"
    try:
        return rows.to_job(row)
    except UNREADABLE as error:
        return "options", f"its options cannot be read: {error}"


def job_flaws(job: JobRecord, row: rows.Row, stored: Callable[[str], Any] = str) -> Iterator[Flaw]:
    """What is wrong with a job that could be read, looked at by itself.

    Args:
        job: The job.
        row: Its row of `JOB_COLUMNS`.
        stored: How a name of `rows.key_of` is stored.
    """
    if not is_id(job.id):
        yield "id", "its id is not 25 characters of [0-9a-z]"
    if flaw := _names_flaw(job):
        yield flaw
    if not 0 <= job.priority <= MAX_PRIORITY:
        yield "priority", f"priority is {job.priority}, not from 0 to {MAX_PRIORITY}"
    if (job.unique_key is None) != (job.unique_while is None) or job.unique_while not in {None, *Scope}:
        yield "scope", f"unique_while is {job.unique_while!r} beside the unique key {job.unique_key!r}"
    elif row[_KEY] not in (keys := [None if key is None else stored(key) for key in _keys(job)]):
        yield "key", f"key is {row[_KEY]!r}, and its options make it {keys[0]!r}"
    if row[_BUDGETS] != budget_keys(job):
        yield "budgets", f"budgets is {row[_BUDGETS]!r}, and its options make it {budget_keys(job)!r}"
    yield from _time_flaws(job)
    try:
        _payload(row[_PAYLOAD])
    except UNREADABLE as error:
        yield "payload", f"its payload cannot be read: {error}"


def _names_flaw(job: JobRecord) -> Flaw | None:
    try:
        admit.check(job.type, job.queue)
    except BadRequest as error:
        return "name", str(error)
    return None


def _keys(job: JobRecord) -> tuple[str | None, ...]:
    """What a job may be found by. One with a batch key is found by it only while it waits."""
    if job.batch is not None and job.unique_key is None:
        return rows.batch_name(job.batch.key), None
    return (rows.key_of(job),)


def _time_flaws(job: JobRecord) -> Iterator[Flaw]:
    if (job.purge_at is not None) != (job.status in TERMINAL):
        yield "purge_at", f"purge_at is {job.purge_at} though it is {job.status}"
    if (job.completed_at is not None) != (job.status is Status.COMPLETED):
        yield "completed_at", f"completed_at is {job.completed_at} though it is {job.status}"
    if job.failed_at is None and (job.attempts or job.status is Status.DEAD):
        yield "failed_at", f"failed_at is None though it is {job.status} after {job.attempts} attempts"
    if job.attempts < 0 or (job.status is Status.DEAD and not job.attempts):
        yield "attempts", f"attempts is {job.attempts} though it is {job.status}"


def draw_flaw(draw: Draw, finished: bool, noted: tuple[int, bool] | None) -> str:
    """That something else is noted of a draw of a job: a cost, and whether the job is finished."""
    told = "nothing" if noted is None else f"cost {noted[0]}, finished {int(noted[1])}"
    return f"its draw on {draw.key!r} is cost {draw.cost}, finished {int(finished)}, and {told} is noted"


def attempts_flaw(job: JobRecord, there: int, first: int, last: int) -> str:
    """That a job has other errors than one for each attempt."""
    return f"it has {job.attempts} attempts, and {there} errors of attempts {first} to {last}"


def capacity_flaw(budget: Budget | None, cost: int, who: str) -> str | None:
    """That a budget is missing, or too small for what draws on it; None where it is neither."""
    if budget is None:
        return f"it is not there, and {who} draw on it"
    return f"it holds at most {budget.capacity}, and {who} draw up to {cost}" if cost > budget.capacity else None


def group_flaw(stored: bytes, name: str) -> str | None:
    """What is wrong with a cron group that is found by a name, its entries left out; None where nothing is."""
    try:
        group = _group(stored)
    except UNREADABLE as error:
        return f"it cannot be read: {error}"
    if group.name != name or group.entries:
        return f"it calls itself {group.name!r} and has {len(group.entries)} entries within"
    return None


def pause_flaws(queue: Any, paused_at: Any) -> Iterator[str]:
    """What is wrong with a paused queue: a name that it can have, and when it was paused."""
    try:
        check_name("queue", queue if isinstance(queue, str) else "")
    except BadRequest as error:
        yield str(error)
    if not isinstance(paused_at, int) or paused_at < 0:
        yield f"it is paused since {paused_at!r}, which is no time"


def entry_flaws(stored: bytes, name: str, next_at: int | None, draws: dict[str, int]) -> Iterator[Flaw]:
    """What is wrong with a cron entry, beside what is noted of it in columns.

    Args:
        stored: The entry.
        name: The name that it is found by.
        next_at: When it is found to be due.
        draws: What its job is noted to draw, by budget.
    """
    try:
        entry = _entry(stored)
    except UNREADABLE as error:
        yield "entry", f"it cannot be read: {error}"
        return
    if entry.name != name:
        yield "entry", f"it calls itself {entry.name!r}"
    if entry.next_enqueue_at != next_at:
        yield "next_at", f"next_at is {next_at}, and in the entry {entry.next_enqueue_at}"
    drawn = {draw.key: draw.cost for draw in entry.job.budgets or ()}
    if drawn != draws:
        yield "cron_draws", f"its job draws {drawn}, and {draws} is noted"
    try:
        parse(entry.expression)
    except BadRequest as error:
        yield "expression", str(error)
