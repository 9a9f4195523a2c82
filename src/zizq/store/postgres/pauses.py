"""The pauses of the store port on PostgreSQL: rows that every take looks at."""

from __future__ import annotations

import asyncio

from zizq.engine import pauses
from zizq.engine.purse import parts
from zizq.job import JobRecord
from zizq.store.postgres import budget_rows, lanes
from zizq.store.postgres.claims import Take
from zizq.store.postgres.floors import FIRST
from zizq.store.postgres.gather import Gather
from zizq.store.postgres.parts import Parts

PAUSING = 0x7A697A70
"""The advisory lock of whoever pauses a queue, so that they can be counted; "zizp"."""


class PauseCalls(Parts):
    """The calls on pauses."""

    _pausing: asyncio.Lock
    """Pauses are done in the order in which they are called for."""
    _takes: Gather[Take, list[JobRecord]]

    async def paused_queues(self) -> dict[str, int]:
        """The queues that are paused."""
        async with self._db.reading() as db:
            return dict(await db.fetch("SELECT queue, paused_at FROM zizq.paused_queues"))

    async def pause_queue(self, queue: str, now: int) -> int:
        """Let no job of a queue be taken any more."""
        # Whoever has called before may have what there was.
        await self._takes.caught_up()
        async with self._pausing, self._write() as db:
            await db.execute("SELECT pg_advisory_xact_lock($1)", PAUSING)
            since: int | None = await db.fetchval("SELECT paused_at FROM zizq.paused_queues WHERE queue = $1", queue)
            self._quiet.add(queue)
            if since is not None:
                return since
            if await db.fetchval("SELECT count(*) FROM zizq.paused_queues") >= pauses.MAX_PAUSED:
                raise pauses.too_many_paused(queue)
            await db.execute("INSERT INTO zizq.paused_queues (queue, paused_at) VALUES ($1, $2)", queue, now)
            # Others may have waited behind its jobs.
            budgets = {key for name in await lanes.of_queue(db, queue) for key in parts(name)[1].split(",")}
            await budget_rows.stir(db, budgets)
        self._lanes.stale()
        self._stirred(budgets)
        return now

    async def resume_queue(self, queue: str) -> bool:
        """Let jobs of a queue be taken again."""
        async with self._pausing, self._write() as db:
            was_paused = await db.fetchval("DELETE FROM zizq.paused_queues WHERE queue = $1 RETURNING true", queue)
            opened = dict.fromkeys(await lanes.of_queue(db, queue) if was_paused else (), FIRST)
        if was_paused:
            self._quiet.discard(queue)
            self._lanes.ready(opened)
            self._news.lanes(opened)
            self._revive([queue])
        return bool(was_paused)
