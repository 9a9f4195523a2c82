"""How far something has come, on a terminal."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, TextIO

import click

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

BUFFER_BYTES = 256 * 1024


def bar(length: int, label: str) -> ProgressBar[int]:
    """A progress bar on stderr; where that is no terminal, nothing is shown.

    Args:
        length: How far it goes; 0 where that turns out later.
        label: What goes on, such as `Saving`.
    """
    shown: TextIO = sys.stderr if sys.stderr.isatty() else io.StringIO()
    return click.progressbar(length=length, label=label, file=shown)


class Counted(io.RawIOBase):
    """A file that tells how much of it is read.

    Args:
        file: The file.
        on_read: Called with the bytes of each read.
    """

    def __init__(self, file: BinaryIO, on_read: Callable[[int], object]) -> None:
        self._file = file
        self._on_read = on_read

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Read the next bytes."""
        piece = self._file.read(len(buffer))
        buffer[: len(piece)] = piece
        self._on_read(len(piece))
        return len(piece)
