"""Reads what jobs have noted in the folder of a measurement; inside/jobs.py writes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.peers.inside.forms import HELD, ROW, ROWS, STAMP


@dataclass(frozen=True)
class Ran:
    """What has run.

    Args:
        jobs: How many, over all processes.
        first: When the first did.
        last: When the last did.
    """

    jobs: int
    first: float
    last: float


class Tally:
    """The notes of one measurement.

    Args:
        folder: Where they are; the empty tally is made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tally").write_bytes(bytes(ROW.size * ROWS))

    def read(self) -> Ran:
        """What has run so far."""
        rows = [row for row in ROW.iter_unpack((self.folder / "tally").read_bytes()) if row[0]]
        if not rows:
            return Ran(0, 0.0, 0.0)
        return Ran(sum(row[0] for row in rows), min(row[1] for row in rows), max(row[2] for row in rows))

    def stamps(self) -> list[float]:
        """Seconds from enqueue to start of each job that was stamped, sorted."""
        return sorted(seconds for (seconds,) in STAMP.iter_unpack((self.folder / "stamps").read_bytes()))

    def held(self) -> list[tuple[float, int]]:
        """When each job to be held began, and its number."""
        return list(HELD.iter_unpack((self.folder / "held").read_bytes()))

    def release(self) -> None:
        """Hold jobs no more."""
        (self.folder / "release").touch()
