"""Three servers on one database as if they were one store, beside the oracle."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import cycle
from typing import Any

from model.history import DEFAULTS, OnPostgres
from zizq.store.base import Listener, Silence
from zizq.store.postgres.store import PostgresStore
from zizq.testing.clock import LoadedDice

SERVERS = 3
OWNERS = (1, 2, 3)
_WRONG = """
    SELECT 'held of ' || key FROM zizq.budgets b
    WHERE held <> (SELECT coalesce(sum((draws ->> b.key)::bigint), 0) FROM zizq.flight)
    UNION ALL SELECT 'in flight and not ready: ' || f.id FROM zizq.flight f
    WHERE NOT EXISTS (SELECT FROM zizq.jobs j WHERE j.id = f.id AND j.status = 1)
    UNION ALL SELECT 'held by nobody: ' || f.id FROM zizq.flight f
    WHERE NOT EXISTS (SELECT FROM zizq.servers s WHERE s.fence = f.fence)
    UNION ALL SELECT 'draws of ' || id FROM (
        SELECT id, string_agg(budget, ',' ORDER BY budget) AS budgets, bool_or(finished) AS finished
        FROM zizq.draws GROUP BY id
    ) d FULL JOIN (SELECT id, budgets AS b, status FROM zizq.jobs WHERE budgets <> '') j USING (id)
    WHERE d.budgets IS DISTINCT FROM j.b OR d.finished <> (j.status >= 2)
    UNION ALL SELECT 'tally of ' || queue FROM (
        SELECT queue, type, status, sum(n) FROM (
            SELECT queue, type, status, jobs AS n FROM zizq.tally
            UNION ALL SELECT queue, type, status, -count(*) FROM zizq.jobs GROUP BY queue, type, status
        ) both_of_them GROUP BY queue, type, status HAVING sum(n) <> 0
    ) t"""
"""What must not be, whatever the servers do."""


class Servers:
    """Some stores on one database. Each call goes to the next, but for those of an owner, who stays where it is.

    Whoever is asked to take has heard of all that others did: what is tried is that looking finds all of it.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._stores = [self._make() for _ in range(SERVERS)]
        self._next = cycle(range(SERVERS))

    def _make(self) -> PostgresStore:
        return PostgresStore(self._url, DEFAULTS, LoadedDice())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stores[next(self._next)], name)

    def _of(self, owner: int) -> PostgresStore:
        return self._stores[owner % SERVERS]

    async def open(self, listener: Listener) -> None:
        for store in self._stores:
            await store.open(listener)

    async def close(self) -> None:
        for store in self._stores:
            await store.close()

    async def replace(self, owner: int) -> None:
        """End the server of an owner, and start another one in its place."""
        await self._of(owner).close()
        self._stores[owner % SERVERS] = self._make()
        await self._of(owner).open(Silence())

    async def take(
        self, owner: int, queues: Collection[str], limit: int, now: int, timeout_ms: int | None = None
    ) -> Any:
        store: Any = self._of(owner)
        store._floors.clear()
        store._lanes._look_at = 0.0
        return await store.take(owner, queues, limit, now, timeout_ms)

    async def release(self, owner: int, **more: Any) -> int:
        return await self._of(owner).release(owner, **more)

    async def release_jobs(self, ids: Sequence[str], owners: Collection[int] | None = None) -> list[bool]:
        if owners is None:
            return await self._stores[next(self._next)].release_jobs(ids)
        found = [await self._of(owner).release_jobs(ids, [owner]) for owner in owners]
        return [any(of_one) for of_one in zip(*found, strict=True)] if found else [False] * len(ids)

    async def fail_overdue(self, now: int, limit: int) -> int:
        return sum([await store.fail_overdue(now, limit) for store in self._stores])

    async def next_overdue(self) -> int | None:
        times = [await store.next_overdue() for store in self._stores]
        return min((at for at in times if at is not None), default=None)


class ServersHistory(OnPostgres):
    """The servers and the oracle, told the same things."""

    def make(self) -> Any:
        return Servers(self._url)

    async def reopen(self) -> None:
        """One server leaves, and what it held is ready; another one comes."""
        owner = OWNERS[len(self.ids) % len(OWNERS)]
        await self.store.replace(owner)
        await self.oracle.release(owner)

    async def examine(self) -> list[str]:
        async with self._database.reading() as db:
            return [*await super().examine(), *[row[0] for row in await db.fetch(_WRONG)]]
