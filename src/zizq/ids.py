"""Time-ordered job identifiers: SCRU128 version 4, as 25 base-36 digits.

An identifier is 48 bits of Unix milliseconds, two 24-bit counters and 32 random bits. As text of fixed width it
sorts in the order of creation, which is what makes "by identifier" and "first in, first out" the same thing
(protocol.md#3).
"""

from __future__ import annotations

from collections.abc import Callable, Generator

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
        clock: Read once each time that identifiers are asked for.
        dice: Fills the random bits and the start of each counter.
    """

    def __init__(self, clock: Clock, dice: Dice) -> None:
        lots = _lots(clock, dice)
        next(lots)
        self.some: Callable[[int], list[str]] = lots.send
        """So many more identifiers, in their order, greater than every one before them."""

    def next(self) -> str:
        """One more."""
        return self.some(1)[0]


def _lots(clock: Clock, dice: Dice) -> Generator[list[str], int, None]:
    """Identifiers, as many at a time as are asked for."""
    wall_ms, bits, groups = clock.wall_ms, dice.bits, _GROUPS
    at, low, high, high_at = -1, 0, 0, -1
    # Most digits stay the same for many identifiers: these are kept, with the three behind them and what makes the last
    # six. That grows by a low counter each time, and the three by what it has too much.
    digits, three, six, is_new = "", 0, 0, True
    ids: list[str] = []
    while True:
        count = yield ids
        ids = []
        now = wall_ms()
        if now > at:
            at, low, is_new = now, bits(24), True
        for _ in range(count):
            if low > _COUNTER_MAX:
                # The low counter is full: step the high one, and borrow the next millisecond when that is full too.
                low, high, is_new = 0, high + 1, True
                if high > _COUNTER_MAX:
                    high, at = 0, at + 1
            if is_new:
                # The high counter is drawn anew once a second: unguessable, yet ordered within a millisecond.
                if at - high_at >= 1000 or high_at < 0:
                    high_at, high = at, bits(24)
                kept, six = divmod(at << 80 | high << 56 | low << 32, _GROUP**2)
                kept, three = divmod(kept, _GROUP)
                first, last = divmod(kept, _GROUP)
                digits, is_new = _encode_high(first) + groups[last], False
            noise = bits(32)
            # What `encode` would make of it, as far as that changes and without a call for each.
            more, d = divmod(six + noise, _GROUP)
            more, c = divmod(more, _GROUP)
            if three + more < _GROUP:
                ids.append(f"{digits}{groups[three + more]}{groups[c]}{groups[d]}")
            else:
                ids.append(encode(at << 80 | high << 56 | low << 32 | noise))
            low += 1
            six += 1 << 32
