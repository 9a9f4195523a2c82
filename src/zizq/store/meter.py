"""How long commits take, and how many calls share one: noted by whoever commits, read by the event loop."""

from __future__ import annotations

import time
from collections import deque

from zizq.store.facts import Times

LAST = 1024
"""Commits that are remembered one by one: what is shown of the last ones comes of them."""
SPANS = 40
"""2**39 microseconds are six days."""


class Lap:
    """The times of one thing that is done again and again."""

    def __init__(self) -> None:
        self._counts = [0] * SPANS
        self._total_us = 0
        self._last: deque[int] = deque(maxlen=LAST)

    def note(self, us: int) -> None:
        """It took so many microseconds."""
        self._counts[min(us.bit_length(), SPANS - 1)] += 1
        self._total_us += us
        self._last.append(us)

    def times(self) -> Times:
        """What was noted so far."""
        # A copy of a deque fails where another thread adds to it meanwhile; one made in C, of whole numbers, does not
        # let another thread in.
        return Times(tuple(self._counts), self._total_us, tuple(self._last))


class Meter:
    """What is measured of commits."""

    def __init__(self) -> None:
        self.calls = 0
        """How many calls the commits carried out."""
        self.commits = 0
        """How many there were."""
        self.commit = Lap()
        """How long they took, from the first statement on."""
        self.fsync = Lap()
        """How long those took of them that waited for the disk."""

    @staticmethod
    def now_us() -> int:
        """Microseconds, for intervals."""
        return time.perf_counter_ns() // 1000

    def note(self, began_us: int, calls: int, durable: bool) -> int:
        """A commit is done; returns the microseconds that it took."""
        us = self.now_us() - began_us
        self.calls += calls
        self.commits += 1
        self.commit.note(us)
        if durable:
            self.fsync.note(us)
        return us
