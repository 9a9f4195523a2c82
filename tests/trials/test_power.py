"""The trial of power cuts, in short; and that it sees what is lost."""

from __future__ import annotations

import pytest
from trust import power
from trust.verdict import Broken

from zizq.store.base import CommitMode
from zizq.store.sqlite import checkpoints


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_power_cut_loses_nothing_that_was_answered(seed: int) -> None:
    cuts, commits, _ = power.cut(seed, 50)
    assert cuts == 50
    assert commits > 100


def test_a_disk_that_does_not_sync_is_seen_to_lose_something() -> None:
    with pytest.raises(Broken, match=r"seed 1, cut \d+ of 50, "):
        power.cut(1, 50, is_honest=False)


def test_enqueues_that_do_not_wait_for_the_disk_are_seen_to_be_lost() -> None:
    with pytest.raises(Broken, match=r"seed 1, cut \d+ of 50, .* is lost"):
        power.cut(1, 50, enqueue_mode=CommitMode.BUFFERED)


def test_the_cuts_fall_among_zeros_that_are_written_behind_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    lengthened: list[int] = []
    lengthen = checkpoints.lengthen
    monkeypatch.setattr(
        checkpoints, "lengthen", lambda path, frames, size: (lengthened.append(frames), lengthen(path, frames, size))
    )
    power.cut(1, 5)
    assert len(lengthened) > 1
