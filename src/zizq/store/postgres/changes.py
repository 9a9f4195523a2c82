"""Deletes, patches, retries and rebinds: one transaction, however many jobs they reach.

A change of many takes its time, and what is locked is waited for. So it goes first over the jobs that nobody holds,
some at a time, and passes over those that somebody else is just about; takes pass over those that it has locked. Only
at its end come the jobs in flight, and what was passed over: then whoever settles one waits, and not for long.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import UNSET

from zizq.engine import decide
from zizq.engine.changes import Change, Delete, Patch, Rebind, Retry
from zizq.engine.selection import Selection
from zizq.job import JobRecord, Status
from zizq.store import rows
from zizq.store.base import Changed
from zizq.store.postgres import asking, budget_rows, flight, pages
from zizq.store.postgres.asking import FLYING, LEASED, Question
from zizq.store.postgres.database import Transaction
from zizq.store.postgres.lanes import drawn_by
from zizq.store.postgres.parts import Arrived, Parts

FEW = 1000
"""Jobs that are changed in one statement; and up to so many are told of one by one."""
NO_LIMIT_S = 86_400.0
"""How long a statement may take here: as long as it needs."""
CHANGING = 0x7A697A63
"""The advisory lock of changes that may meet: two that each hold jobs which the other wants would never end."""


class Moved(NamedTuple):
    """A job before a change, as it truly was, and after it; None where it is gone."""

    before: JobRecord
    after: JobRecord | None


class ChangeCalls(Parts):
    """The calls that change jobs which are there."""

    async def change(self, selection: Selection, change: Change, now: int) -> Changed:
        """Delete, patch, retry or rebind jobs."""
        if selection.is_empty and not isinstance(change, Rebind):
            # What jobs are to draw must be there even where there is no job.
            return Changed(0)
        return await self._whole(self._change(selection, change, now))

    async def _change(self, selection: Selection, change: Change, now: int) -> Changed:
        async def once() -> Changing:
            async with self._db.writing(durable=self._durable) as db:
                changing = Changing(db, self._fence, selection, change, now)
                await changing.run()
                return changing

        changing = await self._db.again(once)
        self._changed(changing)
        job = changing.moved[0].after if changing.names_one and changing.moved else None
        return Changed(changing.count, job and job.with_(payload=None))

    def _changed(self, changing: Changing) -> None:
        """A change is committed."""
        self._left(changing.left)
        self._arrived(changing.arrived)
        self._stirred(changing.stirred)
        if changing.overdue is not None:
            self._listener.overdue(changing.overdue)
        if changing.count:
            self._listener.moved(changing.change.cause, changing.told())
            self._news.moved(changing.change.cause)


class Changing:
    """A change under way, in its transaction; and when that is committed, what came of it.

    Args:
        db: The transaction.
        fence: The number under which this server holds jobs.
        selection: The jobs.
        change: What to do to them.
        now: The wall clock.
    """

    def __init__(self, db: Transaction, fence: int, selection: Selection, change: Change, now: int) -> None:
        self._db = db
        self._fence = fence
        wanted = frozenset(Status) if selection.statuses is None else selection.statuses
        suited = frozenset(status for status in wanted if change.suits(status))
        self._selection = selection if suited == frozenset(Status) else selection.with_(statuses=suited)
        self._now = now
        self.change = change
        self.names_one = selection.ids is not None and len(selection.ids) == 1
        self.count = 0
        """How many jobs were changed."""
        self.moved: list[Moved] = []
        """The first of them."""
        self.arrived = Arrived()
        self.left: list[tuple[str, int]] = []
        """Jobs that are not in flight any more, and under which fences they were held."""
        self.stirred: set[str] = set()
        """Budgets in whose lines somebody stood that does not any more, or has come, or is another."""
        self.overdue: int | None = None
        """When the first is overdue of those in flight whose time limit was changed."""

    def told(self) -> list[JobRecord] | None:
        """The jobs that moved, as they are told of; None for many."""
        if self.count > FEW:
            return None
        after = [one.after for one in self.moved if one.after is not None]
        return after or [one.before for one in self.moved]

    async def run(self) -> None:
        """Change all jobs of the selection that the change suits."""
        await self._db.execute(_PLANNED)
        if not self.names_one:
            await self._db.execute("SELECT pg_advisory_xact_lock($1)", CHANGING, timeout=NO_LIMIT_S)
        if isinstance(self.change, Rebind):
            await budget_rows.check_draws(self._db, self.change.draws)
        if (self._selection.ids is None or len(self._selection.ids) > FEW) and self._writes:
            await self._change_free()
        await self._lock_flight()
        for part in self._parts():
            await self._walk(part, {}, "true", "FOR UPDATE")
        if self.stirred:
            await budget_rows.stir(self._db, self.stirred)

    @property
    def _writes(self) -> bool:
        """Whether rows show that they were changed, and so are not met twice."""
        return isinstance(self.change, Delete) or bool(rows.changed_columns(self.change))

    async def _change_free(self) -> None:
        """Change what nobody holds: kind by kind, or those that are named."""
        free = (f"id NOT IN ({FLYING})", "FOR UPDATE SKIP LOCKED")
        if self._selection.ids is not None or self._selection.budgets is not None:
            for part in self._parts():
                await self._walk(part, {}, *free)
            return
        q = Question()
        # What comes to another kind meanwhile is found in the end.
        kinds = await self._db.fetch(pages.kinds(q, self._selection), *q.values, timeout=NO_LIMIT_S)
        await self._db.execute("SET LOCAL enable_sort = off; SET LOCAL enable_incremental_sort = off")
        others = self._selection.with_(queues=None, types=None, statuses=None)
        for queue, kind, status in kinds:
            await self._walk(others, {"queue": queue, "type": kind, "status": status}, *free)
        await self._db.execute("SET LOCAL enable_sort = on; SET LOCAL enable_incremental_sort = on")

    def _parts(self) -> Iterator[Selection]:
        """The selection, with so few identifiers at a time that they can be handed over with each question."""
        if self._selection.ids is None:
            yield self._selection
            return
        ids = sorted(self._selection.ids)
        for start in range(0, len(ids), FEW):
            yield self._selection.with_(ids=frozenset(ids[start : start + FEW]))

    async def _walk(self, selection: Selection, kind: Mapping[str, str | int], condition: str, lock: str) -> None:
        """Change jobs some at a time, in the order of their identifiers, each part locked before it is judged.

        Args:
            selection: Which jobs; they are asked again when they are locked.
            kind: Their queue, type and stored status; nothing where they are of any.
            condition: What must hold besides.
            lock: How their rows are locked.
        """
        after: str | None = ""
        while after is not None:
            q = Question()
            fixed = {column: f"{q.put(value)}::{_TYPES[column]}" for column, value in kind.items()}
            span = asking.span(fixed, ("id",), [f"{q.put(after)}::text"], "ASC")
            where = (
                f"{span.condition} AND {asking.conditions(q, selection, self._now)} AND {condition} AND {_UNTOUCHED}"
            )
            text = f"SELECT {rows.BARE} FROM zizq.jobs WHERE {where} ORDER BY {span.order} LIMIT {FEW} {lock}"  # noqa: S608
            found = await self._db.fetch(text, *q.values, timeout=NO_LIMIT_S)
            await self._reach([rows.to_job(row) for row in found])
            after = found[-1][0] if len(found) == FEW else None

    async def _lock_flight(self) -> None:
        """Whoever settles jobs of the selection in flight is waited for, or waits: in the order in which all lock."""
        q = Question()
        where = asking.conditions(q, self._selection, self._now)
        text = f"""SELECT count(*) FROM (
                       SELECT id FROM zizq.flight WHERE id IN (SELECT id FROM zizq.jobs WHERE {where})
                       ORDER BY id FOR UPDATE
                   ) AS locked"""  # noqa: S608 - constants
        await self._db.fetchval(text, *q.values, timeout=NO_LIMIT_S)

    async def _reach(self, stored: Sequence[JobRecord]) -> None:
        """Change those of some locked jobs that are selected by what they are now."""
        text = f"SELECT id, dequeued_at, stream_ms FROM zizq.flight WHERE id = ANY($1::text[]) AND {LEASED}"  # noqa: S608
        held = {row[0]: row for row in await self._db.fetch(text, [job.id for job in stored])}
        jobs = [decide.on_take(job, held[job.id][1]) if job.id in held else job for job in stored]
        moved = [
            Moved(job, self.change.apply(job, self._now))
            for job in jobs
            if job in self._selection and not decide.is_expired(job, self._now)
        ]
        if not moved:
            return
        await self._write(moved)
        if isinstance(self.change, Patch) and self.change.timeout_ms is not UNSET:
            await self._time([one.after for one in moved if one.after is not None and one.after.id in held], held)
        self.count += len(moved)
        self.moved += moved[: FEW - len(self.moved)]
        self.arrived.add(one.after for one in moved if one.after is not None)
        self.stirred |= drawn_by(job for one in moved for job in one if job is not None)

    async def _write(self, moved: Sequence[Moved]) -> None:
        ids = [one.before.id for one in moved]
        if isinstance(self.change, Delete):
            await self._delete(ids)
            return
        if isinstance(self.change, Retry):
            await self._db.execute("DELETE FROM zizq.errors WHERE job_id = ANY($1::text[])", ids, timeout=NO_LIMIT_S)
        columns = rows.changed_columns(self.change)
        after = [one.after for one in moved if one.after is not None]
        if isinstance(self.change, Rebind):
            await budget_rows.rebind(self._db, after)
        if columns:
            values = zip(*([job.id, *rows.to_values(job, columns)] for job in after), strict=True)
            await self._db.execute(_update(columns), *map(list, values), timeout=NO_LIMIT_S)

    async def _delete(self, ids: Sequence[str]) -> None:
        await self._db.execute("DELETE FROM zizq.jobs WHERE id = ANY($1::text[])", ids, timeout=NO_LIMIT_S)
        text = "DELETE FROM zizq.flight WHERE id = ANY($1::text[]) RETURNING id, fence"
        left = [(row[0], row[1]) for row in await self._db.fetch(text, ids, timeout=NO_LIMIT_S)]
        await flight.free(self._db, left, self._fence)
        self.left += left

    async def _time(self, flying: Sequence[JobRecord], held: Mapping[str, Sequence[Any]]) -> None:
        """Until when jobs in flight may be held is not what it was."""
        times = [decide.overdue_at(job, held[job.id][2]) for job in flying]
        text = """UPDATE zizq.flight SET overdue_at = times.at FROM unnest($1::text[], $2::bigint[]) AS times (id, at)
                  WHERE flight.id = times.id"""
        await self._db.execute(text, [job.id for job in flying], times, timeout=NO_LIMIT_S)
        self.overdue = min((at for at in (*times, self.overdue) if at is not None), default=None)


_UNTOUCHED = "xmin <> pg_current_xact_id()::xid"
"""A condition on jobs: that this transaction has not changed them yet, which may have made them of another kind."""
# What is asked differs from part to part, and so does the plan that is good for it.
_PLANNED = "SET LOCAL statement_timeout = 0; SET LOCAL plan_cache_mode = force_custom_plan"
_TYPES = {
    "queue": "text", "type": "text", "priority": "integer", "status": "smallint", "ready_at": "bigint",
    "attempts": "integer", "purge_at": "bigint", "deaths": "integer", "options": "bytea", "budgets": "text",
}  # fmt: skip


def _update(columns: Sequence[str]) -> str:
    """Rewrites columns of jobs: a list of identifiers, and one of values for each column."""
    sets = ", ".join(f"{name} = new.{name}" for name in columns)
    lists = ", ".join(f"${number}::{_TYPES[name]}[]" for number, name in enumerate(columns, 2))
    return f"""UPDATE zizq.jobs SET {sets} FROM unnest($1::text[], {lists}) AS new (id, {", ".join(columns)})
               WHERE jobs.id = new.id"""  # noqa: S608 - constants
