"""Time-ordered job identifiers: SCRU128 version 4, as 25 base-36 digits.

An identifier is 48 bits of Unix milliseconds, two 24-bit counters and 32 random bits. As text of fixed width it
sorts in the order of creation, which is what makes "by identifier" and "first in, first out" the same thing
(protocol.md#3).
"""

from __future__ import annotations

from zizq.clock import Clock, Dice

ID_LENGTH = 25
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_GROUP = 36**3
_HALF = 36**12
# Three digits at a time from a table: eight divisions instead of twenty-five.
_GROUPS = tuple(a + b + c for a in _DIGITS for b in _DIGITS for c in _DIGITS)
_COUNTER_MAX = (1 << 24) - 1


def encode(number: int) -> str:
    """The text form of a 128-bit identifier."""
    high, low = divmod(number, _HALF)
    return _encode_high(high) + _encode_low(low)


def _encode_high(high: int) -> str:
    """The first thirteen digits."""
    high, d = divmod(high, _GROUP)
    high, c = divmod(high, _GROUP)
    high, b = divmod(high, _GROUP)
    first, a = divmod(high, _GROUP)
    t = _GROUPS
    return _DIGITS[first] + t[a] + t[b] + t[c] + t[d]


def _encode_low(low: int) -> str:
    """The last twelve digits."""
    low, d = divmod(low, _GROUP)
    low, c = divmod(low, _GROUP)
    a, b = divmod(low, _GROUP)
    t = _GROUPS
    return t[a] + t[b] + t[c] + t[d]


def is_id(text: str) -> bool:
    """Whether a text has the shape of an identifier: 25 characters of `[0-9a-z]`."""
    return len(text) == ID_LENGTH and text.isascii() and text.isalnum() and text == text.lower()


def created_at(job_id: str) -> int:
    """The instant in an identifier, in Unix milliseconds.

    Raises:
        ValueError: When the text is not an identifier.
    """
    if not is_id(job_id):
        raise ValueError(f"{job_id!r} is not a job id: 25 characters of [0-9a-z]")
    return int(job_id, 36) >> 80


class IdGenerator:
    """Makes identifiers that only ever grow while the process lives, even when the wall clock goes back.

    Args:
        clock: Read once for each identifier.
        dice: Fills the random bits and the start of each counter.
    """

    def __init__(self, clock: Clock, dice: Dice) -> None:
        self._clock = clock
        self._dice = dice
        self._at = -1
        self._high = 0
        self._low = 0
        self._high_at = -1
        # Instant and high counter stay the same for many identifiers, and so do most of their digits: these are kept,
        # with what the instant and the counter add to the digits behind.
        self._digits = ""
        self._rest = 0

    def next(self) -> str:
        """One more identifier, greater than every one before it."""
        now = self._clock.wall_ms()
        if now > self._at:
            self._at = now
            self._low = self._dice.bits(24)
            self._begin()
        elif self._low < _COUNTER_MAX:
            self._low += 1
        else:
            self._carry()
            self._begin()
        tail = self._rest + (self._low << 32 | self._dice.bits(32))
        if tail < _HALF:
            return self._digits + _encode_low(tail)
        return encode(self._at << 80 | self._high << 56 | (tail - self._rest))

    def _begin(self) -> None:
        """The instant or the high counter has changed: find the digits that they make."""
        # The high counter is drawn anew once a second: unguessable, yet ordered within a millisecond.
        if self._at - self._high_at >= 1000 or self._high_at < 0:
            self._high_at = self._at
            self._high = self._dice.bits(24)
        high, self._rest = divmod(self._at << 80 | self._high << 56, _HALF)
        self._digits = _encode_high(high)

    def _carry(self) -> None:
        """The low counter is full: step the high one, and borrow the next millisecond when that is full too."""
        self._low = 0
        self._high += 1
        if self._high > _COUNTER_MAX:
            self._high = 0
            self._at += 1
