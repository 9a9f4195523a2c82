"""Packs a backup in a process of its own: the server need not share its interpreter, nor fight for a processor."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from zizq.errors import Unavailable

PIECE_BYTES = 64 * 1024
NICENESS = 10
"""How far the process steps back for others that are busy."""


async def packed(files: Sequence[Path], now: int) -> AsyncGenerator[bytes]:
    """An archive of files, piece by piece (`store.archive.pack`).

    Args:
        files: Files that do not change any more.
        now: The wall clock, in Unix milliseconds.

    Raises:
        Unavailable: When it breaks off; what came of it is no archive.
    """
    process = await _start(files, now)
    try:
        if process.stdout is not None:
            while piece := await process.stdout.read(PIECE_BYTES):
                yield piece
        if await process.wait() != 0:
            raise Unavailable(f"packing the backup ended with status {process.returncode}")
    finally:
        if process.returncode is None:
            process.kill()
            await asyncio.shield(process.wait())


async def _start(files: Sequence[Path], now: int) -> Process:
    command = (sys.executable, "-P", "-m", "zizq.store.archive", str(NICENESS), str(now), *map(str, files))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=PIPE, env=environment)
