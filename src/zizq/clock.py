"""Clocks and dice: the only file that reads the time or draws a random number.

Everything else takes a `Clock` or `Dice` as an argument, so that tests can set the one and load the other.
"""

from __future__ import annotations

import random
import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks with two purposes: one for what is stored, one for intervals."""

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch, for what is stored or sent."""

    def mono_s(self) -> float:
        """Seconds on a clock that never goes back, for intervals."""


class Dice(Protocol):
    """Randomness that tests can load."""

    def unit(self) -> float:
        """A number in [0, 1)."""

    def bits(self, count: int) -> int:
        """A whole number of `count` random bits."""


class SystemClock:
    """The clocks of this machine."""

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000

    mono_s = staticmethod(time.monotonic)
    """Seconds on the monotonic clock."""


class SharedClock:
    """The wall clock of a database that several servers share, as this machine knows it.

    Whoever asks the database for its time tells this clock, which keeps the time between by its own monotonic clock: so
    neither a wall clock that is wrong here nor one that is set meanwhile matters. It is right to within half of the
    time that one question took, and by the machine's own wall clock before the first.

    Args:
        own: The clocks of this machine.
    """

    def __init__(self, own: Clock) -> None:
        self._own = own
        # What the monotonic clock lacks to the shared wall clock, in milliseconds.
        self._behind_ms: float | None = None
        self.mono_s = own.mono_s

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        if self._behind_ms is None:
            return self._own.wall_ms()
        return int(self._own.mono_s() * 1000 + self._behind_ms)

    def heard(self, asked_s: float, answered_s: float, wall_ms: float) -> None:
        """Learn what the time was at some instant between a question and its answer.

        What is known already stays where the answer allows that, however long it took; so a slow one does no harm.

        Args:
            asked_s: When the question was put, by the monotonic clock.
            answered_s: When the answer came.
            wall_ms: The time that it told.
        """
        least, most = wall_ms - answered_s * 1000, wall_ms - asked_s * 1000
        known = self._behind_ms
        self._behind_ms = (least + most) / 2 if known is None else min(max(known, least), most)

    def own_lead_ms(self) -> int:
        """How far this machine's own wall clock is ahead."""
        return self._own.wall_ms() - self.wall_ms()


class SystemDice:
    """The random generator of this process, seeded by the operating system."""

    def __init__(self) -> None:
        generator = random.Random()  # noqa: S311 - jitter and identifiers, no secrets
        self.unit = generator.random
        self.bits = generator.getrandbits
