"""Schedules beside an oracle that looks at every minute, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zizq.engine.cron.grammar import parse

MINUTE = timedelta(minutes=1)


class Face(NamedTuple):
    """What the clocks show in a minute, or what they leave out right before it."""

    at_s: int
    wall: datetime
    is_skipped: bool


def faces(zone: ZoneInfo, start_s: int, end_s: int) -> Iterator[Face]:
    """Every minute of a zone, and before it those that the clocks skip."""
    wall = datetime.fromtimestamp(start_s - 60, zone).replace(tzinfo=None)
    for at_s in range(start_s, end_s, 60):
        before, wall = wall, datetime.fromtimestamp(at_s, zone).replace(tzinfo=None, fold=0)
        while (before := before + MINUTE) < wall:
            yield Face(at_s, before, True)
        yield Face(at_s, wall, False)


def chosen(named: list[Face], seconds: set[int], is_fixed_time: bool) -> list[int]:
    """The instants of those faces that fire, in seconds."""
    if not is_fixed_time:
        return [face.at_s + second for face in named if not face.is_skipped for second in sorted(seconds)]
    first = {face.wall: face for face in reversed(named)}
    [second] = seconds
    return sorted({face.at_s + (0 if face.is_skipped else second) for face in first.values()})


def steps(expression: str, zone: ZoneInfo, start_s: int, end_s: int) -> list[int]:
    """The instants of all firings from `start_s` on and before `end_s`, by one step after the other."""
    schedule, found = parse(expression), []
    at = schedule.next_after(start_s * 1000 - 1, zone)
    while at is not None and at < end_s * 1000:
        found.append(at // 1000)
        at = schedule.next_after(at, zone)
    return found


# ── a year of every class of expression ──────────────────────────────────────────────────────────────

Clock = Callable[[int, int], bool]
Day = Callable[[date], bool]


def any_day(_: date) -> bool:
    return True


def tomorrow(day: date) -> date:
    return day + timedelta(days=1)


def is_sunday(day: date) -> bool:
    return day.weekday() == 6


def is_last_of_its_weekday(day: date) -> bool:
    return (day + timedelta(days=7)).month != day.month


def is_nearest_weekday_to_the_first(day: date) -> bool:
    return day.weekday() < 5 and (day.day == 1 or (day.weekday() == 0 and day.day in {2, 3}))


CLASSES: list[tuple[str, Clock, Day]] = [
    ("0 * * * *", lambda _, m: m == 0, any_day),
    ("*/30 * * * *", lambda _, m: m % 30 == 0, any_day),
    ("*/10 0-3 * * *", lambda h, m: h <= 3 and m % 10 == 0, any_day),
    ("30 1 * * *", lambda h, m: (h, m) == (1, 30), any_day),
    ("45 1 * * *", lambda h, m: (h, m) == (1, 45), any_day),
    ("15 2 * * *", lambda h, m: (h, m) == (2, 15), any_day),
    ("0 0 * * *", lambda h, m: (h, m) == (0, 0), any_day),
    ("0 3 * * MON-FRI", lambda h, m: (h, m) == (3, 0), lambda day: day.weekday() < 5),
    ("30 2 * * SUN", lambda h, m: (h, m) == (2, 30), is_sunday),
    ("15,45 1,2,3 * * 7", lambda h, m: h in {1, 2, 3} and m in {15, 45}, is_sunday),
    ("30 1 * * SUN#L", lambda h, m: (h, m) == (1, 30), lambda day: is_sunday(day) and is_last_of_its_weekday(day)),
    ("*/20 1-2 * * 0L", lambda h, m: h in {1, 2} and m % 20 == 0,
     lambda day: is_sunday(day) and is_last_of_its_weekday(day)),
    ("50 1 * * SUN#1,0#2", lambda h, m: (h, m) == (1, 50), lambda day: is_sunday(day) and day.day <= 14),
    ("40 2 1-7 * +SUN", lambda h, m: (h, m) == (2, 40), lambda day: is_sunday(day) and day.day <= 7),
    ("0 9 13 * FRI", lambda h, m: (h, m) == (9, 0), lambda day: day.day == 13 or day.weekday() == 4),
    ("0 12 L * ?", lambda h, m: (h, m) == (12, 0), lambda day: tomorrow(day).day == 1),
    ("0 6 1W * *", lambda h, m: (h, m) == (6, 0), is_nearest_weekday_to_the_first),
    ("0 6 LW * *", lambda h, m: (h, m) == (6, 0),
     lambda day: day.weekday() < 5 and all((day + timedelta(days=n)).weekday() > 4 or
                                           (day + timedelta(days=n)).month != day.month for n in (1, 2, 3))),
    ("*/7 2-23/3 10-20/5 MAR-NOV *", lambda h, m: h >= 2 and (h - 2) % 3 == 0 and m % 7 == 0,
     lambda day: day.day in {10, 15, 20} and 3 <= day.month <= 11),
    ("*/15 * 1 */3 *", lambda _, m: m % 15 == 0, lambda day: day.day == 1 and day.month in {1, 4, 7, 10}),
    ("0 0 29 2 *", lambda h, m: (h, m) == (0, 0), lambda _: False),
]  # fmt: skip
START_S, END_S = (int(datetime.fromisoformat(f"{year}-01-01T12:00Z").timestamp()) for year in (2026, 2027))


@lru_cache
def faces_of_the_year(zone: str) -> dict[tuple[int, int], list[Face]]:
    """The minutes of a year by what they show."""
    found: dict[tuple[int, int], list[Face]] = {(hour, minute): [] for hour in range(24) for minute in range(60)}
    for face in faces(ZoneInfo(zone), START_S, END_S):
        found[face.wall.hour, face.wall.minute].append(face)
    return found


@pytest.mark.parametrize("zone", ["Europe/London", "America/New_York", "Australia/Lord_Howe"])
@pytest.mark.parametrize(("expression", "clock", "day"), CLASSES, ids=[expression for expression, _, _ in CLASSES])
def test_a_year_of_steps_is_what_the_oracle_sees(expression: str, clock: Clock, day: Day, zone: str) -> None:
    shown = [faces for (hour, minute), faces in faces_of_the_year(zone).items() if clock(hour, minute)]
    named = sorted(face for faces in shown for face in faces if day(face.wall.date()))
    assert steps(expression, ZoneInfo(zone), START_S, END_S) == chosen(named, {0}, is_fixed_time=len(shown) == 1)


# ── any expression, near the changes of the clocks ───────────────────────────────────────────────────

CHANGES = [
    ("Europe/London", "2026-03-29T01:00Z"), ("Europe/London", "2026-10-25T01:00Z"),
    ("Europe/Dublin", "2026-03-29T01:00Z"), ("Europe/Dublin", "2026-10-25T01:00Z"),
    ("America/New_York", "2026-03-08T07:00Z"), ("America/New_York", "2026-11-01T06:00Z"),
    ("America/Nuuk", "2026-03-29T01:00Z"), ("America/Nuuk", "2026-10-25T01:00Z"),
    ("America/Sao_Paulo", "2017-10-15T03:00Z"), ("America/Sao_Paulo", "2018-02-18T02:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T15:00Z"), ("Australia/Lord_Howe", "2026-10-03T15:30Z"),
    ("Pacific/Chatham", "2026-04-04T14:00Z"), ("Pacific/Chatham", "2026-09-26T14:00Z"),
    ("Africa/Cairo", "2026-04-23T22:00Z"), ("Africa/Casablanca", "2026-02-15T02:00Z"),
    ("Pacific/Apia", "2011-12-30T10:00Z"), ("UTC", "2026-02-28T00:00Z"),
]  # fmt: skip


class Part(NamedTuple):
    """A field, and what it means."""

    text: str
    values: set[int]


@st.composite
def items(draw: st.DrawFn, low: int, high: int) -> Part:
    """One item of a field."""
    first, last = sorted((draw(st.integers(low, high)), draw(st.integers(low, high))))
    step = draw(st.integers(1, high))
    return draw(
        st.sampled_from(
            [
                Part(f"{first}", {first}),
                Part(f"{first}-{last}", set(range(first, last + 1))),
                Part(f"{first}-{last}/{step}", set(range(first, last + 1, step))),
                Part(f"*/{step}", set(range(low, high + 1, step))),
            ]
        )
    )


def fields(low: int, high: int) -> st.SearchStrategy[Part]:
    """A whole field: often a star or a single value, else a list."""
    lists = st.lists(items(low, high), min_size=1, max_size=3).map(
        lambda parts: Part(",".join(part.text for part in parts), set().union(*(part.values for part in parts)))
    )
    return st.just(Part("*", set(range(low, high + 1)))) | single(low, high) | lists


def single(low: int, high: int) -> st.SearchStrategy[Part]:
    """A field of one value."""
    return st.integers(low, high).map(lambda value: Part(f"{value}", {value}))


class Expression(NamedTuple):
    """An expression, and what each of its fields means."""

    second: Part
    minute: Part
    hour: Part
    day: Part
    month: Part
    weekday: Part
    plus: bool

    @property
    def text(self) -> str:
        plus = "+" if self.plus else ""
        return " ".join([*(part.text for part in self[:5]), plus + self.weekday.text])

    @property
    def is_fixed_time(self) -> bool:
        return all(len(part.values) == 1 for part in self[:3])

    def names(self, wall: datetime) -> bool:
        """Whether it names this minute."""
        of_month = wall.day in self.day.values
        of_week = bool({wall.isoweekday(), wall.isoweekday() % 7} & self.weekday.values)
        both = self.plus or "*" in (self.day.text, self.weekday.text)
        is_day = (of_month and of_week) if both else (of_month or of_week)
        return (
            is_day
            and wall.month in self.month.values
            and wall.hour in self.hour.values
            and wall.minute in self.minute.values
        )


expressions = st.builds(
    Expression, fields(0, 59), fields(0, 59), fields(0, 23) | single(0, 3), fields(1, 31), fields(1, 12), fields(0, 7),
    st.booleans(),
)  # fmt: skip


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(expressions, st.sampled_from(CHANGES), st.integers(-36 * 3_600_000, 36 * 3_600_000))
def test_the_next_firing_is_the_first_that_the_oracle_sees(
    expression: Expression, change: tuple[str, str], distance_ms: int
) -> None:
    zone = ZoneInfo(change[0])
    at = int(datetime.fromisoformat(change[1]).timestamp()) * 1000 + distance_ms
    start_s = at // 60_000 * 60 - 86_400
    end_s = start_s + 3 * 86_400
    named = [face for face in faces(zone, start_s, end_s) if expression.names(face.wall)]
    after = [one for one in chosen(named, expression.second.values, expression.is_fixed_time) if one > at // 1000]
    found = parse(expression.text).next_after(at, zone)
    if after:
        assert found == after[0] * 1000
    else:
        assert found is None or found >= end_s * 1000


@settings(deadline=None)
@given(expressions, st.sampled_from([zone for zone, _ in CHANGES]), st.integers(0, 10**13))
def test_firings_come_in_order_and_are_named(expression: Expression, zone: str, at: int) -> None:
    schedule = parse(expression.text)
    for _ in range(5):
        found = schedule.next_after(at, ZoneInfo(zone))
        if found is None:
            return
        assert found > at
        wall = datetime.fromtimestamp(found // 1000, ZoneInfo(zone)).replace(tzinfo=None)
        named = expression.names(wall) and wall.second in expression.second.values
        before = datetime.fromtimestamp(found // 1000 - 1, ZoneInfo(zone)).replace(tzinfo=None)
        is_after_gap = wall - before > timedelta(seconds=1)
        assert named or (expression.is_fixed_time and is_after_gap)
        at = found


@pytest.mark.parametrize(("zone", "change"), CHANGES[:2])
def test_every_second_around_a_change_is_met_once(zone: str, change: str) -> None:
    turn_s = int(datetime.fromisoformat(change).timestamp())
    start_s, end_s = turn_s - 1800, turn_s + 5400
    assert steps("* * * * * *", ZoneInfo(zone), start_s, end_s) == list(range(start_s, end_s))
