"""Parts of the lists that are shown; and the oldest job of each queue.

A list is one range of an index that is in its order, or a few that are merged. A place in it is found by counting
from the nearer end, in the index alone: cheap at both ends, and bounded by half of the list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zizq.engine.lists import JobList, Key, ListQuery, first_of, key_in
from zizq.engine.selection import EVERYTHING, Selection
from zizq.job import JobRecord, Status
from zizq.store.postgres import asking, pages
from zizq.store.postgres.asking import BARE, FLYING, LEASED, Question, Span
from zizq.store.postgres.database import Transaction
from zizq.store.views import Found, Window


async def oldest_ready(db: Transaction) -> dict[str, int]:
    """By queue: the `ready_at` of the ready job with the smallest identifier."""
    q = Question()
    kinds = pages.kinds(q, Selection(statuses=frozenset([Status.READY])))
    span = asking.span(asking.KIND, ("id",), (), "ASC")
    text = f"""
        SELECT DISTINCT ON (kinds.queue) kinds.queue, oldest.ready_at FROM ({kinds}) AS kinds CROSS JOIN LATERAL (
            SELECT id, ready_at FROM zizq.jobs WHERE {span.condition} AND id NOT IN ({FLYING})
            ORDER BY {span.order} LIMIT 1
        ) AS oldest ORDER BY kinds.queue, oldest.id"""  # noqa: S608 - constants
    return {row[0]: row[1] for row in await db.fetch(text, *q.values)}


async def held(db: Transaction, fence: int, ids: Sequence[str]) -> list[JobRecord]:
    """Those of some jobs that a server holds, those it has held longest first."""
    text = f"""
        SELECT job.* FROM (
            SELECT id FROM zizq.flight WHERE fence = $1 AND id = ANY($2) AND {LEASED} ORDER BY turn
        ) AS flying CROSS JOIN LATERAL (SELECT {BARE} FROM zizq.jobs WHERE jobs.id = flying.id OFFSET 0) AS job"""  # noqa: S608
    return [asking.to_true_job(row) for row in await db.fetch(text, fence, ids)]


async def window(db: Transaction, of: JobList, place: int | str, limit: int, now: int) -> Window | None:
    """A part of a list; None where the job that was named is not in it."""
    listed = Listed(db, of, now)
    if isinstance(place, str):
        key = await listed.key(place)
        if key is None:
            return None
        place = await listed.position(key) - limit // 2
    total = await listed.total()
    first = first_of(place, limit, total)
    return Window(await listed.jobs(await listed.at(first, min(limit, total), total)), first, total)


async def find(
    db: Transaction, of: JobList, query: ListQuery, beside: str | None, backward: bool, limit: int, now: int
) -> Found | None:
    """The next job of a list that a query lets through."""
    listed = Listed(db, of, now)
    start = None if beside is None else await listed.key(beside)
    if beside is not None and start is None:
        return None
    only = await listed.asked_for(query)
    found = None if only.is_empty else await Listed(db, of, now, only).beyond(start, backward)
    around = None if found is None else await window(db, of, found[1], limit, now)
    return Found(await listed.position(found), around) if found is not None and around is not None else None


_NEAR = 500
"""So many jobs are counted from either end before all are."""
Lanes = Sequence[tuple[str, str]]
"""The queue and the budgets of some lanes."""

_LANES = """
    WITH RECURSIVE lanes AS (
        SELECT lane.* FROM unnest($1::text[]) AS queues (queue) CROSS JOIN LATERAL (
            SELECT queue, budgets FROM zizq.jobs
            WHERE status = 1 AND (queue, budgets) {sign} (queues.queue, '') AND queue <= queues.queue
            ORDER BY queue, budgets LIMIT 1
        ) AS lane
        UNION ALL
        SELECT lane.* FROM lanes CROSS JOIN LATERAL (
            SELECT queue, budgets FROM zizq.jobs
            WHERE status = 1 AND (queue, budgets) > (lanes.queue, lanes.budgets) AND queue <= lanes.queue
            ORDER BY queue, budgets LIMIT 1
        ) AS lane
    ) SELECT queue, budgets FROM lanes"""
"""The lanes of some queues: a step in the index each, however many jobs it has."""


class Listed:
    """One of the lists of jobs.

    Args:
        db: A transaction that sees one instant.
        of: Which list.
        now: The wall clock.
        only: Which of its jobs, by queues and types.
    """

    def __init__(self, db: Transaction, of: JobList, now: int, only: Selection = EVERYTHING) -> None:
        self._db = db
        self._of = of
        self._now = now
        self._only = only

    async def total(self) -> int:
        """How many jobs it has."""
        return await pages.count(self._db, Selection(statuses=frozenset([self._of.status])), self._now)

    async def asked_for(self, query: ListQuery) -> Selection:
        """The queues and types that are looked for, of those that there are."""
        if query == ListQuery():
            return EVERYTHING
        q = Question()
        kinds = [
            row[:2]
            for row in await self._db.fetch(pages.kinds(q, Selection(statuses=frozenset([self._of.status]))), *q.values)
        ]
        wanted = [kind for kind in kinds if query.lets_in(*kind)]
        return Selection(queues=frozenset(kind[0] for kind in wanted), types=frozenset(kind[1] for kind in wanted))

    async def _lanes(self) -> Lanes:
        """The lanes of ready jobs that are merged."""
        if self._of is not JobList.READY:
            return ()
        q = Question()
        kinds = pages.kinds(q, self._only.with_(types=None, statuses=frozenset([Status.READY])))
        queues = {row[0] for row in await self._db.fetch(kinds, *q.values)}
        sign = ">" if self._only == EVERYTHING else ">="
        return [(row[0], row[1]) for row in await self._db.fetch(_LANES.format(sign=sign), sorted(queues))]

    async def key(self, job_id: str) -> Key | None:
        """Where a job stands; None where it is not in the list."""
        job = await pages.one(self._db, job_id, self._now)
        return key_in(self._of)(job) if job is not None and job.status is self._of.status else None

    async def position(self, key: Key) -> int:
        """How many jobs come before a place that one has."""
        before = await self._count(key, True, _NEAR)
        if before < _NEAR:
            return before
        behind = await self._count(key, False, _NEAR)
        return await self._count(key, True, None) if behind == _NEAR else await self.total() - behind - 1

    async def _count(self, start: Key, backward: bool, most: int | None) -> int:
        part = _Part(self._of, start, backward, count=most)
        text = f"SELECT count(*) FROM ({await self._text(part)}) AS part"  # noqa: S608 - constants
        return int(await self._db.fetchval(text, *part.values))

    async def at(self, first: int, count: int, total: int) -> list[str]:
        """The identifiers of so many jobs from a position on, which there are."""
        left = total - first - count
        if left < first:
            keys = await self._keys(_Part(self._of, backward=True, count=count, skipped=left))
            return [job_id for _, job_id in reversed(keys)]
        return [job_id for _, job_id in await self._keys(_Part(self._of, count=count, skipped=first))]

    async def beyond(self, start: Key | None, backward: bool) -> Key | None:
        """Where the next job stands beyond a place, or the first one."""
        keys = await self._keys(_Part(self._of, start, backward, count=1))
        return keys[0] if keys else None

    async def _keys(self, part: _Part) -> list[Key]:
        found = await self._db.fetch(await self._text(part), *part.values)
        return [(row[0], row[1]) for row in found]

    async def _text(self, part: _Part) -> str:
        return part.text(self._only, self._now, await self._lanes())

    async def jobs(self, ids: Sequence[str]) -> list[JobRecord]:
        """Some jobs, in this order."""
        found = await self._db.fetch(f"SELECT {BARE} FROM zizq.jobs WHERE id = ANY($1::text[])", ids)  # noqa: S608
        jobs = {row[0]: asking.to_true_job(row) for row in found}
        return [jobs[job_id] for job_id in ids]


class _Part(Question):
    """A part of a list, in its order or against it.

    Args:
        of: Which list.
        start: The key where it begins, which is left out; None for the head of the list, or for its end.
        backward: Whether it goes towards the head of the list.
        count: How many keys at most; None for all.
        skipped: How many to leave out before.
    """

    def __init__(
        self,
        of: JobList,
        start: Key | None = None,
        backward: bool = False,
        count: int | None = None,
        skipped: int = 0,
    ) -> None:
        super().__init__()
        self._of = of
        self._start = start
        self._way = "ASC" if backward == of.descends else "DESC"
        self._count = count
        self._skipped = skipped

    def text(self, only: Selection, now: int, lanes: Lanes) -> str:
        """A statement that gives the keys.

        Args:
            only: Of certain queues and types only.
            now: The wall clock.
            lanes: The lanes of ready jobs that are merged: all of those queues, or all that draw on budgets.
        """
        if self._of is JobList.DEAD:
            return self._merged(self._dead(only, now))
        named = asking.named(self, only)
        if self._of is JobList.SCHEDULED:
            return self._range("jobs", "ready_at", f"status = 0{named}") + self._end()
        if self._of is JobList.IN_FLIGHT:
            of_kind = f" AND EXISTS (SELECT FROM zizq.jobs WHERE jobs.id = flight.id{named})" if named else ""
            return self._range("flight", "dequeued_at", LEASED + of_kind) + self._end()
        if only != EVERYTHING:
            return self._merged(self._lanes(lanes, named))
        plain = self._range("jobs", "priority", f"status = 1 AND budgets = '' AND id NOT IN ({FLYING})")
        if not lanes:
            return plain + self._end()
        return self._merged(f"({plain}{self._limit()}) UNION ALL ({self._lanes(lanes, named)})")

    def _limit(self) -> str:
        """So much of each part that is merged: all that could be skipped or wanted."""
        return "" if self._count is None else f" LIMIT {self.put(self._count + self._skipped)}"

    def _end(self) -> str:
        return f" LIMIT {self.put(self._count)} OFFSET {self.put(self._skipped)}"

    def _span(self, fixed: Mapping[str, str], *key: str) -> Span:
        """A part of an index, the last columns of which are the key, or the identifier alone."""
        types = ("bigint", "text")[-len(key) :]
        values = () if self._start is None else self._start[-len(key) :]
        start = [f"{self.put(value)}::{of}" for value, of in zip(values, types, strict=bool(values))]
        return asking.span(fixed, key, start, self._way)

    def _range(self, table: str, number: str, where: str) -> str:
        span = self._span({}, number, "id")
        beyond = span.condition and f" AND {span.condition}"
        return f"SELECT {number}::bigint AS k, id FROM zizq.{table} WHERE {where}{beyond} ORDER BY {span.order}"  # noqa: S608

    def _merged(self, parts: str) -> str:
        return f"SELECT k, id FROM ({parts}) AS parts ORDER BY k {self._way}, id {self._way}" + self._end()  # noqa: S608

    def _lanes(self, lanes: Lanes, named: str) -> str:
        """Ready jobs, lane by lane."""
        queues, budgets = (self.put([lane[column] for lane in lanes]) for column in (0, 1))
        span = self._span({"queue": "lanes.queue", "budgets": "lanes.budgets"}, "priority", "id")
        return f"""
            SELECT part.* FROM unnest({queues}::text[], {budgets}::text[]) AS lanes (queue, budgets)
            CROSS JOIN LATERAL (
                SELECT priority::bigint AS k, id FROM zizq.jobs
                WHERE status = 1 AND id NOT IN ({FLYING}){named} AND {span.condition}
                ORDER BY {span.order}{self._limit()}
            ) AS part"""  # noqa: S608 - constants

    def _dead(self, only: Selection, now: int) -> str:
        """Dead jobs, kind by kind."""
        kinds = pages.kinds(self, only.with_(statuses=frozenset([Status.DEAD])))
        span = self._span(asking.KIND, "id")
        return f"""
            SELECT part.* FROM ({kinds}) AS kinds CROSS JOIN LATERAL (
                SELECT 0::bigint AS k, id FROM zizq.jobs
                WHERE {span.condition} AND (purge_at IS NULL OR purge_at > {self.put(now)})
                ORDER BY {span.order}{self._limit()}
            ) AS part"""  # noqa: S608 - constants
