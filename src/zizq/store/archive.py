"""The form of a backup: a compressed tar whose members stand where they stood, under `zizq-root/data/`."""

from __future__ import annotations

import gzip
import os
import shutil
import sys
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from zizq.errors import ConfigError

ROOT = "zizq-root"
DATA = "data"
PIECE_BYTES = 256 * 1024
"""Bytes that are compressed in one go: some milliseconds."""
_LEVEL = 1
"""How hard to compress. Payloads are small and look alike: level 6 takes twice the time to save a twelfth."""
_GZIP = 16 + zlib.MAX_WBITS
_BLOCK = tarfile.BLOCKSIZE
_BARE = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE)
"""Members that no content follows, whatever size they say."""


def pack(files: Sequence[Path], now: int) -> Iterator[bytes]:
    """An archive of files, piece by piece.

    Args:
        files: Files that do not change any more.
        now: The wall clock, in Unix milliseconds.
    """
    squeeze = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    for raw in _tar(files, now):
        yield squeeze.compress(raw)
    yield squeeze.flush()


def _tar(files: Sequence[Path], now: int) -> Iterator[bytes]:
    for path in files:
        member = tarfile.TarInfo(f"{ROOT}/{DATA}/{path.name}")
        member.size, member.mtime, member.mode = path.stat().st_size, now // 1000, 0o600
        yield member.tobuf(tarfile.GNU_FORMAT)
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
        yield bytes(-member.size % _BLOCK)
    yield bytes(2 * _BLOCK)


class Progress:
    """Reads an archive that goes by, to see how far it has come and whether it is whole."""

    def __init__(self) -> None:
        self._stretch = zlib.decompressobj(_GZIP)
        self._head = b""
        self.total: int | None = None
        """Bytes in the first member, once its head went by: nearly all that there is."""
        self.done = 0
        """Bytes that went by, as they were before they were compressed."""

    @property
    def is_whole(self) -> bool:
        """Whether the archive has ended as it should."""
        return self._stretch.eof

    def feed(self, piece: bytes) -> int:
        """Look at the next piece; returns the bytes that are in it when it is not compressed.

        Raises:
            ConfigError: When it is no archive.
        """
        try:
            raw = self._stretch.decompress(piece)
            if self.total is None:
                self._head += raw[: _BLOCK - len(self._head)]
                if len(self._head) == _BLOCK:
                    self.total = tarfile.TarInfo.frombuf(self._head, "utf-8", "replace").size
        except (zlib.error, tarfile.TarError) as error:
            raise ConfigError(f"what came is no backup: {error}") from error
        self.done += len(raw)
        return len(raw)


def unpack(archive: BinaryIO, names: Sequence[str], folder: Path) -> list[str]:
    """Write the data files of an archive into a folder; all else in it is ignored.

    Args:
        archive: The archive, open at its beginning.
        names: The data files that are wanted.
        folder: Where to write them; nothing in it is overwritten.

    Returns:
        Those that were there.

    Raises:
        ConfigError: When the archive is cut short or damaged, holds what no backup holds, or needs more room than there
            is; what was written so far stays.
    """
    found: list[str] = []
    try:
        with gzip.open(archive) as raw:
            while (member := _next_member(raw)) is not None:
                pieces = _content(raw, member)
                if (name := _data_file(member)) in names:
                    _write(pieces, member, folder / name)
                    found.append(name)
                for _ in pieces:
                    pass
            # At its very end gzip has a checksum of all of it.
            while raw.read(PIECE_BYTES):
                pass
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ConfigError(f"the backup is damaged or cut short: {error}") from error
    return found


def _next_member(raw: gzip.GzipFile) -> tarfile.TarInfo | None:
    """The next head; None at the end.

    Not by `tarfile.open`, which reads the names and comments of other tars into memory, however long they are.
    """
    head = raw.read(_BLOCK)
    if head == bytes(_BLOCK):
        return None
    member = tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    if member.size < 0:
        raise tarfile.ReadError("a member has a negative size")
    return member


def _content(raw: gzip.GzipFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    """What follows a head, with nothing of what fills the last block, which is read as well."""
    left = 0 if member.type in _BARE else member.size
    filling = -left % _BLOCK
    while left:
        piece = raw.read(min(left, PIECE_BYTES))
        if not piece:
            raise EOFError("it ends within a member")
        left -= len(piece)
        yield piece
    raw.read(filling)


def _data_file(member: tarfile.TarInfo) -> str:
    """The name of a data file; empty for what is none.

    Raises:
        ConfigError: When it is what no backup holds.
    """
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise ConfigError(f"the backup is refused: its member {member.name!r} leads out of the folder")
    if path.parts[:1] != (ROOT,):
        return ""
    # By their exact types: tarfile takes a few more for regular files, such as those with holes.
    if member.issparse() or member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE):
        raise ConfigError(f"the backup is refused: its member {member.name!r} is neither a file nor a folder")
    inside = path.parts[1:]
    return inside[1] if member.isfile() and len(inside) == 2 and inside[0] == DATA else ""


def _write(pieces: Iterator[bytes], member: tarfile.TarInfo, path: Path) -> None:
    free = shutil.disk_usage(path.parent).free
    if member.size > free:
        raise ConfigError(f"there is no room in {path.parent}: {member.name} has {member.size} bytes, {free} are free")
    try:
        with path.open("xb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
    except gzip.BadGzipFile:
        raise
    except FileExistsError as error:
        raise ConfigError(f"the backup is refused: it has {member.name!r} twice") from error
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error


def main() -> None:
    """Write an archive to standard output: `python -m zizq.store.archive NICENESS NOW FILE...`."""
    niceness, now, *files = sys.argv[1:]
    os.nice(int(niceness))
    for piece in pack(list(map(Path, files)), int(now)):
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
