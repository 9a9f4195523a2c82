"""Reading beside the writer: a few threads, each with a connection of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import apsw

from zizq.errors import Unavailable
from zizq.store.sqlite.schema import connect

T = TypeVar("T")
THREADS = 2


class Readers:
    """Answers questions from the last commit, without holding up the event loop or the writer.

    Args:
        path: The database file, which must exist.
        cache_bytes: Memory for pages, for each thread.
    """

    def __init__(self, path: Path, cache_bytes: int) -> None:
        self._path = path
        self._cache_bytes = cache_bytes
        self._local = threading.local()
        self._opened: list[apsw.Connection] = []
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="zizq-reader")

    async def read(self, question: Callable[[apsw.Connection], T]) -> T:
        """Ask a question on a read-only connection.

        Raises:
            Unavailable: When the database cannot be read.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._ask, question)
        except apsw.Error as error:
            raise Unavailable(f"the store cannot read just now ({type(error).__name__}: {error})") from error

    async def stop(self) -> None:
        """Wait for the questions that were asked, then close the connections."""
        await asyncio.to_thread(self._pool.shutdown)
        for db in self._opened:
            db.close()

    def _ask(self, question: Callable[[apsw.Connection], T]) -> T:
        db: apsw.Connection | None = getattr(self._local, "db", None)
        if db is None:
            db = connect(self._path, self._cache_bytes)
            db.execute("PRAGMA query_only = ON")
            self._local.db = db
            self._opened.append(db)
        return question(db)
