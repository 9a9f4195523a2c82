"""Copies of the database while it is in use (docs/decisions/backup.md).

A connection of its own stays at one commit, and SQLite's backup interface copies the pages as they are there. Writers
go on: what they add stays in the log until the copy is done. The copy is forced to the disk as it grows: were it left
to the system, a sync of the log would at times have to wait for hundreds of megabytes that are not its own. For the
same reason it is removed piece by piece.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import apsw

from zizq.clock import Clock
from zizq.errors import Conflicting, Unavailable
from zizq.store.removal import remove
from zizq.store.sqlite.schema import connect

STEP_PAGES = 256
"""Pages that are copied in one go: 1 MB, a few milliseconds of the disk."""
SPARE_BYTES = 64 * 2**20
"""Room that a copy leaves on the disk, so that the server can go on writing."""
_CACHE_BYTES = 2**20


class Backups:
    """Makes copies of a database, one at a time.

    Args:
        path: The database file.
        clock: Measures how long the disk takes, which then rests for as long.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._folder = path.with_name("backup.tmp")
        self._work: asyncio.Future[None] | None = None
        self._stopping = threading.Event()
        self._under_way = False
        # What a crash left behind; nobody is served yet who would have to wait for its end.
        shutil.rmtree(self._folder, ignore_errors=True)

    @asynccontextmanager
    async def copy(self) -> AsyncIterator[Path]:
        """A copy of the database as it is now, which is gone after the block.

        Raises:
            Conflicting: When there is one already.
            Unavailable: When there is no room for it, or the database cannot be read.
        """
        if self._under_way:
            raise Conflicting("a backup is being made already: wait for it to end")
        self._under_way = True
        try:
            await self._run(self._make)
            yield self._folder / self._path.name
        except (apsw.Error, OSError) as error:
            raise Unavailable(f"the store cannot be copied ({type(error).__name__}: {error})") from error
        finally:
            try:
                # In a thread, for that takes its time.
                await self._run(self._clean)
            finally:
                self._under_way = False

    async def stop(self) -> None:
        """End a copy that is being made, and wait for it."""
        self._stopping.set()
        if self._work is not None:
            await asyncio.wait([self._work])

    async def _run(self, work: Callable[[], None]) -> None:
        """Do some work in a thread; who is cancelled meanwhile is cancelled when it is over."""
        self._stopping.clear()
        self._work = asyncio.ensure_future(asyncio.to_thread(work))
        cancelled = None
        while not self._work.done():
            try:
                await asyncio.wait([self._work])
            except asyncio.CancelledError as error:
                self._stopping.set()
                cancelled = error
        if cancelled is not None:
            # Read, so that the loop does not complain of an error that nobody saw.
            self._work.exception()
            raise cancelled
        self._work.result()

    def _clean(self) -> None:
        with suppress(OSError):
            remove(self._folder / self._path.name, self._clock, self._stopping.wait)
        shutil.rmtree(self._folder, ignore_errors=True)

    # ── on a thread ──

    def _make(self) -> None:
        self._folder.mkdir(exist_ok=True)
        source = connect(self._path, _CACHE_BYTES)
        try:
            # Until this transaction ends, the copy sees this commit and no later one.
            source.execute("BEGIN")
            source.execute("SELECT 1 FROM jobs LIMIT 1").fetchall()
            self._check_room(source.execute("PRAGMA page_count").get * source.execute("PRAGMA page_size").get)
            self._copy_pages(source)
        finally:
            source.close()

    def _check_room(self, size: int) -> None:
        needed, free = size + SPARE_BYTES, shutil.disk_usage(self._folder).free
        if free < needed:
            raise Unavailable(f"a copy needs {needed} bytes on the disk of {self._folder}, where {free} are free")

    def _copy_pages(self, source: apsw.Connection) -> None:
        target = apsw.Connection(str(self._folder / self._path.name))
        file = os.open(target.filename, os.O_RDWR)
        try:
            # Nobody reads it before it is whole, and nothing of it outlives a crash.
            target.execute("PRAGMA journal_mode = OFF")
            target.execute("PRAGMA synchronous = OFF")
            with target.backup("main", source, "main") as backup:
                while not backup.done:
                    if self._stopping.is_set():
                        raise Unavailable("the backup was stopped")
                    began = self._clock.mono_s()
                    backup.step(STEP_PAGES)
                    os.fdatasync(file)
                    # Half of the time the disk is left to the others.
                    self._stopping.wait(self._clock.mono_s() - began)
        finally:
            os.close(file)
            target.close()
