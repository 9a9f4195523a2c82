"""The crons of the store port on PostgreSQL.

Each entry is a row of its own, so that a firing writes one row however many there are. Who changes a group holds its
row; who fires an entry shares it with others who fire, and holds that of the entry: so of several servers who fire one,
the first does, and the others find that it has changed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial

from zizq.budget import Budget
from zizq.cron import CronEntry, CronGroup
from zizq.job import JobRecord
from zizq.store import cron_rows
from zizq.store.base import NO_BUDGETS, NOTHING, Due
from zizq.store.cron_rows import Stored
from zizq.store.postgres import admitting, budget_rows
from zizq.store.postgres.admitting import Admitted, Enqueue
from zizq.store.postgres.database import Transaction
from zizq.store.postgres.parts import Parts


class CronCalls(Parts, ABC):
    """The calls on crons."""

    @abstractmethod
    def _enqueued(self, call: Enqueue, admitted: Admitted) -> None: ...

    async def crons(self) -> list[str]:
        """The names of all cron groups."""
        async with self._db.reading() as db:
            return [row[0].decode() for row in await db.fetch("SELECT name FROM zizq.crons ORDER BY name")]

    async def cron(self, name: str) -> CronGroup | None:
        """A cron group with its entries."""
        text = """SELECT settings, entry FROM zizq.crons c LEFT JOIN zizq.cron_entries e ON e.cron = c.name
                  WHERE c.name = $1 ORDER BY e.name"""
        async with self._db.reading() as db:
            found = await db.fetch(text, name.encode())
        return cron_rows.to_group(found) if found else None

    async def save_cron(
        self,
        name: str,
        before: CronGroup | None,
        after: CronGroup | None,
        now: int,
        create: Mapping[str, Budget] = NO_BUDGETS,
    ) -> bool:
        """Create, change or delete a cron group."""
        was, will_be, key = Stored.of(before), Stored.of(after), name.encode()
        async with self._write() as db:
            if was.settings is None:
                stored = await _begin(db, key, will_be.settings)
            else:
                stored = await _stored(db, key)
            if stored != was:
                return False
            new = cron_rows.new_entries(after, was)
            await budget_rows.check(db, [(0, entry.job) for entry in new], create, self._max_budgets, now)
            if will_be.settings is None:
                await db.execute("DELETE FROM zizq.crons WHERE name = $1", key)
                return True
            if was.settings is not None and will_be.settings != was.settings:
                await db.execute("UPDATE zizq.crons SET settings = $2 WHERE name = $1", key, will_be.settings)
            gone = [one.encode() for one in was.without(will_be)]
            await db.execute("DELETE FROM zizq.cron_entries WHERE cron = $1 AND name = ANY($2)", key, gone)
            await _insert_entries(db, key, new)
        return True

    async def fire(
        self,
        due: Due,
        after: CronEntry,
        jobs: Sequence[JobRecord],
        now: int,
        folds: Sequence[JobRecord] = (),
        pending: Mapping[str, str | None] = NOTHING,
    ) -> Sequence[JobRecord]:
        """Change a cron entry that is due, and enqueue its job."""
        call = Enqueue(jobs, now, folds, pending)
        admitted = await self._db.again(partial(self._fire, due, after, call))
        self._enqueued(call, admitted)
        return admitted.jobs

    async def _fire(self, due: Due, after: CronEntry, call: Enqueue) -> Admitted:
        """One transaction."""
        async with self._db.writing(durable=self._enqueue_durable, hot=True) as db:
            await _check(db, due)
            admitted = await admitting.admit(db, call, self._max_budgets)
            await _advance(db, due, after)
        return admitted

    async def delete_crons(self) -> int:
        """Delete all cron groups."""
        async with self._write() as db:
            return await db.fetchval("WITH gone AS (DELETE FROM zizq.crons RETURNING 1) SELECT count(*) FROM gone") or 0

    async def due_crons(self, now: int, limit: int) -> list[Due]:
        """Cron entries whose next time has come."""
        text = """SELECT settings, entry FROM zizq.cron_entries e JOIN zizq.crons c ON c.name = e.cron
                  WHERE next_at <= $1 ORDER BY next_at, e.cron, e.name LIMIT $2"""
        async with self._db.reading() as db:
            return [cron_rows.to_due(*row) for row in await db.fetch(text, now, limit)]

    async def next_cron(self) -> int | None:
        """The earliest next time of all cron entries."""
        async with self._db.reading() as db:
            found: int | None = await db.fetchval("SELECT min(next_at) FROM zizq.cron_entries")
        return found


async def _check(db: Transaction, due: Due) -> None:
    """Hold an entry and its group to what they are thought to be; they stay so until the transaction is over.

    Raises:
        Conflicting: When one is not so.
    """
    # Two statements: one that had to wait for the first row would see the second as it was before.
    settings = await db.fetchval("SELECT settings FROM zizq.crons WHERE name = $1 FOR SHARE", due.group.name.encode())
    text = "SELECT entry FROM zizq.cron_entries WHERE cron = $1 AND name = $2 FOR UPDATE"
    entry = await db.fetchval(text, due.group.name.encode(), due.entry.name.encode())
    cron_rows.hold(due, (settings, entry))


async def _advance(db: Transaction, due: Due, after: CronEntry) -> None:
    """Put an entry in the place of the one that was due."""
    text = "UPDATE zizq.cron_entries SET next_at = $3, entry = $4 WHERE cron = $1 AND name = $2"
    await db.execute(text, due.group.name.encode(), after.name.encode(), *cron_rows.entry_row(after))


async def put(db: Transaction, group: CronGroup) -> None:
    """Add a group that is not there."""
    key = group.name.encode()
    await db.execute("INSERT INTO zizq.crons (name, settings) VALUES ($1, $2)", key, cron_rows.settings(group))
    await _insert_entries(db, key, group.entries)


async def _begin(db: Transaction, key: bytes, settings: bytes | None) -> Stored:
    """Add a group without entries, if it is not there; returns what is there beside it."""
    if settings is None:
        return await _stored(db, key)
    text = "INSERT INTO zizq.crons (name, settings) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING true"
    return Stored(None, {}) if await db.fetchval(text, key, settings) else await _stored(db, key)


async def _stored(db: Transaction, key: bytes) -> Stored:
    """A group as it is there, which stays so until the transaction is over."""
    settings = await db.fetchval("SELECT settings FROM zizq.crons WHERE name = $1 FOR UPDATE", key)
    rows = await db.fetch("SELECT name, next_at, entry FROM zizq.cron_entries WHERE cron = $1", key)
    return Stored(settings, {name.decode(): (next_at, entry) for name, next_at, entry in rows})


async def _insert_entries(db: Transaction, cron: bytes, entries: Sequence[CronEntry]) -> None:
    rows = [(cron, entry.name.encode(), *cron_rows.entry_row(entry)) for entry in entries]
    await db.executemany("INSERT INTO zizq.cron_entries VALUES ($1, $2, $3, $4)", rows)
    draws = [(cron, name.encode(), budget, cost) for name, budget, cost in cron_rows.draw_rows(entries)]
    await db.executemany("INSERT INTO zizq.cron_draws VALUES ($1, $2, $3, $4)", draws)
