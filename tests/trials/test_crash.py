"""The trial of kills, in short: a real server, killed in the middle of everything."""

from __future__ import annotations

import shutil

import pytest
from trust import crash
from trust.verdict import Broken

from zizq.store.findings import Checked

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


def test_damage_is_seen_after_the_first_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash, "check_store", lambda *_: Checked({}, 0, 0, ["a page is gone"], 1))
    with pytest.raises(Broken, match="kill 1: the store is damaged: a page is gone"):
        list(crash.run(size=0, seed=7))


def test_jobs_that_were_answered_and_are_gone_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash._Trial, "_check", lambda trial: shutil.rmtree(trial._store))
    with pytest.raises(Broken, match=r"kill \d: job .* is gone, and could be"):
        list(crash.run(size=0, seed=7))
