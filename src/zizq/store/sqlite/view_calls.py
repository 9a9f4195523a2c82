"""What the store on SQLite shows of what it holds."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from apsw import Connection

from zizq.engine.lists import JobList, ListQuery
from zizq.job import JobRecord
from zizq.store.facts import StorageFacts
from zizq.store.sqlite import pages, windows
from zizq.store.sqlite.checkpoints import Checkpoints
from zizq.store.sqlite.pages import Instant
from zizq.store.sqlite.reads import ReadCalls
from zizq.store.views import Found, Tallied, Window


class ViewCalls(ReadCalls):
    """The calls that only show (`store.views`)."""

    _path: Path
    _checkpoints: Checkpoints

    async def tally(self, now: int) -> dict[Tallied, int]:
        """How many jobs there are of each queue, type and status."""

        def question(at: Instant) -> dict[Tallied, int]:
            flying = Counter((job.queue, job.type) for job in at.flying.values())
            return {
                Tallied(queue, kind, name): n
                for (queue, kind, status), jobs in pages.tally(at).items()
                for name, n in pages.true_statuses(status, jobs, flying[queue, kind])
                if n > 0
            }

        return await self._at_an_instant(question, now)

    async def oldest_ready(self, now: int) -> dict[str, int]:
        """By queue: the `ready_at` of the ready job with the smallest identifier."""
        return await self._at_an_instant(windows.oldest_ready, now)

    async def held(self, owner: int, limit: int) -> list[JobRecord]:
        """The jobs that an owner holds."""
        return self._flight.held(owner, limit)

    async def tokens(self, now: int) -> dict[str, int]:
        """How many tokens each budget has."""
        return self._purse.tokens(now)

    async def window(
        self, of: JobList, place: int | str, limit: int, now: int, heard: Callable[[], None] = lambda: None
    ) -> Window | None:
        """A part of a list."""
        return await self._at_an_instant(lambda at: windows.window(at, of, place, limit), now, heard)

    async def find(
        self, of: JobList, query: ListQuery, beside: str | None, backward: bool, limit: int, now: int
    ) -> Found | None:
        """The next job of a list that a query lets through."""
        return await self._at_an_instant(lambda at: windows.find(at, of, query, beside, backward, limit), now)

    async def storage(self) -> StorageFacts:
        """What the store knows of its files and its commits."""
        free = await self._readers.read(_free)
        size, log_size = await asyncio.to_thread(lambda: (_size(self._path), _size(Path(f"{self._path}-wal"))))
        meter = self._writer.meter
        return StorageFacts(
            size=size,
            log_size=log_size,
            free=free,
            commits=meter.commits,
            calls=meter.calls,
            commit=meter.commit.times(),
            fsync=meter.fsync.times(),
            checkpoint_at=self._checkpoints.copied_at,
        )


def _free(db: Connection) -> int:
    return int(db.pragma("freelist_count")) * int(db.pragma("page_size"))


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0
