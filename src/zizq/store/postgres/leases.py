"""The lease of a server: who it is to the others, for how long, and what becomes of those that are gone.

A server that lives renews its lease. Where one has let it run out, any other may take its row away, and whatever it
held is ready again at that same instant. It may live on and not know yet: then its reports are refused, because its
fence is on no row any more, and at its next renewal it gets a new one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import Counter
from datetime import timedelta
from typing import NamedTuple

from zizq.engine.purse import Key, lane
from zizq.engine.transitions import Cause
from zizq.errors import Unavailable
from zizq.store.postgres.database import Transaction
from zizq.store.postgres.news import CHANNEL, Bulletin
from zizq.store.postgres.settles import SettleCalls
from zizq.store.postgres.time import Timed

log = logging.getLogger("zizq.store")

LEASE = timedelta(seconds=3.5)
RENEWAL_S = 1.0
"""How often it is renewed; so what a dead server held runs elsewhere in less than 5 s."""
SEARCH_EVERY = 30
"""After so many renewals at the latest it is searched for jobs that no server holds."""
FOLD_FROM = 500
"""Rows of the tally that are worth adding up."""

_RENEW = "UPDATE zizq.servers SET lease_until = clock_timestamp() + $2 WHERE fence = $1 RETURNING true"
_REGISTER = """INSERT INTO zizq.servers (fence, name, lease_until)
               VALUES (nextval('zizq.fences'), $1, clock_timestamp() + $2) RETURNING fence"""
_OVERDUE = "SELECT min(overdue_at) FROM zizq.flight WHERE fence = $1 AND overdue_at IS NOT NULL"
_EXPIRE = "DELETE FROM zizq.servers WHERE lease_until < clock_timestamp() RETURNING fence"
# Reads all of the table. It has no index for this: every take would pay for it.
_ORPHANED = "SELECT DISTINCT fence FROM zizq.flight WHERE fence NOT IN (SELECT fence FROM zizq.servers)"
_SWEEP = """
    WITH gone AS (DELETE FROM zizq.flight WHERE fence = ANY($1::bigint[]) RETURNING id)
    SELECT j.queue, j.budgets, min(j.priority), min(j.id) FROM gone JOIN zizq.jobs j ON j.id = gone.id
    GROUP BY j.queue, j.budgets"""
_FOLD = """
    WITH parts AS (DELETE FROM zizq.tally RETURNING queue, type, status, jobs)
    INSERT INTO zizq.tally SELECT queue, type, status, sum(jobs) FROM parts
    GROUP BY queue, type, status HAVING sum(jobs) <> 0"""


class Swept(NamedTuple):
    """What servers have left behind that are gone.

    Args:
        ready: By queue, from where on there are ready jobs.
        lanes: By lane, the same of those that draw on budgets.
        budgets: On which budgets they draw.
    """

    ready: dict[str, Key]
    lanes: dict[str, Key]
    budgets: set[str]

    def bulletin(self, server: int) -> Bulletin:
        """What the others are to hear of it."""
        return Bulletin(server, self.ready, lanes=self.lanes, budgets=sorted(self.budgets))


class LeaseCalls(SettleCalls, Timed):
    """The life of a server among others."""

    _doubtful: list[tuple[int, int, int]]
    _renewals: int
    _alone: bool
    """Whether no other server was there when the lease was last renewed."""

    async def _register(self) -> None:
        """Begin to be a server."""
        # Durable, as the sequence is with it: no crash may lead to a second server of the same fence.
        async with self._db.writing(durable=True, hot=True) as db:
            self._fence = await db.fetchval(_REGISTER, f"{socket.gethostname()}:{os.getpid()}", LEASE)

    async def _resign(self) -> None:
        """Give back all that is held, and be no server any more."""
        async with self._db.writing(durable=True, hot=True) as db:
            await db.execute("DELETE FROM zizq.servers WHERE fence = $1", self._fence)
            swept = await _sweep(db, [self._fence])
            await db.execute("DELETE FROM zizq.freed WHERE fence = $1", self._fence)
            await db.execute("SELECT pg_notify($1, $2)", CHANNEL, swept.bulletin(self._fence).text)

    async def _keep_lease(self) -> None:
        """Renew the lease for as long as the store is open, and see to what others have left behind."""
        told, catching_up = False, None
        while True:
            await asyncio.sleep(RENEWAL_S)
            try:
                await self._whole(self._renew_lease())
                told = False
            except Unavailable as error:
                if not told:
                    log.warning("cannot renew the lease", extra={"fields": {"error": str(error)}})
                told = True
            # The lease does not wait for what may take long.
            if catching_up is None or catching_up.done():
                catching_up = self._later(self._catch_up())

    async def _renew(self) -> None:
        """All of it."""
        await self._renew_lease()
        await self._catch_up()

    async def _renew_lease(self) -> None:
        async with self._db.writing(durable=False, hot=True) as db:
            kept = await db.fetchval(_RENEW, self._fence, LEASE)
            expired = [row[0] for row in await db.fetch(_EXPIRE)]
            orphaned: list[int] = []
            if expired or not kept or self._renewals % SEARCH_EVERY == 0:
                # A server may have taken something in the very moment in which it lost its lease.
                orphaned = [row[0] for row in await db.fetch(_ORPHANED)]
                await db.execute("DELETE FROM zizq.freed WHERE fence NOT IN (SELECT fence FROM zizq.servers)")
            swept = await _sweep(db, orphaned) if orphaned else Swept({}, {}, set())
            # Others may have changed the time limits of what it holds.
            overdue = await db.fetchval(_OVERDUE, self._fence)
            self._renewals += 1
            self._alone = await db.fetchval("SELECT count(*) FROM zizq.servers") <= 1
        if orphaned:
            log.warning("servers are gone: what they held is ready again", extra={"fields": {"fences": orphaned}})
        if not kept:
            await self._begin_anew()
        elif overdue is not None:
            self._listener.overdue(overdue)
        if swept.ready:
            self._floors.lower(swept.ready)
            self._lanes.ready(swept.lanes)
            self._stirred(swept.budgets)
            self._listener.available(swept.ready)
            self._listener.moved(Cause.RELEASE, None)
            self._news.lanes(swept.lanes)
            self._news.ready(swept.ready)

    async def _catch_up(self) -> None:
        """Do what has been left undone, and what is due now and then."""
        await self._undo_doubtful()
        while self._owed:
            await self._settles.call(self._owed[0])
            self._owed.pop(0)
        await self._fold_tally()
        await self._measure()

    async def _begin_anew(self) -> None:
        """The lease was lost, and with it all that this server held."""
        await self._register()
        freed: Counter[int] = self._holdings.lose()
        self._floors.clear()
        self._lanes.stale()
        log.warning("lost the lease, and a new one begins", extra={"fields": {"jobs": freed.total()}})
        for owner, count in freed.items():
            self._listener.freed(owner, count)

    async def _undo_doubtful(self) -> None:
        """Give back what takes may have put into flight of which nobody heard."""
        while self._doubtful:
            fence, first, last = self._doubtful[0]
            async with self._db.writing(durable=False, hot=True) as db:
                text = "DELETE FROM zizq.flight WHERE fence = $1 AND turn > $2 AND turn <= $3 RETURNING id"
                found = [row[0] for row in await db.fetch(text, fence, first, last)]
            self._doubtful.pop(0)
            if found:
                self._floors.clear()
                self._lanes.stale()

    async def _fold_tally(self) -> None:
        """Add up what has come to the tally, once it is worth it."""
        async with self._db.writing(durable=False, hot=True) as db:
            if await db.fetchval("SELECT count(*) FROM zizq.tally") >= FOLD_FROM:
                await db.execute(_FOLD)


async def _sweep(db: Transaction, fences: list[int]) -> Swept:
    """Take what these fences held out of flight."""
    swept = Swept({}, {}, set())
    for queue, budgets, *place in await db.fetch(_SWEEP, fences):
        key: Key = (place[0], place[1])
        swept.ready[queue] = min(key, swept.ready.get(queue, key))
        if budgets:
            swept.lanes[lane(queue, budgets)] = key
            swept.budgets.update(budgets.split(","))
    return swept
