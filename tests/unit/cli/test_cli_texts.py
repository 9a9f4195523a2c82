"""What the command line shows of jobs, and how it reads what is typed."""

from datetime import UTC, datetime, timedelta

import click
import msgspec
import pytest

from unit.client.fakes import JOB
from zizq.cli.options import instant, names, seconds, span, whole_number
from zizq.cli.table import Column, Table
from zizq.cli.texts import JOB_COLUMNS, count_of, description, error_record, job_row, record
from zizq.client.job import JobError, JobReader
from zizq.wire.codec import Format
from zizq.words import away, printable

NOW = JOB["ready_at"]
MINUTE = 60_000
CLOCK = datetime(2030, 1, 1, 12, tzinfo=UTC)


def job(form=Format.JSON, **fields):
    module = msgspec.json if form is Format.JSON else msgspec.msgpack
    return JobReader(form).one(module.encode(JOB | fields))


# ── tables ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_table_lines_up_texts_to_the_left_and_numbers_to_the_right():
    table = Table((Column("NAME"), Column("N", is_number=True), Column("")))
    assert table.lines([["a", "1", "x"], ["long", "100", ""]]) == ["NAME    N", "a       1  x", "long  100"]


def test_the_titles_come_once_and_columns_do_not_get_narrower():
    table = Table((Column("A"), Column("B")))
    assert table.lines([["wide", "1"]]) == ["A     B", "wide  1"]
    assert table.lines([["x", "2"]]) == ["x     2"]
    assert table.lines([]) == []


def test_on_a_narrow_terminal_the_widest_names_are_cut():
    table = Table((Column("ID"), Column("QUEUE", may_be_cut=True), Column("TYPE", may_be_cut=True)), 33)
    lines = table.lines([["0123456789", "q" * 30, "t" * 9]])
    assert lines[1] == f"0123456789  {'q' * 9}…  {'t' * 9}"
    assert len(lines[1]) == 33


def test_names_are_cut_no_further_than_they_can_be_told_apart():
    table = Table((Column("ID"), Column("QUEUE", may_be_cut=True)), 5)
    assert table.lines([["0123456789", "q" * 30]])[1] == f"0123456789  {'q' * 7}…"


# ── jobs ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"status": "scheduled", "ready_at": NOW + 5 * MINUTE + 1}, "in 5m"),
        ({"status": "ready", "ready_at": NOW - 3 * 60 * MINUTE - 5 * MINUTE}, "3h ago"),
        ({"status": "in_flight", "dequeued_at": NOW - 2000}, "2s ago"),
        ({"status": "completed", "completed_at": NOW - MINUTE}, "1m ago"),
        ({"status": "dead", "failed_at": NOW - 50 * 60 * MINUTE}, "2d ago"),
        ({"status": "dead"}, "now"),
        ({"status": "paused"}, "now"),
    ],
)
def test_a_row_says_since_when_a_job_is_what_it_is(fields, expected):
    row = job_row(job(**fields), NOW)
    assert row == [JOB["id"], fields["status"], "emails", "send", "7", "2", expected]
    assert len(row) == len(JOB_COLUMNS)


@pytest.mark.parametrize(("at", "expected"), [(0, "now"), (999, "now"), (-1000, "1s ago"), (90_061_000, "in 1d")])
def test_a_distance_is_told_in_its_largest_unit(at, expected):
    assert away(NOW + at, NOW) == expected


def test_a_name_cannot_command_the_terminal():
    assert printable("a\x1b[31mb\r\n\x9b\u202e\tü") == "a\\x1b[31mb\\r\\n\\x9b\\u202e\\tü"
    assert job_row(job(queue="a\n\x1bc", type="b\tc"), NOW)[2:4] == ["a\\n\\x1bc", "b\\tc"]


def test_a_description_has_every_field_the_payload_and_the_errors():
    error = JobError(
        attempt=1, message="no\nserver", error_type="E", backtrace="line 1\n\x1bline 2\n", dequeued_at_ms=1,
        failed_at_ms=NOW - MINUTE,
    )  # fmt: skip
    shown = job(payload={"to": "ü", "tags": []}, backoff={"exponent": 2.0, "base_ms": 1, "jitter_ms": 2}, news=[1])
    lines = list(description(shown, [error], NOW))
    assert lines[0] == f"id        {JOB['id']}"
    assert 'backoff   {"exponent":2.0,"base_ms":1,"jitter_ms":2}' in lines
    assert "news      [1]" in lines
    assert [line.endswith("(now)") for line in lines if line.startswith("ready_at  2026-")] == [True]
    assert lines[lines.index("payload") + 1 :][:4] == ["  {", '    "to": "ü",', '    "tags": []', "  }"]
    assert lines[-3].startswith("attempt 1 failed 2026-")
    assert lines[-3].endswith("(1m ago): E: no\\nserver")
    assert lines[-2:] == ["  line 1", "  \\x1bline 2"]


def test_an_instant_beyond_the_calendar_can_be_shown():
    assert f"ready_at  {2**63 - 1} ms after 1970" in description(job(ready_at=2**63 - 1), [], NOW)


@pytest.mark.parametrize("form", list(Format))
def test_programs_get_a_job_as_the_server_sent_it(form):
    assert record(job(form, payload=[1, None], news={"a": 1})) == JOB | {"payload": [1, None], "news": {"a": 1}}


def test_programs_get_an_error_without_what_is_not_there():
    error = JobError(attempt=1, message="m", dequeued_at_ms=1, failed_at_ms=2)
    assert error_record(error) == {"attempt": 1, "message": "m", "dequeued_at": 1, "failed_at": 2}


def test_counts_are_told_with_their_noun():
    assert (count_of(0), count_of(1), count_of(12_345)) == ("0 jobs", "1 job", "12,345 jobs")


# ── values ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", CLOCK),
        ("+2h", CLOCK + timedelta(hours=2)),
        ("-1h 30m", CLOCK - timedelta(minutes=90)),
        ("2030-01-31T12:00+01:00", datetime(2030, 1, 31, 11, tzinfo=UTC)),
        ("2030-01-31T12:00Z", datetime(2030, 1, 31, 12, tzinfo=UTC)),
        ("2030-01-31", datetime(2030, 1, 31).astimezone()),
    ],
)
def test_an_instant_is_read(text, expected):
    assert instant(text, CLOCK) == expected


@pytest.mark.parametrize("text", ["", "soon", "+", "+2 parsecs", "2030-13-01", "+999999y", "-99999y"])
def test_what_is_no_instant_is_refused(text):
    with pytest.raises(click.BadParameter, match="no instant"):
        instant(text, CLOCK)


@pytest.mark.parametrize(
    ("text", "expected"), [("5", 5), ("0..9", (0, 9)), ("9..", (9, None)), ("..9", (None, 9)), ("7..7", (7, 7))]
)
def test_a_range_is_read_with_both_its_ends(text, expected):
    assert span(text, whole_number) == expected


@pytest.mark.parametrize("text", ["", "..", "a", "1...2", "1..b", "-1", "1.5", "٣", "9" * 5000])
def test_what_is_no_range_is_refused(text):
    with pytest.raises(click.BadParameter):
        span(text, whole_number)


def test_names_and_durations_are_read():
    assert names(" a, b ,,c") == ["a", "b", "c"]
    assert (seconds("30"), seconds("1m"), seconds("250ms")) == (30, 60, 0.25)
    with pytest.raises(click.BadParameter, match="no unit"):
        seconds("3 parsecs")
