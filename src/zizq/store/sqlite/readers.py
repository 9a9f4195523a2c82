"""Reading beside the writer: a few threads, each with a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import apsw

from zizq.errors import Unavailable
from zizq.store.sqlite.checkpoints import Checkpoints
from zizq.store.sqlite.schema import closed_on_error, connect

T = TypeVar("T")
STOPPING_S = 0.05
"""Seconds between two attempts to stop a statement that nobody waits for any more."""


class Readers:
    """Answers questions from the last commit, without holding up the event loop or the writer.

    Args:
        path: The database file, which must exist.
        cache_bytes: Memory for pages, for each thread.
        threads: How many questions are answered at once.
        checkpoints: Knows whether what is read can be believed.
    """

    def __init__(self, path: Path, cache_bytes: int, threads: int, checkpoints: Checkpoints) -> None:
        self._path = path
        self._checkpoints = checkpoints
        self._cache_bytes = cache_bytes
        self._idle: list[apsw.Connection] = []
        self._stopped = False
        self._room = asyncio.Semaphore(threads)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="zizq-reader")

    async def read(self, question: Callable[[apsw.Connection], T]) -> T:
        """Ask a question on a read-only connection.

        Raises:
            Unavailable: When the database cannot be read.
        """
        async with self.lease() as db:
            return await self.ask(question, db)

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[apsw.Connection]:
        """A read-only connection for one caller alone; a transaction that is open at the end is ended.

        Raises:
            Unavailable: When the database cannot be opened.
        """
        async with self._room:
            db = self._idle.pop() if self._idle else await self.ask(self._connect)
            try:
                yield db
            finally:
                self._give_back(db)

    async def ask(self, question: Callable[..., T], *arguments: apsw.Connection) -> T:
        """Ask a question in one of the threads, of a connection that is leased; it is stopped when nobody waits for it.

        Raises:
            Unavailable: When the database cannot be read.
        """
        if self._checkpoints.lost is not None:
            raise Unavailable(f"the store cannot be read any more ({self._checkpoints.lost})")
        try:
            work = asyncio.get_running_loop().run_in_executor(self._pool, question, *arguments)
            return await whatever_happens(work, *(db.interrupt for db in arguments))
        except apsw.Error as error:
            raise Unavailable(f"the store cannot read just now ({type(error).__name__}: {error})") from error

    def _give_back(self, db: apsw.Connection) -> None:
        try:
            if db.in_transaction:
                db.execute("ROLLBACK")
        except apsw.Error:
            # Closing ends it in any case.
            db.close()
        else:
            self._idle.append(db)
            if self._stopped:
                self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    async def stop(self) -> None:
        """Wait for the questions that were asked, then close the connections."""
        await asyncio.to_thread(self._pool.shutdown)
        self._stopped = True
        self._close_idle()

    def _connect(self) -> apsw.Connection:
        db = connect(self._path, self._cache_bytes)
        with closed_on_error(db):
            db.execute("PRAGMA query_only = ON")
        return db


async def whatever_happens(work: asyncio.Future[T], *stops: Callable[[], None]) -> T:
    """Wait for work that a thread does with a leased connection, even when cancelled: only then is it free again.

    Args:
        work: What is waited for.
        stops: How to have it end soon, when cancelled.
    """
    try:
        await asyncio.wait([work])
    except asyncio.CancelledError:
        while not work.done():
            # Again and again: between two statements there is nothing to stop.
            for stop in stops:
                stop()
            await asyncio.wait([work], timeout=STOPPING_S if stops else None)
        if not work.cancelled():
            work.exception()
        raise
    return work.result()
