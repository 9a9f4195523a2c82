"""A sync that failed: nothing rests on what it should have made certain, until that was written and synced anew."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw
import pytest
from trust.disk import Disk

from unit.store.writing import after_power_cut, bench_at
from zizq.errors import ConfigError, Unavailable
from zizq.store.base import CommitMode
from zizq.store.sqlite import checkpoints, writer
from zizq.store.sqlite.mending import mend
from zizq.store.sqlite.schema import FolderLock, connect, open_database
from zizq.testing.bench import NOW, Bench

BUFFERED = {"enqueue_mode": CommitMode.BUFFERED}


@pytest.fixture
def disk() -> Iterator[Disk]:
    with Disk() as disk:
        yield disk


async def buffered_and_dropped(bench: Bench, disk: Disk, *, forgets: bool = False) -> tuple[str, str]:
    """Two jobs: one whose enqueue is in the log and was never synced, then one whose sync failed."""
    first, refused = bench.job(), bench.job()
    bench.store._enqueue_durable = False  # type: ignore[attr-defined]
    await bench.enqueue(first)
    bench.store._enqueue_durable = True  # type: ignore[attr-defined]
    disk.fail("sync", where="-wal", times=1, forgets=forgets)
    with pytest.raises(Unavailable, match="cannot write"):
        await bench.enqueue(refused)
    return first.id, refused.id


async def enqueued_at_last(bench: Bench) -> str:
    """A job, as soon as the store takes one: whoever has a file open may hear of a sync of it that failed."""
    for _ in range(5):
        with suppress(Unavailable):
            [job_id] = await bench.enqueue(bench.job())
            return job_id
    raise AssertionError(bench.store.trouble())


async def test_a_durable_answer_after_a_failed_sync_outlives_a_power_cut(disk: Disk, tmp_path: Path) -> None:
    async with bench_at(tmp_path / "live") as bench:
        first, _ = await buffered_and_dropped(bench, disk)
        [later] = await bench.enqueue(bench.job())
        assert after_power_cut(disk, tmp_path / "dead") == [first, later]


async def test_without_mending_the_log_the_answer_would_be_lost(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "mend", lambda database, frames, copied: None)
    async with bench_at(tmp_path / "live") as bench:
        await buffered_and_dropped(bench, disk)
        await bench.enqueue(bench.job())
        assert after_power_cut(disk, tmp_path / "dead") == []


async def test_nothing_is_answered_while_the_log_cannot_be_mended(disk: Disk, tmp_path: Path) -> None:
    async with bench_at(tmp_path / "live") as bench:
        first, _ = await buffered_and_dropped(bench, disk)
        disk.fail("sync", where="-wal")
        for _ in range(3):
            with pytest.raises(Unavailable, match="cannot write"):
                await bench.enqueue(bench.job())
        assert await bench.page_ids() == [first]
        disk.heal()
        later = await enqueued_at_last(bench)
        assert bench.store.trouble() is None
        assert after_power_cut(disk, tmp_path / "dead") == [first, later]


async def test_a_refused_write_does_not_come_back_once_the_log_is_mended(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PROBE_S", 60)
    async with bench_at(tmp_path / "live") as bench:
        first, refused = await buffered_and_dropped(bench, disk)
        assert after_power_cut(disk, tmp_path / "before", "all") in ([], [first], [first, refused])
        [later] = await bench.enqueue(bench.job())
        assert after_power_cut(disk, tmp_path / "after", "all") == [first, later]


async def test_committed_data_that_is_gone_ends_all_but_a_restart(disk: Disk, tmp_path: Path) -> None:
    async with bench_at(tmp_path) as bench:
        [sure] = await bench.enqueue(bench.job())
        await buffered_and_dropped(bench, disk, forgets=True)
        with pytest.raises(Unavailable, match=r"Lost: .*: restart the server"):
            await bench.enqueue(bench.job())
        with pytest.raises(Unavailable, match="restart the server"):
            await bench.page_ids()
        assert "restart the server" in (bench.store.trouble() or "")
    async with bench_at(tmp_path) as again:
        assert await again.page_ids() == [sure]
        [later] = await again.enqueue(bench.job())
        assert await again.take_ids() == [sure, later]


async def test_a_log_that_was_left_in_doubt_is_written_anew_before_it_is_read(disk: Disk, tmp_path: Path) -> None:
    async with bench_at(tmp_path / "live") as bench:
        first, _ = await buffered_and_dropped(bench, disk)
        disk.fail("sync")
    # Closed in doubt, so nothing of the log was copied, and all of it is there.
    disk.heal()
    async with bench_at(tmp_path / "live") as again:
        there = await again.page_ids()
        assert there[0] == first
        again.next_id = bench.next_id
        later = await enqueued_at_last(again)
        assert after_power_cut(disk, tmp_path / "dead") == [*there, later]


def test_what_was_copied_before_a_failed_sync_of_the_database_is_written_once_more(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    path = tmp_path / "live" / "jobs.db"
    db, reader = open_database(path, 2**20), connect(path, 2**20)

    def put(key: int) -> None:
        db.execute("INSERT INTO budgets VALUES (?, zeroblob(9000), NULL)", (f"{key:03}",))

    for key in range(20):
        put(key)
    reader.execute("BEGIN; SELECT count(*) FROM budgets").fetchall()
    for key in range(20, 40):
        put(key)
    # Copies what the reader does not hold back, and syncs nothing yet.
    in_log, copied = db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    assert 0 < copied < in_log
    reader.execute("ROLLBACK")
    reader.close()
    disk.fail("sync", where="jobs.db", times=1)
    with pytest.raises(apsw.IOError):
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    mend(path, *db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP))
    assert db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE) == (in_log, in_log)
    # The log begins anew: from now on the database has to stand by itself.
    put(40)
    after_power_cut(disk, tmp_path / "dead")
    db.close()


async def test_a_sync_that_fails_while_the_log_is_copied_is_mended_without_a_write(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "PAGES", 20)
    async with bench_at(tmp_path, **BUFFERED) as bench:
        disk.fail("sync", where="-wal", times=1)
        ids = []
        while not disk.met:
            ids.append(await enqueued_at_last(bench))
        while bench.store._checkpoints.in_doubt:  # type: ignore[attr-defined]
            await bench.store.queues(NOW)
        ids.append(await enqueued_at_last(bench))
        assert await bench.take_ids(1000) == ids


async def test_a_copy_of_the_log_that_meets_another_does_not_make_a_commit_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    met = 0

    def busy(*_: Any) -> Any:
        nonlocal met
        met += 1
        raise apsw.BusyError

    async with bench_at(tmp_path, **BUFFERED) as bench:
        monkeypatch.setattr(bench.store._checkpoints, "_checkpoint", busy)  # type: ignore[attr-defined]
        bench.store._checkpoints._copied = True  # type: ignore[attr-defined]
        ids = await bench.enqueue(bench.job())
        assert met == 1
        assert await bench.take_ids() == ids


async def test_reads_without_a_pause_do_not_keep_the_log_in_doubt(tmp_path: Path) -> None:
    async with bench_at(tmp_path, **BUFFERED) as bench:
        await bench.enqueue(bench.job())
        bench.store._checkpoints.in_doubt = True  # type: ignore[attr-defined]
        await bench.store.queues(NOW)
        assert not bench.store._checkpoints.in_doubt  # type: ignore[attr-defined]


async def test_a_database_that_cannot_be_read_is_not_opened_and_not_locked(disk: Disk, tmp_path: Path) -> None:
    async with bench_at(tmp_path) as bench:
        [job_id] = await bench.enqueue(bench.job())
    for kind in ("open", "read"):
        disk.fail(kind, where="jobs.db")
        with pytest.raises(ConfigError, match=r"the store .*jobs\.db"):
            async with bench_at(tmp_path):
                pass
        disk.heal()
    async with bench_at(tmp_path) as bench:
        assert await bench.take_ids() == [job_id]


def test_a_folder_is_made_certain_with_all_folders_that_lead_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = set()
    sync = os.fsync

    def noted(file: int) -> None:
        synced.add(os.fstat(file).st_ino)
        sync(file)

    monkeypatch.setattr(os, "fsync", noted)
    folder = tmp_path / "one" / "two" / "data"
    FolderLock(folder).release()
    assert {place.stat().st_ino for place in (tmp_path, *folder.parents[:2], folder)} <= synced


async def test_what_a_refused_transaction_would_have_armed_is_not_armed(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zizq.engine.changes import Delete
    from zizq.store.sqlite import changes

    monkeypatch.setattr(changes, "FEW", 10)

    def fail(cursor: apsw.Cursor, sql: str, bindings: Any) -> bool:
        if sql.startswith("INSERT INTO bulk"):
            disk.fail("write", where="-wal")
        return True

    async with bench_at(tmp_path) as bench:
        ids = await bench.enqueue(*[bench.job() for _ in range(30)])
        await bench.take(1)
        bench.store._writer._db.exec_trace = fail  # type: ignore[attr-defined]
        with pytest.raises(Unavailable):
            await bench.change(Delete())
        disk.heal()
        # What was only noted for the change is forgotten later; until then the job ends as any other does.
        assert await bench.store.succeed(ids[:1], NOW) == [True]
        assert await bench.status(ids[0]) is None
        assert await bench.count() == 29
