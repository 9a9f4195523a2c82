"""The trial of failing disks, in short."""

from __future__ import annotations

import pytest
from trust import faults


@pytest.mark.parametrize("seed", [2, 7, 42])
def test_a_disk_that_fails_loses_nothing_that_was_answered(seed: int) -> None:
    counts = faults.storm(seed, episodes=8, cuts=20)
    assert counts["cuts"] == 20
    assert counts["met"] > 0
