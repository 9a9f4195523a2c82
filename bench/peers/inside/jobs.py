"""What jobs do, and how that is counted: the same for all systems.

A job costs an addition in memory that is shared with whoever measures: no server, no file and no thread is in the way.
Each process has a row of its own there, which outlives it.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import threading
import time
from pathlib import Path
from typing import Any

from bench.peers.inside.forms import HELD, ROW, ROWS, STAMP

SLEEP_S = 0.01
HELD_POLL_S = 0.05


class Tally:
    """What one process has run.

    Args:
        folder: The folder of the measurement.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with (folder / "tally").open("r+b") as file:
            self._rows = mmap.mmap(file.fileno(), ROW.size * ROWS)
        self._stamps = os.open(folder / "stamps", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._held = os.open(folder / "held", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.begin()

    def begin(self) -> None:
        """Find the row of this process: after a fork it is another."""
        self._lock = threading.Lock()
        self._at = os.getpid() % ROWS * ROW.size
        self._count, self._first, _ = ROW.unpack_from(self._rows, self._at)

    def ran(self) -> None:
        """Count a job, now."""
        now = time.monotonic()
        with self._lock:
            self._first = self._first or now
            self._count += 1
            ROW.pack_into(self._rows, self._at, self._count, self._first, now)

    def stamp(self, at: float) -> None:
        """Note how long ago this job was enqueued, and count it."""
        os.write(self._stamps, STAMP.pack(time.monotonic() - at))
        self.ran()

    def hold(self, number: int) -> bool:
        """Note that a job to be held has begun; whether it is to be held now."""
        os.write(self._held, HELD.pack(time.monotonic(), number))
        self.ran()
        return self.held()

    def held(self) -> bool:
        """Whether jobs are held."""
        return not (self.folder / "release").exists()


tally = Tally(Path(os.environ["BENCH_TALLY"]))
os.register_at_fork(after_in_child=tally.begin)


def handle(payload: dict[str, Any]) -> None:
    """Do what the payload says, in a thread or a process."""
    match payload["do"]:
        case "nothing":
            tally.ran()
        case "sleep":
            time.sleep(SLEEP_S)
            tally.ran()
        case "stamp":
            tally.stamp(payload["at"])
        case "hold" if tally.hold(payload["number"]):
            while tally.held():
                time.sleep(HELD_POLL_S)


async def handle_async(payload: dict[str, Any]) -> None:
    """The same on an event loop."""
    match payload["do"]:
        case "nothing":
            tally.ran()
        case "sleep":
            await asyncio.sleep(SLEEP_S)
            tally.ran()
        case "stamp":
            tally.stamp(payload["at"])
        case "hold" if tally.hold(payload["number"]):
            while tally.held():  # noqa: ASYNC110 - the event is a file
                await asyncio.sleep(HELD_POLL_S)
