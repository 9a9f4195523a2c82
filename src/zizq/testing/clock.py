"""A clock set by hand, and loaded dice."""

from __future__ import annotations


class ManualClock:
    """A clock that stands still until it is moved.

    Args:
        wall_ms: Where the wall clock starts, in Unix milliseconds.
    """

    def __init__(self, wall_ms: int = 1_790_000_000_000) -> None:
        self._wall_ms = wall_ms
        self._mono_s = 0.0

    def wall_ms(self) -> int:
        """The wall clock."""
        return self._wall_ms

    def mono_s(self) -> float:
        """The monotonic clock."""
        return self._mono_s

    def advance(self, ms: int) -> None:
        """Move both clocks forward."""
        self._wall_ms += ms
        self._mono_s += ms / 1000

    def set_wall(self, wall_ms: int) -> None:
        """Set the wall clock alone, also back."""
        self._wall_ms = wall_ms


class LoadedDice:
    """Dice that fall as they are told.

    Args:
        unit: What `unit` returns, in [0, 1).
        bits: What `bits` returns, cut to the number of bits asked for.
    """

    def __init__(self, unit: float = 0.0, bits: int = 0) -> None:
        self.value = unit
        self._bits = bits

    def unit(self) -> float:
        """The loaded number."""
        return self.value

    def bits(self, count: int) -> int:
        """The loaded bits."""
        return self._bits & ((1 << count) - 1)
