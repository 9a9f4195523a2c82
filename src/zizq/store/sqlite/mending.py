"""Makes the write-ahead log certain again after a sync of it failed.

When a sync fails, the system may drop what it could not write, and count it as written: a later sync that succeeds
proves nothing for it. The log may then have a hole, and after a power cut SQLite reads it up to that hole and no
further, whatever was synced behind it. Nor may such a log be copied into the database: cut short in the middle, that
leaves new pages there which no log completes.

So all of it is written once more, the same bytes in the same places, and synced. What is read for that may be old
already, where the system has let go of the pages; the checksums tell.

The database has the same trouble: SQLite syncs it only when all of the log has been copied, and after a sync that
failed it copies anew only what it had not copied before. So what it did copy before is written once more as well.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

HEADER = 32
"""Bytes before the first frame; the formats are those of sqlite.org/fileformat2.html#walformat."""
FRAME = 24
"""Bytes before the page in each frame."""
_BIG, _LITTLE = 0x377F0683, 0x377F0682
_CHUNK = 64 * 1024  # the layer below writes 128 KiB at a time at most, and calls more a full disk


class Lost(Exception):
    """A part of the log that was committed is not there any more, or not as it was written."""


def log_of(database: Path) -> Path:
    """The write-ahead log of a database."""
    return database.with_name(database.name + "-wal")


def shorten(database: Path, frames: int, size: int) -> None:
    """Cut all off the file of the log but its first so many frames, with pages of some size.

    Raises:
        apsw.Error: When the disk does not let it.
    """
    with _opened(log_of(database), apsw.SQLITE_OPEN_WAL) as log:
        log.xTruncate(_start(frames, size))


def lengthen(database: Path, frames: int, size: int) -> None:
    """Write zeros behind the log, up to where it has room for so many frames, with pages of some size.

    SQLite reads a log up to the first frame that is none, and writes the next ones over them. Nobody else may write to
    the log meanwhile.

    Raises:
        apsw.Error: When the disk does not let it.
    """
    with _opened(log_of(database), apsw.SQLITE_OPEN_WAL) as log:
        end = _start(frames, size)
        for start in range(log.xFileSize(), end, _CHUNK):
            log.xWrite(bytes(min(_CHUNK, end - start)), start)


def rewrite(database: Path) -> None:
    """Write all of the log once more, and sync it; to be done before SQLite reads it for the first time.

    Whoever wrote it may have died of a sync that failed. What is read now is on disk when this returns, so that all
    that SQLite finds in it is so, too.
    """
    path = log_of(database)
    if not (path.exists() and database.exists()):
        # Without its database SQLite throws a log away.
        return
    with _opened(path, apsw.SQLITE_OPEN_WAL) as log:
        size = log.xFileSize()
        for start in range(0, size, _CHUNK):
            log.xWrite(_read(log, min(_CHUNK, size - start), start), start)
        if size:
            log.xSync(apsw.SQLITE_SYNC_NORMAL)


def mend(database: Path, frames: int, copied: int) -> None:
    """Write all frames of the log that count once more, and what the database has of them, and sync both.

    Nobody else may write to the log or copy it meanwhile. What was written behind these frames by a commit that was
    refused ends here: a crash does not bring it back.

    Args:
        database: The database file.
        frames: How many frames have been committed.
        copied: How many of them have been copied into the database.

    Raises:
        Lost: When one of them does not read as it was written.
    """
    if frames <= 0:
        # The next commit writes the log from its very beginning.
        return
    with _opened(log_of(database), apsw.SQLITE_OPEN_WAL) as log:
        frame_of, pages, size = _mend_log(log, frames, copied)
        with _opened(database, apsw.SQLITE_OPEN_MAIN_DB) as file:
            for page, number in frame_of.items():
                if page <= pages:
                    file.xWrite(_read(log, size, _start(number, size) + FRAME), (page - 1) * size)
            if frame_of:
                file.xSync(apsw.SQLITE_SYNC_NORMAL)


def _mend_log(log: apsw.VFSFile, frames: int, copied: int) -> tuple[dict[int, int], int, int]:
    """Write all frames once more.

    Returns:
        Of each page that was copied, the last frame; how many pages the database has; and the size of a page.
    """
    header = _read(log, HEADER, 0)
    order, size, sums = _checked_header(header)
    log.xWrite(header, 0)
    frame_of: dict[int, int] = {}
    pages = 0
    for number in range(frames):
        frame = _read(log, FRAME + size, _start(number, size))
        sums = _checked_frame(frame, number, header, order, sums)
        log.xWrite(frame, _start(number, size))
        page, pages = struct.unpack(">2I", frame[:8])
        if number < copied:
            frame_of[page] = number
    if log.xFileSize() > _start(frames, size):
        log.xWrite(bytes(FRAME), _start(frames, size))
    log.xSync(apsw.SQLITE_SYNC_NORMAL)
    return frame_of, pages, size


def _start(number: int, size: int) -> int:
    """Where a frame begins."""
    return HEADER + number * (FRAME + size)


@contextmanager
def _opened(path: Path, kind: int) -> Iterator[apsw.VFSFile]:
    # Through SQLite's own layer: closing a file by other means would end all locks that SQLite has on it here.
    file = apsw.VFSFile("", str(path), [kind | apsw.SQLITE_OPEN_READWRITE, 0])
    try:
        yield file
    finally:
        file.xClose()


def _read(log: apsw.VFSFile, size: int, at: int) -> bytes:
    if log.xFileSize() < at + size:
        raise Lost(f"the log ends before byte {at + size}")
    # A read that comes out short has lost its zeros at the end.
    return log.xRead(size, at).ljust(size, b"\0")


def _checked_header(header: bytes) -> tuple[str, int, tuple[int, int]]:
    """The byte order of the checksums, the size of a page and the checksum so far."""
    magic, _, size, *_ = struct.unpack(">8I", header)
    order = {_BIG: ">", _LITTLE: "<"}.get(magic)
    sums = (0, 0) if order is None else _checksum(header[:24], order, (0, 0))
    if order is None or sums != struct.unpack(">2I", header[24:]):
        raise Lost("the log does not begin as it was written")
    return order, size, sums


def _checked_frame(frame: bytes, number: int, header: bytes, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    """The checksum up to the end of a frame."""
    sums = _checksum(frame[:8], order, sums)
    sums = _checksum(frame[FRAME:], order, sums)
    if frame[8:16] != header[16:24] or sums != struct.unpack(">2I", frame[16:FRAME]):
        raise Lost(f"frame {number + 1} of the log is not as it was written")
    return sums


def _checksum(data: bytes, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    one, two = sums
    for even, odd in zip(words[::2], words[1::2], strict=True):
        one = (one + even + two) & 0xFFFFFFFF
        two = (two + odd + one) & 0xFFFFFFFF
    return one, two
