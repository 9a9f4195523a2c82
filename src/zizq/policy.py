"""Retry and retention as values, with their arithmetic."""

from __future__ import annotations

import struct

import msgspec

MAX_MILLIS = 2**63 - 1
"""The latest instant that is stored; sums past it stay there (protocol.md#3)."""


class Backoff(msgspec.Struct, frozen=True):
    """How long a failed job waits before it runs again (protocol.md#4.9).

    `attempts ** exponent` seconds, plus `base_ms`, plus up to `jitter_ms` for each attempt.
    """

    exponent: float
    base_ms: int
    jitter_ms: int

    def delay_ms(self, attempts: int, unit: float) -> int:
        """The delay after the failure that made the count `attempts`.

        Args:
            attempts: Failures so far, this one included; 1 for the first.
            unit: A number in [0, 1) that places the delay inside its jitter.
        """
        try:
            delay = float(attempts) ** self.exponent * 1000 + self.base_ms + unit * self.jitter_ms * attempts
        except OverflowError:
            return MAX_MILLIS
        return int(delay) if delay < MAX_MILLIS else MAX_MILLIS


class Retention(msgspec.Struct, frozen=True, omit_defaults=True):
    """How long finished jobs are kept, in milliseconds; None leaves it to the server's default."""

    completed_ms: int | None = None
    dead_ms: int | None = None


class Defaults(msgspec.Struct, frozen=True):
    """What a job gets where it says nothing: the server's options."""

    retry_limit: int = 25
    backoff: Backoff = Backoff(exponent=4.0, base_ms=15_000, jitter_ms=30_000)
    completed_ms: int = 0
    dead_ms: int = 7 * 24 * 3600 * 1000
    max_worker_deaths: int = 5


def later(now: int, delay_ms: int) -> int:
    """An instant `delay_ms` after `now`, never past `MAX_MILLIS`."""
    return min(now + delay_ms, MAX_MILLIS)


def shortest_f32(value: float) -> float:
    """The float with the fewest digits that is the same 32-bit float (protocol.md#1.2).

    An exponent travels as 32 bits, so 4.1 arrives as 4.099999904632568 from a client that sends it so.

    Raises:
        OverflowError: When the value does not fit in 32 bits.
    """
    packed = struct.pack("<f", value)
    narrow: float = struct.unpack("<f", packed)[0]
    for digits in range(6, 9):
        short = float(f"{narrow:.{digits}g}")
        if struct.pack("<f", short) == packed:
            return short
    return narrow
