"""From what a request says to jobs: many that are plain, in one go."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from zizq.ids import IdGenerator
from zizq.job import Batch
from zizq.server.http import bodies
from zizq.testing.clock import LoadedDice, ManualClock
from zizq.wire.codec import Format
from zizq.wire.messages import BackoffBody, DrawBody, Enqueue, RetentionBody

NOW = 1000
OPTIONS: dict[str, Any] = {
    "ready_at": 5, "retry_limit": 0, "backoff": BackoffBody(1.0, 1, 1), "retention": RetentionBody(),
    "unique_key": "", "unique_while": "queued", "batch": Batch("k", "true", "$new"), "budgets": [DrawBody("k")],
    "timeout_ms": 1, "metadata": {"a": "b"},
}  # fmt: skip


def asked(**more: Any) -> Enqueue:
    return Enqueue(**{"type": "t", "queue": "q", "payload": msgspec.Raw(b"1")} | more)


def ids() -> IdGenerator:
    return IdGenerator(ManualClock(NOW), LoadedDice())


@pytest.mark.parametrize("form", Format)
def test_plain_jobs_are_made_together_as_they_are_one_by_one(form: Format) -> None:
    many = [asked(type=f"t{n % 3}", priority=[None, 0, 7][n % 3]) for n in range(10)]
    one_by_one = ids()
    assert bodies.plain_jobs(ids().some, NOW, many, form, 100) == [
        bodies.new_job(one_by_one.next(), NOW, one, form) for one in many
    ]


@pytest.mark.parametrize("name", set(Enqueue.__struct_fields__) - {"type", "queue", "payload", "priority"})
def test_a_job_with_an_option_is_not_plain(name: str) -> None:
    many = [asked(), asked(**{name: OPTIONS[name]}), asked()]
    assert bodies.plain_jobs(ids().some, NOW, many, Format.JSON, 100) is None


@pytest.mark.parametrize("wrong", [{"queue": ""}, {"type": "a,b"}, {"payload": msgspec.Raw(b"{")}])
def test_a_job_that_breaks_a_rule_is_left_to_who_says_which(wrong: dict[str, Any]) -> None:
    assert bodies.plain_jobs(ids().some, NOW, [asked(), asked(**wrong)], Format.JSON, 100) is None


def test_payloads_that_are_large_together_are_left_to_who_takes_turns() -> None:
    assert bodies.plain_jobs(ids().some, NOW, [asked()] * 10, Format.JSON, 10) is not None
    assert bodies.plain_jobs(ids().some, NOW, [asked()] * 11, Format.JSON, 10) is None
