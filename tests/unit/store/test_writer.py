"""The writer: what shares a commit, in which order it is answered, and what a refused one leaves behind."""

from __future__ import annotations

import asyncio
import sys
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import apsw
import pytest

from zizq.engine.window import LEAST, ReadySet
from zizq.errors import ConfigError, Unavailable
from zizq.job import Status
from zizq.policy import Defaults
from zizq.store.base import CommitMode
from zizq.store.sqlite import checkpoints, writer
from zizq.store.sqlite.schema import APPLICATION_ID, BUSY_MS, FolderLock, open_database
from zizq.store.sqlite.statements import Step
from zizq.store.sqlite.store import SqliteStore
from zizq.testing.bench import NOW, Bench, Recorder
from zizq.testing.clock import LoadedDice


async def opened(place: Path, **options: Any) -> Bench:
    listener = Recorder()
    store = SqliteStore(place, Defaults(), LoadedDice(), **options)
    await store.open(listener)
    return Bench(store, listener, LoadedDice())


def trace(store: SqliteStore) -> list[str]:
    """Statements as the writer runs them, but for those that make room in the log behind a commit."""
    store._checkpoints._room = store._checkpoints._kept = sys.maxsize
    seen: list[str] = []

    def note(cursor: apsw.Cursor, sql: str, bindings: Any) -> bool:
        seen.append(sql.strip())
        return True

    store._writer._db.exec_trace = note
    return seen


def refuse(store: SqliteStore, error: type[Exception]) -> None:
    """Let every insert fail from now on."""

    def fail(cursor: apsw.Cursor, sql: str, bindings: Any) -> bool:
        if sql.startswith(("INSERT INTO jobs", "DELETE FROM jobs")):
            raise error("the disk is full")
        return True

    store._writer._db.exec_trace = fail


async def test_concurrent_calls_are_one_statement_and_so_one_commit(tmp_path: Path) -> None:
    bench = await opened(tmp_path)
    try:
        seen = trace(bench.store)
        await asyncio.gather(*[bench.enqueue(bench.job()) for _ in range(20)])
        assert [sql.split()[0] for sql in seen] == ["PRAGMA", "INSERT"]
    finally:
        await bench.store.close()


async def test_calls_of_many_statements_share_one_transaction(tmp_path: Path) -> None:
    bench = await opened(tmp_path)
    try:
        seen = trace(bench.store)
        jobs = [bench.job() for _ in range(300)]
        await asyncio.gather(bench.enqueue(*jobs[:200]), bench.enqueue(*jobs[200:]))
        assert [sql.split()[0] for sql in seen] == ["PRAGMA", "BEGIN", "INSERT", "INSERT", "INSERT", "COMMIT"]
    finally:
        await bench.store.close()


async def test_a_commit_deletes_many_jobs_by_one_statement_and_leaves_others_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SETTLED", 250)
    bench = await opened(tmp_path)
    try:
        ids = await bench.enqueue(*[bench.job() for _ in range(450)])
        await bench.take(limit=450)
        seen = trace(bench.store)
        answers = await asyncio.gather(*[bench.store.succeed(ids[at : at + 150], NOW) for at in (0, 150, 300)])
        assert [sql.split()[0] for sql in seen if not sql.startswith("PRAGMA")] == ["DELETE", "DELETE"]
        assert answers == [[True] * 150] * 3
    finally:
        await bench.store.close()


async def test_the_tally_is_what_the_jobs_are(tmp_path: Path) -> None:
    bench = await opened(tmp_path)
    try:
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
    finally:
        await bench.store.close()


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
    bench = await opened(tmp_path, **options)
    try:
        writer = bench.store._writer
        [job_id] = await bench.enqueue(bench.job())
        assert writer._synchronous == enqueue
        await bench.take()
        await bench.store.succeed([job_id], NOW)
        assert writer._synchronous == other
    finally:
        await bench.store.close()


async def test_a_full_disk_refuses_writes_and_keeps_reads(tmp_path: Path) -> None:
    bench = await opened(tmp_path)
    try:
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
    finally:
        await bench.store.close()


async def test_a_job_that_cannot_be_settled_goes_back_when_its_owner_has_gone(tmp_path: Path) -> None:
    bench = await opened(tmp_path)
    try:
        [job_id] = await bench.enqueue(bench.job())
        await bench.take(owner=1)
        refuse(bench.store, apsw.FullError)
        done, released = await asyncio.gather(
            bench.store.succeed([job_id], NOW), bench.store.release(1), return_exceptions=True
        )
        assert isinstance(done, Unavailable)
        assert released == 0
        assert await bench.take_ids(owner=2) == [job_id]
    finally:
        await bench.store.close()


async def test_a_defect_in_one_call_does_not_fail_the_others(tmp_path: Path) -> None:
    bench = await opened(tmp_path)
    try:
        twin = bench.job()
        outcomes = await asyncio.gather(
            bench.enqueue(twin), bench.enqueue(twin), bench.enqueue(bench.job()), return_exceptions=True
        )
        assert sorted(isinstance(outcome, Exception) for outcome in outcomes) == [False, False, True]
        assert len(await bench.take()) == 2
    finally:
        await bench.store.close()


async def test_calls_that_are_tried_one_by_one_keep_the_order_of_their_steps(tmp_path: Path) -> None:
    bench = await opened(tmp_path, ready=ReadySet(total=LEAST, limit=LEAST))
    try:
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
    finally:
        await bench.store.close()


async def test_a_read_does_not_say_that_writes_succeed_again(tmp_path: Path) -> None:
    bench = await opened(tmp_path, ready=ReadySet(total=LEAST, limit=LEAST))
    try:
        await bench.enqueue(*[bench.job() for _ in range(LEAST + 1)])
        refuse(bench.store, apsw.FullError)
        with pytest.raises(Unavailable):
            await bench.enqueue(bench.job())
        assert len(await bench.take(LEAST)) + len(await bench.take()) == LEAST + 1
        assert bench.store.trouble() is not None
    finally:
        await bench.store.close()


async def test_a_second_server_is_kept_out(tmp_path: Path) -> None:
    bench = await opened(tmp_path)
    try:
        with pytest.raises(ConfigError, match="in use by another server"):
            await opened(tmp_path)
    finally:
        await bench.store.close()
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
    bench = await opened(tmp_path, enqueue_mode=CommitMode.BUFFERED)
    try:
        count = 0
        while not any(later < earlier for earlier, later in pairwise(pages_seen)):
            await bench.enqueue(bench.job())
            count += 1
        assert threads == {"zizq-checkpoint", "zizq-writer"}
        assert len(await bench.take(count)) == count
    finally:
        await bench.store.close()


def threads_of(store: SqliteStore) -> list[str]:
    """The threads that insert jobs, as they do it."""
    seen: list[str] = []

    def note(cursor: apsw.Cursor, sql: str, bindings: Any) -> bool:
        if sql.startswith("INSERT INTO jobs"):
            seen.append(threading.current_thread().name)
        return True

    store._writer._db.exec_trace = note
    return seen


async def handed_over(writer: Any, calls: int) -> None:
    """Let the event loop go on until the thread has so many calls."""
    while writer._away < calls:  # noqa: ASYNC110 - it has no event for that
        await asyncio.sleep(0)


HERE, THERE = threading.main_thread().name, "zizq-writer"


async def buffered(place: Path) -> Bench:
    """A store in which an enqueue was made: the first commit to an empty log waits for the disk, and so the thread."""
    bench = await opened(place, enqueue_mode=CommitMode.BUFFERED)
    await bench.enqueue(bench.job())
    return bench


async def test_a_buffered_enqueue_that_comes_alone_is_committed_on_the_event_loop(tmp_path: Path) -> None:
    bench = await buffered(tmp_path)
    try:
        seen = threads_of(bench.store)
        calls = bench.store._writer.meter.calls
        [job_id] = await bench.enqueue(bench.job())
        assert seen == [HERE]
        assert bench.store._writer.meter.calls == calls + 1
        assert [job.id for job in await bench.take(2)][1] == job_id
        assert [job.id for job in bench.heard.moves[-1][1] or ()] == [job_id]
    finally:
        await bench.store.close()


async def test_where_one_came_alone_the_next_is_answered_without_another_turn_of_the_loop(tmp_path: Path) -> None:
    bench = await buffered(tmp_path)
    try:
        seen = threads_of(bench.store)
        await bench.enqueue(bench.job())
        await asyncio.sleep(0)
        # The second in a turn shows that they do not come alone any more.
        answers = [bench.store._writer.call(Step.ENQUEUE, [bench.job()]) for _ in range(3)]
        assert [answer.done() for answer in answers] == [True, False, False]
        await asyncio.gather(*answers)
        assert seen == [HERE, HERE, THERE]
        answer = bench.store._writer.call(Step.ENQUEUE, [bench.job()])
        assert not answer.done()
        await answer
        assert len(await bench.take(9)) == 6
    finally:
        await bench.store.close()


async def test_the_first_commit_to_an_empty_log_is_left_to_the_thread(tmp_path: Path) -> None:
    bench = await opened(tmp_path, enqueue_mode=CommitMode.BUFFERED)
    try:
        seen = threads_of(bench.store)
        await bench.enqueue(bench.job())
        assert seen == [THERE]
    finally:
        await bench.store.close()


async def test_what_waits_for_the_disk_or_is_more_than_a_few_jobs_is_left_to_the_thread(tmp_path: Path) -> None:
    bench = await buffered(tmp_path)
    try:
        seen = threads_of(bench.store)
        await asyncio.gather(bench.enqueue(bench.job()), bench.enqueue(bench.job()))
        seen.clear()
        await asyncio.gather(bench.enqueue(bench.job()), bench.enqueue(bench.job()))
        await bench.enqueue(*(bench.job() for _ in range(writer.FEW)))
        await bench.enqueue(*(bench.job() for _ in range(writer.FEW + 1)))
        bench.store._enqueue_durable = True
        await bench.enqueue(bench.job())
        assert seen == [THERE, HERE, THERE, THERE]
    finally:
        await bench.store.close()


class Held:
    """An event loop that does not hear what other threads have for it, until it is let go."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.calls: list[Any] = []
        self.is_held = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loop, name)

    def call_soon_threadsafe(self, *call: Any) -> None:
        if self.is_held:
            self.calls.append(call)
        else:
            self.loop.call_soon_threadsafe(*call)

    def let_go(self) -> None:
        self.is_held = False
        for call in self.calls:
            self.loop.call_soon(*call)


async def test_a_call_does_not_overtake_one_whose_commit_was_not_heard_of(tmp_path: Path) -> None:
    bench = await buffered(tmp_path)
    try:
        seen = threads_of(bench.store)
        thread: Any = bench.store._writer
        thread._loop = held = Held(asyncio.get_running_loop())
        answers: list[str] = []
        many = [bench.job() for _ in range(writer.FEW + 1)]
        first = asyncio.ensure_future(bench.enqueue(*many))
        first.add_done_callback(lambda _: answers.append("first"))
        while not held.calls:  # noqa: ASYNC110 - the thread sets no event
            await asyncio.sleep(0)
        second = asyncio.ensure_future(bench.enqueue(bench.job()))
        second.add_done_callback(lambda _: answers.append("second"))
        await handed_over(thread, 2)
        held.let_go()
        await asyncio.gather(first, second)
        assert answers == ["first", "second"]
        assert seen == [THERE, THERE]
    finally:
        await bench.store.close()


async def test_a_connection_that_is_in_use_is_not_waited_for(tmp_path: Path) -> None:
    bench = await buffered(tmp_path)
    try:
        seen = threads_of(bench.store)
        with bench.store._writer._using:
            alone = asyncio.ensure_future(bench.enqueue(bench.job()))
            await handed_over(bench.store._writer, 1)
        await alone
        assert seen == [THERE]
    finally:
        await bench.store.close()


async def test_the_event_loop_does_not_wait_for_a_lock(tmp_path: Path) -> None:
    bench = await buffered(tmp_path)
    other = apsw.Connection(str(bench.store._path))
    try:
        other.execute("BEGIN IMMEDIATE")
        alone = asyncio.ensure_future(bench.enqueue(bench.job()))
        began_s = asyncio.get_running_loop().time()
        await handed_over(bench.store._writer, 1)
        assert asyncio.get_running_loop().time() - began_s < BUSY_MS / 2000
        other.execute("ROLLBACK")
        await alone
        assert len(await bench.take(9)) == 2
    finally:
        other.close()
        await bench.store.close()


async def test_two_slow_commits_send_the_next_ones_to_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = await buffered(tmp_path)
    try:
        seen = threads_of(bench.store)
        monkeypatch.setattr("zizq.store.sqlite.writer.SLOW_US", -1)
        monkeypatch.setattr("zizq.store.sqlite.writer.REST", 2**40)
        for _ in range(4):
            await bench.enqueue(bench.job())
            await asyncio.sleep(0)
        assert seen == [HERE, HERE, THERE, THERE]
    finally:
        await bench.store.close()


async def test_a_commit_on_the_event_loop_that_fails_is_tried_by_the_thread_and_refused(tmp_path: Path) -> None:
    bench = await buffered(tmp_path)
    try:
        refuse(bench.store, apsw.FullError)
        with pytest.raises(Unavailable, match="the disk is full"):
            await bench.enqueue(bench.job())
        assert bench.store.trouble() is not None
        bench.store._writer._db.exec_trace = None
        seen = threads_of(bench.store)
        await bench.enqueue(bench.job())
        await bench.enqueue(bench.job())
        assert seen == [THERE, HERE]
        assert len(await bench.take(9)) == 3
    finally:
        await bench.store.close()


async def test_the_event_loop_never_copies_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[str] = []
    copy = checkpoints.Checkpoints._checkpoint

    def noted(db: apsw.Connection, mode: int) -> tuple[int, int]:
        copies.append(threading.current_thread().name)
        return copy(db, mode)

    monkeypatch.setattr(checkpoints, "PAGES", 50)
    monkeypatch.setattr(checkpoints.Checkpoints, "_checkpoint", staticmethod(noted))
    monkeypatch.setattr("zizq.store.sqlite.writer.SLOW_US", 3_600_000_000)
    bench = await buffered(tmp_path)
    try:
        seen = threads_of(bench.store)
        while copies.count(THERE) < 3:
            await bench.enqueue(bench.job())
            await asyncio.sleep(0)
        assert HERE not in copies
        assert seen.count(HERE) > seen.count(THERE) > 0
    finally:
        await bench.store.close()
