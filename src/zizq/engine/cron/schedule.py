"""When a cron schedule fires next, through every change of the clocks (protocol.md#7.5, protocol.md#7.7)."""

from __future__ import annotations

from bisect import bisect_left
from calendar import monthrange
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo

import msgspec

FIRST_YEAR, LAST_YEAR = 1970, 5000
_SECOND = timedelta(seconds=1)
# With two days to spare, for no zone's years begin and end further from those of UTC.
_EARLIEST_S = int(datetime(FIRST_YEAR - 1, 12, 30, tzinfo=UTC).timestamp())
_LATEST_S = int(datetime(LAST_YEAR + 1, 1, 3, tzinfo=UTC).timestamp())


class Schedule(msgspec.Struct, frozen=True):
    """Which wall-clock times a cron expression names.

    Each field is a set of values, kept as a whole number whose bit n is set where n is in the set.

    Args:
        text: The expression in upper case, its fields one space apart.
        years: Years, from 1970 to 5000.
        months: Months, from 1.
        days: Days of the month, from 1: one set for each shape of a month, at `shape`.
        hours: Hours.
        minutes: Minutes.
        seconds: Seconds.
    """

    text: str
    years: int
    months: int
    days: tuple[int, ...]
    hours: int
    minutes: int
    seconds: int

    def __repr__(self) -> str:
        return f"Schedule({self.text!r})"

    @property
    def is_fixed_time(self) -> bool:
        """Whether it names one single time of day: it is then never lost or doubled by a change of the clocks."""
        return all(times.bit_count() == 1 for times in (self.hours, self.minutes, self.seconds))

    def next_after(self, at: int, zone: tzinfo) -> int | None:
        """When it fires next: strictly after `at`, taken down to the second.

        A fixed time that the clocks skip fires at the first instant after the gap, and one that they repeat fires in
        the first pass only. Any other time is left out where it is skipped, and fires in both passes where it is
        repeated.

        Args:
            at: An instant, in Unix milliseconds.
            zone: Whose wall clock is meant.

        Returns:
            An instant in Unix milliseconds, or None where it never fires again.
        """
        since_s = max(at // 1000, _EARLIEST_S)
        if since_s > _LATEST_S:
            return None
        here = _wall(since_s, zone)
        found = self._firing(here + _SECOND, since_s, zone)
        first, second = _passes(here, zone)
        if since_s == first < second:
            # The clocks will yet go back, to times before this one too.
            turn_s = _turn(first, second, zone)
            if found is None or found >= turn_s:
                found = self._firing(_wall(turn_s, zone), turn_s - 1, zone)
        return None if found is None else found * 1000

    def _firing(self, wall: datetime, since_s: int, zone: tzinfo) -> int | None:
        """The first firing after `since_s` at a wall-clock time of `wall` or later."""
        while (named := self._named(wall)) is not None:
            first, second = _passes(named, zone)
            if first > second:
                turn_s = _turn(second, first, zone)
                if self.is_fixed_time:
                    return turn_s
                wall = _wall(turn_s, zone)
            elif first > since_s:
                return first
            elif not self.is_fixed_time:
                return second
            else:
                wall = named + _SECOND
        return None

    def _named(self, wall: datetime) -> datetime | None:
        """The first wall-clock time from `wall` on that it names."""
        return self._filled((), wall.timetuple()[:6])

    def _filled(self, head: tuple[int, ...], least: tuple[int, ...]) -> datetime | None:
        """The first time it names that begins with `head` and is not before `least`."""
        if len(head) == 6:
            return datetime(*head)  # noqa: DTZ001 - what the clocks show, wherever they hang
        start = least[len(head)] if head == least[: len(head)] else 0
        for value in _members(self._choices(head), start):
            if found := self._filled((*head, value), least):
                return found
        return None

    def _choices(self, head: tuple[int, ...]) -> int:
        """The values that may follow `head`, of year, month, day, hour, minute and second."""
        if len(head) == 2:
            return self.days[shape(*monthrange(*head))]
        return (self.years, self.months, 0, self.hours, self.minutes, self.seconds)[len(head)]


def shape(weekday: int, length: int) -> int:
    """The place of a month among the 28 shapes there are.

    Args:
        weekday: Of its first day; 0 is Monday.
        length: Its days, 28 to 31.
    """
    return (length - 28) * 7 + weekday


def _members(values: int, start: int) -> Iterator[int]:
    """The members of a set from `start` on, in order."""
    rest = values >> start << start
    while rest:
        lowest = rest & -rest
        yield lowest.bit_length() - 1
        rest ^= lowest


def _wall(at_s: int, zone: tzinfo) -> datetime:
    """What the clocks of a zone show at an instant."""
    return datetime.fromtimestamp(at_s, zone).replace(tzinfo=None, fold=0)


def _passes(wall: datetime, zone: tzinfo) -> tuple[int, int]:
    """The instants at which the clocks show a time, in seconds, as PEP 495 has them.

    They are one where it comes once, in order where it comes twice, and the wrong way round where it is skipped: the
    second is then before the gap, the first is not.
    """
    first = wall.replace(tzinfo=zone)
    return int(first.timestamp()), int(first.replace(fold=1).timestamp())


def _turn(before_s: int, after_s: int, zone: tzinfo) -> int:
    """The instant at which the clocks change, which they do once after `before_s` and by `after_s`."""
    old = datetime.fromtimestamp(before_s, zone).utcoffset()
    span = range(before_s + 1, after_s + 1)
    return span[bisect_left(span, True, key=lambda at_s: datetime.fromtimestamp(at_s, zone).utcoffset() != old)]
