"""The log, copied into the database: what a commit has to wait for meanwhile, and what it has not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import apsw
import pytest
from trust.disk import Disk

from zizq.policy import Defaults
from zizq.store.sqlite import checkpoints, upkeep
from zizq.store.sqlite.checkpoints import Checkpoints
from zizq.store.sqlite.schema import PAGE_SIZE
from zizq.store.sqlite.store import SqliteStore
from zizq.testing.bench import NOW, Bench, Recorder
from zizq.testing.clock import LoadedDice

LARGE = bytes([0xC5]) + (9000).to_bytes(2, "big") + bytes(9000)
"""A payload of a few pages."""
WITHIN_S = 30
"""For what takes no time unless it hangs."""


@asynccontextmanager
async def bench_at(place: Path) -> AsyncIterator[tuple[Bench, Any]]:
    """A store, and what looks after its log."""
    listener = Recorder()
    store = SqliteStore(place, Defaults(), LoadedDice())
    await store.open(listener)
    try:
        yield Bench(store, listener, LoadedDice()), store._checkpoints
    finally:
        await store.close()


async def test_a_commit_does_not_wait_for_another_who_copies(tmp_path: Path) -> None:
    async with bench_at(tmp_path) as (bench, log):
        log._copied = True
        with log._log:
            await asyncio.wait_for(bench.enqueue(bench.job()), WITHIN_S)
        assert log._copied
        await bench.enqueue(bench.job())
        assert not log._copied


async def test_a_commit_has_little_to_copy_whatever_came_during_the_copy_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "PAGES", 50)
    monkeypatch.setattr(checkpoints, "REST_PAGES", 20)
    copy = Checkpoints._checkpoint
    copied_by: list[str] = []
    copied, go_on = threading.Event(), threading.Event()

    def held(db: apsw.Connection, mode: int) -> tuple[int, int]:
        done = copy(db, mode)
        copied_by.append(threading.current_thread().name)
        if len(copied_by) == 1:
            copied.set()
            assert go_on.wait(WITHIN_S)
        return done

    monkeypatch.setattr(Checkpoints, "_checkpoint", staticmethod(held))
    async with bench_at(tmp_path) as (bench, _):
        while not copied.is_set():
            await bench.enqueue(bench.job(payload=LARGE))
        await bench.enqueue(*(bench.job(payload=LARGE) for _ in range(20)))
        go_on.set()
        while "zizq-writer" not in copied_by:
            await bench.enqueue(bench.job())
        assert copied_by[: copied_by.index("zizq-writer")] == ["zizq-checkpoint"] * 2


async def test_the_writer_lets_a_cut_of_the_log_pass_before_it_begins(tmp_path: Path) -> None:
    async with bench_at(tmp_path) as (bench, log):
        began = threading.Event()

        def note(cursor: apsw.Cursor, sql: str, bindings: object) -> bool:
            began.set()
            return True

        log._writer.exec_trace = note
        with log._cutting:
            enqueuing = asyncio.create_task(bench.enqueue(bench.job()))
            assert not await asyncio.to_thread(began.wait, 0.05)
        await asyncio.wait_for(enqueuing, WITHIN_S)
        assert began.is_set()


async def test_the_log_is_cut_where_no_commit_can_be_in_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, cut_while_held = Checkpoints._checkpoint, []
    async with bench_at(tmp_path) as (bench, log):

        def noted(db: apsw.Connection, mode: int) -> tuple[int, int]:
            if mode == apsw.SQLITE_CHECKPOINT_TRUNCATE:
                cut_while_held.append(log._cutting.locked())
            return copy(db, mode)

        monkeypatch.setattr(Checkpoints, "_checkpoint", staticmethod(noted))
        await bench.enqueue(bench.job())
        await bench.store.compact()
        assert cut_while_held == [True]
        assert not log._cutting.locked()


async def test_a_compaction_shortens_the_file_a_little_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "TRIM_PAGES", 32)
    monkeypatch.setattr(upkeep, "COPY_EVERY", 2)
    with Disk() as disk:
        async with bench_at(tmp_path) as (bench, _):
            ids = await bench.enqueue(*(bench.job(payload=LARGE) for _ in range(300)))
            await bench.take(300)
            await bench.store.succeed(ids, NOW)
            await bench.store.compact()
            database = tmp_path / "data" / "jobs.db"
            number = disk.names[str(database.resolve())]
            cuts = [op.at // PAGE_SIZE for op in disk.tape if op.kind == "truncate" and op.file == number]
            assert cuts[-1] == database.stat().st_size // PAGE_SIZE < 60
            assert len(cuts) > 10
            assert max(before - after for before, after in pairwise(cuts)) <= 2 * 2 * 32
