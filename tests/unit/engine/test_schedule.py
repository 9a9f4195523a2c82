"""When a schedule fires next, above all where the clocks change (protocol.md#7.5, protocol.md#7.7)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest

from zizq.engine.cron.grammar import parse


def ms(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp() * 1000)


def firings(expression: str, zone: tzinfo, start: str, count: int) -> list[str]:
    """The first `count` firings after `start`, as the clocks show them, with their distance from UTC."""
    schedule, at, found = parse(expression), ms(start), []
    while len(found) < count and (next_at := schedule.next_after(at, zone)) is not None:
        assert next_at > at
        at = next_at
        found.append(datetime.fromtimestamp(at / 1000, zone).strftime("%d %H:%M:%S %z").replace(":00 ", " "))
    return found


# ── from where it counts ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-05-01T11:59:59.999Z", "2026-05-01T12:00:00Z"), ("2026-05-01T12:00:00Z", "2026-05-02T12:00:00Z"),
        ("2026-05-01T12:00:00.001Z", "2026-05-02T12:00:00Z"), ("2026-05-01T12:00:00.999Z", "2026-05-02T12:00:00Z"),
    ],
)  # fmt: skip
def test_it_fires_strictly_after_the_second(at: str, expected: str) -> None:
    assert parse("0 12 * * *").next_after(ms(at), UTC) == ms(expected)


def test_a_second_that_has_begun_is_over() -> None:
    assert parse("* * * * * *").next_after(1_000_999, UTC) == 1_001_000


def test_years_are_those_of_the_zone() -> None:
    last = parse("59 59 23 31 12 * 5000")
    for hours in (-12, 0, 14):
        zone = timezone(timedelta(hours=hours))
        expected = datetime(5000, 12, 31, 23, 59, 59, tzinfo=zone)
        assert last.next_after(0, zone) == int(expected.timestamp()) * 1000
        assert last.next_after(int(expected.timestamp()) * 1000, zone) is None


@pytest.mark.parametrize("at", [2**63 - 1, 253_402_300_799_999, 10**30])
def test_after_the_last_year_it_never_fires(at: int) -> None:
    assert parse("* * * * * *").next_after(at, ZoneInfo("Pacific/Auckland")) is None


@pytest.mark.parametrize("at", [-1, -(2**63), -62_135_596_800_000])
def test_before_the_first_year_the_first_firing_is_next(at: int) -> None:
    assert parse("0 12 * * *").next_after(at, UTC) == 12 * 3_600_000


# ── the clocks go forward ────────────────────────────────────────────────────────────────────────────

LONDON, NEW_YORK, LORD_HOWE = ZoneInfo("Europe/London"), ZoneInfo("America/New_York"), ZoneInfo("Australia/Lord_Howe")
SAO_PAULO, CAIRO, APIA = ZoneInfo("America/Sao_Paulo"), ZoneInfo("Africa/Cairo"), ZoneInfo("Pacific/Apia")
DUBLIN, NUUK, CHATHAM = ZoneInfo("Europe/Dublin"), ZoneInfo("America/Nuuk"), ZoneInfo("Pacific/Chatham")
SPRING = "2026-03-28T12:00Z"


@pytest.mark.parametrize(
    ("expression", "zone", "start", "expected"),
    [
        ("30 1 * * *", LONDON, SPRING, ["29 02:00 +0100", "30 01:30 +0100"]),
        ("59 59 1 * * *", LONDON, SPRING, ["29 02:00 +0100", "30 01:59:59 +0100"]),
        ("0 2 * * *", LONDON, SPRING, ["29 02:00 +0100", "30 02:00 +0100"]),
        ("0 1 29 3 *", LONDON, SPRING, ["29 02:00 +0100", "29 01:00 +0100"]),
        ("30 2 * * *", NEW_YORK, "2026-03-07T12:00Z", ["08 03:00 -0400", "09 02:30 -0400"]),
        ("30 2 * * SUN", NEW_YORK, "2026-03-07T12:00Z", ["08 03:00 -0400", "15 02:30 -0400"]),
        ("15 2 * * *", LORD_HOWE, "2026-10-03T00:00Z", ["04 02:30 +1100", "05 02:15 +1100"]),
        ("45 2 * * *", LORD_HOWE, "2026-10-03T00:00Z", ["04 02:45 +1100", "05 02:45 +1100"]),
        ("0 0 * * *", SAO_PAULO, "2017-10-14T12:00Z", ["15 01:00 -0200", "16 00:00 -0200"]),
        ("30 0 15 10 *", SAO_PAULO, "2017-10-14T12:00Z", ["15 01:00 -0200", "15 00:30 -0300"]),
        ("0 0 * * *", CAIRO, "2026-04-23T12:00Z", ["24 01:00 +0300", "25 00:00 +0300"]),
        ("0 12 * * *", APIA, "2011-12-29T12:00Z", ["29 12:00 -1000", "31 00:00 +1400", "31 12:00 +1400"]),
        ("0 0 * * *", APIA, "2011-12-29T12:00Z", ["31 00:00 +1400", "01 00:00 +1400"]),
        ("30 1 * * *", DUBLIN, SPRING, ["29 02:00 +0100", "30 01:30 +0100"]),
        ("30 23 * * SAT", NUUK, "2026-03-26T12:00Z", ["29 00:00 -0100", "04 23:30 -0100"]),
        ("0 3 * * *", CHATHAM, "2026-09-26T00:00Z", ["27 03:45 +1345", "28 03:00 +1345"]),
    ],
)  # fmt: skip
def test_a_fixed_time_that_is_skipped_fires_right_after_the_gap(
    expression: str, zone: ZoneInfo, start: str, expected: list[str]
) -> None:
    assert firings(expression, zone, start, len(expected)) == expected


@pytest.mark.parametrize(
    ("expression", "zone", "start", "expected"),
    [
        ("30 1,5 * * *", LONDON, SPRING, ["29 05:30 +0100", "30 01:30 +0100"]),
        ("30 1-2 * * *", LONDON, SPRING, ["29 02:30 +0100", "30 01:30 +0100"]),
        ("0,30 1 * * *", LONDON, SPRING, ["30 01:00 +0100", "30 01:30 +0100"]),
        ("0-1 30 1 * * *", LONDON, SPRING, ["30 01:30 +0100", "30 01:30:01 +0100"]),
        ("*/20 * * * *", LONDON, "2026-03-29T00:30Z", ["29 00:40 +0000", "29 02:00 +0100", "29 02:20 +0100"]),
        ("* * * * * *", LONDON, "2026-03-29T00:59:58Z", ["29 00:59:59 +0000", "29 02:00 +0100"]),
        ("0 */2 * * *", NEW_YORK, "2026-03-08T04:30Z", ["08 00:00 -0500", "08 04:00 -0400"]),
        ("*/15 2 * * *", LORD_HOWE, "2026-10-03T14:00Z", ["04 02:30 +1100", "04 02:45 +1100", "05 02:00 +1100"]),
        ("*/30 0 * * *", SAO_PAULO, "2017-10-14T12:00Z", ["16 00:00 -0200", "16 00:30 -0200"]),
        ("0 0,12 * * *", CAIRO, "2026-04-23T12:00Z", ["24 12:00 +0300", "25 00:00 +0300"]),
        ("0 */6 * * *", APIA, "2011-12-30T02:00Z", ["29 18:00 -1000", "31 00:00 +1400", "31 06:00 +1400"]),
        ("* * 30 12 *", APIA, "2011-12-01T00:00Z", ["30 00:00 +1400", "30 00:01 +1400"]),
        ("* 23 * * SAT", NUUK, "2026-03-26T12:00Z", ["04 23:00 -0100", "04 23:01 -0100"]),
    ],
)  # fmt: skip
def test_any_other_time_that_is_skipped_is_left_out(
    expression: str, zone: ZoneInfo, start: str, expected: list[str]
) -> None:
    assert firings(expression, zone, start, len(expected)) == expected


# ── the clocks go back ───────────────────────────────────────────────────────────────────────────────

AUTUMN = "2026-10-24T12:00Z"


@pytest.mark.parametrize(
    ("expression", "zone", "start", "expected"),
    [
        ("30 1 * * *", LONDON, AUTUMN, ["25 01:30 +0100", "26 01:30 +0000"]),
        ("0 1 * * *", LONDON, AUTUMN, ["25 01:00 +0100", "26 01:00 +0000"]),
        ("0 2 * * *", LONDON, AUTUMN, ["25 02:00 +0000", "26 02:00 +0000"]),
        ("30 1 * * *", LONDON, "2026-10-25T01:10Z", ["26 01:30 +0000"]),
        ("30 1 * * *", LONDON, "2026-10-25T01:40Z", ["26 01:30 +0000"]),
        ("30 1 * * *", LONDON, "2026-10-25T00:45Z", ["26 01:30 +0000"]),
        ("30 1 * * *", NEW_YORK, "2026-10-31T12:00Z", ["01 01:30 -0400", "02 01:30 -0500"]),
        ("45 1 * * *", LORD_HOWE, "2026-04-04T00:00Z", ["05 01:45 +1100", "06 01:45 +1030"]),
        ("30 23 * * *", SAO_PAULO, "2018-02-17T12:00Z", ["17 23:30 -0200", "18 23:30 -0300"]),
        ("30 23 * * SAT", NUUK, "2026-10-24T12:00Z", ["24 23:30 -0100", "31 23:30 -0200"]),
        ("30 1 * * *", DUBLIN, AUTUMN, ["25 01:30 +0100", "26 01:30 +0000"]),
    ],
)  # fmt: skip
def test_a_fixed_time_that_is_repeated_fires_in_the_first_pass(
    expression: str, zone: ZoneInfo, start: str, expected: list[str]
) -> None:
    assert firings(expression, zone, start, len(expected)) == expected


@pytest.mark.parametrize(
    ("expression", "zone", "start", "expected"),
    [
        ("30 1,5 * * *", LONDON, AUTUMN, ["25 01:30 +0100", "25 01:30 +0000", "25 05:30 +0000"]),
        ("*/30 1 * * *", LONDON, AUTUMN, ["25 01:00 +0100", "25 01:30 +0100", "25 01:00 +0000", "25 01:30 +0000"]),
        ("*/30 1 25 10 *", LONDON, "2026-10-25T00:45Z", ["25 01:00 +0000", "25 01:30 +0000", "25 01:00 +0100"]),
        ("*/30 1 25 10 *", LONDON, "2026-10-25T01:15Z", ["25 01:30 +0000", "25 01:00 +0100"]),
        ("0 0 1-2 25 10 * 2026", LONDON, "2026-10-25T00:30Z", ["25 01:00 +0000", "25 02:00 +0000"]),
        ("0,1 30 1 25 10 * 2026", LONDON, "2026-10-25T00:45Z", ["25 01:30 +0000", "25 01:30:01 +0000"]),
        ("* * * * * *", LONDON, "2026-10-25T00:59:58Z", ["25 01:59:59 +0100", "25 01:00 +0000", "25 01:00:01 +0000"]),
        ("0 * * * *", NEW_YORK, "2026-11-01T04:30Z", ["01 01:00 -0400", "01 01:00 -0500", "01 02:00 -0500"]),
        ("*/20 1 * * *", LORD_HOWE, "2026-04-04T13:50Z",
         ["05 01:00 +1100", "05 01:20 +1100", "05 01:40 +1100", "05 01:40 +1030", "06 01:00 +1030"]),
        ("*/30 23 * * *", SAO_PAULO, "2018-02-18T00:59Z",
         ["17 23:00 -0200", "17 23:30 -0200", "17 23:00 -0300", "17 23:30 -0300", "18 23:00 -0300"]),
        ("0 0,23 * * *", NUUK, "2026-10-24T12:00Z", ["24 23:00 -0100", "24 23:00 -0200", "25 00:00 -0200"]),
        ("0,45 1 * * *", DUBLIN, "2026-10-25T00:10Z", ["25 01:45 +0100", "25 01:00 +0000", "25 01:45 +0000"]),
    ],
)  # fmt: skip
def test_any_other_time_that_is_repeated_fires_in_both_passes(
    expression: str, zone: ZoneInfo, start: str, expected: list[str]
) -> None:
    assert firings(expression, zone, start, len(expected)) == expected


def test_a_far_firing_heeds_the_clocks_of_its_own_day() -> None:
    assert firings("0 12 1 7 *", LONDON, "2026-01-01T00:00Z", 1) == ["01 12:00 +0100"]
    assert firings("0 0 12 1 7 * 4999", LONDON, "2026-01-01T00:00Z", 1) == ["01 12:00 +0100"]


@pytest.mark.parametrize(
    ("expression", "is_fixed"),
    [
        ("0 3 * * *", True), ("5 0 3 1-7 * MON", True), ("0-0 3,3 * * *", True), ("@daily", True), ("@hourly", False),
        ("* 3 * * *", False), ("0 3,4 * * *", False), ("* 0 3 * * *", False), ("0,30 3 * * *", False),
    ],
)  # fmt: skip
def test_a_time_is_fixed_where_each_field_of_it_comes_to_one_value(expression: str, is_fixed: bool) -> None:
    assert parse(expression).is_fixed_time == is_fixed
