"""The log, copied into the database: what a commit has to wait for meanwhile, and what it has not."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import apsw
import pytest
from trust.disk import Disk

from unit.store.writing import bench_at
from zizq.store.base import CommitMode
from zizq.store.opening import check_store
from zizq.store.sqlite import checkpoints, upkeep
from zizq.store.sqlite.checkpoints import AHEAD_PAGES, Checkpoints
from zizq.store.sqlite.mending import FRAME, log_of, shorten
from zizq.store.sqlite.schema import PAGE_SIZE
from zizq.testing.bench import NOW, Bench

LARGE = bytes([0xC5]) + (9000).to_bytes(2, "big") + bytes(9000)
"""A payload of a few pages."""
WITHIN_S = 30
"""For what takes no time unless it hangs."""


@asynccontextmanager
async def log_at(place: Path, mode: CommitMode = CommitMode.FSYNC) -> AsyncIterator[tuple[Bench, Any]]:
    """A store whose enqueues have a commit mode, and what looks after its log."""
    async with bench_at(place, enqueue_mode=mode) as bench:
        yield bench, bench.store._checkpoints  # type: ignore[attr-defined]


async def test_a_commit_does_not_wait_for_another_who_copies(tmp_path: Path) -> None:
    async with log_at(tmp_path) as (bench, log):
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
    async with log_at(tmp_path) as (bench, _):
        while not copied.is_set():
            await bench.enqueue(bench.job(payload=LARGE))
        # Many: the log may have begun anew.
        await bench.enqueue(*(bench.job(payload=LARGE) for _ in range(60)))
        go_on.set()
        while "zizq-writer" not in copied_by:
            await bench.enqueue(bench.job())
        assert set(copied_by[: copied_by.index("zizq-writer")]) == {"zizq-checkpoint"}
        assert copied_by.index("zizq-writer") >= 2


async def test_the_writer_lets_a_cut_of_the_log_pass_before_it_begins(tmp_path: Path) -> None:
    async with log_at(tmp_path) as (bench, log):
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
    async with log_at(tmp_path) as (bench, log):

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
        async with log_at(tmp_path) as (bench, _):
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


async def test_the_database_is_synced_before_the_rest_is_left_to_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "PAGES", 50)
    copy, sync = Checkpoints._checkpoint, os.fdatasync
    done: list[tuple[str, str]] = []

    def noted_copy(db: apsw.Connection, mode: int) -> tuple[int, int]:
        done.append(("copy", threading.current_thread().name))
        return copy(db, mode)

    def noted_sync(file: int) -> None:
        assert os.fstat(file).st_ino == database.stat().st_ino
        done.append(("sync", threading.current_thread().name))
        sync(file)

    monkeypatch.setattr(Checkpoints, "_checkpoint", staticmethod(noted_copy))
    monkeypatch.setattr(os, "fdatasync", noted_sync)
    database = tmp_path / "data" / "jobs.db"
    async with log_at(tmp_path) as (bench, _):
        while ("copy", "zizq-writer") not in done:
            await bench.enqueue(bench.job(payload=LARGE))
    assert done[:3] == [("copy", "zizq-checkpoint"), ("sync", "zizq-checkpoint"), ("copy", "zizq-writer")]


async def test_a_log_that_no_commit_syncs_is_synced_a_piece_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "SYNCED_PAGES", 20)
    async with log_at(tmp_path, CommitMode.BUFFERED) as (bench, log):
        synced: SimpleQueue[tuple[int, str]] = SimpleQueue()
        monkeypatch.setattr(
            os, "fdatasync", lambda file: synced.put((os.fstat(file).st_ino, threading.current_thread().name))
        )
        for _ in range(3):
            before = log._pages
            while log._pages - before < 20:
                assert synced.empty()
                await bench.enqueue(bench.job())
            seen = await asyncio.to_thread(synced.get, timeout=WITHIN_S)
            assert seen == (log_of(bench.store._path).stat().st_ino, "zizq-checkpoint")


async def test_what_is_to_be_synced_while_a_sync_goes_on_is_synced_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "SYNCED_PAGES", 10)
    async with log_at(tmp_path, CommitMode.BUFFERED) as (bench, log):
        begun: SimpleQueue[int] = SimpleQueue()
        may_end = threading.Semaphore(0)

        def slowly(file: int) -> None:
            begun.put(file)
            may_end.acquire(timeout=WITHIN_S)

        with monkeypatch.context() as patched:
            patched.setattr(os, "fdatasync", slowly)
            while log._pages < 100:
                await bench.enqueue(bench.job())
            for _ in range(2):
                await asyncio.to_thread(begun.get, timeout=WITHIN_S)
                may_end.release()
            assert not log._wanted.is_set()
            assert begun.empty()


async def test_a_log_in_doubt_is_mended_and_not_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with log_at(tmp_path, CommitMode.BUFFERED) as (bench, log):
        await bench.enqueue(bench.job())
        with monkeypatch.context() as patched:
            patched.setattr(os, "fdatasync", None)
            patched.setattr(log, "in_doubt", True)
            log._sync_log()


async def test_a_log_whose_commits_are_synced_is_not_synced_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "SYNCED_PAGES", 20)
    async with log_at(tmp_path) as (bench, log):
        with monkeypatch.context() as patched:
            patched.setattr(log, "_wanted", None)  # nobody is to be told
            while log._pages < 100:
                await bench.enqueue(bench.job())


async def test_a_log_that_begins_anew_is_synced_from_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with log_at(tmp_path, CommitMode.BUFFERED) as (bench, log):
        while log._pages < 100:
            await bench.enqueue(bench.job())
        log._synced = log._pages
        await asyncio.to_thread(log.copy_early)
        await bench.enqueue(bench.job())
        assert (log._synced, log._pages < 100) == (0, True)


@pytest.mark.parametrize(
    ("mode", "name", "many"), [(CommitMode.FSYNC, "PAGES", 50), (CommitMode.BUFFERED, "SYNCED_PAGES", 20)]
)
async def test_a_sync_beside_commits_that_fails_leaves_the_log_in_doubt_until_it_is_mended(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    mode: CommitMode,
    name: str,
    many: int,
) -> None:
    monkeypatch.setattr(checkpoints, name, many)
    failed = threading.Event()
    sync = os.fdatasync

    def fail_once(file: int) -> None:
        if failed.is_set():
            return sync(file)
        failed.set()
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail_once)
    async with log_at(tmp_path, mode) as (bench, _):
        ids: list[str] = []
        for _ in range(1000):
            ids += await bench.enqueue(bench.job(payload=LARGE))
            if any("log mended" in record.message for record in caplog.records):
                break
        else:
            raise AssertionError("it was never mended")
        assert any("checkpoint failed" in record.message for record in caplog.records)
        assert await bench.take_ids(len(ids)) == ids


def pages_in(log: Path) -> int:
    """How many pages the file of a log has room for."""
    return log.stat().st_size // (PAGE_SIZE + FRAME)


@asynccontextmanager
async def long_log(place: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Bench, Path]]:
    """A store with a long log that is copied: the next commit begins it anew."""
    monkeypatch.setattr(checkpoints, "KEPT_BYTES", 100 * (PAGE_SIZE + FRAME))
    monkeypatch.setattr(checkpoints, "PIECE_PAGES", 32)
    async with log_at(place) as (bench, log):
        await bench.enqueue(*(bench.job(payload=LARGE) for _ in range(100)))
        await asyncio.to_thread(log.copy_early)
        await bench.enqueue(bench.job())
        yield bench, place / "data" / "jobs.db-wal"


async def test_a_log_that_begins_anew_is_shortened_by_each_commit_a_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with long_log(tmp_path, monkeypatch) as (bench, log):
        sizes = [pages_in(log)]
        assert sizes[0] > 200
        while sizes[-1] > 100:
            await bench.enqueue(bench.job())
            sizes.append(pages_in(log))
        assert max(before - after for before, after in pairwise(sizes)) == 32
        assert sizes[-1] == 100
        await bench.enqueue(bench.job())
        assert pages_in(log) == 100
    assert check_store(tmp_path, NOW).violations == []


async def test_a_log_is_not_shortened_on_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by: list[str] = []
    monkeypatch.setattr(
        checkpoints, "shorten", lambda *how: (by.append(threading.current_thread().name), shorten(*how))
    )
    monkeypatch.setattr("zizq.store.sqlite.writer.SLOW_US", 3_600_000_000)
    async with long_log(tmp_path, monkeypatch) as (bench, log):
        bench.store._enqueue_durable = False
        while (before := pages_in(log)) > 100:
            await bench.enqueue(bench.job())
            assert pages_in(log) < before
    assert set(by) == {"zizq-writer"}


async def test_what_is_in_use_of_a_log_is_not_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with long_log(tmp_path, monkeypatch) as (bench, log):
        ids = await bench.enqueue(*(bench.job(payload=LARGE) for _ in range(60)))
        for _ in range(9):
            ids += await bench.enqueue(bench.job())
        assert pages_in(log) == bench.store._checkpoints._pages > 150
        shutil.copytree(tmp_path, tmp_path / "dead")
    # As after a crash: with the log, that nobody has copied.
    async with log_at(tmp_path / "dead") as (bench, _):
        assert (await bench.page_ids(limit=1000))[-len(ids) :] == ids


async def test_a_log_that_cannot_be_shortened_stays_as_it_is_and_fails_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Disk() as disk:
        async with long_log(tmp_path, monkeypatch) as (bench, log):
            size = pages_in(log)
            disk.fail("truncate", where="-wal")
            for _ in range(3):
                await bench.enqueue(bench.job())
            assert len(disk.met) == 1
            assert pages_in(log) == size
            disk.heal()
    assert "IOError" in str(caplog.records[0].__dict__["fields"])


async def test_durable_commits_write_over_zeros_that_stand_behind_the_log(tmp_path: Path) -> None:
    async with log_at(tmp_path) as (bench, log):
        sizes = set()
        for _ in range(AHEAD_PAGES // 2):
            ids = await bench.enqueue(bench.job())
            sizes.add(size := pages_in(log_of(log._path)))
            assert size - log._pages >= min(AHEAD_PAGES, log._pages)
        # Far fewer steps than commits, each of which wrote pages.
        assert len(sizes) < 10
        assert log._pages > 2 * AHEAD_PAGES
        shutil.copytree(tmp_path, tmp_path / "dead")
    # As after a crash: with the zeros behind the log.
    assert check_store(tmp_path / "dead", NOW).violations == []
    async with log_at(tmp_path / "dead") as (bench, _):
        assert (await bench.page_ids(limit=1000))[-1:] == ids


async def test_no_zeros_are_written_for_commits_that_wait_for_no_disk(tmp_path: Path) -> None:
    async with log_at(tmp_path) as (bench, log):
        bench.store._enqueue_durable = False
        for _ in range(3):
            await bench.enqueue(bench.job())
            assert pages_in(log_of(log._path)) == log._pages


async def test_a_log_that_is_as_long_as_it_may_be_gets_no_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "KEPT_BYTES", 40 * (PAGE_SIZE + FRAME))
    async with log_at(tmp_path) as (bench, log):
        await bench.enqueue(bench.job())
        assert 20 < log._pages < 40
        assert pages_in(log_of(log._path)) == log._pages


async def test_no_zeros_are_written_over_what_another_process_commits(tmp_path: Path) -> None:
    refused: list[str] = []

    def by_another(path: Path, frames: int, size: int) -> None:
        other = apsw.Connection(str(path))
        try:
            other.execute("DELETE FROM tally")
        except apsw.BusyError as error:
            refused.append(str(error))
        other.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "lengthen", by_another)
        async with log_at(tmp_path) as (bench, _):
            await bench.enqueue(bench.job())
    assert refused == ["database is locked"]


async def test_a_disk_without_room_for_zeros_fails_no_commit_that_has_room(tmp_path: Path) -> None:
    with Disk() as disk:
        async with log_at(tmp_path) as (bench, log):
            await bench.enqueue(bench.job())
            disk.fill()
            size = pages_in(log_of(log._path))
            while not disk.met:
                await bench.enqueue(bench.job())
            ids = await bench.enqueue(bench.job())
            assert log._pages < size == pages_in(log_of(log._path))
            assert (await bench.page_ids(limit=1000))[-1:] == ids
            disk.heal()


async def test_a_compaction_leaves_little_of_the_log_to_be_cut_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, left = Checkpoints._checkpoint, []
    async with long_log(tmp_path, monkeypatch) as (bench, log):
        sizes = [pages_in(log)]

        def noted(db: apsw.Connection, mode: int) -> tuple[int, int]:
            if mode == apsw.SQLITE_CHECKPOINT_TRUNCATE:
                left.append(pages_in(log))
            return copy(db, mode)

        monkeypatch.setattr(Checkpoints, "_checkpoint", staticmethod(noted))
        assert sizes[0] > 200
        await bench.store.compact()
        assert max(left) <= 32
        assert pages_in(log) == 0
        # It may be as long as ever from now on.
        await bench.enqueue(*(bench.job(payload=LARGE) for _ in range(25)))
        await asyncio.to_thread(bench.store._checkpoints.copy_early)
        before = pages_in(log)
        for _ in range(3):
            await bench.enqueue(bench.job())
        assert pages_in(log) == before
