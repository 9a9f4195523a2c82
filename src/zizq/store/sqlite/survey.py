"""Looks at a store from outside, beside a server that may be running on it."""

from __future__ import annotations

import fcntl
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import apsw

from zizq.errors import ConfigError
from zizq.store.facts import StoreFacts
from zizq.store.sqlite.schema import MIGRATIONS, format_of

_LOCKS = Path("/proc/locks")


def survey(root: Path) -> StoreFacts | None:
    """What there is in a folder; None where there is no store yet. Nothing is changed."""
    path = root / "data" / "jobs.db"
    holder = lock_holder(path.parent / "lock")
    if not path.exists():
        return None
    try:
        with closing(_open(path)) as db:
            pages, free, size = (_number(db, name) for name in ("page_count", "freelist_count", "page_size"))
            return StoreFacts(
                format=format_of(db, path),
                known_format=len(MIGRATIONS),
                size=pages * size,
                free=free * size,
                log_size=_size(Path(f"{path}-wal")),
                holder=holder,
            )
    except ConfigError as error:
        return StoreFacts(error=str(error), holder=holder)
    except apsw.Error as error:
        return StoreFacts(error=f"{path} cannot be read: {error}", holder=holder)


def lock_holder(lock: Path) -> int | None:
    """The process that holds a file locked; 0 where that is some process of which no more is known."""
    if not lock.exists():
        return None
    if _LOCKS.exists():
        # Not by trying to lock it: a server that started at that moment would find it locked.
        return holder_of(_LOCKS.read_text(), lock.stat().st_ino)
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return 0
    return None


def holder_of(locks: str, inode: int) -> int | None:
    """The process that holds the file of this inode, out of what Linux tells of locks.

    The inode alone is compared: in containers the device is often another than that which the file shows.
    """
    for line in locks.splitlines():
        parts = line.split()
        if "FLOCK" in parts and "->" not in parts and parts[5].rpartition(":")[2] == str(inode):
            return max(0, int(parts[4]))
    return None


def _open(path: Path) -> apsw.Connection:
    """A connection that leaves no file behind: one that root made would keep the server of another user out.

    Where nobody has the database open, its log is left aside for that, so what the last commits changed is not seen.
    """
    is_open = Path(f"{path}-shm").exists()
    address = f"file:{quote(str(path.absolute()))}?mode=ro{'' if is_open else '&immutable=1'}"
    return apsw.Connection(address, apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)


def _number(db: apsw.Connection, name: str) -> int:
    return int(db.pragma(name))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
