"""The trial of kills, in short: a real server, killed in the middle of everything."""

from __future__ import annotations

import pytest
from trust import crash
from trust.verdict import Broken

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]


def test_what_was_answered_outlives_a_kill() -> None:
    figures = list(crash.run(size=12 / crash.KILLS, seed=7))
    assert figures[0].startswith("12 kills")
    assert figures[-1].startswith("0 violations")


def test_a_trial_that_does_not_try_everything_is_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash, "KINDS", ("enqueued", "dreamt of"))
    monkeypatch.setattr(crash, "TRY_ALL", 1)
    with pytest.raises(Broken, match="nothing was dreamt of in 4 kills"):
        list(crash.run(size=0, seed=7))
