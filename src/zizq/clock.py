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

    def mono_s(self) -> float:
        """Seconds on the monotonic clock."""
        return time.monotonic()


class SystemDice:
    """The random generator of this process, seeded by the operating system."""

    def __init__(self) -> None:
        generator = random.Random()  # noqa: S311 - jitter and identifiers, no secrets
        self.unit = generator.random
        self.bits = generator.getrandbits
