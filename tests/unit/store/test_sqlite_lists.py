"""The ways in which SQLite finds the next job of a list: among those that match, lane by lane, or through all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from zizq.engine.lists import JobList, ListQuery
from zizq.policy import Defaults
from zizq.store.sqlite import windows
from zizq.store.sqlite.store import SqliteStore
from zizq.testing.bench import NOW, Bench, Recorder
from zizq.testing.clock import LoadedDice


@pytest.mark.parametrize(
    ("few", "parts"), [(windows.FEW, windows.MOST_PARTS), (0, windows.MOST_PARTS), (0, 1), (99, 1)]
)
@pytest.mark.parametrize("query", [ListQuery(types=("s",)), ListQuery(("b", "c")), ListQuery(("a",), ("t",))])
async def test_each_way_goes_through_the_list_in_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int, parts: int, query: ListQuery
) -> None:
    monkeypatch.setattr(windows, "FEW", few)
    monkeypatch.setattr(windows, "MOST_PARTS", parts)
    dice, listener = LoadedDice(), Recorder()
    store = SqliteStore(tmp_path, Defaults(), dice)
    await store.open(listener)
    try:
        bench = Bench(store, listener, dice)
        jobs = [bench.job("abc"[i % 3], type="stu"[i % 7 % 3], priority=i * 7 % 5) for i in range(40)]
        await bench.enqueue(*jobs)
        flying = set(await bench.take_ids(5))
        wanted = [
            job.id for job in sorted(jobs, key=lambda job: (job.priority, job.id))
            if job.id not in flying and query.lets_in(job.queue, job.type)
        ]  # fmt: skip
        for backward in (False, True):
            walked: list[str] = []
            while found := await store.find(JobList.READY, query, walked[-1] if walked else None, backward, 1, NOW):
                walked.append(found.window.jobs[0].id)
            assert walked == (wanted[::-1] if backward else wanted)
    finally:
        await store.close()
