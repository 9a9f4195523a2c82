"""How a server hears of the others: by news, and by looking where none come.

News are notifications on a connection of their own, where such work: behind a pooler they do not. So a server looks for
itself as well, at the heads of the queues that its streams take of. It spends no more than a twentieth of its time so.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any

from zizq.engine.purse import Key
from zizq.errors import Unavailable
from zizq.store.postgres import news
from zizq.store.postgres.claims import OF_ALL, OF_ONE
from zizq.store.postgres.database import Transaction
from zizq.store.postgres.floors import ALL
from zizq.store.postgres.news import CHANNEL
from zizq.store.postgres.parts import Parts

log = logging.getLogger("zizq.store")

LOOK_S = 0.03
"""How often a server looks for itself where no news come through."""
HEARING_S = 0.05
"""The same where they do."""
NEWS_S = 0.01
"""How often it sends news at most."""
CHATTER_S = 0.25
"""The same of news that nobody waits for."""
ECHO_S = 2.0
"""How long its own notification may take to come back, where they work."""
DEAF_S = 30.0
"""After how long it is tried again where they do not."""
_SHARE = 20
"""One part in so many of the time is spent looking."""

_HEAD = f"""SELECT j.queue, j.priority, j.id FROM zizq.jobs j
            WHERE {OF_ALL.format(priority="-1", id="''")} LIMIT 1"""  # noqa: S608 - constants
_HEADS = f"""SELECT l.queue, first.priority, first.id FROM unnest($1::text[]) l (queue) CROSS JOIN LATERAL (
                 SELECT j.priority, j.id FROM zizq.jobs j
                 WHERE {OF_ONE.format(queue="l.queue", priority="-1", id="''")} LIMIT 1
             ) first"""  # noqa: S608 - constants
_RESUMED = """SELECT queue FROM unnest($1::text[]) q (queue)
              WHERE NOT EXISTS (SELECT FROM zizq.paused_queues p WHERE p.queue = q.queue)"""


class WatchCalls(Parts):
    """The loops that speak, listen and look."""

    _alone: bool
    _look: asyncio.Event
    """Set where there is a reason to look at once."""
    _urgent: asyncio.Event
    """Set where there are news for which somebody may wait."""
    _echo: asyncio.Event
    """Set when a notification of this server has come back to it."""

    # ── speaking ──

    async def _speak(self) -> None:
        """Tell the other servers what has happened here, for as long as the store is open."""
        self._news.on_urgent = self._urgent.set
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(CHATTER_S):
                    await self._urgent.wait()
            self._urgent.clear()
            if self._alone:
                self._news.clear()
            elif self._news:
                with suppress(Unavailable):
                    await self._whole(self._db.notify(CHANNEL, self._news.bulletin(self._fence)))
            await asyncio.sleep(NEWS_S)

    # ── listening ──

    async def _listen(self) -> None:
        """Hear what other servers tell, for as long as the store is open and notifications come through."""
        while True:
            try:
                async with self._db.listening(CHANNEL, self._heard) as ended:
                    if await self._hears():
                        self._look.set()
                        await ended.wait()
            except Unavailable:
                log.debug("cannot listen for news")
            await asyncio.sleep(DEAF_S if not self._echo.is_set() else LOOK_S)

    async def _hears(self) -> bool:
        """Whether a notification comes back."""
        self._echo.clear()
        await self._whole(self._db.notify(CHANNEL, news.Bulletin(self._fence).text))
        with suppress(TimeoutError):
            async with asyncio.timeout(ECHO_S):
                await self._echo.wait()
        return self._echo.is_set()

    def _heard(self, text: str) -> None:
        said = news.read(text)
        if said is None:
            return
        if said.server == self._fence:
            self._echo.set()
            return
        if said.lanes:
            self._lanes.ready(said.lanes)
        self._lanes.revive(said.budgets)
        if said.ready:
            self._floors.lower(said.ready)
            self._listener.available(said.ready)
        if self._fence in said.freed:
            self._look.set()
        if said.due is not None:
            self._listener.scheduled(said.due)
        if said.moved:
            self._listener.moved(said.moved[0], None)

    # ── looking ──

    async def _look_around(self) -> None:
        """See for itself, for as long as the store is open."""
        loop = asyncio.get_running_loop()
        pause = LOOK_S
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._look.wait()
            self._look.clear()
            began = loop.time()
            with suppress(Unavailable):
                await self._whole(self._look_once())
            pause = max(HEARING_S if self._echo.is_set() else LOOK_S, _SHARE * (loop.time() - began))

    async def _look_once(self) -> None:
        queues, sees_all = list(self._watched.queues), self._watched.sees_all
        if not queues and not sees_all and not self._holdings:
            return
        # As they are now: a take that ends meanwhile moves them beyond what is about to be seen as free.
        floors = {**self._floors.of(()), **self._floors.of(queues)} if queues else self._floors.of(())
        async with self._db.writing(durable=False, hot=True, in_order=True) as db:
            freed = await db.fetch("DELETE FROM zizq.freed WHERE fence = $1 RETURNING ids", self._fence)
            heads = await _heads(db, queues, sees_all)
            await self._lanes.look(db)
            resumed = await db.fetch(_RESUMED, list(self._quiet)) if self._quiet else ()
        if resumed:
            self._quiet.difference_update(row[0] for row in resumed)
            self._revive([row[0] for row in resumed])
        self._left([(job_id, self._fence) for row in freed for job_id in row[0]])
        # What a take would find by itself, it has been told of, or has left there for want of room.
        missed = {queue: key for queue, key, place in heads if floors[place] > key}
        if missed:
            self._floors.lower(missed)
            self._listener.available(missed)


async def _heads(db: Transaction, queues: list[str], sees_all: bool) -> list[tuple[str, Key, str]]:
    """The first free jobs, each with its queue, its key, and whose floor must not be above it."""
    found: list[tuple[Any, str]] = []
    if sees_all:
        found += [(row, ALL) for row in await db.fetch(_HEAD)]
    if queues:
        found += [(row, row[0]) for row in await db.fetch(_HEADS, queues)]
    return [(row[0], (row[1], row[2]), place) for row, place in found]
