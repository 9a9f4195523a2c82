"""Removes large files a little at a time (docs/decisions/backup.md).

The system frees all of a removed file at once, and where it tells the disk what is free, the syncs of other files wait
for that. A file that is shortened in pieces lets them through.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from zizq.clock import Clock

PIECE_BYTES = 4 * 2**20
"""Bytes that are freed in one go: one to three milliseconds."""

Rest = Callable[[float], object]
"""Waits for so many seconds."""


def remove(path: Path, clock: Clock, rest: Rest = time.sleep) -> None:
    """Remove a file that nobody else uses and that has no other name, resting after each piece for as long as it took.

    Raises:
        OSError: When it cannot be removed.
    """
    with path.open("r+b", buffering=0) as file:
        _shorten(file.fileno(), clock, rest)
    path.unlink()


def replace(new: Path, old: Path, clock: Clock, rest: Rest = time.sleep) -> None:
    """Put a file in the place of another, if there is one, in one step that a power cut does not take back.

    What was there is then removed, as far as that can be done.

    Raises:
        OSError: When it cannot be put there.
    """
    former = None
    if old.is_file():
        # Where it may not be written, the system removes it.
        with suppress(OSError):
            former = os.open(old, os.O_RDWR)
    try:
        new.replace(old)
        sync_folder(old.parent)
        if former is not None and _is_nobodys(former):
            # Where it cannot be shortened, the system removes it whole.
            with suppress(OSError):
                _shorten(former, clock, rest)
    finally:
        if former is not None:
            os.close(former)


def sync_folder(folder: Path) -> None:
    """Make certain what is in a folder: the names of files that were made, moved or removed there."""
    try:
        file = os.open(folder, os.O_RDONLY)
    except PermissionError:
        # Not ours, so not made by us, or one that we may not list.
        return
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _is_nobodys(file: int) -> bool:
    """Whether a file that is open here has no name any more and is open nowhere else."""
    if os.fstat(file).st_nlink:
        return False
    try:
        # What only Linux tells, by who may have a lease.
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except (OSError, AttributeError):
        return False
    return True


def _shorten(file: int, clock: Clock, rest: Rest) -> None:
    size = os.fstat(file).st_size
    while size > 0:
        began = clock.mono_s()
        size = max(0, size - PIECE_BYTES)
        os.ftruncate(file, size)
        rest(clock.mono_s() - began)
