"""Puts a backup in the place of a store: unpacked beside it and checked first, then moved in one step."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import apsw

from zizq.errors import ConfigError
from zizq.store.archive import DATA, ROOT, unpack
from zizq.store.removal import sync_folder
from zizq.store.sqlite.check import check
from zizq.store.sqlite.schema import APPLICATION_ID, MIGRATIONS, RESTORING, FolderLock, connect

FILE = "jobs.db"
_CACHE_BYTES = 64 * 2**20


class Restoring:
    """A restore, step by step: `unpack`, `check` and `replace`, in a `with` block.

    Until `replace` nothing in the folder has changed; what was unpacked is gone after the block.

    Args:
        root: The folder of the server.
        force: Whether it may have content: then its data is kept aside.
        known: The newest format that can be read.

    Raises:
        ConfigError: When the folder has content and may not, cannot be read, or is in use by a server.
    """

    def __init__(self, root: Path, *, force: bool, known: int = len(MIGRATIONS)) -> None:
        self._root = root
        self._known = known
        self._beside = root / RESTORING
        self._place = root / DATA
        self._lock: FolderLock | None = None
        self._own: FolderLock | None = None
        try:
            content = [one.name for one in root.iterdir() if one.name != RESTORING] if root.exists() else []
        except OSError as error:
            raise ConfigError(f"cannot use {root} as a store: {error.strerror}") from error
        if content and not force:
            raise ConfigError(f"{root} is not empty: choose another --root-dir, or say --force to keep its data aside")

    def __enter__(self) -> Restoring:
        """Keep servers out, and make room beside the data; what an earlier restore has left there is removed."""
        self._keep_out()
        try:
            self._beside.mkdir(parents=True, exist_ok=True)
            # Other restores as well: each would remove what the other has unpacked.
            self._own = FolderLock(self._beside, "another restore")
            shutil.rmtree(self._beside / DATA, ignore_errors=True)
            (self._beside / DATA).mkdir()
        except OSError as error:
            self._leave()
            raise ConfigError(f"cannot write to {self._root}: {error.strerror}") from error
        except ConfigError:
            self._leave()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Remove what was not moved, and let servers in."""
        self._leave()

    def unpack(self, archive: BinaryIO) -> None:
        """Unpack a backup, and see that it is one which this version can read.

        Raises:
            ConfigError: When it is not whole, no backup, or of a newer version.
        """
        if FILE not in unpack(archive, [FILE], self._beside / DATA):
            raise ConfigError(f"this is no backup of a store: there is no {ROOT}/{DATA}/{FILE} in it")
        with closing(self._open()) as db:
            self._read_format(db)

    def check(self, now: int, progress: Callable[[str], None]) -> Sequence[str]:
        """What is wrong with the backup, a line each.

        One from an earlier version is checked less: whether its pages and indexes are in order.

        Args:
            now: The wall clock, in Unix milliseconds.
            progress: Hears what is being done.
        """
        with closing(self._open()) as db:
            if self._read_format(db) < self._known:
                progress("checking the file")
                return [str(row[0]) for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
        return check(self._beside, now, progress).violations

    def replace(self, now: int) -> Path | None:
        """Move the backup to its place; returns where the data is now that was there before.

        Args:
            now: The wall clock, in Unix milliseconds, for the name of that.

        Raises:
            ConfigError: When a server uses the store, or the folder cannot be written.
        """
        new, place = self._beside / DATA, self._place
        # Whatever reading it has left there.
        for one in new.iterdir():
            if one.name != FILE:
                one.unlink()
        # A server may have made a store here meanwhile.
        self._keep_out()
        aside = None if self._lock is None else self._root / f"{DATA}-before-{now}"
        try:
            self._give_to_owner(new)
            sync_folder(new)
            if aside is not None:
                place.rename(aside)
            new.rename(place)
            sync_folder(self._root)
        except OSError as error:
            if aside is not None and aside.exists() and not place.exists():
                aside.rename(place)
            raise ConfigError(f"cannot put the backup into {place}: {error.strerror}") from error
        return aside

    def _keep_out(self) -> None:
        if self._lock is None and self._place.exists():
            self._lock = FolderLock(self._place)

    def _leave(self) -> None:
        if self._own is not None:
            shutil.rmtree(self._beside, ignore_errors=True)
            self._own.release()
        if self._lock is not None:
            self._lock.release()
        self._lock = self._own = None

    def _give_to_owner(self, folder: Path) -> None:
        """Where root restores, the data becomes that of the owner of the server's folder, who has to open it."""
        if os.geteuid() == 0:
            owner = self._root.stat()
            for path in (folder, *folder.iterdir()):
                os.chown(path, owner.st_uid, owner.st_gid)

    def _open(self) -> apsw.Connection:
        try:
            return connect(self._beside / DATA / FILE, _CACHE_BYTES, apsw.SQLITE_OPEN_READONLY)
        except apsw.Error as error:
            raise ConfigError(f"the database in the backup cannot be opened: {error}") from error

    def _read_format(self, db: apsw.Connection) -> int:
        """The format of the backup: how many migrations it has seen."""
        try:
            owner, done = db.pragma("application_id"), db.pragma("user_version")
        except apsw.Error as error:
            raise ConfigError(f"the database in the backup cannot be read: {error}") from error
        if owner != APPLICATION_ID or done < 1:
            raise ConfigError("this is no backup of a store: the database in it is of another program")
        if done > self._known:
            raise ConfigError(f"the backup has format {done}, this zizq knows {self._known}: use a newer zizq")
        return int(done)
