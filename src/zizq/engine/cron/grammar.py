"""Cron expressions: what may be written, and the schedule that it makes (protocol.md#7.6)."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Callable, Iterable
from functools import partial, reduce
from operator import or_

import msgspec

from zizq.engine.cron.schedule import FIRST_YEAR, LAST_YEAR, Schedule, shape
from zizq.errors import BadRequest

MAX_LENGTH = 1000
"""How many characters an expression may have."""


class _Field(msgspec.Struct, frozen=True):
    """One place of an expression, and what may stand there beside the common items."""

    name: str
    low: int
    high: int
    extras: str = ""


_SECOND = _Field("second", 0, 59)
_MINUTE = _Field("minute", 0, 59)
_HOUR = _Field("hour", 0, 23)
_DAY = _Field("day of month", 1, 31, "; or L, LW, 15W, ?")
_MONTH = _Field("month", 1, 12, " or JAN to DEC")
_WEEKDAY = _Field("day of week", 0, 7, " or SUN to SAT; or 5#2, 5#L, 5L, ?; all after a + or not")
_YEAR = _Field("year", FIRST_YEAR, LAST_YEAR)

_NICKNAMES = {
    "@YEARLY": "0 0 1 1 *",
    "@ANNUALLY": "0 0 1 1 *",
    "@MONTHLY": "0 0 1 * *",
    "@WEEKLY": "0 0 * * 0",
    "@DAILY": "0 0 * * *",
    "@HOURLY": "0 * * * *",
}
_NUMBERS = {
    "-SUN": "-7",  # the end of a range, so that FRI-SUN does not run backwards
    "SUN": "0", "MON": "1", "TUE": "2", "WED": "3", "THU": "4", "FRI": "5", "SAT": "6",
    "JAN": "1", "FEB": "2", "MAR": "3", "APR": "4", "MAY": "5", "JUN": "6",
    "JUL": "7", "AUG": "8", "SEP": "9", "OCT": "10", "NOV": "11", "DEC": "12",
}  # fmt: skip
_NAME = re.compile("|".join(_NUMBERS))
_COMMON = re.compile(r"\*(?:/(\d+))?|(\d+)(?:-(\d+)(?:/(\d+))?)?", re.ASCII)
_NEAREST = re.compile(r"(\d+)W", re.ASCII)
_OF_MONTH = re.compile(r"(\d[^#L]*)(?:#([1-5])|#?L)", re.ASCII)

_Rule = Callable[[int, int], int]
"""The days of a month, as a set, by the weekday of its first day (0 is Monday) and its length."""


def parse(expression: str) -> Schedule:
    """The schedule that an expression describes.

    Raises:
        BadRequest: When it breaks the grammar.
    """
    if len(expression) > MAX_LENGTH:
        raise _invalid(f"it has {len(expression)} characters (use {MAX_LENGTH} at most)")
    text = " ".join(expression.upper().split())
    second, minute, hour, day, month, weekday, year = _fields(text)
    days = _days(day.replace("?", "*"), weekday.replace("?", "*"))
    return Schedule(
        text=text,
        years=_set(_YEAR, year),
        months=_set(_MONTH, month) & _months_with(days),
        days=days,
        hours=_set(_HOUR, hour),
        minutes=_set(_MINUTE, minute),
        seconds=_set(_SECOND, second),
    )


def _fields(text: str) -> list[str]:
    """The seven fields of an expression; those that were left out are filled in."""
    if text.startswith("@") and text not in _NICKNAMES:
        raise _invalid(f'nickname "{text}" is unknown (use {", ".join(_NICKNAMES).lower()})')
    fields = _NICKNAMES.get(text, text).split()
    if not 5 <= len(fields) <= 7:
        raise _invalid(
            f'"{text}" has {len(fields)} fields (use 5: minute, hour, day of month, month, day of week; '
            "6: a second before them; 7: a year after those)"
        )
    if len(fields) == 5:
        fields.insert(0, "0")
    return fields if len(fields) == 7 else [*fields, "*"]


# ── what every field may hold ────────────────────────────────────────────────────────────────────────


def _set(field: _Field, text: str) -> int:
    """The values that a field lists."""
    return _union(_values(field, item) for item in text.split(","))


def _values(field: _Field, item: str) -> int:
    """The values of one item: `*`, `*/n`, `a`, `a-b` or `a-b/n`."""
    match = _COMMON.fullmatch(_numbered(item))
    if match is None:
        raise _refused(field, item)
    star_step, first, last, step = match.groups()
    low = field.low if first is None else int(first)
    high = field.high if first is None else int(last or first)
    every = int(star_step or step or 1)
    if not field.low <= low <= high <= field.high or every < 1:
        raise _refused(field, item)
    return _series(low, high, min(every, high - low + 1))


def _series(low: int, high: int, every: int) -> int:
    """The numbers from `low` to `high` in steps, as a set: in binary, a geometric series."""
    count = (high - low) // every + 1
    return ((1 << every * count) - 1) // ((1 << every) - 1) << low


def _union(sets: Iterable[int]) -> int:
    return reduce(or_, sets, 0)


def _numbered(item: str) -> str:
    """An item with the names in it replaced, wherever they stand."""
    return _NAME.sub(lambda name: _NUMBERS[name[0]], item)


# ── days ─────────────────────────────────────────────────────────────────────────────────────────────


def _days(day: str, weekday: str) -> tuple[int, ...]:
    """The days that fire, for each shape of a month in the order of `shape`.

    Where both fields restrict, a day that matches either fires, as in Vixie's cron; a plus asks for both.
    """
    both = weekday.startswith("+") or "*" in (day, weekday)
    of_month = [_day_rule(item) for item in day.split(",")]
    of_week = [_weekday_rule(item) for item in weekday.removeprefix("+").split(",")]
    days = []
    for length in range(28, 32):
        for first in range(7):
            left = _union(rule(first, length) for rule in of_month)
            right = _union(rule(first, length) for rule in of_week)
            days.append((left & right if both else left | right) & _series(1, length, 1))
    return tuple(days)


def _day_rule(item: str) -> _Rule:
    """The days that one item of the days of the month names."""
    if item == "L":
        return lambda _, length: 1 << length
    if item == "LW":
        return lambda first, length: _nearest(length, first, length)
    if match := _NEAREST.fullmatch(item):
        _values(_DAY, match[1])
        return partial(_nearest, int(match[1]))
    values = _values(_DAY, item)
    return lambda *_: values


def _nearest(day: int, first: int, length: int) -> int:
    """The day from Monday to Friday that is nearest to a day, in the same month; none in a month without that day."""
    if day > length:
        return 0
    weekday = (first + day - 1) % 7
    if weekday == 5:
        return 1 << (day - 1 if day > 1 else day + 2)
    if weekday == 6:
        return 1 << (day + 1 if day < length else day - 2)
    return 1 << day


def _weekday_rule(item: str) -> _Rule:
    """The days that one item of the days of the week names."""
    match = _OF_MONTH.fullmatch(_numbered(item))
    values = _values(_WEEKDAY, match[1] if match else item)
    weekdays = [weekday for weekday in range(8) if values >> weekday & 1]
    if match is None:
        return lambda first, _: _each(weekdays, first)
    if nth := match[2]:
        week = _series(int(nth) * 7 - 6, int(nth) * 7, 1)
        return lambda first, _: _each(weekdays, first) & week
    return lambda first, length: _each(weekdays, first) & _series(length - 6, length, 1)


def _each(weekdays: Iterable[int], first: int) -> int:
    """Every day of a month that falls on one of these weekdays; here both 0 and 7 are Sunday."""
    return _union(_series(1 + (weekday - 1 - first) % 7, 35, 7) for weekday in weekdays)


def _months_with(days: tuple[int, ...]) -> int:
    """The months that have such days in some year, so that nobody looks for them in vain."""
    lengths = {month: {monthrange(year, month)[1] for year in (2023, 2024)} for month in range(1, 13)}
    return _union(
        1 << month
        for month, possible in lengths.items()
        if any(days[shape(first, length)] for length in possible for first in range(7))
    )


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────


def _invalid(detail: str) -> BadRequest:
    return BadRequest(f"invalid cron expression: {detail}")


def _refused(field: _Field, item: str) -> BadRequest:
    return _invalid(
        f'{field.name} "{item}" is not allowed (use *, */n, a, a-b, a-b/n or a list of them, '
        f"from {field.low} to {field.high}{field.extras})"
    )
