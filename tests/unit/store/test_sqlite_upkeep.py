"""Copies and compaction of the embedded store, beside writers."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import apsw
import pytest
from trust.disk import Disk

from zizq.clock import Dice
from zizq.errors import Conflicting, Unavailable
from zizq.policy import Defaults
from zizq.store import removal
from zizq.store.base import Store
from zizq.store.opening import StoreOptions, check_store, make_store
from zizq.store.sqlite.backups import Backups
from zizq.store.sqlite.schema import PAGE_SIZE
from zizq.testing.bench import NOW, Bench, Suite

LARGE = bytes([0xC5]) + (9000).to_bytes(2, "big") + bytes(9000)
"""A payload that fills a page by itself."""


class Making(Suite):
    def make(self, place: Path, defaults: Defaults, dice: Dice) -> Store:
        return make_store(place, StoreOptions(defaults), dice)


class Held:
    """A clock that stands in the way of a copy: it is not asked before the first pages are there."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def wall_ms(self) -> int:
        return NOW

    def mono_s(self) -> float:
        self.reached.set()
        assert self.go_on.wait(30)
        return 0.0


async def ids_of(bench: Bench) -> list[str]:
    return await bench.page_ids(limit=10_000)


async def read_back(files: Sequence[Path], place: Path) -> list[str]:
    """The identifiers in a store on a copy, which must be whole."""
    (place / "data").mkdir(parents=True)
    for file in files:
        shutil.copy(file, place / "data")
    assert check_store(place, NOW).violations == []
    async with Making().bench(place) as copied:
        return await ids_of(copied)


async def test_a_snapshot_has_all_that_was_answered_before(tmp_path: Path) -> None:
    async with Making().bench(tmp_path / "a") as bench:
        ids = await bench.enqueue(*(bench.job() for _ in range(300)))
        await bench.take(100)
        async with bench.store.snapshot() as files:
            later = await bench.enqueue(bench.job())
            assert await read_back(files, tmp_path / "b") == ids
        assert await ids_of(bench) == ids + later


async def test_a_snapshot_has_the_pauses(tmp_path: Path) -> None:
    async with Making().bench(tmp_path / "a") as bench:
        [job_id] = await bench.enqueue(bench.job("p"))
        await bench.store.pause_queue("p", NOW)
        async with bench.store.snapshot() as files:
            await bench.store.resume_queue("p")
            assert await read_back(files, tmp_path / "b") == [job_id]
    async with Making().bench(tmp_path / "b") as copied:
        assert await copied.store.paused_queues() == {"p": NOW}
        assert await copied.take() == []


async def test_a_snapshot_is_of_one_instant_while_others_write(tmp_path: Path) -> None:
    async with Making().bench(tmp_path / "a") as bench:
        ids = await bench.enqueue(*(bench.job(payload=LARGE) for _ in range(500)))
        done, entered = asyncio.Event(), asyncio.Event()

        async def write() -> None:
            while not done.is_set():
                ids.extend(await bench.enqueue(bench.job()))
                if len(ids) == 510:
                    entered.set()

        writing = asyncio.create_task(write())
        await entered.wait()
        async with bench.store.snapshot() as files:
            done.set()
            await writing
            copied = await read_back(files, tmp_path / "b")
        assert copied == ids[: len(copied)]
        assert len(copied) >= 510


async def test_a_snapshot_is_gone_after_its_block_and_then_there_may_be_another(tmp_path: Path) -> None:
    async with Making().bench(tmp_path) as bench:
        for _ in range(2):
            async with bench.store.snapshot() as files:
                assert all(file.exists() for file in files)
                with pytest.raises(Conflicting, match="being made already"):
                    async with bench.store.snapshot():
                        pass
            assert not any(file.parent.exists() for file in files)


async def test_a_snapshot_is_removed_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "PIECE_BYTES", 64 * 1024)
    sizes: list[int] = []
    cut = os.ftruncate

    def noted(file: int, size: int) -> None:
        cut(file, size)
        sizes.append(size)

    monkeypatch.setattr(os, "ftruncate", noted)
    async with Making().bench(tmp_path) as bench:
        await bench.enqueue(*(bench.job(payload=LARGE) for _ in range(100)))
        async with bench.store.snapshot() as [file]:
            size = file.stat().st_size
        assert size > 100 * len(LARGE)
        assert all(0 < before - after <= 64 * 1024 for before, after in pairwise([size, *sizes]))
        assert sizes[-1] == 0


async def copying(backups: Backups, clock: Held) -> asyncio.Task[None]:
    """A copy that has begun and does not go on."""

    async def copy() -> None:
        async with backups.copy():
            pass

    task = asyncio.create_task(copy())
    assert await asyncio.to_thread(clock.reached.wait, 30)
    return task


async def test_a_copy_has_nothing_that_came_after_it_began(tmp_path: Path) -> None:
    async with Making().bench(tmp_path / "a") as bench:
        ids = await bench.enqueue(*(bench.job(payload=LARGE) for _ in range(300)))
        clock = Held()
        backups = Backups(tmp_path / "a" / "data" / "jobs.db", clock)
        copied: list[str] = []

        async def copy() -> None:
            async with backups.copy() as file:
                copied.extend(await read_back([file], tmp_path / "b"))

        task = asyncio.create_task(copy())
        assert await asyncio.to_thread(clock.reached.wait, 30)
        await bench.enqueue(bench.job())
        clock.go_on.set()
        await task
        assert copied == ids


@pytest.mark.parametrize("times", [1, 2])
async def test_a_copy_that_nobody_waits_for_any_more_leaves_nothing(tmp_path: Path, times: int) -> None:
    async with Making().bench(tmp_path) as bench:
        await bench.enqueue(*(bench.job(payload=LARGE) for _ in range(300)))
        clock = Held()
        backups = Backups(tmp_path / "data" / "jobs.db", clock)
        copy = await copying(backups, clock)
        for _ in range(times):
            copy.cancel()
            await asyncio.sleep(0)
        clock.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await copy
        assert not (tmp_path / "data" / "backup.tmp").exists()
        async with backups.copy():
            pass


async def test_a_copy_whose_reader_is_cancelled_twice_leaves_room_for_the_next(tmp_path: Path) -> None:
    async with Making().bench(tmp_path) as bench:
        entered = asyncio.Event()

        async def read() -> None:
            async with bench.store.snapshot():
                entered.set()
                await asyncio.Event().wait()

        reading = asyncio.create_task(read())
        await entered.wait()
        # The second time it is removing the copy.
        for _ in range(2):
            reading.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await reading
        async with bench.store.snapshot():
            pass


async def test_stopping_ends_a_copy_that_is_being_made(tmp_path: Path) -> None:
    async with Making().bench(tmp_path) as bench:
        await bench.enqueue(*(bench.job(payload=LARGE) for _ in range(300)))
        clock = Held()
        backups = Backups(tmp_path / "data" / "jobs.db", clock)
        copy = await copying(backups, clock)
        stopping = asyncio.create_task(backups.stop())
        await asyncio.sleep(0)
        clock.go_on.set()
        await stopping
        with pytest.raises(Unavailable, match="stopped"):
            await copy


async def test_what_a_crash_left_of_a_snapshot_is_removed_at_the_next_start(tmp_path: Path) -> None:
    left = tmp_path / "data" / "backup.tmp"
    left.mkdir(parents=True)
    (left / "jobs.db").write_bytes(b"half")
    async with Making().bench(tmp_path):
        assert not left.exists()


async def test_a_snapshot_that_the_disk_refuses_says_so_and_the_store_goes_on(tmp_path: Path) -> None:
    async with Making().bench(tmp_path) as bench:
        blocker = tmp_path / "data" / "backup.tmp"
        blocker.write_bytes(b"")
        with pytest.raises(Unavailable, match="cannot be copied"):
            async with bench.store.snapshot():
                pass
        blocker.unlink()
        await bench.enqueue(bench.job())
        async with bench.store.snapshot():
            pass


def sizes(root: Path) -> tuple[int, int]:
    """The bytes of the database and of its log."""
    path = root / "data" / "jobs.db"
    return path.stat().st_size, path.with_name("jobs.db-wal").stat().st_size


async def emptied(bench: Bench, jobs: int) -> list[str]:
    """Enqueue large jobs and complete all but the last; returns what stays."""
    ids = await bench.enqueue(*(bench.job(payload=LARGE) for _ in range(jobs)))
    await bench.take(jobs - 1)
    await bench.store.succeed(ids[:-1], NOW)
    return ids[-1:]


async def test_compacting_gives_back_what_is_free_and_changes_no_job(tmp_path: Path) -> None:
    async with Making().bench(tmp_path) as bench:
        left = await emptied(bench, 300)
        before, after = await bench.store.compact()
        database, log = sizes(tmp_path)
        assert before > 300 * PAGE_SIZE
        assert after == database + log
        assert database < 60 * PAGE_SIZE
        assert log == 0
        assert await ids_of(bench) == left
        await bench.enqueue(bench.job())
    assert check_store(tmp_path, NOW).violations == []


async def test_compacting_beside_a_reader_that_stays_gives_back_what_it_can(tmp_path: Path) -> None:
    async with Making().bench(tmp_path) as bench:
        await bench.enqueue(bench.job())
        reader = apsw.Connection(str(tmp_path / "data" / "jobs.db"))
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM jobs").get == 1
        left = await emptied(bench, 300)
        await bench.store.compact()
        assert reader.execute("SELECT count(*) FROM jobs").get == 1
        reader.close()
        await bench.store.compact()
        assert sizes(tmp_path)[0] < 60 * PAGE_SIZE
        assert left[0] in await ids_of(bench)


async def test_compacting_on_a_disk_that_refuses_it_says_so(tmp_path: Path) -> None:
    with Disk() as disk:
        async with Making().bench(tmp_path) as bench:
            await bench.enqueue(*(bench.job() for _ in range(10)))
            disk.fail("write", where="jobs.db")
            with pytest.raises(Unavailable, match="the log cannot be copied"):
                await bench.store.compact()
            disk.heal()
            await bench.store.compact()
