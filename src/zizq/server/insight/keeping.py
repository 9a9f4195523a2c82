"""The file that the history is kept in across restarts: small, written whole, and read with care."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import msgspec

from zizq.server.insight.history import MINUTES
from zizq.wire.insight import Point

log = logging.getLogger("zizq.insight")

FORMAT = 1
MOST_BYTES = 4 * 2**20
"""A day of points has about a tenth of that."""


class Kept(msgspec.Struct, frozen=True):
    """What is in the file."""

    format: int
    minutes: list[Point]


class Keeping:
    """Keeps the minutes of a history in a file. It is nobody's loss if it is gone, so no error of it ends anything.

    Args:
        path: The file; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._told = False

    async def load(self) -> list[Point]:
        """What was kept; nothing where there is no such file, or it is not ours."""
        return [] if self._path is None else await asyncio.to_thread(self._read, self._path)

    def _read(self, path: Path) -> list[Point]:
        try:
            if path.stat().st_size > MOST_BYTES:
                return []
            kept = msgspec.msgpack.decode(path.read_bytes(), type=Kept)
        except FileNotFoundError:
            return []
        except (OSError, msgspec.DecodeError) as error:
            log.warning("history not read, it begins anew", extra={"fields": self._fields(error)})
            return []
        return sorted(kept.minutes[-MINUTES:], key=lambda point: point.at) if kept.format == FORMAT else []

    async def save(self, minutes: Sequence[Point]) -> None:
        """Put minutes in the place of what was kept."""
        if self._path is None:
            return
        try:
            await asyncio.to_thread(self._write, self._path, msgspec.msgpack.encode(Kept(FORMAT, list(minutes))))
        except OSError as error:
            if not self._told:
                log.warning("history not kept", extra={"fields": self._fields(error)})
            self._told = True

    @staticmethod
    def _write(path: Path, content: bytes) -> None:
        fresh = path.with_name(path.name + ".new")
        fresh.write_bytes(content)
        fresh.replace(path)

    def _fields(self, error: Exception) -> dict[str, object]:
        return {"file": self._path, "error": str(error)}
