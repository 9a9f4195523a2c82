"""Short words for people: durations, instants, sizes, counts and log levels, read and written."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_MS = {
    "ns": 1e-6, "nsec": 1e-6, "us": 1e-3, "usec": 1e-3, "µs": 1e-3,
    "ms": 1, "msec": 1, "millis": 1, "millisecond": 1, "milliseconds": 1,
    "s": 1e3, "sec": 1e3, "secs": 1e3, "second": 1e3, "seconds": 1e3,
    "m": 6e4, "min": 6e4, "mins": 6e4, "minute": 6e4, "minutes": 6e4,
    "h": 3.6e6, "hr": 3.6e6, "hrs": 3.6e6, "hour": 3.6e6, "hours": 3.6e6,
    "d": 8.64e7, "day": 8.64e7, "days": 8.64e7,
    "w": 6.048e8, "week": 6.048e8, "weeks": 6.048e8,
    "M": 2.63016e9, "month": 2.63016e9, "months": 2.63016e9,
    "y": 3.15576e10, "year": 3.15576e10, "years": 3.15576e10,
}  # fmt: skip
_BYTES = {
    "": 1, "b": 1,
    "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9, "t": 10**12, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
LOG_LEVELS = {"trace": 10, "debug": 10, "info": 20, "warn": 30, "error": 40}
"""How much is logged, as people write it, and as the logging module counts; that has nothing below debug."""
_LONGEST = 100
_LARGEST = 2**53
"""What a float says exactly: 285,000 years in milliseconds, 8 PiB in bytes."""
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Zµ]+)")
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*")


def parse_duration(text: str) -> int:
    """Milliseconds from text such as `1500`, `3s`, `1.5s` or `1h 30m`; a bare number is milliseconds.

    Raises:
        ValueError: When the text is not a duration.
    """
    _check_length(text)
    if text.strip().isdecimal():
        return _checked(text, int(text))
    total, end = 0.0, 0
    while match := _PART.match(text, end):
        unit = match[2]
        factor = _MS.get(unit)
        if factor is None:
            raise ValueError(f"{text!r} is not a duration: {unit!r} is no unit (use ns us ms s m h d w M y)")
        total += float(match[1]) * factor
        end = match.end()
    if end == 0 or text[end:].strip():
        raise ValueError(f"{text!r} is not a duration: write it as 500ms, 3s, 1h 30m or 7d")
    return _checked(text, round(total))


def parse_size(text: str) -> int:
    """Bytes from text such as `4096`, `64k`, `256MB` (decimal) or `256MiB` (binary).

    Raises:
        ValueError: When the text is not a size.
    """
    _check_length(text)
    match = _SIZE.fullmatch(text)
    factor = _BYTES.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(f"{text!r} is not a size: write it as 4096, 64k, 256MB or 256MiB")
    return _checked(text, int(float(match[1]) * factor))


def _check_length(text: str) -> None:
    # First of all, for Python refuses to read thousands of digits, and floats end at hundreds.
    if len(text) > _LONGEST:
        raise ValueError(f"{text[:20]!r}… has {len(text)} characters: write it in {_LONGEST} at most")


def _checked(text: str, number: int) -> int:
    if number > _LARGEST:
        raise ValueError(f"{text!r} is too large: choose less, or 0 where that means no limit")
    return number


def duration(ms: int) -> str:
    """A duration as short text that `parse_duration` reads back: `1h 30m`, `7d`, `250ms`."""
    if ms == 0:
        return "0"
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, ms = divmod(ms, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts)


def size(count: int) -> str:
    """A size as short text: `16MiB`, `1.5kB`, `12B`."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= factor and count % factor == 0:
            return f"{count // factor}{unit}"
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.3g}{unit}"
    return f"{count}B"


def count(number: int) -> str:
    """A count with thousands set apart: `1,234,567`."""
    return f"{number:,}"


def away(at: int, now: int) -> str:
    """How far an instant is from now, in its largest unit: `in 5m`, `3h ago`, `now`."""
    distance = abs(at - now) // 1000 * 1000
    if not distance:
        return "now"
    largest = duration(distance).split()[0]
    return f"in {largest}" if at > now else f"{largest} ago"


def instant(at: int, now: int) -> str:
    """An instant in local time, and how far it is."""
    try:
        local = datetime.fromtimestamp(at / 1000, UTC).astimezone()
    except (ValueError, OverflowError, OSError):
        return f"{at} ms after 1970"
    return f"{local:%Y-%m-%d %H:%M:%S %z} ({away(at, now)})"


def printable(text: str, kept: str = "") -> str:
    """A text in which the characters are escaped that a terminal would obey, but for those to be kept."""
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in text)
