"""What pages show, as texts."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zizq.budget import Draw
from zizq.engine.changes import Delete, Patch, Retry
from zizq.engine.selection import EVERYTHING
from zizq.errors import BadRequest
from zizq.ids import encode
from zizq.job import Batch, ErrorRecord, JobRecord, Status
from zizq.policy import MAX_MILLIS, Backoff, Retention
from zizq.server.dashboard import present

NOW = 1_790_000_000_000
JOB = JobRecord(
    id=encode((NOW - 60_000) << 80), type="t", queue="q", priority=1, status=Status.READY, ready_at=NOW - 5000,
    attempts=0,
)  # fmt: skip


def failure(attempt: int) -> ErrorRecord:
    return ErrorRecord(
        attempt=attempt, message=f"boom\n{attempt}", error_type="E", dequeued_at=NOW - 4000, failed_at=NOW - 1500
    )


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, "—"), (0, "0 ms"), (0.4, "0.4 ms"), (9.96, "10.0 ms"), (42, "42 ms"), (999, "999 ms"), (2500, "2.5 s"),
        (59_999, "60 s"), (60_000, "1 min"), (90_000, "1 min 30 s"), (3_600_000, "1 h"), (3_601_000, "1 h"),
        (93_784_000, "1 d 2 h"), (MAX_MILLIS, "106751991167 d 7 h"),
    ],
)  # fmt: skip
def test_a_span_is_said_in_its_two_largest_units(ms: float | None, text: str) -> None:
    assert present.span(ms) == text


@pytest.mark.parametrize(("value", "text"), [(None, "—"), (0, "0"), (0.04, "0.0"), (3.25, "3.2"), (1204.5, "1,204")])
def test_a_rate_has_a_decimal_where_it_is_small(value: float | None, text: str) -> None:
    assert present.rate(value) == text


@pytest.mark.parametrize(("number", "text"), [(None, "—"), (12, "12 B"), (20_480, "20.5 kB"), (431_000_000, "431 MB")])
def test_a_size_is_said_in_the_unit_that_suits_it(number: int | None, text: str) -> None:
    assert present.size(number) == text


def test_an_instant_is_a_date_in_utc_as_long_as_there_are_dates() -> None:
    assert present.instant(NOW) == "2026-09-21 14:13:20 UTC"
    assert present.iso(NOW) == "2026-09-21T14:13:20.000Z"
    assert present.instant(MAX_MILLIS) == "the end of time"
    assert present.iso(MAX_MILLIS) == ""


@given(st.integers(min_value=0, max_value=MAX_MILLIS))
def test_every_time_that_is_stored_can_be_shown(at: int) -> None:
    assert present.instant(at)
    assert present.span(at)
    present.iso(at)


# ── payloads ──


def test_a_payload_is_indented_json() -> None:
    raw = msgspec.msgpack.encode({"b": [1, None]})
    assert present.payload(raw, "id") == present.Text('{\n  "b": [\n    1,\n    null\n  ]\n}')
    assert present.excerpt(raw) == '{"b":[1,null]}'


def test_a_long_payload_is_cut_and_a_huge_one_is_not_read() -> None:
    long = present.payload(msgspec.msgpack.encode("x" * present.MOST_PAYLOAD), "id")
    assert len(long.text) == present.MOST_PAYLOAD
    assert long.note == "This is the beginning: zizq jobs get id shows all of it."
    huge = present.payload(b"\xff" * (present.LARGEST_PAYLOAD + 1), "id")
    assert huge.text == ""
    assert "262 kB" in huge.note
    assert present.excerpt(b"\xff" * 5000) == ""


# ── the life of a job ──


@pytest.mark.parametrize(
    ("changes", "title", "at"),
    [
        ({}, "Ready", NOW - 5000),
        ({"status": Status.SCHEDULED, "ready_at": NOW + 1}, "Is to run", NOW + 1),
        ({"status": Status.IN_FLIGHT, "dequeued_at": NOW - 7}, "Taken by a worker", NOW - 7),
        ({"status": Status.COMPLETED, "completed_at": NOW - 1}, "Completed", NOW - 1),
        ({"status": Status.DEAD, "failed_at": NOW - 2}, "Dead: it is not tried again", NOW - 2),
    ],
)
def test_a_life_ends_with_how_the_job_is_now(changes: dict[str, object], title: str, at: int) -> None:
    first, last = present.timeline(JOB.with_(**changes), [], NOW)
    assert (first.title, first.at) == ("Enqueued", NOW - 60_000)
    assert (last.title, last.at) == (title, at)


def test_a_life_has_each_failure_on_one_line_with_how_long_it_ran() -> None:
    steps = present.timeline(JOB, [failure(1), failure(2)], NOW)
    assert [step.title for step in steps[1:3]] == ["Attempt 1 failed: E: boom", "Attempt 2 failed: E: boom"]
    assert (steps[2].detail, steps[2].attempt) == ("ran for 2.5 s", 2)


def test_a_life_says_how_many_failures_are_left_out() -> None:
    assert present.timeline(JOB, [failure(8)], NOW)[1].title == "7 earlier failures are not shown here"


def test_the_settings_of_a_job_are_those_that_it_has() -> None:
    names = [name for name, _, _ in present.facts(JOB)]
    assert names == ["Priority", "Failures", "Ready at"]
    full = JOB.with_(
        retry_limit=3,
        backoff=Backoff(4, 15_000, 30_000),
        retention=Retention(completed_ms=0, dead_ms=86_400_000),
        timeout_ms=1500,
        unique_key="k",
        unique_while="queued",
        batch=Batch("b", ".", "."),
        budgets=(Draw("gpu", 2),),
        metadata={"tenant": "blue"},
        purge_at=NOW + 1,
    )
    assert {name: text or at for name, text, at in present.facts(full)} == {
        "Priority": "1", "Failures": "0", "Retry limit": "3", "Time limit": "1.5 s", "Unique key": "k (queued)",
        "Backoff": "failures^4 s + 15 s + up to failures * 30 s", "Batch key": "b", "Budgets": "2 of gpu",
        "Kept when completed": "not at all", "Kept when dead": "1 d", "Metadata: tenant": "blue",
        "Ready at": NOW - 5000, "Deleted at": NOW + 1,
    }  # fmt: skip


# ── forms ──


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("now", None), ("10m", NOW + 600_000), ("in 2h", NOW + 7_200_000), ("2030-01-31T08:00Z", 1_896_076_800_000),
        ("2030-01-31 09:00+01:00", 1_896_076_800_000), ("2030-01-31", 1_896_048_000_000), ("1900-01-01", 0),
    ],
)  # fmt: skip
def test_a_time_is_now_or_from_now_or_a_date_in_utc(text: str, at: int | None) -> None:
    assert present.when(text, NOW) == at


@pytest.mark.parametrize("text", ["soon", "10 parsecs", "2030-13-01", "-1", "9" * 5000])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="write now, a time from now"):
        present.when(text, NOW)


def test_a_form_asks_for_a_change() -> None:
    assert present.change({"action": "delete"}, NOW) == (Delete(), "delete")
    assert present.change({"action": "retry"}, NOW) == (Retry(), "retry")
    form = {"action": "patch", "to_queue": " b ", "to_priority": "7", "to_ready_at": "now"}
    assert present.change(form, NOW) == (Patch(queue="b", priority=7, ready_at=None), "patch")


@pytest.mark.parametrize(
    "form",
    [
        {}, {"action": "reset"}, {"action": "patch"}, {"action": "patch", "to_priority": "65536"},
        {"action": "patch", "to_priority": "-1"}, {"action": "patch", "to_queue": "a*"},
    ],
)  # fmt: skip
def test_a_form_that_asks_for_nothing_that_there_is_is_refused(form: dict[str, str]) -> None:
    with pytest.raises(BadRequest):
        present.change(form, NOW)


def test_what_a_change_does_not_suit_is_not_counted() -> None:
    assert present.suited(EVERYTHING, Delete()) == EVERYTHING
    assert present.suited(EVERYTHING, Retry()).statuses == {Status.DEAD}
    assert present.suited(EVERYTHING, Patch()).statuses == {Status.SCHEDULED, Status.READY, Status.IN_FLIGHT}


def test_what_was_done_is_said_in_a_sentence() -> None:
    assert present.done("delete", "1") == "1 job was deleted."
    assert present.done("retry", "1200") == "1,200 jobs were brought back to ready."
    assert present.done("evil", "1") == present.done("delete", "x") == ""
