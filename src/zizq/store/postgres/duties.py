"""What comes due: scheduled jobs, and finished ones past their retention; and the end of everything."""

from __future__ import annotations

from functools import partial

from zizq.engine.transitions import Cause
from zizq.job import JobRecord
from zizq.store import rows
from zizq.store.postgres.flight import JOB
from zizq.store.postgres.parts import Parts

# What is locked is asked for once, as an array. What is joined may be asked again for each row, then passes over those
# that this statement has changed by then, and the limit holds for each time alone.
_PROMOTE = f"""
    UPDATE zizq.jobs j SET status = 1 WHERE j.id = ANY(ARRAY(
        SELECT id FROM zizq.jobs WHERE status = 0 AND ready_at <= $1
        ORDER BY ready_at, id LIMIT $2 FOR UPDATE SKIP LOCKED
    )) RETURNING {JOB}"""  # noqa: S608 - constants
_REAP = f"""
    DELETE FROM zizq.jobs j WHERE j.id = ANY(ARRAY(
        SELECT id FROM zizq.jobs WHERE purge_at IS NOT NULL AND purge_at <= $1
        ORDER BY purge_at, queue, type, status LIMIT $2 FOR UPDATE SKIP LOCKED
    )) RETURNING {JOB}"""  # noqa: S608 - constants
_TABLES = "jobs, flight, freed, errors, tally, draws, budgets, crons, cron_entries, cron_draws, paused_queues, inbox"


class DutyCalls(Parts):
    """The calls of what comes due."""

    async def promote(self, now: int, limit: int) -> int:
        """Make scheduled jobs ready whose time has come; those that another server promotes at this moment are its."""
        self._lanes.ring(now)
        return await self._db.again(partial(self._sweep_up, _PROMOTE, Cause.PROMOTE, now, limit))

    async def reap(self, now: int, limit: int) -> int:
        """Remove finished jobs past their retention."""
        return await self._db.again(partial(self._sweep_up, _REAP, Cause.REAP, now, limit))

    async def _sweep_up(self, text: str, cause: Cause, now: int, limit: int) -> int:
        async with self._db.writing(durable=self._durable, hot=True, in_order=True) as db:
            found = await db.fetch(text, now, limit)
        jobs: list[JobRecord] = [rows.to_job((*row, None)) for row in found]
        self._moved(cause, jobs)
        return len(jobs)

    async def next_due(self) -> int | None:
        """The earliest instant for which a job is scheduled, or at which a budget lets go whoever waits here."""
        text = "SELECT ready_at FROM zizq.jobs WHERE status = 0 ORDER BY ready_at, id LIMIT 1"
        async with self._db.reading() as db:
            due: int | None = await db.fetchval(text)
        return min((at for at in (due, self._lanes.next_alarm()) if at is not None), default=None)

    async def reset(self) -> None:
        """Remove everything."""
        async with self._write() as db:
            held = await db.fetch("SELECT fence, array_agg(id) FROM zizq.flight GROUP BY fence")
            await db.execute(f"TRUNCATE {', '.join(f'zizq.{table}' for table in _TABLES.split(', '))}")
            others = [(fence, ids) for fence, ids in held if fence != self._fence]
            await db.executemany("INSERT INTO zizq.freed (fence, ids) VALUES ($1, $2)", others)
        self._lanes.clear()
        self._quiet.clear()
        self._left([(job_id, fence) for fence, ids in held for job_id in ids])
        self._listener.moved(Cause.DELETE, None)
        self._news.moved(Cause.DELETE)
