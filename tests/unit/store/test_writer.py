"""The writer: what shares a commit, in which order it is answered, and what a refused one leaves behind."""

from __future__ import annotations

import asyncio
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import apsw
import pytest

from unit.store.writing import bench_at, opened, refuse, trace
from zizq.engine.window import LEAST, ReadySet
from zizq.errors import ConfigError, Unavailable
from zizq.job import Status
from zizq.store.base import CommitMode
from zizq.store.sqlite import checkpoints, writer
from zizq.store.sqlite.schema import APPLICATION_ID, FolderLock, open_database
from zizq.store.sqlite.statements import Step
from zizq.testing.bench import NOW


async def test_concurrent_calls_are_one_statement_and_so_one_commit(tmp_path: Path) -> None:
    async with bench_at(tmp_path) as bench:
        seen = trace(bench.store)
        await asyncio.gather(*[bench.enqueue(bench.job()) for _ in range(20)])
        assert [sql.split()[0] for sql in seen] == ["PRAGMA", "INSERT"]


async def test_calls_of_many_statements_share_one_transaction(tmp_path: Path) -> None:
    async with bench_at(tmp_path) as bench:
        seen = trace(bench.store)
        jobs = [bench.job() for _ in range(300)]
        await asyncio.gather(bench.enqueue(*jobs[:200]), bench.enqueue(*jobs[200:]))
        assert [sql.split()[0] for sql in seen] == ["PRAGMA", "BEGIN", "INSERT", "INSERT", "INSERT", "COMMIT"]


async def test_a_commit_deletes_many_jobs_by_one_statement_and_leaves_others_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(writer.MOST_JOBS, Step.SETTLE, 250)
    async with bench_at(tmp_path) as bench:
        ids = await bench.enqueue(*[bench.job() for _ in range(450)])
        await bench.take(limit=450)
        seen = trace(bench.store)
        answers = await asyncio.gather(*[bench.store.succeed(ids[at : at + 150], NOW) for at in (0, 150, 300)])
        assert [sql.split()[0] for sql in seen if not sql.startswith("PRAGMA")] == ["DELETE", "DELETE"]
        assert answers == [[True] * 150] * 3


async def test_a_commit_enqueues_so_many_jobs_and_leaves_other_calls_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert writer.MOST_JOBS[Step.ENQUEUE] > 1000
    monkeypatch.setitem(writer.MOST_JOBS, Step.ENQUEUE, 15)
    async with bench_at(tmp_path) as bench:
        seen = trace(bench.store)
        await asyncio.gather(*[bench.enqueue(*[bench.job() for _ in range(10)]) for _ in range(3)])
        assert [sql.split()[0] for sql in seen if not sql.startswith("PRAGMA")] == ["INSERT", "INSERT"]
        assert len(await bench.take(limit=99)) == 30


async def test_the_tally_is_what_the_jobs_are(tmp_path: Path) -> None:
    async with bench_at(tmp_path) as bench:
        ids = await bench.enqueue(*[bench.job(queue, retry_limit=0) for queue in "aabbb"], bench.job(ready_at=NOW + 1))
        await bench.take(limit=4)
        await bench.store.succeed(ids[:1], NOW)
        await bench.fail(ids[1])
        await bench.delete(*ids[2:3])
        await bench.store.promote(NOW + 1, 9)
        db = bench.store._writer._db
        counted = list(db.execute("SELECT queue, status, count(*) FROM jobs GROUP BY queue, status"))
        assert list(db.execute("SELECT queue, status, jobs FROM tally WHERE jobs")) == counted
        assert counted == [("a", 3, 1), ("b", 1, 2), ("q", 1, 1)]


@pytest.mark.parametrize(
    ("options", "enqueue", "other"),
    [
        ({}, "FULL", "NORMAL"),
        ({"enqueue_mode": CommitMode.BUFFERED}, "NORMAL", "NORMAL"),
        ({"default_mode": CommitMode.FSYNC}, "FULL", "FULL"),
        ({"enqueue_mode": CommitMode.BUFFERED, "default_mode": CommitMode.FSYNC}, "NORMAL", "FULL"),
    ],
)
async def test_each_kind_of_write_has_its_commit_mode(
    tmp_path: Path, options: dict[str, Any], enqueue: str, other: str
) -> None:
    async with bench_at(tmp_path, **options) as bench:
        writer = bench.store._writer
        [job_id] = await bench.enqueue(bench.job())
        assert writer._synchronous == enqueue
        await bench.take()
        await bench.store.succeed([job_id], NOW)
        assert writer._synchronous == other


async def test_a_full_disk_refuses_writes_and_keeps_reads(tmp_path: Path) -> None:
    async with bench_at(tmp_path) as bench:
        [kept] = await bench.enqueue(bench.job())
        await bench.take()
        refuse(bench.store, apsw.FullError)
        with pytest.raises(Unavailable, match="disk is full"):
            await bench.enqueue(bench.job())
        with pytest.raises(Unavailable):
            await bench.store.succeed([kept], NOW)
        assert "FullError" in (bench.store.trouble() or "")
        assert await bench.status(kept) is Status.IN_FLIGHT
        bench.store._writer._db.exec_trace = None
        assert await bench.store.succeed([kept], NOW) == [True]
        assert bench.store.trouble() is None
        assert await bench.store.queues(NOW) == []


async def test_a_job_that_cannot_be_settled_goes_back_when_its_owner_has_gone(tmp_path: Path) -> None:
    async with bench_at(tmp_path) as bench:
        [job_id] = await bench.enqueue(bench.job())
        await bench.take(owner=1)
        refuse(bench.store, apsw.FullError)
        done, released = await asyncio.gather(
            bench.store.succeed([job_id], NOW), bench.store.release(1), return_exceptions=True
        )
        assert isinstance(done, Unavailable)
        assert released == 0
        assert await bench.take_ids(owner=2) == [job_id]


async def test_a_defect_in_one_call_does_not_fail_the_others(tmp_path: Path) -> None:
    async with bench_at(tmp_path) as bench:
        twin = bench.job()
        outcomes = await asyncio.gather(
            bench.enqueue(twin), bench.enqueue(twin), bench.enqueue(bench.job()), return_exceptions=True
        )
        assert sorted(isinstance(outcome, Exception) for outcome in outcomes) == [False, False, True]
        assert len(await bench.take()) == 2


async def test_calls_that_are_tried_one_by_one_keep_the_order_of_their_steps(tmp_path: Path) -> None:
    async with bench_at(tmp_path, ready=ReadySet(total=LEAST, limit=LEAST)) as bench:
        old = await bench.enqueue(*[bench.job() for _ in range(3 * LEAST)])
        assert await bench.take_ids(LEAST) == old[:LEAST]
        await bench.enqueue(bench.job(priority=65_535))
        twin = bench.job(priority=65_534)
        # The take asks for a refill first, then come the enqueues, of which one must fail.
        taken, *_ = await asyncio.gather(
            bench.take_ids(LEAST), bench.enqueue(twin), bench.enqueue(twin), return_exceptions=True
        )
        rest = list(taken)
        while batch := await bench.take_ids():
            rest += batch
        assert rest[:-1] == [*old[LEAST:], twin.id]


async def test_a_read_does_not_say_that_writes_succeed_again(tmp_path: Path) -> None:
    async with bench_at(tmp_path, ready=ReadySet(total=LEAST, limit=LEAST)) as bench:
        await bench.enqueue(*[bench.job() for _ in range(LEAST + 1)])
        refuse(bench.store, apsw.FullError)
        with pytest.raises(Unavailable):
            await bench.enqueue(bench.job())
        assert len(await bench.take(LEAST)) + len(await bench.take()) == LEAST + 1
        assert bench.store.trouble() is not None


async def test_a_second_server_is_kept_out(tmp_path: Path) -> None:
    async with bench_at(tmp_path):
        with pytest.raises(ConfigError, match="in use by another server"):
            await opened(tmp_path)
    again = await opened(tmp_path)
    await again.store.close()
    await again.store.close()


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    db = apsw.Connection(str(tmp_path / "x.db"))
    db.execute("CREATE TABLE mine (a)")
    db.close()
    with pytest.raises(ConfigError, match="another program"):
        open_database(tmp_path / "x.db", 1024)


def test_a_database_of_a_newer_program_is_left_alone(tmp_path: Path) -> None:
    db = apsw.Connection(str(tmp_path / "x.db"))
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute("PRAGMA user_version = 999")
    db.close()
    with pytest.raises(ConfigError, match="newer zizq"):
        open_database(tmp_path / "x.db", 1024)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file"):
        FolderLock(tmp_path / "file" / "data")


async def test_the_log_is_copied_beside_the_writer_and_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, commit = checkpoints.Checkpoints._checkpoint, checkpoints.Checkpoints._on_commit
    threads: set[str] = set()
    pages_seen: list[int] = []

    def noted_copy(db: apsw.Connection, mode: int) -> tuple[int, int]:
        threads.add(threading.current_thread().name)
        return copy(db, mode)

    def noted_commit(self: checkpoints.Checkpoints, db: apsw.Connection, name: str, pages: int) -> int:
        pages_seen.append(pages)
        return commit(self, db, name, pages)

    monkeypatch.setattr(checkpoints, "PAGES", 50)
    monkeypatch.setattr(checkpoints.Checkpoints, "_checkpoint", staticmethod(noted_copy))
    monkeypatch.setattr(checkpoints.Checkpoints, "_on_commit", noted_commit)
    async with bench_at(tmp_path, enqueue_mode=CommitMode.BUFFERED) as bench:
        count = 0
        while not any(later < earlier for earlier, later in pairwise(pages_seen)):
            await bench.enqueue(bench.job())
            count += 1
        assert threads == {"zizq-checkpoint", "zizq-writer"}
        assert len(await bench.take(count)) == count
