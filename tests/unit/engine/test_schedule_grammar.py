"""What a cron expression may be, rule by rule (protocol.md#7.6)."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zizq.engine.cron.grammar import MAX_LENGTH, parse
from zizq.errors import BadRequest

START = datetime(2026, 1, 1, tzinfo=UTC)  # a Thursday


def firings(expression: str, count: int) -> list[datetime]:
    """The first `count` firings after the start, or as many as there are."""
    schedule, at, found = parse(expression), int(START.timestamp() * 1000), []
    while len(found) < count and (next_at := schedule.next_after(at, UTC)) is not None:
        at = next_at
        found.append(datetime.fromtimestamp(at / 1000, UTC))
    return found


def times(expression: str, count: int) -> str:
    return " ".join(f"{moment:%H:%M:%S}" for moment in firings(expression, count))


def days(expression: str, count: int) -> str:
    return " ".join(f"{moment:%d.%m.}" for moment in firings(expression, count))


def refusal(expression: str) -> str:
    with pytest.raises(BadRequest) as refused:
        parse(expression)
    prefix, _, detail = str(refused.value).partition(": ")
    assert prefix == "invalid cron expression"
    return detail


# ── fields ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("30 4 * * *", "04:30:00 04:30:00"), ("15 30 4 * * *", "04:30:15 04:30:15"),
        ("15 30 4 * * * 2026", "04:30:15 04:30:15"), ("* * * * *", "00:01:00 00:02:00"),
        ("* * * * * *", "00:00:01 00:00:02"), ("  30\t4  *\n* * ", "04:30:00 04:30:00"),
        ("007 04 * * *", "04:07:00 04:07:00"),
    ],
)  # fmt: skip
def test_five_to_seven_fields_are_read(expression: str, expected: str) -> None:
    assert times(expression, 2) == expected


@pytest.mark.parametrize("expression", ["", "   ", "*", "* * * *", "* * * * * * * *", "1, 2 * * * * * *"])
def test_other_counts_of_fields_are_refused(expression: str) -> None:
    assert "fields (use 5: minute, hour, day of month, month, day of week; 6:" in refusal(expression)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("5,20-22,50-59/4 0 * * *", "00:05:00 00:20:00 00:21:00 00:22:00 00:50:00 00:54:00 00:58:00 00:05:00"),
        ("*/25 0 * * *", "00:25:00 00:50:00 00:00:00"), ("0-59/25 0 * * *", "00:25:00 00:50:00 00:00:00"),
        ("7-7 0 * * *", "00:07:00 00:07:00"), ("20,10,20 0 * * *", "00:10:00 00:20:00 00:10:00"),
        ("*/1 * * * *", "00:01:00 00:02:00"), ("*/999 * * * *", "01:00:00 02:00:00"),
        ("3-5/99999999999999 1 * * *", "01:03:00 01:03:00"), ("0 22,23 * * *", "22:00:00 23:00:00 22:00:00"),
    ],
)  # fmt: skip
def test_lists_ranges_and_steps_are_read(expression: str, expected: str) -> None:
    assert times(expression, len(expected.split())) == expected


@pytest.mark.parametrize(
    ("field", "low", "high"),
    [("second", 0, 59), ("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12),
     ("day of week", 0, 7), ("year", 1970, 5000)],
)  # fmt: skip
def test_a_value_must_lie_in_the_range_of_its_field(field: str, low: int, high: int) -> None:
    place = ["second", "minute", "hour", "day of month", "month", "day of week", "year"].index(field)

    def with_item(item: str) -> str:
        return " ".join(item if number == place else "*" for number in range(7))

    for item in (f"{low}", f"{high}", f"{low}-{high}", f"{low}-{high}/2", f"{low},{high}"):
        assert parse(with_item(item)).text == with_item(item)
    for item in (f"{low - 1}", f"{high + 1}", f"{low}-{high + 1}", f"{low},{high + 1}", "9" * 900):
        assert refusal(with_item(item)).startswith(f'{field} "')
        assert f"from {low} to {high}" in refusal(with_item(item))


@pytest.mark.parametrize(
    "item",
    [
        "5/15", "/15", "22-2", "1,,2", ",1", "1,", ",", "-5", "5-", "1-2-3", "*/0", "*/", "*/-1", "1-5/0", "1-5/",
        "1-5/2/2", "**", "*5", "5*", "*-5", "1.5", "a", "H", "H/5", "C", "L", "5L", "5W", "W", "1#1", "?", "+5", "=5",
        "0x5", "1e1", "٣", "²", "~", "R", "$", "\0", "😀",
    ],
)  # fmt: skip
def test_whatever_else_stands_in_a_field_of_time_is_refused_by_name(item: str) -> None:
    for field, before, after in (("minute", "", " 0 * * *"), ("hour", "0 ", " * * *"), ("month", "0 0 1 ", " *")):
        wrong = "" if "," in item else item.upper()
        assert refusal(f"{before}{item}{after}").startswith(f'{field} "{wrong}" is not allowed (use *, */n, a, a-b')


def test_a_value_of_the_wrong_field_says_what_is_allowed() -> None:
    assert refusal("0 24 * * *") == (
        'hour "24" is not allowed (use *, */n, a, a-b, a-b/n or a list of them, from 0 to 23)'
    )


def test_the_length_is_bounded() -> None:
    longest = "0" * (MAX_LENGTH - 8) + " * * * *"
    assert times(longest, 2) == "01:00:00 02:00:00"
    assert refusal(f"0{longest}") == f"it has {MAX_LENGTH + 1} characters (use {MAX_LENGTH} at most)"


def test_the_text_is_kept_in_one_form_and_makes_the_same_schedule_again() -> None:
    schedule = parse(" 0  9 * jan-mar\tMon-fri ")
    assert schedule.text == "0 9 * JAN-MAR MON-FRI"
    assert parse(schedule.text) == schedule
    assert len({parse("@daily"), parse("@DAILY"), parse("@hourly")}) == 2
    assert repr(schedule) == "Schedule('0 9 * JAN-MAR MON-FRI')"


# ── names ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 0 1 JAN,MAR-MAY,DEC *", "01.03. 01.04. 01.05. 01.12. 01.01."), ("0 0 1 feb *", "01.02. 01.02."),
        ("0 0 1 JUN-OCT/2 *", "01.06. 01.08. 01.10. 01.06."), ("0 0 1 JUL,AUG,SEP,NOV,APR *", "01.04. 01.07. 01.08."),
        ("0 0 * * fri-SUN", "02.01. 03.01. 04.01. 09.01."), ("0 0 * * SUN", "04.01. 11.01."),
        ("0 0 * * SUN-TUE", "04.01. 05.01. 06.01. 11.01."), ("0 0 * * MON,Wed,THU,sat", "03.01. 05.01. 07.01. 08.01."),
        ("0 0 * * MON-5/2", "02.01. 05.01. 07.01. 09.01."), ("0 0 * * 0", "04.01. 11.01."),
        ("0 0 * * 7", "04.01. 11.01."), ("0 0 * * 5-7", "02.01. 03.01. 04.01. 09.01."),
        ("0 0 * * */7", "04.01. 11.01."), ("0 0 FEB * *", "02.01. 02.02."),
    ],
)  # fmt: skip
def test_names_stand_for_their_numbers_wherever_they_are(expression: str, expected: str) -> None:
    assert days(expression, len(expected.split())) == expected


@pytest.mark.parametrize("item", ["MONDAY", "JANUARY", "SU", "TUES", "M", "MON-", "SAT-SUN-MON", "SAT-MON", "-SUN"])
def test_other_names_are_refused(item: str) -> None:
    assert refusal(f"0 0 * * {item}").startswith(f'day of week "{item}"')


@pytest.mark.parametrize(
    ("nickname", "expected"),
    [
        ("@yearly", "01.01. 01.01."), ("@annually", "01.01. 01.01."), ("@monthly", "01.02. 01.03."),
        ("@weekly", "04.01. 11.01."), ("@daily", "02.01. 03.01."), ("@Daily", "02.01. 03.01."),
        (" @WEEKLY ", "04.01. 11.01."),
    ],
)  # fmt: skip
def test_nicknames_are_known_in_any_case(nickname: str, expected: str) -> None:
    assert days(nickname, 2) == expected
    assert times(nickname, 2) == "00:00:00 00:00:00"


def test_the_nickname_of_the_hour_fires_each_hour() -> None:
    assert times("@hourly", 3) == "01:00:00 02:00:00 03:00:00"


@pytest.mark.parametrize("nickname", ["@midnight", "@reboot", "@every 5m", "@", "@daily @daily", "@daily * * * *"])
def test_other_nicknames_are_refused(nickname: str) -> None:
    assert refusal(nickname) == (
        f'nickname "{nickname.upper()}" is unknown (use @yearly, @annually, @monthly, @weekly, @daily, @hourly)'
    )


# ── days ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 0 L * *", "31.01. 28.02. 31.03. 30.04."), ("0 0 1,L * *", "31.01. 01.02. 28.02. 01.03."),
        ("0 0 l 2 * ", "28.02. 28.02. 29.02."), ("0 0 31 * *", "31.01. 31.03. 31.05. 31.07. 31.08."),
        ("0 0 15W * *", "15.01. 16.02. 16.03. 15.04. 15.05. 15.06. 15.07. 14.08."),
        ("0 0 1W * *", "02.02. 02.03. 01.04. 01.05. 01.06. 01.07. 03.08."),  # 1 August is a Saturday
        ("0 0 31w * *", "30.01. 31.03. 29.05. 31.07. 31.08. 30.10. 31.12."),  # 31 May is a Sunday
        ("0 0 30W 5 *", "29.05. 31.05."), ("0 0 LW * *", "30.01. 27.02. 31.03. 30.04. 29.05. 30.06."),
        ("0 0 1W,LW * *", "30.01. 02.02. 27.02. 02.03."), ("0 0 1W,15 * *", "15.01. 02.02. 15.02."),
        ("0 0 * * 5#2", "09.01. 13.02. 13.03."), ("0 0 * * FRI#5", "30.01. 29.05. 31.07."),
        ("0 0 * * MON-FRI#2", "08.01. 09.01. 12.01. 13.01. 14.01. 09.02."),
        ("0 0 * * MON-FRI/4#1", "02.01. 05.01. 02.02. 06.02."), ("0 0 * * 5L", "30.01. 27.02. 27.03."),
        ("0 0 * * 5#L", "30.01. 27.02. 27.03."), ("0 0 * * friL", "30.01. 27.02. 27.03."),
        ("0 0 * * SAT-SUN#L", "25.01. 31.01. 22.02. 28.02."), ("0 0 * * 7L", "25.01. 22.02. 29.03."),
        ("0 0 * * 7#L", "25.01. 22.02. 29.03."), ("0 0 * * 0L", "25.01. 22.02. 29.03."),
        ("0 0 * * SUN#L", "25.01. 22.02. 29.03."), ("0 0 * * 7#1", "04.01. 01.02. 01.03."),
        ("0 0 * * 1#1,5L", "05.01. 30.01. 02.02. 27.02."),
    ],
)  # fmt: skip
def test_days_are_named_by_their_place(expression: str, expected: str) -> None:
    assert days(expression, len(expected.split())) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 0 13 * FRI", "02.01. 09.01. 13.01. 16.01."), ("0 0 13 * +FRI", "13.02. 13.03. 13.11."),
        ("0 0 * * +FRI", "02.01. 09.01."), ("0 0 13 * +*", "13.01. 13.02."), ("0 0 1-7 * +MON", "05.01. 02.02."),
        ("0 0 13 * ?", "13.01. 13.02."), ("0 0 ? * FRI", "02.01. 09.01."), ("0 0 ? * ?", "02.01. 03.01."),
        ("0 0 ?/15 * *", "16.01. 31.01."), ("0 0 */15 * FRI", "02.01. 09.01. 16.01. 23.01. 30.01. 31.01."),
        ("0 0 1-31 * FRI", "02.01. 03.01. 04.01."), ("0 0 29 2 MON#5", "29.02. 29.02."),
        ("0 0 L * FRI#1", "02.01. 31.01. 06.02. 28.02."), ("0 0 L * +5", "31.07. 30.04."),
    ],
)  # fmt: skip
def test_days_of_month_and_of_week_join(expression: str, expected: str) -> None:
    assert days(expression, len(expected.split())) == expected


@pytest.mark.parametrize(
    "item", ["L-3", "W", "0W", "32W", "WL", "15WL", "1-5W", "5#2", "L5", "+15", "15W/2", "LL", "H"]
)
def test_other_days_of_the_month_are_refused(item: str) -> None:
    detail = refusal(f"0 0 {item} * *")
    assert detail.startswith('day of month "')
    assert detail.endswith("from 1 to 31; or L, LW, 15W, ?)")


@pytest.mark.parametrize(
    "item",
    ["L", "#2", "5#0", "5#6", "5#", "5#2#2", "5LL", "8#1", "8L", "*#2", "15W", "LW", "5-1#2", "+", "++1", "1,+2"],
)
def test_other_days_of_the_week_are_refused(item: str) -> None:
    detail = refusal(f"0 0 * * {item}")
    assert detail.startswith('day of week "')
    assert detail.endswith("from 0 to 7 or SUN to SAT; or 5#2, 5#L, 5L, ?; all after a + or not)")


def test_the_nearest_weekday_never_leaves_the_month() -> None:
    for day in range(1, 32):
        for moment in firings(f"0 0 {day}W * *", 100):
            meant = date(moment.year, moment.month, day)
            near = [meant + timedelta(days=off) for off in (0, -1, 1, -2, 2)]
            best = next(one for one in near if one.weekday() < 5 and one.month == meant.month)
            assert moment.date() == best


# ── years and ends ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("expression", "years"),
    [
        ("0 0 0 1 7 * 2027,2030-2032,4990-5000/5", [2027, 2030, 2031, 2032, 4990, 4995, 5000]),
        ("0 0 0 1 7 * */1000", [2970, 3970, 4970]), ("0 0 0 1 7 * 2020", []), ("0 0 0 1 7 * 1970-2025", []),
        ("0 0 0 29 2 * 2100", []), ("0 0 0 29 2 * 2096-2104", [2096, 2104]), ("0 0 30 2 *", []),
        ("0 0 31 2,4,6,9,11 *", []), ("0 0 31W 2,4,6,9,11 *", []), ("0 0 0 29 2 +MON#5 2026-2075", [2044, 2072]),
        ("59 59 23 31 12 * 4999", [4999]), ("59 59 23 31 12 * 5000", [5000]),
    ],
)  # fmt: skip
def test_years_are_heeded_and_end(expression: str, years: list[int]) -> None:
    assert [moment.year for moment in firings(expression, 100)] == years


@pytest.mark.parametrize(
    ("expression", "months"),
    [
        ("0 0 31 * *", {1, 3, 5, 7, 8, 10, 12}), ("0 0 30 1-3 *", {1, 3}), ("0 0 29 2 *", {2}), ("0 0 30W 2 *", set()),
        ("0 0 31 2 +MON", set()), ("0 0 31 2 MON", {2}),
    ],
)  # fmt: skip
def test_months_that_never_have_such_a_day_are_not_looked_at(expression: str, months: set[int]) -> None:
    assert {month for month in range(32) if parse(expression).months >> month & 1} == months


# ── any text ─────────────────────────────────────────────────────────────────────────────────────────


@given(st.text() | st.text(alphabet="0123456789*,-/?LW#+@ SUNMONFRIJANDEC", max_size=60))
@example("\ud800 * * * *")
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        schedule = parse(text)
    except BadRequest:
        return
    assert parse(schedule.text) == schedule
    schedule.next_after(0, UTC)
