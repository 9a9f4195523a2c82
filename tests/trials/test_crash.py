"""The trial of kills, in short: a real server, killed in the middle of everything."""

from __future__ import annotations

import pytest
from trust import crash

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]


def test_what_was_answered_outlives_a_kill() -> None:
    figures = list(crash.run(size=12 / crash.KILLS, seed=7))
    assert figures[0].startswith("12 kills")
    assert figures[-1].startswith("0 violations")
