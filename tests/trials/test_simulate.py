"""The trial of simulated worlds, in short: that one comes again under its seed, and that it sees what breaks."""

from __future__ import annotations

from typing import Any

import pytest
from trust import simulate
from trust.verdict import Broken
from trust.world import live

from zizq.engine import unique
from zizq.engine.bucket import Bucket
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


def _overlook_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unique, "conflicts", lambda *_: False)


def _overlook_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bucket, "affords", lambda *_: True)


def _hand_out_what_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    take = MemoryStore.take

    async def takes_again(self: MemoryStore, *args: Any, **options: Any) -> list[Any]:
        taken = await take(self, *args, **options)
        return taken or [self._jobs[job_id] for job_id in list(self._owner)[:1]]

    monkeypatch.setattr(MemoryStore, "take", takes_again)


def _lose_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    fail = MemoryStore.fail

    async def loses(self: MemoryStore, job_id: str, *args: Any) -> Any:
        job = await fail(self, job_id, *args)
        self._jobs.pop(job_id, None)
        return job

    monkeypatch.setattr(MemoryStore, "fail", loses)


def _take_late_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    async def succeed(self: MemoryStore, ids: Any, now: int) -> list[bool]:
        await succeeds(self, ids, now)
        return [True] * len(ids)

    succeeds = MemoryStore.succeed
    monkeypatch.setattr(MemoryStore, "succeed", succeed)


@pytest.mark.parametrize(
    "defect",
    [
        _forget_a_wake, _forget_who_left, _overlook_priorities, _overlook_keys, _overlook_budgets,
        _hand_out_what_is_held, _lose_what_failed, _take_late_reports,
    ],
)  # fmt: skip
def test_a_defect_is_found_within_a_few_worlds(defect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    defect(monkeypatch)
    with pytest.raises(Broken, match=r"python -m trust simulate --seed \d+"):
        list(simulate.run(size=10 / simulate.SEEDS, seed=None))
