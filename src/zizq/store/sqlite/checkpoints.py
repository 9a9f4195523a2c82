"""Copies the write-ahead log into the database, off the writer's path.

Left to itself SQLite does that inside a commit, once the log has grown enough: it then syncs all that was written
since the last time, and every caller waits. Here a thread of its own does the bulk of it while the writer goes on;
what the writer has added meanwhile is little, and only that is left for a commit to do. After that the log is empty
and begins anew. Were the last part left to the thread as well, a busy writer would always be a little ahead of it, and
the log would grow for ever.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import apsw

from zizq.store.sqlite.schema import connect

log = logging.getLogger("zizq.store")

PAGES = 4000
"""Pages of the log that start a checkpoint: 32 MB, about a second of a busy server, and all a restart has to read."""
_CACHE_BYTES = 64 * 1024


class Checkpoints:
    """Watches the log of the writer's connection.

    Args:
        path: The database file.
        writer: The writer's connection; its hook on commits is taken over.
    """

    def __init__(self, path: Path, writer: apsw.Connection) -> None:
        self._path = path
        self._writer = writer
        self._wanted = threading.Semaphore(0)
        self._copying = False
        self._copied = False
        self._next_at = PAGES
        self._stopping = False
        writer.set_wal_hook(self._on_commit)
        self._thread = threading.Thread(target=self._run, name="zizq-checkpoint", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what is still in the log is copied when the last connection closes."""
        self._stopping = True
        self._wanted.release()
        self._thread.join()

    def _on_commit(self, db: apsw.Connection, name: str, pages: int) -> int:
        """Called in the writer's thread, with the pages in the log after a commit."""
        if self._copied:
            self._copied = False
            in_log, copied = self._checkpoint(self._writer)
            # A reader that is still on old pages keeps the log from beginning anew: try again when it has grown.
            self._next_at = PAGES if in_log == copied else in_log + PAGES // 2
        elif pages >= self._next_at and not self._copying:
            self._copying = True
            self._wanted.release()
        return apsw.SQLITE_OK

    def _run(self) -> None:
        db = connect(self._path, _CACHE_BYTES)
        db.execute("PRAGMA synchronous = NORMAL")
        while self._wanted.acquire() and not self._stopping:
            self._checkpoint(db)
            self._copied, self._copying = True, False
        db.close()

    @staticmethod
    def _checkpoint(db: apsw.Connection) -> tuple[int, int]:
        """Copy what can be copied without waiting for anyone; returns the pages in the log and those copied."""
        try:
            return db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error as error:
            # The log keeps what was not copied. A disk that is full shows at the next commit.
            log.warning("checkpoint failed", extra={"fields": {"error": f"{type(error).__name__}: {error}"}})
            return 0, -1
