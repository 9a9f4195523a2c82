"""Lists and counts, answered from one instant.

What is stored is read from a connection that sees one commit; what is in flight was copied from memory at the moment
of that very commit. So a job that is stored as ready is in flight exactly if the copy has it.

A list is a merge of ranges of the index `place`, one for each queue, type and stored status that the selection lets
in and the tally says there is: each range is in the order of identifiers, and is read only as far as the page goes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from heapq import merge
from itertools import chain, groupby, islice
from operator import itemgetter
from typing import Any, NamedTuple

import apsw

from zizq.engine.selection import Selection
from zizq.job import ErrorRecord, JobRecord, Status
from zizq.store import rows
from zizq.store.base import PAGE_BYTES, Order, Page
from zizq.store.sqlite import sql
from zizq.store.sqlite.change_statements import Kind, decode_change, unless_pending

_READY = rows.STATUS[Status.READY]
_RANGES = ("priority", "ready_at", "attempts")
_MAX = 2**63 - 1


class Instant(NamedTuple):
    """The store at one instant.

    Args:
        db: A connection whose transaction sees one commit.
        flying: The jobs in flight at that commit.
        leaving: Jobs that are deleted and still stored, by kind; None where there are none.
        now: The wall clock.
    """

    db: apsw.Connection
    flying: Mapping[str, JobRecord]
    leaving: Counter[Kind] | None
    now: int


class Source(NamedTuple):
    """A part of the stored jobs that can be read in the order of identifiers: from where, and a condition."""

    table: str
    condition: str
    values: tuple[Any, ...]


def one(db: apsw.Connection, job_id: str) -> JobRecord | None:
    """A stored job with its payload; as a change leaves it that has happened and has not reached its row."""
    text = f"""SELECT {rows.WHOLE}, change, now FROM jobs
               LEFT JOIN bulk ON EXISTS (SELECT 1 FROM pending WHERE pending.id = jobs.id)
               WHERE id = ?"""  # noqa: S608 - a constant
    row = db.execute(text, (job_id,)).fetchone()
    if row is None:
        return None
    *_, change, now = row
    job = rows.to_job(row)
    pending = None if change is None else decode_change(change)
    # Whatever ended between its noting and the change stays as it is.
    return job if pending is None or not pending.suits(job.status) else pending.apply(job, now)


def errors(db: apsw.Connection, job_id: str, after: int | None, order: Order, limit: int) -> list[ErrorRecord]:
    """Failures of a job by attempt."""
    sign, start = (">", 0) if order == "asc" else ("<", 2**62)
    text = f"""SELECT attempt, message, error_type, backtrace, dequeued_at, failed_at FROM errors
               WHERE job_id = ? AND attempt {sign} ? ORDER BY attempt {order} LIMIT ?"""  # noqa: S608 - constants
    return [rows.to_error(row) for row in db.execute(text, (job_id, start if after is None else after, limit))]


def page(at: Instant, selection: Selection, after: str | None, order: Order, limit: int) -> Page:
    """The first jobs of a selection by identifier, with payloads."""
    jobs: list[JobRecord] = []
    size = 0
    for job in _jobs(at, selection, after, order, rows.WHOLE):
        size += len(job.payload or b"")
        if len(jobs) == limit or (jobs and size > PAGE_BYTES):
            return Page(jobs, more=True)
        jobs.append(job)
    return Page(jobs, more=False)


def ids(at: Instant, selection: Selection, after: str | None, limit: int) -> list[str]:
    """The first identifiers of a selection, ascending; there may be some too many, of jobs that are in flight."""
    return [row[0] for row in islice(_rows(at, selection, after, "asc", "id"), limit)]


def count(at: Instant, selection: Selection) -> int:
    """How many jobs a selection has."""
    if selection.is_tallied:
        return _counted(at, selection)
    if selection.ids is not None or selection.budgets is not None:
        return sum(1 for _ in _jobs(at, selection, None, "asc", rows.BARE))
    total = sum(_count(at, selection, source) for source in _sources(at, selection, None, "asc"))
    wanted = selection.statuses
    if wanted is not None and Status.READY in wanted and Status.IN_FLIGHT not in wanted:
        total -= len(_flying(at, selection))
    return total


def tally(at: Instant) -> Counter[Kind]:
    """How many jobs there are of each queue, type and stored status, expired ones left out."""
    counts = Counter({(queue, kind, status): n for queue, kind, status, n in at.db.execute("SELECT * FROM tally")})
    expired = f"""SELECT queue, type, status, count(*) FROM jobs INDEXED BY purge
                  WHERE purge_at <= ? {unless_pending(at.leaving is not None)} GROUP BY 1, 2, 3"""  # noqa: S608
    counts.subtract({(queue, kind, status): n for queue, kind, status, n in at.db.execute(expired, (at.now,))})
    if at.leaving is not None:
        counts.subtract(at.leaving)
    return +counts


def _counted(at: Instant, selection: Selection) -> int:
    """The answer to a question that the tally can answer."""
    counts = tally(at)
    flying = Counter((job.queue, job.type) for job in at.flying.values())
    total = 0
    for (queue, kind, status), jobs in counts.items():
        if _lets_in(selection.queues, queue) and _lets_in(selection.types, kind):
            for name, n in true_statuses(status, jobs, flying[queue, kind]):
                total += n if _lets_in(selection.statuses, name) else 0
    return total


def true_statuses(status: int, jobs: int, flying: int) -> Iterable[tuple[Status, int]]:
    """Jobs of one stored status, by the statuses that they truly have."""
    if status == _READY:
        return ((Status.READY, jobs - flying), (Status.IN_FLIGHT, flying))
    return ((rows.NAMED[status], jobs),)


def _count(at: Instant, selection: Selection, source: Source) -> int:
    conditions, values = _conditions(at, selection)
    text = f"SELECT count(*) FROM {source.table} WHERE {source.condition} {conditions}"  # noqa: S608 - constants
    found: int = at.db.execute(text, (*source.values, *values)).get
    return found


def _jobs(at: Instant, selection: Selection, after: str | None, order: Order, columns: str) -> Iterator[JobRecord]:
    """The jobs of a selection in order, as they truly are."""
    for row in _rows(at, selection, after, order, columns):
        job = rows.to_job(row)
        held = at.flying.get(job.id)
        if held is not None:
            job = held.with_(payload=job.payload)
        if job in selection:
            yield job


def _rows(at: Instant, selection: Selection, after: str | None, order: Order, columns: str) -> Iterator[rows.Row]:
    """The stored rows of a selection in order; there may be some too many, of jobs named by identifier or in flight."""
    conditions, values = _conditions(at, selection)

    def read(source: Source) -> Iterator[rows.Row]:
        text = f"SELECT {columns} FROM {source.table} WHERE {source.condition} {conditions} ORDER BY id {order}"  # noqa: S608
        yield from at.db.execute(text, (*source.values, *values))

    sources = _sources(at, selection, after, order)
    if selection.ids is not None:
        # One after the other: each has the identifiers that follow those of the one before.
        return chain.from_iterable(map(read, sources))
    merged = merge(*map(read, sources), key=itemgetter(0), reverse=order == "desc")
    # A job that draws on several of the budgets is met as often.
    return merged if selection.budgets is None else (next(same) for _, same in groupby(merged, key=itemgetter(0)))


def _sources(at: Instant, selection: Selection, after: str | None, order: Order) -> Iterator[Source]:
    """Where the jobs of a selection are."""
    beyond = "" if after is None else f" AND id {'>' if order == 'asc' else '<'} ?"
    start = () if after is None else (after,)
    if selection.ids is not None:
        yield from _by_id(selection.ids, after, order)
    elif selection.budgets is not None:
        for key in selection.budgets:
            # In this order of the two tables the rows come by identifier.
            yield Source("draws CROSS JOIN jobs USING (id)", f"budget = ?{beyond}", (key, *start))
    elif selection.queues is None and selection.types is None and selection.statuses is None:
        yield Source("jobs", f"true{beyond}", start)
    else:
        for kind in _kinds(at, selection):
            yield Source("jobs INDEXED BY place", f"queue = ? AND type = ? AND status = ?{beyond}", (*kind, *start))
        wanted = selection.statuses
        if wanted is not None and Status.IN_FLIGHT in wanted and Status.READY not in wanted:
            yield from _by_id(_flying(at, selection), after, order)


def _by_id(ids: Iterable[str], after: str | None, order: Order) -> Iterator[Source]:
    if after is not None:
        ids = [job_id for job_id in ids if (job_id > after if order == "asc" else job_id < after)]
    # A page reads as far as it goes: of 10,000 in one array, all would be sorted for each page, 1.8 ms instead of 0.2.
    for some in sql.chunks(sorted(ids, reverse=order == "desc")):
        yield Source("jobs", f"id IN {sql.AMONG}", (sql.array(some),))


def _flying(at: Instant, selection: Selection) -> list[str]:
    """The jobs in flight that meet all but the status of a selection."""
    return [job.id for job in at.flying.values() if job in selection.with_(statuses=None)]


def _kinds(at: Instant, selection: Selection) -> Iterator[Kind]:
    """The kinds of stored jobs that there are, of those that a selection lets in; jobs in flight alone are no kind."""
    wanted = selection.statuses
    stored = None if wanted is None else {rows.STATUS[status] for status in wanted if status is not Status.IN_FLIGHT}
    kinds: list[Any] = at.db.execute("SELECT queue, type, status FROM tally WHERE jobs > 0").fetchall()
    for queue, kind, status in kinds:
        if _lets_in(selection.queues, queue) and _lets_in(selection.types, kind) and _lets_in(stored, status):
            yield queue, kind, status


def _lets_in(wanted: Container[Any] | None, value: Any) -> bool:
    return wanted is None or value in wanted


def _conditions(at: Instant, selection: Selection) -> tuple[str, tuple[int, ...]]:
    """What must hold for each row: it is still there, and in the ranges."""
    text, values = "AND (purge_at IS NULL OR purge_at > ?)", [at.now]
    for name in _RANGES:
        bounds = getattr(selection, name)
        if bounds is not None:
            text += f" AND {name} BETWEEN ? AND ?"
            values += (min(bounds.low, _MAX), min(bounds.high, _MAX))
    return text + unless_pending(at.leaving is not None), tuple(values)
