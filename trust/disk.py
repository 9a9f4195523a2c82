"""A disk that is recorded, fails when it is told to, and loses what was not synced: a layer under SQLite.

`Disk` passes everything on to real files and keeps a tape of it. `Images` makes of the tape what a power cut at some
point may leave: of each file all that was synced, and any part of what was written since, whole or torn, in any order.

What it takes for granted is what SQLite does (sqlite.org/psow.html): that a write does not change bytes beside it, and
that a sync which succeeds is true. A name in the folder is certain once the folder was synced, as SQLite has it done
with the first sync of a log, and with some deletions.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import TracebackType
from typing import NamedTuple, Self

import apsw

SECTORS = (512, 4096, 1)
"""Sizes of what a disk writes at once; 1 for one that may stop at any byte."""
_FOLDER = -1
_DIRSYNC = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL
_serial = itertools.count()


class Op(NamedTuple):
    """One thing done to a file; for `sync` and `lost`, `at` is how much of the tape it concerns."""

    kind: str
    file: int
    at: int = 0
    data: bytes = b""


@dataclass
class Fault:
    """What goes wrong from now on.

    Args:
        kinds: What fails: open, read, write, sync, truncate, delete.
        where: How the names of the files end that it concerns: "jobs.db", "-wal", or "" for all.
        code: The error.
        times: How often; None for always.
        drops: Whether a sync that fails takes back what it should have made certain.
        forgets: Whether what is taken back cannot even be read any more.
    """

    kinds: frozenset[str]
    where: str = ""
    code: int = apsw.SQLITE_IOERR
    times: int | None = None
    drops: bool = True
    forgets: bool = False


_CODES = {
    "read": apsw.SQLITE_IOERR_READ, "write": apsw.SQLITE_IOERR_WRITE, "sync": apsw.SQLITE_IOERR_FSYNC,
    "truncate": apsw.SQLITE_IOERR_TRUNCATE, "delete": apsw.SQLITE_IOERR_DELETE, "open": apsw.SQLITE_CANTOPEN,
}  # fmt: skip


class Disk(apsw.VFS):
    """Under all databases that are opened as long as the block lasts.

    Args:
        is_honest: Whether what it says it has synced is synced.
    """

    def __init__(self, is_honest: bool = True) -> None:
        self._name = f"disk{next(_serial)}"
        super().__init__(self._name, "unix", makedefault=True)
        self.is_honest = is_honest
        self.tape: list[Op] = []
        self.names: dict[str, int] = {}
        """The files by their paths, as a process sees them."""
        self.handles: dict[int, list[File]] = {}
        self.fault: Fault | None = None
        self.room: int | None = None
        """Bytes by which all files together may still grow; None for any."""
        self.met: list[str] = []
        """The faults that were met."""
        self.forgot = 0
        """How often a failed sync took back what was there to be read."""
        self.lock = threading.RLock()
        """Held while a file is read or changed: what a failed sync drops, it drops at one instant."""
        self._files = itertools.count()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.heal()
        apsw.set_default_vfs("unix")
        self.unregister()

    def adopt(self, folder: Path) -> None:
        """Begin with files that are there, and on the disk."""
        for path in folder.resolve().glob("jobs.db*"):
            if not path.name.endswith("-shm"):
                number = self.names[str(path)] = next(self._files)
                self.note("create", number, data=str(path).encode())
                self.note("write", number, data=path.read_bytes())
                self.note("sync", number, len(self.tape))
        self.note("sync", _FOLDER, len(self.tape))

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Databases that are opened in the block are on the real disk, unseen by the tape."""
        apsw.set_default_vfs("unix")
        try:
            yield
        finally:
            apsw.set_default_vfs(self._name)

    # ── faults ──

    def fail(self, *kinds: str, where: str = "", times: int | None = None, forgets: bool = False) -> None:
        """Let things go wrong with an I/O error."""
        self.fault = Fault(frozenset(kinds), where, times=times, forgets=forgets)

    def fill(self, room: int = 0) -> None:
        """Leave only so many bytes free."""
        self.room = room

    def heal(self) -> None:
        """Let nothing go wrong any more."""
        self.fault = self.room = None

    def meet(self, kind: str, path: str) -> Fault | None:
        """The fault that a thing done to a file meets."""
        fault = self.fault
        if fault is None or kind not in fault.kinds or not path.endswith(fault.where):
            return None
        if fault.times is not None:
            fault.times -= 1
            if fault.times <= 0:
                self.fault = None
        self.met.append(f"{kind} {Path(path).name}")
        return fault

    def check(self, kind: str, path: str) -> None:
        """Raise what a thing done to a file meets."""
        if self.meet(kind, path) is not None:
            raise apsw.exception_for(_CODES[kind])

    def grow(self, path: str, by: int) -> None:
        """Take room for a file that grows."""
        if self.room is None or by <= 0:
            return
        if by > self.room:
            self.met.append(f"full {Path(path).name}")
            raise apsw.FullError("no space left on the disk")
        self.room -= by

    # ── what SQLite asks ──

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        """Open a file, and note it where it is new."""
        if name is None:
            return super().xOpen(name, flags)
        path = name if isinstance(name, str) else name.filename()
        self.check("open", path)
        opened = File(self, path, name, flags)
        if path not in self.names:
            self.names[path] = next(self._files)
            self.note("create", self.names[path], data=path.encode())
        opened.number = self.names[path]
        self.handles.setdefault(opened.number, []).append(opened)
        return opened

    def xDelete(self, path: str, syncdir: bool) -> None:
        """Delete a file."""
        self.check("delete", path)
        super().xDelete(path, syncdir)
        if path in self.names:
            self.note("delete", self.names.pop(path), data=path.encode())
        if syncdir:
            self.note("sync", _FOLDER, len(self.tape))

    def note(self, kind: str, file: int, at: int = 0, data: bytes = b"") -> None:
        """Put something on the tape."""
        if self.is_honest or kind != "sync":
            self.tape.append(Op(kind, file, at, data))

    def drop(self, file: File, upto: int, forgets: bool) -> None:
        """A sync has failed: what it should have made certain never will be; all who have the file open will hear."""
        for other in self.handles[file.number]:
            other.owes_error = other is not file
        self.note("lost", file.number, upto, b"forgotten" if forgets else b"")
        if forgets:
            self.forgot += 1
            images = Images(self.tape)
            images.advance(len(self.tape))
            file.replace(bytes(images.files[file.number].sure))


class File(apsw.VFSFile):
    """One open file."""

    def __init__(self, disk: Disk, path: str, name: str | apsw.URIFilename, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._disk = disk
        self._path = path
        self._tells_folder = bool(flags[0] & _DIRSYNC and flags[0] & apsw.SQLITE_OPEN_CREATE)
        self.number = _FOLDER
        self.owes_error = False

    def xClose(self) -> None:
        """Close the file."""
        handles = self._disk.handles.get(self.number, [])
        if self in handles:
            handles.remove(self)
        super().xClose()

    def xRead(self, amount: int, offset: int) -> bytes:
        """Read."""
        with self._disk.lock:
            self._disk.check("read", self._path)
            return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:
        """Write."""
        data = bytes(data)
        with self._disk.lock:
            if self._disk.meet("write", self._path) is not None:
                # Half of it may be there all the same.
                self._write(data[: len(data) // 2], offset)
                raise apsw.exception_for(_CODES["write"])
            self._disk.grow(self._path, offset + len(data) - self.xFileSize())
            self._write(data, offset)

    def _write(self, data: bytes, offset: int) -> None:
        if data:
            self._disk.note("write", self.number, offset, data)
            super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:
        """Cut."""
        with self._disk.lock:
            self._disk.check("truncate", self._path)
            self._disk.note("truncate", self.number, size)
            super().xTruncate(size)

    def xSync(self, flags: int) -> None:
        """Sync; on the tape once it is done, for what was there before it began."""
        with self._disk.lock:
            upto = len(self._disk.tape)
            fault = self._disk.meet("sync", self._path)
            if fault is not None and fault.drops:
                self._disk.drop(self, upto, fault.forgets)
        if fault is not None or self.owes_error:
            self.owes_error = False
            raise apsw.exception_for(_CODES["sync"])
        super().xSync(flags)
        self._disk.note("sync", self.number, upto)
        if self._tells_folder:
            self._tells_folder = False
            self._disk.note("sync", _FOLDER, upto)

    def replace(self, content: bytes) -> None:
        """Put other content into the file, unseen by the tape."""
        super().xTruncate(0)
        for start in range(0, len(content), 2**16):
            super().xWrite(content[start : start + 2**16], start)


# ── what is left after a power cut ──────────────────────────────────────────────────────────────────


@dataclass
class Kept:
    """What is on the disk of a file for certain, and what has been done to it since."""

    sure: bytearray = field(default_factory=bytearray)
    since: list[tuple[int, Op]] = field(default_factory=list)

    def settle(self, upto: int, apply: Callable[[bytearray, Op], None]) -> None:
        """Some of what has been done is certain now, or never will be."""
        for number, op in self.since:
            if number < upto:
                apply(self.sure, op)
        self.since = [one for one in self.since if one[0] >= upto]


class Images:
    """Walks along a tape, and makes images of what a power cut may leave.

    Args:
        tape: What was done.
        dice: Decides what of it is left.
    """

    def __init__(self, tape: list[Op], dice: Random | None = None) -> None:
        self._tape = tape
        self._dice = dice or Random(0)
        self._at = 0
        self.files: dict[int, Kept] = {}
        self._names: dict[str, int] = {}
        self._folder: list[tuple[int, Op]] = []

    def advance(self, to: int) -> None:
        """Go on to a point of the tape."""
        for number in range(self._at, to):
            op = self._tape[number]
            kept = self.files.setdefault(op.file, Kept())
            if op.kind in ("create", "delete"):
                self._folder.append((number, op))
            elif op.kind == "sync" and op.file == _FOLDER:
                self._names = self._named([one for one in self._folder if one[0] < op.at])
                self._folder = [one for one in self._folder if one[0] >= op.at]
            elif op.kind == "sync":
                kept.settle(op.at, _apply)
            elif op.kind == "lost":
                kept.settle(op.at, self._never if op.data else self._maybe)
            else:
                kept.since.append((number, op))
        self._at = to

    def make(self, folder: Path, how: str | None = None) -> None:
        """Write an image into an empty folder.

        Args:
            folder: Where.
            how: What is left of all that was not synced: nothing, all, a prefix, some, or some in any order
                (shuffled); None for whatever the dice say.
        """
        how = how or self._dice.choice(("nothing", "all", "prefix", "prefix", "some", "some", "shuffled"))
        point = self._dice.random()
        for name, file in self._named(self._reached(how)).items():
            content = self._left(self.files.get(file, Kept()), how, point)
            (folder / Path(name).name).write_bytes(content)

    def _reached(self, how: str) -> list[tuple[int, Op]]:
        """What of the names that are not certain is on the disk."""
        if how in ("nothing", "all"):
            return self._folder if how == "all" else []
        # What was done to one name happens in order; how far it came may differ from name to name.
        far = {op.data: self._dice.randrange(len(self._tape) + 1) for _, op in self._folder}
        return [one for one in self._folder if one[0] < far[one[1].data]]

    def _named(self, done: list[tuple[int, Op]]) -> dict[str, int]:
        names = dict(self._names)
        for _, op in done:
            name = op.data.decode()
            if op.kind == "create":
                names[name] = op.file
            elif names.get(name) == op.file:
                del names[name]
        return names

    def _left(self, kept: Kept, how: str, point: float) -> bytearray:
        """A file as it may be."""
        content = bytearray(kept.sure)
        ops = [op for _, op in kept.since]
        if how == "nothing" or not ops:
            return content
        if how == "prefix":
            whole = int(point * len(ops))
            for op in ops[:whole]:
                _apply(content, op)
            self._tear(content, ops[whole])
        elif how == "all":
            for op in ops:
                _apply(content, op)
        else:
            if how == "shuffled":
                self._dice.shuffle(ops)
            share = self._dice.choice((0.1, 0.5, 0.9, 0.98))
            for op in ops:
                if self._dice.random() < share:
                    _apply(content, op)
                elif self._dice.random() < 0.5:
                    self._tear(content, op)
        return content

    def _maybe(self, content: bytearray, op: Op) -> None:
        """Of what a failed sync dropped, some may have reached the disk."""
        if self._dice.random() < 0.3:
            _apply(content, op)
        elif self._dice.random() < 0.3:
            self._tear(content, op)

    def _never(self, content: bytearray, op: Op) -> None:
        """Of what a failed sync dropped, nothing has reached the disk."""

    def _tear(self, content: bytearray, op: Op) -> None:
        """Do a part of something."""
        if op.kind == "truncate":
            return
        sector = self._dice.choice(SECTORS)
        end = op.at + len(op.data)
        if sector == 1:
            cut = self._dice.randrange(len(op.data))
            _apply(content, op._replace(data=op.data[:cut]))
        else:
            first = op.at // sector * sector
            for start in range(first, end, sector):
                if self._dice.random() < 0.5:
                    low, high = max(start, op.at), min(start + sector, end)
                    _apply(content, op._replace(at=low, data=op.data[low - op.at : high - op.at]))
        if len(content) < end and self._dice.random() < 0.3:
            # The file has grown, and what was to be there is not: zeros, or what the disk had there before.
            missing = end - len(content)
            content += self._dice.choice((bytes(missing), self._dice.randbytes(missing)))


def _apply(content: bytearray, op: Op) -> None:
    """Do something whole."""
    if op.kind == "truncate":
        if op.at < len(content):
            del content[op.at :]
        else:
            content += bytes(op.at - len(content))
        return
    if len(content) < op.at:
        content += bytes(op.at - len(content))
    content[op.at : op.at + len(op.data)] = op.data
