"""The trial of backups, in short: a small store, and no word on how long anybody waits."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from trust.backup import BACKUP_LINES, Figures, check_waits, trial
from trust.verdict import Broken


@pytest.mark.acceptance
def test_a_backup_under_load_is_restored_as_of_one_instant(tmp_path: Path) -> None:
    async def run() -> list[str]:
        return [line async for line in trial(tmp_path, jobs=20_000, quiet_s=0.3, stall_ms=60_000)]

    lines = asyncio.run(run())
    assert [line.partition(":")[0] for line in lines] == BACKUP_LINES


def test_a_wait_that_is_too_long_breaks_the_promise() -> None:
    quiet = Figures(10.0, 7.0, 3.0, [])
    check_waits("a backup", Figures(4.0, 57.0, 53.0, []), quiet, 50.0)
    with pytest.raises(Broken, match="an enqueue took 58 ms during a backup, and 7 ms"):
        check_waits("a backup", Figures(4.0, 58.0, 3.0, []), quiet, 50.0)
    with pytest.raises(Broken, match="a health check"):
        check_waits("a backup", Figures(4.0, 5.0, 54.0, []), quiet, 50.0)
