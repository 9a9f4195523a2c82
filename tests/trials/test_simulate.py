"""The trial of simulated worlds, in short: that one comes again under its seed, and that it sees what breaks."""

from __future__ import annotations

from typing import Any

import pytest
from trust import simulate
from trust.verdict import Broken
from trust.world import live

from zizq.server.consumers import Consumers
from zizq.store import memory
from zizq.store.memory import MemoryStore

SEEDS = 200


def test_two_hundred_worlds_keep_all_promises() -> None:
    lines = list(simulate.run(size=SEEDS / simulate.SEEDS, seed=None))
    assert lines[0].startswith(f"{SEEDS} worlds kept all promises")


def test_a_world_comes_again_under_its_seed() -> None:
    digests = [live(seed).journal.digest() for seed in (7, 7, 8)]
    assert digests[0] == digests[1]
    assert digests[1] != digests[2]


def _forget_a_wake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Consumers, "available", lambda *_: None)


def _forget_who_left(monkeypatch: pytest.MonkeyPatch) -> None:
    async def release(*_: Any, **__: Any) -> int:
        return 0

    monkeypatch.setattr(MemoryStore, "release", release)


def _overlook_priorities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "key_of", lambda job: job.id)


@pytest.mark.parametrize("defect", [_forget_a_wake, _forget_who_left, _overlook_priorities])
def test_a_defect_is_found_within_a_few_worlds(defect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    defect(monkeypatch)
    with pytest.raises(Broken, match=r"python -m trust simulate --seed \d+"):
        list(simulate.run(size=10 / simulate.SEEDS, seed=None))
