"""Copies the write-ahead log into the database, off the writer's path.

Left to itself SQLite does that inside a commit, once the log has grown enough: it then syncs all that was written
since the last time, and every caller waits. Here a thread of its own does the bulk of it while the writer goes on;
what the writer has added meanwhile is little, and only that is left for a commit to do. After that the log is empty
and begins anew. Were the last part left to the thread as well, a busy writer would always be a little ahead of it, and
the log would grow for ever. The thread syncs the database too: SQLite leaves that to whoever copies the last of it, who
would be that commit.

Before a copy all of the log must be on disk. Where no commit waits for that, the thread syncs it a piece at a time, as
it grows: 32 MB at once keep the disk busy for 30 ms, in which each commit takes several times as long.

A sync of bytes that make a file longer has the file system write its own journal as well, which takes as long again. So
before durable commits need it, zeros are written behind the log, and they write over those.

Under a reader that stays the log grows. When it begins anew, its file is too long, and is *shortened* by each commit a
little: all at once, as SQLite has a commit do it, would hold that one up for as long as 40 ms.

When a sync has failed, nobody knows what is on disk, and the log is *in doubt*: nothing is written behind it and
nothing is copied of it, until the writer has mended it (`mending`, docs/decisions/disk-faults.md).
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw

from zizq.clock import SystemClock
from zizq.store.sqlite.mending import FRAME, Lost, lengthen, log_of, mend, shorten
from zizq.store.sqlite.schema import closed_on_error, connect

log = logging.getLogger("zizq.store")

PAGES = 8000
"""Pages of the log that start a checkpoint: 32 MB, about a second of a busy server, and all a restart has to read."""
REST_PAGES = 256
"""Pages that may be left to a commit, 1 MB."""
PASSES = 4
"""How often the thread copies what came meanwhile, at most, until no more than that is left."""
KEPT_BYTES = 64 * 2**20
"""What the file of a log that begins anew may keep."""
PIECE_PAGES = 1024
"""Pages by which a commit shortens it, 4 MB mostly: one to three milliseconds."""
SYNCED_PAGES = 512
"""Pages that commits may leave unsynced, 2 MB mostly, until the thread syncs them."""
AHEAD_PAGES = 256
"""Pages that the file of the log has room for before durable commits need them."""
CUT_WAIT_MS = 20
CUT_ATTEMPTS = 20
_CACHE_BYTES = 64 * 1024
_SYNC_FAILED = (apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC)


class Checkpoints:
    """Watches the log of the writer's connection.

    Args:
        path: The database file.
        writer: The writer's connection; its hook on commits is taken over.
    """

    def __init__(self, path: Path, writer: apsw.Connection) -> None:
        self._path = path
        self._writer = writer
        self._wanted = threading.Event()
        self.is_copying = False
        """Whether the thread copies the log just now, which keeps the disk busy."""
        self._copied = False
        self._next_at = PAGES
        # In the log after the last commit, and so many of them are synced, or will be.
        self._pages = 0
        self._synced = 0
        self._page_size: int = writer.execute("PRAGMA page_size").get
        self._usual = KEPT_BYTES // (self._page_size + FRAME)
        # How many the file of the log may keep, and for how many it has room.
        self._kept = self._usual
        self._room = self._pages_in_file()
        # Whether the next commit has to shorten it, or to lengthen it for those after it.
        self._is_long = self._is_full = False
        # To sync by. It stays open for as long as any connection: SQLite's locks end with the first that is closed.
        self._file = os.open(path, os.O_RDONLY)
        self._stopping = False
        # Held by whoever reads or writes the log as a whole.
        self._log = threading.RLock()
        # Held by whoever cuts the log: to wait for that is quicker than to ask SQLite ever more seldom.
        self._cutting = threading.Lock()
        self.commits = 0
        """How many commits wrote something."""
        self.copied_at: int | None = None
        """When the log was last copied, in Unix milliseconds."""
        self.in_doubt = False
        """Whether a sync has failed and the log was not mended since."""
        self.lost: str | None = None
        """Why the log can be mended no more; None where it can."""
        self.is_durable = False
        """Whether commits wait for the disk."""
        self.is_in_haste = False
        """Whether a commit that is being made leaves what is to be done about the log to the next one."""
        # The first commit to an empty log waits for the disk, whatever its mode.
        self._is_new = True
        self.on_doubt: Callable[[], None] = lambda: None
        """Hears, in the thread here, that the log is in doubt."""
        writer.set_wal_hook(self._on_commit)
        self._thread = threading.Thread(target=self._run, name="zizq-checkpoint", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what is still in the log is copied when the writer's connection is closed."""
        self._stopping = True
        self._wanted.set()
        self._thread.join()

    # ── doubt ──

    def note(self, error: Exception) -> None:
        """An error came of a write or of a copy."""
        if isinstance(error, apsw.IOError) and getattr(error, "extendedresult", 0) in _SYNC_FAILED:
            self.in_doubt = True

    def make_sure(self) -> None:
        """On the writer's thread, before it does anything: let a cut of the log pass, and mend it where it is in doubt.

        Raises:
            apsw.Error: When the disk does not let it be mended now.
            Lost: When what was committed is gone.
        """
        with self._cutting:
            pass
        if not self.in_doubt:
            return
        if self.lost is not None:
            raise Lost(self.lost)
        with self._log:
            frames, copied = self._writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
            try:
                mend(self._path, frames, copied)
            except Lost as error:
                self.lost = f"{error}: restart the server, and it goes on from what the disk has kept"
                log.critical("log lost", extra={"fields": {"error": self.lost}})
                raise Lost(self.lost) from error
            self.in_doubt = False
        # Pages that were read meanwhile may have been old.
        self._writer.release_memory()
        log.warning("log mended after a sync that failed", extra={"fields": {"pages": frames}})

    @property
    def is_calm(self) -> bool:
        """Whether the next commit has nothing to do about the log, and nothing to wait for but what it is to last."""
        return not (self._copied or self._is_new or self._is_long or self._is_full or self.in_doubt)

    def close(self) -> None:
        """On the writer's thread, when all other connections are closed: copy the rest of the log, and close."""
        with suppress(apsw.Error, Lost):
            self.make_sure()
        if not self.in_doubt:
            self._writer.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
        try:
            self._writer.close()
        except apsw.Error as error:
            _complain(error)
        os.close(self._file)

    # ── copying ──

    def _on_commit(self, db: apsw.Connection, name: str, pages: int) -> int:
        """Called by whoever commits, with the pages in the log after it."""
        self.commits += 1
        self._is_new = False
        self._note_synced(pages)
        self._pages = pages
        self._room = max(self._room, pages)
        self._is_long = self._room > max(pages, self._kept)
        # Of a log that is short, as that of a store with little to do, no more than it has already.
        ahead = min(AHEAD_PAGES, pages)
        self._is_full = self.is_durable and self._room - pages < ahead and pages + 2 * ahead <= self._kept
        if self._copied or self._is_long:
            # Where another is copying just now the next commit does it: this one must not wait for that.
            if not self.is_in_haste and self._log.acquire(blocking=False):
                try:
                    (self._copy_rest if self._copied else self._shorten)(pages)
                finally:
                    self._log.release()
        elif pages >= self._next_at and not self.is_copying:
            self.is_copying = True
            self._wanted.set()
        elif self._is_full and not self.is_in_haste:
            self._lengthen(pages + 2 * ahead)
        return apsw.SQLITE_OK

    def _note_synced(self, pages: int) -> None:
        """So many pages are in the log, all of which a durable commit has synced."""
        if self.is_durable:
            self._synced = pages
        elif pages < self._pages:
            # It began anew.
            self._synced = 0
        if pages - self._synced >= SYNCED_PAGES:
            self._synced = pages
            self._wanted.set()

    def _copy_rest(self, pages: int) -> None:
        self._copied = False
        in_log, copied = self._copy(self._writer) or (pages, -1)
        # A reader that is still on old pages keeps the log from beginning anew: try again when it has grown.
        self._is_new = in_log == copied
        self._next_at = PAGES if self._is_new else in_log + PAGES // 2

    def _shorten(self, pages: int) -> None:
        """Cut a piece off the end of the log's file, which has so many pages of use at its beginning."""
        if self.in_doubt:
            return
        least = max(pages, self._kept)
        room = self._room = max(least, self._room - PIECE_PAGES)
        self._is_long = room > least
        try:
            shorten(self._path, room, self._page_size)
        except apsw.Error as error:
            # It may stay as long as it is, and is not tried at each commit again.
            self._room, self._is_long = least, False
            _complain(error)

    def _lengthen(self, room: int) -> None:
        """Make room for so many pages in the log's file."""
        self._room, self._is_full = room, False
        # Where the disk is full the commit that needs the room says so.
        with suppress(apsw.Error):
            # Nobody else may write meanwhile, from whatever process, nor cut the log.
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                lengthen(self._path, room, self._page_size)
            finally:
                self._writer.execute("ROLLBACK")

    def _pages_in_file(self) -> int:
        log = log_of(self._path)
        return log.stat().st_size // (self._page_size + FRAME) if log.exists() else 0

    def _run(self) -> None:
        db: apsw.Connection | None = None
        while self._is_wanted():
            if not self.is_copying:
                self._sync_log()
                continue
            db = db or self._connect()
            if db is not None and self._copy_most(db):
                self._copied = True
            else:
                self._next_at += PAGES // 2
            self.is_copying = False
        if db is not None:
            db.close()

    def _is_wanted(self) -> bool:
        """Wait until there is something to do; False where that is to stop."""
        self._wanted.wait()
        # Before anything is looked at: what is wanted from now on is heard the next time.
        self._wanted.clear()
        return not self._stopping

    def _copy_most(self, db: apsw.Connection) -> bool:
        """Copy the log until little has come meanwhile, and sync it; whether the disk let it."""
        for _ in range(PASSES):
            done = self._copy(db)
            if done is None or not self._sync(self._file):
                return False
            _, copied = done
            if self._pages - copied <= REST_PAGES or self._stopping:
                break
        return True

    def _connect(self) -> apsw.Connection | None:
        try:
            db = connect(self._path, _CACHE_BYTES)
            with closed_on_error(db):
                db.execute("PRAGMA synchronous = NORMAL")
        except apsw.Error as error:
            _complain(error)
            return None
        return db

    def _copy(self, db: apsw.Connection, mode: int = apsw.SQLITE_CHECKPOINT_PASSIVE) -> tuple[int, int] | None:
        """Copy the log, in a mode of SQLite's; returns the pages in it and those copied, or None when that failed."""
        with self._log:
            if self.in_doubt:
                return None
            try:
                done = self._checkpoint(db, mode)
                self.copied_at = SystemClock().wall_ms()
                return done
            except apsw.BusyError:
                # Whoever cuts the log tries again. Any other copy is left for later: an error out of the hook would
                # have SQLite report that a commit failed that has happened.
                if mode != apsw.SQLITE_CHECKPOINT_PASSIVE:
                    raise
                return None
            except apsw.Error as error:
                # The log keeps what was not copied. A disk that is full shows at the next commit.
                _complain(error)
                self.note(error)
        if self.in_doubt and db is not self._writer:
            self.on_doubt()
        return None

    def _sync_log(self) -> None:
        """Sync the log, so that whoever copies it has little to wait for."""
        if self.in_doubt:
            # That says nothing of what was not written.
            return
        try:
            # There are no locks on it that would end with it.
            file = os.open(log_of(self._path), os.O_RDONLY)
        except OSError as error:
            _complain(error)
            return
        try:
            self._sync(file)
        finally:
            os.close(file)

    def _sync(self, file: int) -> bool:
        """Sync the log or the database; whether the disk let it."""
        try:
            os.fdatasync(file)
        except OSError as error:
            _complain(error)
            self.in_doubt = True
            self.on_doubt()
        return not self.in_doubt

    @contextmanager
    def shortening(self) -> Iterator[int]:
        """Have commits in the block shorten the file of the log as far as they can; yields how many that takes."""
        # The first may still have to copy the rest of the log, and the second to begin it anew.
        self._kept = 0
        try:
            yield 2 + -(-self._room // PIECE_PAGES)
        finally:
            self._kept = self._usual

    def copy_early(self) -> None:
        """On a thread: copy the log before it has grown long, all but the last of it; the next commit does that."""
        if (db := self._connect()) is not None:
            try:
                self._copied = self._copy_most(db) or self._copied
            finally:
                db.close()

    def cut(self) -> bool:
        """On a thread: copy all of the log and cut its file to nothing, unless nobody leaves a moment for it.

        Returns:
            Whether the disk let it.
        """
        db = self._connect()
        if db is None:
            return False
        # While it waits for readers to leave, the writer waits for it; then it waits as long for the writer.
        db.set_busy_timeout(CUT_WAIT_MS)
        try:
            # First the bulk of it, which holds up nobody.
            if not self._copy_most(db):
                return False
            for left in reversed(range(CUT_ATTEMPTS)):
                # Nobody is held up for as long as a reader stays either, but at last.
                if (done := self._copy(db)) is None:
                    return False
                if done[0] != done[1] and left:
                    continue
                with suppress(apsw.BusyError), self._cutting, self._log:
                    if self._copy(db, apsw.SQLITE_CHECKPOINT_TRUNCATE) is None:
                        return False
                    self._next_at, self._room = PAGES, 0
                    break
                time.sleep(CUT_WAIT_MS / 1000)
        finally:
            db.close()
        return True

    @staticmethod
    def _checkpoint(db: apsw.Connection, mode: int) -> tuple[int, int]:
        return db.wal_checkpoint(mode=mode)


def _complain(error: apsw.Error | OSError) -> None:
    log.warning("checkpoint failed", extra={"fields": {"error": f"{type(error).__name__}: {error}"}})
