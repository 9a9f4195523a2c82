"""The calls of the store on PostgreSQL that look after its tables; most of that PostgreSQL does by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from zizq.errors import Unsupported
from zizq.store.base import Compacted
from zizq.store.postgres.parts import Parts

_TABLES = "jobs, flight, freed, errors, tally, draws, inbox, servers, budgets"
_SIZE = """
    SELECT sum(pg_relation_size(c.oid))::bigint FROM pg_class c WHERE c.relkind IN ('r', 'i') AND c.oid IN (
        SELECT oid FROM pg_class WHERE relnamespace = 'zizq'::regnamespace
        UNION SELECT reltoastrelid FROM pg_class WHERE relnamespace = 'zizq'::regnamespace
    )"""


class UpkeepCalls(Parts):
    """Compacting; there is nothing to copy."""

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Sequence[Path]]:
        """Refused: the files are the database's."""
        raise Unsupported(
            "a store on PostgreSQL is backed up with its database: pg_dump --schema=zizq, or continuous archiving"
        )
        yield ()

    async def compact(self) -> Compacted:
        """Sweep dead rows, and give back what is free at the end of each table; indexes keep their pages."""
        before = await self._size()
        await self._db.alone(f"VACUUM {', '.join(f'zizq.{table}' for table in _TABLES.split(', '))}")
        after = await self._size()
        # It may have grown meanwhile, for other calls go on.
        return Compacted(max(before, after), after)

    async def _size(self) -> int:
        async with self._db.reading() as db:
            return await db.fetchval(_SIZE) or 0
