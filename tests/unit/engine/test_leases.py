"""What becomes of a job that is held for too long, or whose workers die."""

from __future__ import annotations

import msgspec
import pytest

from zizq.engine import admit, decide
from zizq.job import JobRecord, Status
from zizq.policy import MAX_MILLIS, Backoff, Defaults, Retention

NOW = 1_790_000_000_000
ENQUEUED = NOW - 1000
"""A job may wait for long before it is held."""
DEFAULTS = Defaults(retry_limit=1, backoff=Backoff(1.0, 500, 100), dead_ms=1000, max_worker_deaths=2)


def held(timeout_ms: int | None = None, **more: object) -> JobRecord:
    job = admit.new_job("j", ENQUEUED, type="t", queue="q", payload=msgspec.Raw(b"\xc0"), timeout_ms=timeout_ms)
    return decide.on_take(job.with_(**more), NOW)


@pytest.mark.parametrize(
    ("own", "stream", "at"),
    [
        (None, None, None),
        (5, None, NOW + 5),
        (None, 7, NOW + 7),
        (5, 7, NOW + 5),
        (9, 7, NOW + 9),
        (MAX_MILLIS, None, MAX_MILLIS),
    ],
)
def test_the_jobs_own_timeout_counts_before_that_of_its_stream(
    own: int | None, stream: int | None, at: int | None
) -> None:
    assert decide.overdue_at(held(own), stream) == at


@pytest.mark.parametrize(
    ("attempts", "status", "ready_at"), [(0, Status.SCHEDULED, NOW + 9 + 1550), (1, Status.DEAD, ENQUEUED)]
)
def test_a_job_whose_time_is_up_has_failed_like_any_other(attempts: int, status: Status, ready_at: int) -> None:
    settled = decide.on_timeout(held(9, attempts=attempts), None, NOW + 9, DEFAULTS, 0.5)
    job = settled.job
    assert (job.status, job.attempts, job.ready_at, job.failed_at) == (status, attempts + 1, ready_at, NOW + 9)
    assert settled.error is not None
    assert (settled.error.attempt, settled.error.error_type) == (attempts + 1, "Timeout")


@pytest.mark.parametrize(("own", "text"), [(90_000, "its timeout of 1m 30s"), (None, "its stream's timeout of 2s")])
def test_the_error_says_how_long_and_what_to_do(own: int | None, text: str) -> None:
    settled = decide.on_timeout(held(own), 2000, NOW + 90_000, DEFAULTS, 0.5)
    assert settled.error is not None
    assert settled.error.message.startswith(f"not finished within {text}: raise the timeout, or")


@pytest.mark.parametrize(("most", "deaths", "dead"), [(2, 2, False), (2, 3, True), (0, 1, False), (0, 999, False)])
def test_a_job_is_dead_by_one_worker_more_than_may_die(most: int, deaths: int, dead: bool) -> None:
    defaults = msgspec.structs.replace(DEFAULTS, max_worker_deaths=most)
    settled = decide.on_worker_death(held(), deaths, NOW + 1, defaults)
    assert (settled is not None) == dead


def test_a_job_is_dead_by_its_workers_whatever_retries_remain() -> None:
    settled = decide.on_worker_death(held(retry_limit=99), 3, NOW + 1, DEFAULTS)
    assert settled is not None
    assert (settled.job.status, settled.job.attempts, settled.job.purge_at) == (Status.DEAD, 1, NOW + 1001)
    assert settled.error is not None
    assert settled.error.error_type == "WorkerDied"
    assert settled.error.message.startswith("3 workers died, or lost their connections, while they held it, and 2 may")


def test_a_job_that_is_dead_by_its_workers_is_kept_as_it_says() -> None:
    settled = decide.on_worker_death(held(retention=Retention(dead_ms=0)), 3, NOW + 1, DEFAULTS)
    assert settled is not None
    assert not settled.kept
