"""The table of a job's life."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from zizq.engine import decide
from zizq.engine.transitions import TABLE, Cause, allows, move
from zizq.job import TERMINAL, Failure, JobRecord, Status
from zizq.policy import MAX_MILLIS, Backoff, Defaults, Retention

NOW = 1_000_000
DEFAULTS = Defaults(retry_limit=2, backoff=Backoff(2.0, 100, 10), completed_ms=0, dead_ms=500)


def job(status: Status = Status.IN_FLIGHT, **more: object) -> JobRecord:
    fields = {"id": "x", "type": "t", "queue": "q", "priority": 1, "status": status, "ready_at": 5, "attempts": 0}
    return msgspec.convert(fields | more, JobRecord)


def fail(record: JobRecord, unit: float = 0.0, **failure: object) -> decide.Settled:
    return decide.on_failure(record, Failure(**{"message": "m", **failure}), NOW, DEFAULTS, unit)


@pytest.mark.parametrize(("before", "cause"), list(itertools.product([None, *Status], Cause)))
def test_every_pair_of_status_and_cause_is_decided(before: Status | None, cause: Cause) -> None:
    targets = TABLE.get((before, cause), ())
    assert len(set(targets)) == len(targets)
    for after in [None, *Status]:
        assert allows(before, cause, after) == (after in targets)


def test_finished_jobs_only_disappear_but_for_a_retry_of_a_dead_one() -> None:
    for (before, cause), targets in TABLE.items():
        if before in TERMINAL:
            assert targets == ((Status.READY,) if (before, cause) == (Status.DEAD, Cause.RETRY) else (None,))


def test_every_status_is_reached_and_left() -> None:
    reached = {after for targets in TABLE.values() for after in targets}
    assert reached == {None, *Status}
    assert {before for before, _ in TABLE} == {None, *Status}


def test_a_move_outside_the_table_is_a_defect() -> None:
    with pytest.raises(RuntimeError, match="no move from completed to ready by release"):
        move(job(Status.COMPLETED), Cause.RELEASE, Status.READY)


def test_a_success_without_retention_leaves_nothing() -> None:
    assert not decide.on_success(job(), NOW, DEFAULTS).kept


@pytest.mark.parametrize(("own", "default", "purge_at"), [(7, 0, NOW + 7), (None, 9, NOW + 9), (2**64, 0, MAX_MILLIS)])
def test_a_success_is_kept_for_its_own_retention_or_the_default(own: int | None, default: int, purge_at: int) -> None:
    record = job().with_(retention=Retention(completed_ms=own))
    settled = decide.on_success(record, NOW, Defaults(completed_ms=default))
    assert (settled.kept, settled.job.status, settled.job.purge_at) == (True, Status.COMPLETED, purge_at)
    assert settled.job.completed_at == NOW


def test_own_retention_of_zero_wins_over_the_default() -> None:
    record = job().with_(retention=Retention(completed_ms=0))
    assert not decide.on_success(record, NOW, Defaults(completed_ms=99)).kept


@pytest.mark.parametrize(
    ("attempts", "limit", "status"),
    [
        (0, None, Status.SCHEDULED),
        (1, None, Status.SCHEDULED),
        (2, None, Status.DEAD),
        (0, 0, Status.DEAD),
        (5, 6, Status.SCHEDULED),
    ],
)
def test_a_job_dies_when_its_failures_exceed_its_limit(attempts: int, limit: int | None, status: Status) -> None:
    settled = fail(job(attempts=attempts, retry_limit=limit))
    assert settled.job.status is status
    assert settled.job.attempts == attempts + 1
    assert settled.error is not None
    assert settled.error.attempt == attempts + 1


def test_kill_wins_over_retry_at_and_retry_at_over_the_limit() -> None:
    assert fail(job(), kill=True, retry_at=NOW + 9).job.status is Status.DEAD
    late = fail(job(attempts=99), retry_at=NOW + 9).job
    assert (late.status, late.ready_at) == (Status.SCHEDULED, NOW + 9)


def test_the_delay_is_the_formula_of_the_protocol() -> None:
    # attempts ** exponent * 1000 + base + unit * jitter * attempts, rounded down
    settled = fail(job(attempts=1), unit=0.55)
    assert settled.job.ready_at == NOW + int(2**2.0 * 1000 + 100 + 0.55 * 10 * 2)
    own = fail(job(attempts=1).with_(backoff=Backoff(0.0, 7, 0)))
    assert own.job.ready_at == NOW + 1007


def test_a_delay_beyond_all_time_stays_at_its_end() -> None:
    assert Backoff(4000.0, 0, 0).delay_ms(9, 0.0) == MAX_MILLIS
    assert fail(job().with_(backoff=Backoff(1e9, 0, 0), attempts=3, retry_limit=9)).job.ready_at == MAX_MILLIS


def test_a_dead_job_without_retention_is_answered_but_not_kept() -> None:
    settled = fail(job(retry_limit=0).with_(retention=Retention(dead_ms=0)))
    assert (settled.kept, settled.job.status, settled.job.purge_at) == (False, Status.DEAD, None)


def test_an_error_says_when_the_job_was_taken_and_when_it_failed() -> None:
    error = fail(job(dequeued_at=7), error_type="E", backtrace="b").error
    assert error is not None
    assert (error.dequeued_at, error.failed_at, error.error_type, error.backtrace) == (7, NOW, "E", "b")


def test_a_taken_job_keeps_all_but_status_and_time() -> None:
    record = job(Status.READY, retry_limit=1, failed_at=3).with_(
        payload=msgspec.Raw(b"\x01"), backoff=Backoff(1.0, 2, 3), retention=Retention(4, 5)
    )
    taken = decide.on_take(record, NOW)
    assert taken.with_(payload=None) == record.with_(status=Status.IN_FLIGHT, dequeued_at=NOW, payload=None)
    assert taken.payload is record.payload


def test_expiry_begins_at_the_purge_instant() -> None:
    record = job(Status.DEAD, purge_at=NOW)
    assert decide.is_expired(record, NOW)
    assert not decide.is_expired(record, NOW - 1)
    assert not decide.is_expired(job(), NOW)
