"""New jobs: what is checked and filled in."""

from __future__ import annotations

import msgspec
import pytest

from zizq.engine import admit
from zizq.errors import BadRequest
from zizq.job import Status

NOW = 1000
PAYLOAD = msgspec.Raw(b"\xc0")
NONE = {"unique_key": None, "unique_while": None, "batch": None}


@pytest.mark.parametrize(
    ("ready_at", "status", "stored"),
    [(None, Status.READY, NOW), (NOW, Status.READY, NOW), (5, Status.READY, 5), (NOW + 1, Status.SCHEDULED, NOW + 1)],
)
def test_only_a_time_to_come_makes_a_job_wait(ready_at: int | None, status: Status, stored: int) -> None:
    job = admit.new_job("i", NOW, type="t", queue="q", payload=PAYLOAD, ready_at=ready_at)
    assert (job.status, job.ready_at, job.priority, job.attempts) == (status, stored, 32_768, 0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "must not be empty"),
        ("a,b", "must not contain ','"),
        ("a\0", "must not contain null bytes"),
        *[(f"a{c}", f"must not contain '{c}' (reserved)") for c in "*?[]{}\\"],
    ],
)
def test_names_are_held_to_their_rule(name: str, message: str) -> None:
    with pytest.raises(BadRequest) as refused:
        admit.check("t", name)
    assert str(refused.value) == f"queue {message}"
    with pytest.raises(BadRequest, match=r"^type "):
        admit.check(name, name)


@pytest.mark.parametrize("name", ["a b", "a/b", "é", "x" * 5000, "a.b:c-d_e"])
def test_all_other_names_are_fine(name: str) -> None:
    admit.check(name, name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unique_while": "queued"}, "unique_while requires unique_key"),
        ({"unique_key": "k", "batch": {}}, "unique_key and batch cannot be combined"),
        (
            {"unique_key": "k", "unique_while": "x"},
            'invalid unique_while: "x" (expected "queued", "active", or "exists")',
        ),
    ],
)
def test_options_that_cannot_be_kept_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(BadRequest) as refused:
        admit.check_options(**NONE | options)
    assert str(refused.value) == message


@pytest.mark.parametrize(("given", "kept"), [(4.1, 4.1), (4.099999904632568, 4.1), (2.0, 2.0), (1 / 3, 0.33333334)])
def test_an_exponent_is_what_32_bits_hold(given: float, kept: float) -> None:
    assert admit.checked_backoff(given, 1, 2).exponent == kept


@pytest.mark.parametrize("exponent", [float("nan"), float("inf"), 1e300])
def test_an_exponent_that_is_no_number_is_refused(exponent: float) -> None:
    with pytest.raises(BadRequest, match="exponent"):
        admit.checked_backoff(exponent, 1, 2)
