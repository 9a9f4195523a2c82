"""The calls of the store on SQLite that look after its file: giving space back, and copying it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import apsw

from zizq.errors import Unavailable
from zizq.store.base import Compacted
from zizq.store.sqlite.backups import Backups
from zizq.store.sqlite.checkpoints import Checkpoints
from zizq.store.sqlite.parts import Parts
from zizq.store.sqlite.readers import whatever_happens
from zizq.store.sqlite.statements import Step

T = TypeVar("T")
ROOM_PAGES = 4096
"""Free pages that the file keeps until it is compacted, 16 MB: a queue that empties will fill again."""
TRIM_PAGES = 128
"""Pages that are given back in one commit: a few milliseconds of the writer's time."""
COPY_EVERY = 16
"""So many of those commits later the log is copied, which shortens the file. To shorten it by 100 MB at once takes some
50 ms, and may fall to a commit."""


class UpkeepCalls(Parts):
    """Trimming, compacting and copying."""

    _path: Path
    _checkpoints: Checkpoints
    _backups: Backups

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Sequence[Path]]:
        """A copy of the database."""
        async with self._backups.copy() as path:
            yield [path]

    async def compact(self) -> Compacted:
        """Give all free pages back to the disk, and all of the log."""
        before = self._size()
        # No more than there are now: beside a busy queue there would always be a few.
        for number in range(-(-await self._readers.read(_free_pages) // TRIM_PAGES)):
            await self._trim_some(number)
        await self._shorten_log()
        if not await self._in_thread(self._checkpoints.cut):
            raise Unavailable("the log cannot be copied into the database just now: the line before says why")
        return Compacted(before, self._size())

    async def _shorten_log(self) -> None:
        """Leave little of the log's file to be cut: the writer waits for that, and for 64 MB some 20 ms."""
        await self._in_thread(self._checkpoints.copy_early)
        with self._checkpoints.shortening() as commits:
            for _ in range(commits):
                await self._write(Step.TOUCH, None)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Have a thread work on the log, and wait for its end even when cancelled."""
        return await whatever_happens(asyncio.get_running_loop().run_in_executor(None, work))

    async def _trim(self) -> None:
        """Shorten the file while a large part of it is empty, a little at a time."""
        number = 0
        while await self._readers.read(_has_too_much_room):
            await self._trim_some(number)
            number += 1

    async def _trim_some(self, number: int) -> None:
        await self._write(Step.TRIM, TRIM_PAGES)
        if number % COPY_EVERY == COPY_EVERY - 1:
            await self._in_thread(self._checkpoints.copy_early)

    def _size(self) -> int:
        files = (self._path, self._path.with_name(f"{self._path.name}-wal"))
        return sum(file.stat().st_size for file in files if file.exists())


def _free_pages(db: apsw.Connection) -> int:
    free: int = db.execute("PRAGMA freelist_count").get
    return free


def _has_too_much_room(db: apsw.Connection) -> bool:
    free, pages_in_all = _free_pages(db), db.execute("PRAGMA page_count").get
    return bool(free > ROOM_PAGES and free > pages_in_all // 4)
