"""What the store on PostgreSQL shows of what it holds."""

from __future__ import annotations

from collections.abc import Callable

from zizq.engine.lists import JobList, ListQuery
from zizq.job import JobRecord
from zizq.store.facts import StorageFacts
from zizq.store.postgres import pages, windows
from zizq.store.postgres.reads import ReadCalls
from zizq.store.views import Found, Tallied, Window

_SIZES = """
    SELECT sum(pg_total_relation_size(c.oid))::bigint, coalesce(
        sum(pg_relation_size(c.oid) * s.n_dead_tup / greatest(s.n_live_tup + s.n_dead_tup, 1)), 0
    )::bigint
    FROM pg_class AS c LEFT JOIN pg_stat_all_tables AS s ON s.relid = c.oid
    WHERE c.relnamespace = 'zizq'::regnamespace AND c.relkind = 'r'"""
"""The bytes of all tables with their indexes; and those of dead rows, which are room for new ones once swept."""


class ViewCalls(ReadCalls):
    """The calls that only show (`store.views`)."""

    async def tally(self, now: int) -> dict[Tallied, int]:
        """How many jobs there are of each queue, type and status."""
        async with self._db.reading() as db:
            return await pages.tally(db, now)

    async def oldest_ready(self, now: int) -> dict[str, int]:
        """By queue: the `ready_at` of the ready job with the smallest identifier."""
        async with self._db.reading() as db:
            return await windows.oldest_ready(db)

    async def held(self, owner: int, limit: int) -> list[JobRecord]:
        """The jobs that an owner holds."""
        async with self._db.reading() as db:
            return await windows.held(db, self._fence, self._holdings.of(owner)[:limit])

    async def window(
        self, of: JobList, place: int | str, limit: int, now: int, heard: Callable[[], None] = lambda: None
    ) -> Window | None:
        """A part of a list."""
        async with self._db.reading() as db:
            heard()
            return await windows.window(db, of, place, limit, now)

    async def find(
        self, of: JobList, query: ListQuery, beside: str | None, backward: bool, limit: int, now: int
    ) -> Found | None:
        """The next job of a list that a query lets through."""
        async with self._db.reading() as db:
            return await windows.find(db, of, query, beside, backward, limit, now)

    async def storage(self) -> StorageFacts:
        """What the store knows of its tables and its own commits; the log is that of the whole cluster."""
        async with self._db.reading() as db:
            [(size, free)] = await db.fetch(_SIZES)
        meter = self._db.meter
        return StorageFacts(
            size=size,
            free=free,
            commits=meter.commits,
            calls=meter.calls,
            commit=meter.commit.times(),
            fsync=meter.fsync.times(),
        )
