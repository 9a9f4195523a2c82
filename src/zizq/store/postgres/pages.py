"""Lists and counts, each one statement, so that all of it is from one instant.

A list is a merge of ranges of the index `place`, one for each queue, type and stored status that the selection lets
in and the tally says there is: each range is in the order of identifiers, and no more of it is read than the page can
have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from zizq.engine.selection import Selection
from zizq.job import JobRecord, Status
from zizq.store import rows
from zizq.store.base import PAGE_BYTES, Order, Page
from zizq.store.postgres import asking
from zizq.store.postgres.asking import FLYING, WHOLE, Question
from zizq.store.postgres.database import Transaction
from zizq.store.views import Tallied

_NAMED = (*rows.NAMED, Status.IN_FLIGHT)
_NUMBERS = {status: number for number, status in enumerate(_NAMED)}
"""How statuses are numbered where jobs in flight, which are stored as ready, are counted apart."""
_IN_FLIGHT = _NUMBERS[Status.IN_FLIGHT]
_FLYING_KINDS = f"""
    SELECT kind.queue, kind.type FROM ({FLYING}) AS flying
    CROSS JOIN LATERAL (SELECT queue, type FROM zizq.jobs WHERE jobs.id = flying.id OFFSET 0) AS kind"""  # noqa: S608


async def page(db: Transaction, selection: Selection, after: str | None, order: Order, limit: int, now: int) -> Page:
    """The first jobs of a selection by identifier, with payloads."""
    if selection.is_empty:
        return Page([], more=False)
    q = Question()
    most = q.put(limit + 1)
    sources = " UNION ALL ".join(f"({source})" for source in _sources(q, selection, after, order, now, most))
    # One row more than the page can have is looked for, and its payload not read.
    text = f"""
        SELECT * FROM (
            SELECT *, row_number() OVER w AS number, sum(octet_length(payload)) OVER w AS size,
                   count(*) OVER () AS found
            FROM (SELECT * FROM ({sources}) AS part ORDER BY id {order} LIMIT {most}) AS first
            WINDOW w AS (ORDER BY id {order} ROWS UNBOUNDED PRECEDING)
        ) AS measured WHERE number < {most} AND (number = 1 OR size <= {PAGE_BYTES}) ORDER BY number"""  # noqa: S608
    found = await db.fetch(text, *q.values)
    jobs = [asking.to_true_job(row) for row in found]
    return Page(jobs, bool(found) and found[0]["found"] > len(jobs))


async def count(db: Transaction, selection: Selection, now: int) -> int:
    """How many jobs a selection has."""
    q = Question()
    if not selection.is_tallied:
        text = f"SELECT count(*) FROM zizq.jobs WHERE {asking.conditions(q, selection, now)}"  # noqa: S608
        return int(await db.fetchval(text, *q.values))
    entries = _entries(q, now, asking.tells_flying(selection.statuses) and _flying(selection))
    where = asking.named(q, selection)
    if selection.statuses is not None:
        numbers = [_NUMBERS[status] for status in selection.statuses if asking.tells_flying(selection.statuses)]
        where += f" AND status = ANY({q.put(numbers or asking.stored(selection.statuses))}::integer[])"
    text = f"SELECT coalesce(sum(jobs), 0)::bigint FROM ({entries}) AS entries WHERE true{where}"  # noqa: S608
    return int(await db.fetchval(text, *q.values))


async def tally(db: Transaction, now: int) -> dict[Tallied, int]:
    """How many jobs there are of each queue, type and status."""
    q = Question()
    text = f"""SELECT queue, type, status, sum(jobs)::bigint FROM ({_entries(q, now, _FLYING_KINDS)}) AS entries
               GROUP BY queue, type, status HAVING sum(jobs) > 0"""  # noqa: S608 - constants
    counted = await db.fetch(text, *q.values)
    return {Tallied(queue, kind, _NAMED[status]): jobs for queue, kind, status, jobs in counted}


async def queues(db: Transaction, now: int) -> list[str]:
    """The queues that hold a job, sorted by their UTF-8 bytes."""
    q = Question()
    text = f"""SELECT queue FROM ({_entries(q, now)}) AS entries
               GROUP BY queue HAVING sum(jobs) > 0 ORDER BY queue"""  # noqa: S608 - constants
    return [row[0] for row in await db.fetch(text, *q.values)]


async def one(db: Transaction, job_id: str, now: int) -> JobRecord | None:
    """A job with its payload."""
    q = Question()
    where = asking.conditions(q, Selection(ids=frozenset([job_id])), now)
    row = await db.fetchrow(f"SELECT {WHOLE} FROM zizq.jobs WHERE {where}", *q.values)  # noqa: S608 - constants
    return None if row is None else asking.to_true_job(row)


def kinds(q: Question, selection: Selection) -> str:
    """The queues, types and stored statuses of which there are jobs, of those that a selection lets in."""
    text = asking.named(q, selection)
    if selection.statuses is not None:
        text += f" AND status = ANY({q.put(asking.stored(selection.statuses))}::smallint[])"
    return f"""SELECT queue, type, status FROM zizq.tally WHERE true {text}
               GROUP BY queue, type, status HAVING sum(jobs) > 0"""  # noqa: S608 - constants


def _entries(q: Question, now: int, flying: str | bool = False) -> str:
    """Counts that add up to how many jobs there are, by queue, type and status; those in flight apart where given."""
    parts = [
        "SELECT queue, type, status, jobs FROM zizq.tally",
        f"""SELECT queue, type, status, -count(*) FROM zizq.jobs WHERE purge_at <= {q.put(now)}
            GROUP BY queue, type, status""",  # noqa: S608 - constants
    ]
    if flying:
        parts.append(
            f"""SELECT queue, type, moved.status, moved.times * count(*)
                FROM ({flying}) AS flying, (VALUES (1, -1), ({_IN_FLIGHT}, 1)) AS moved (status, times)
                GROUP BY queue, type, moved.status, moved.times"""  # noqa: S608 - constants
        )
    return " UNION ALL ".join(parts)


def _flying(selection: Selection) -> str:
    """The queues and types of the jobs in flight; nameless where nobody asks, so that no job is looked at."""
    is_named = selection.queues is not None or selection.types is not None
    return _FLYING_KINDS if is_named else f"SELECT '' AS queue, '' AS type FROM ({FLYING}) AS flying"  # noqa: S608


def _sources(q: Question, selection: Selection, after: str | None, order: Order, now: int, most: str) -> Iterator[str]:
    """Where the jobs of a selection are: statements that give the first of each part."""
    start = [] if after is None else [f"{q.put(asking.beyond(after))}::text"]
    statuses = selection.statuses
    if selection.ids is None and selection.budgets is not None:
        yield _drawing(q, selection.budgets, start, order, asking.conditions(q, selection, now), most)
    elif selection.ids is not None or (selection.queues is None and selection.types is None and statuses is None):
        beyond = asking.span({}, ("id",), start, order)
        where = " AND ".join(filter(None, (beyond.condition, asking.conditions(q, selection, now))))
        yield f"SELECT {WHOLE} FROM zizq.jobs WHERE {where} ORDER BY {beyond.order} LIMIT {most}"  # noqa: S608
    else:
        if statuses is not None and asking.tells_flying(statuses) and Status.IN_FLIGHT in statuses:
            statuses -= {Status.IN_FLIGHT}
            where = asking.conditions(q, selection.with_(statuses=None), now)
            yield _in_flight(start, order, where, most)
        if statuses is None or statuses:
            where = asking.conditions(q, selection.with_(queues=None, types=None, statuses=None), now)
            if asking.tells_flying(statuses):
                where += f" AND id NOT IN ({FLYING})"
            yield _by_kind(kinds(q, selection.with_(statuses=statuses)), start, order, where, most)


def _in_flight(start: Sequence[str], order: Order, where: str, most: str) -> str:
    """The first jobs in flight."""
    span = asking.span({}, ("id",), start, order)
    flying = f"{FLYING} AND {span.condition}" if span.condition else FLYING
    return f"""
        SELECT part.* FROM ({flying} ORDER BY {span.order} OFFSET 0) AS flying
        CROSS JOIN LATERAL (SELECT {WHOLE} FROM zizq.jobs WHERE jobs.id = flying.id AND {where} OFFSET 0) AS part
        LIMIT {most}"""  # noqa: S608 - constants


def _by_kind(kinds: str, start: Sequence[str], order: Order, where: str, most: str) -> str:
    """The first jobs of each kind."""
    span = asking.span(asking.KIND, ("id",), start, order)
    return f"""
        SELECT part.* FROM ({kinds}) AS kinds CROSS JOIN LATERAL (
            SELECT {WHOLE} FROM zizq.jobs WHERE {span.condition} AND {where} ORDER BY {span.order} LIMIT {most}
        ) AS part"""  # noqa: S608 - constants


def _drawing(q: Question, budgets: frozenset[str], start: Sequence[str], order: Order, where: str, most: str) -> str:
    """The first jobs that draw on each budget; one that draws on several comes once."""
    span = asking.span({"drawn.budget": "keys.budget"}, ("drawn.id",), start, order)
    return f"""
        SELECT DISTINCT ON (id) part.* FROM unnest({q.texts(budgets)}) AS keys (budget)
        CROSS JOIN LATERAL (
            SELECT jobs.* FROM zizq.draws AS drawn CROSS JOIN LATERAL (
                SELECT {WHOLE} FROM zizq.jobs WHERE jobs.id = drawn.id AND {where} OFFSET 0
            ) AS jobs
            WHERE {span.condition} ORDER BY {span.order} LIMIT {most}
        ) AS part"""  # noqa: S608 - constants
