"""Rows and jobs."""

import msgspec

from zizq.engine import decide
from zizq.job import JobRecord, Status
from zizq.policy import Retention
from zizq.store import rows

PLAIN = JobRecord(
    id="0" * 25, queue="q", type="t", priority=3, status=Status.READY, payload=msgspec.Raw(b"\x01"), ready_at=7,
    attempts=2, dequeued_at=5, failed_at=6,
)  # fmt: skip


def _row(job: JobRecord) -> rows.Row:
    times = (job.dequeued_at, job.failed_at, None, None)
    *most, payload, options = rows.to_row(job)
    return (*most, job.attempts, options, *times, payload)


def test_a_job_that_is_read_as_taken_is_what_a_take_makes_of_it() -> None:
    with_options = PLAIN.with_(timeout_ms=9, retention=Retention(completed_ms=4), payload=None)
    for job in (PLAIN, with_options):
        row = _row(job)
        assert rows.to_job(row) == job
        assert rows.to_taken(row, 11) == decide.on_take(job, 11)
