"""How jobs rest in rows."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from zizq.budget import Draw
from zizq.engine import admit, decide
from zizq.job import Batch, JobRecord, Status
from zizq.policy import Backoff, Retention
from zizq.store import rows


def options(**more: Any) -> bytes:
    job = admit.new_job("id", 0, type="t", queue="q", payload=msgspec.Raw(b"\xc0"), **more)
    stored = rows.to_row(job)[7]
    assert stored is not None
    return stored


@pytest.mark.parametrize(
    "more", [{"budgets": (Draw("a", 1),)}, {"metadata": {"a": "b"}}, {"timeout_ms": 5}, {"unique_key": "k"}]
)
def test_options_that_leave_retention_open_can_be_told_by_how_they_begin(more: dict[str, Any]) -> None:
    assert options(**more).startswith(rows.OPEN)
    assert not options(**more, retention=Retention(completed_ms=1)).startswith(rows.OPEN)
    assert not options(**more, retention=Retention(dead_ms=1)).startswith(rows.OPEN)
    assert not options(**more, backoff=Backoff(1.0, 1, 1)).startswith(rows.OPEN)


SET = {
    "retry_limit": 1, "backoff": Backoff(1.0, 1, 1), "retention": Retention(dead_ms=1), "unique_key": "k",
    "unique_while": "queued", "batch": Batch("k", "true", "$new"), "budgets": (Draw("a", 1),), "timeout_ms": 1,
    "metadata": {"a": "b"},
}  # fmt: skip


@pytest.mark.parametrize("name", rows.Options.__struct_fields__)
def test_every_option_that_a_job_sets_is_stored(name: str) -> None:
    plain = admit.new_job("id", 0, type="t", queue="q", payload=msgspec.Raw(b"\xc0"))
    job = plain.with_(**{name: SET[name]})
    stored = [row[7] for row in rows.to_rows([plain, job])]
    assert stored == [None, msgspec.msgpack.encode(rows.Options(**{name: SET[name]}))]


def test_only_a_heavy_payload_does_not_wait_in_memory() -> None:
    plain = admit.new_job("id", 0, type="t", queue="q", payload=msgspec.Raw(b"x" * rows.LIGHT))
    heavy, none = plain.with_(payload=msgspec.Raw(b"x" * (rows.LIGHT + 1))), plain.with_(payload=None)
    assert rows.without_heavy_payloads([plain, heavy, none]) == [plain, none, none]


def test_draws_are_read_of_options_alone() -> None:
    draws = (Draw("a", 1), Draw("b", 2))
    assert rows.draws_of(options(budgets=draws)) == draws
    assert rows.draws_of(options(timeout_ms=5)) is None
    assert rows.draws_of(None) is None


def test_a_job_that_is_read_as_taken_is_what_a_take_makes_of_it() -> None:
    plain = JobRecord(
        id="0" * 25, queue="q", type="t", priority=3, status=Status.READY, payload=msgspec.Raw(b"\x01"), ready_at=7,
        attempts=2, dequeued_at=5, failed_at=6,
    )  # fmt: skip
    for job in (plain, plain.with_(timeout_ms=9, retention=Retention(completed_ms=4), payload=None)):
        *most, payload, stored = rows.to_row(job)
        row = (*most, job.attempts, stored, job.dequeued_at, job.failed_at, None, None, payload)
        assert rows.to_job(row) == job
        assert rows.to_job(row, 11) == decide.on_take(job, 11)
