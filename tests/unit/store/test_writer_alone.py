"""Few jobs, enqueued or settled alone: that commits on the event loop, where it keeps no other write waiting."""

from __future__ import annotations

import asyncio
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest
from trust.disk import Disk

from unit.store.writing import HERE, THERE, after_power_cut, bench_at, buffered, handed_over, refuse, threads_of
from zizq.errors import Unavailable
from zizq.store.base import CommitMode
from zizq.store.sqlite import checkpoints, writer
from zizq.store.sqlite.schema import BUSY_MS
from zizq.store.sqlite.statements import Step
from zizq.testing.bench import NOW, Bench


async def test_a_buffered_enqueue_that_comes_alone_is_committed_on_the_event_loop(tmp_path: Path) -> None:
    async with buffered(tmp_path) as bench:
        seen = threads_of(bench.store)
        calls = bench.store._writer.meter.calls
        [job_id] = await bench.enqueue(bench.job())
        assert seen == [HERE]
        assert bench.store._writer.meter.calls == calls + 1
        assert [job.id for job in await bench.take(2)][1] == job_id
        assert [job.id for job in bench.heard.moves[-1][1] or ()] == [job_id]


async def test_few_jobs_are_deleted_on_the_event_loop_once_they_have_succeeded(tmp_path: Path) -> None:
    async with buffered(tmp_path) as bench:
        ids = await bench.enqueue(*(bench.job() for _ in range(2 * writer.FEW + 2)))
        taken = await bench.take(len(ids) + 1)
        seen = threads_of(bench.store)
        await bench.store.succeed([job.id for job in taken[: writer.FEW]], NOW)
        assert seen == [HERE]
        await asyncio.sleep(0)
        await bench.store.succeed([job.id for job in taken[writer.FEW : 2 * writer.FEW + 1]], NOW)
        await asyncio.sleep(0)
        # One that fails is written, with its error: that is more than one statement.
        await bench.fail(taken[-1].id)
        assert seen == [HERE, THERE, THERE]
        assert await bench.page_ids() == [job.id for job in taken[2 * writer.FEW + 1 :]]


async def test_where_one_came_alone_the_next_is_answered_without_another_turn_of_the_loop(tmp_path: Path) -> None:
    async with buffered(tmp_path) as bench:
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


async def test_the_first_commit_to_an_empty_log_is_left_to_the_thread(tmp_path: Path) -> None:
    async with bench_at(tmp_path, enqueue_mode=CommitMode.BUFFERED) as bench:
        seen = threads_of(bench.store)
        await bench.enqueue(bench.job())
        assert seen == [THERE]


async def test_what_waits_for_the_disk_or_is_more_than_a_few_jobs_is_left_to_the_thread(tmp_path: Path) -> None:
    async with buffered(tmp_path) as bench:
        seen = threads_of(bench.store)
        await asyncio.gather(bench.enqueue(bench.job()), bench.enqueue(bench.job()))
        seen.clear()
        await asyncio.gather(bench.enqueue(bench.job()), bench.enqueue(bench.job()))
        await bench.enqueue(*(bench.job() for _ in range(writer.FEW)))
        await bench.enqueue(*(bench.job() for _ in range(writer.FEW + 1)))
        bench.store._enqueue_durable = True
        await bench.enqueue(bench.job())
        assert seen == [THERE, HERE, THERE, THERE]


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
    async with buffered(tmp_path) as bench:
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


async def test_a_connection_that_is_in_use_is_not_waited_for(tmp_path: Path) -> None:
    async with buffered(tmp_path) as bench:
        seen = threads_of(bench.store)
        with bench.store._writer._using:
            alone = asyncio.ensure_future(bench.enqueue(bench.job()))
            await handed_over(bench.store._writer, 1)
        await alone
        assert seen == [THERE]


async def test_the_event_loop_does_not_wait_for_a_lock(tmp_path: Path) -> None:
    async with buffered(tmp_path) as bench:
        with closing(apsw.Connection(str(bench.store._path))) as other:
            other.execute("BEGIN IMMEDIATE")
            alone = asyncio.ensure_future(bench.enqueue(bench.job()))
            began_s = asyncio.get_running_loop().time()
            await handed_over(bench.store._writer, 1)
            assert asyncio.get_running_loop().time() - began_s < BUSY_MS / 2000
            other.execute("ROLLBACK")
            await alone
            assert len(await bench.take(9)) == 2


async def test_a_slow_commit_sends_the_next_ones_to_the_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with buffered(tmp_path) as bench:
        seen = threads_of(bench.store)
        monkeypatch.setattr(writer, "SLOW_US", -1)
        monkeypatch.setattr(writer, "REST", 2**40)
        for _ in range(3):
            await bench.enqueue(bench.job())
            await asyncio.sleep(0)
        assert seen == [HERE, THERE, THERE]


async def test_heavy_jobs_are_left_to_the_thread(tmp_path: Path) -> None:
    async with buffered(tmp_path) as bench:
        seen = threads_of(bench.store)
        # MessagePack's header of a text takes three bytes.
        for size in (writer.MOST_BYTES // 2 - 3, writer.MOST_BYTES // 2 - 2):
            await bench.enqueue(*(bench.job(payload=msgspec.msgpack.encode("x" * size)) for _ in range(2)))
            await asyncio.sleep(0)
        assert seen == [HERE, THERE]


async def test_a_commit_on_the_event_loop_that_fails_is_tried_by_the_thread_and_refused(tmp_path: Path) -> None:
    async with buffered(tmp_path) as bench:
        refuse(bench.store, apsw.FullError)
        with pytest.raises(Unavailable, match="the disk is full"):
            await bench.enqueue(bench.job())
        assert bench.store.trouble() is not None
        bench.store._writer._db.exec_trace = None
        seen = threads_of(bench.store)
        # For a while all is left to the thread.
        for _ in range(2):
            await bench.enqueue(bench.job())
            await asyncio.sleep(0)
        bench.store._writer._rest_until_us = 0
        await bench.enqueue(bench.job())
        assert seen == [THERE, THERE, HERE]
        assert len(await bench.take(9)) == 4


async def test_what_fails_on_the_event_loop_is_tried_there_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SLOW_US", 3_600_000_000)
    async with buffered(tmp_path) as bench:
        await bench.enqueue(bench.job())
        await asyncio.sleep(0)
        tried: list[str] = []

        def fail(cursor: apsw.Cursor, sql: str, bindings: Any) -> bool:
            tried.append(threading.current_thread().name)
            raise apsw.FullError("the disk is full")

        bench.store._writer._db.exec_trace = fail
        try:
            with pytest.raises(Unavailable, match="the disk is full"):
                await bench.enqueue(bench.job())
        finally:
            bench.store._writer._db.exec_trace = None
        assert tried == [HERE, THERE]


async def test_the_event_loop_never_copies_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[str] = []
    copy = checkpoints.Checkpoints._checkpoint

    def noted(db: apsw.Connection, mode: int) -> tuple[int, int]:
        copies.append(threading.current_thread().name)
        return copy(db, mode)

    monkeypatch.setattr(checkpoints, "PAGES", 50)
    monkeypatch.setattr(checkpoints.Checkpoints, "_checkpoint", staticmethod(noted))
    monkeypatch.setattr("zizq.store.sqlite.writer.SLOW_US", 3_600_000_000)
    async with buffered(tmp_path) as bench:
        seen = threads_of(bench.store)
        while copies.count(THERE) < 3:
            await bench.enqueue(bench.job())
            await asyncio.sleep(0)
        assert HERE not in copies
        assert seen.count(HERE) > seen.count(THERE) > 0


async def lone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let a caller wait for one durable enqueue after the other, until the disk is waited for on the event loop.

    Returns:
        The threads that insert jobs from then on.
    """
    # Whatever the disk of this machine takes, and although the log has to become longer.
    for name in ("QUICK_US", "SLOW_US"):
        monkeypatch.setattr(writer, name, 3_600_000_000)
    bench.store._checkpoints._room = bench.store._checkpoints._kept
    seen = threads_of(bench.store)
    for _ in range(1 + writer.LONE):
        await bench.enqueue(bench.job())
        await asyncio.sleep(0)
    assert seen == [THERE] * writer.LONE + [HERE]
    seen.clear()
    return seen


async def test_who_waits_for_each_of_many_durable_enqueues_has_them_on_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench_at(tmp_path) as bench:
        seen = await lone(bench, monkeypatch)
        synced = len(bench.store._writer.meter.fsync.times().last_us)
        await bench.enqueue(bench.job())
        assert seen == [HERE]
        assert bench.store._writer._synchronous == "FULL"
        assert len(bench.store._writer.meter.fsync.times().last_us) == synced + 1


@pytest.mark.parametrize("others", ["in the same turn", "in one call", "meanwhile", "of another kind"])
async def test_where_others_are_about_the_disk_is_left_to_the_thread(
    others: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench_at(tmp_path) as bench:
        seen = await lone(bench, monkeypatch)
        if others == "in the same turn":
            await asyncio.gather(*(bench.enqueue(bench.job()) for _ in range(2)))
            assert seen.pop(0) == HERE
        elif others == "in one call":
            await bench.enqueue(bench.job(), bench.job())
            assert seen == [THERE]
        elif others == "meanwhile":
            many = asyncio.gather(bench.enqueue(*(bench.job() for _ in range(writer.FEW + 1))))
            await handed_over(bench.store._writer, 1)
            await asyncio.gather(many, bench.enqueue(bench.job()))
        else:
            [job] = await bench.take(1)
            await bench.store.succeed([job.id], NOW)
            await asyncio.sleep(0)
        seen.clear()
        for _ in range(writer.LONE + 1):
            await bench.enqueue(bench.job())
            await asyncio.sleep(0)
        assert seen == [THERE] * writer.LONE + [HERE]


async def test_while_the_log_is_copied_the_disk_is_left_to_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench_at(tmp_path) as bench:
        seen = await lone(bench, monkeypatch)
        with monkeypatch.context() as patched:
            patched.setattr(bench.store._checkpoints, "is_copying", True)
            await bench.enqueue(bench.job())
            await asyncio.sleep(0)
        await bench.enqueue(bench.job())
        assert seen == [THERE, HERE]


async def test_zeros_are_left_to_the_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench_at(tmp_path) as bench:
        seen = await lone(bench, monkeypatch)
        log = bench.store._checkpoints
        log._room = log._pages
        for _ in range(3):
            await bench.enqueue(bench.job())
            await asyncio.sleep(0)
        assert seen == [HERE, THERE, HERE]
        assert log._room > log._pages


async def test_a_disk_that_is_not_quick_is_left_to_the_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench_at(tmp_path) as bench:
        seen = await lone(bench, monkeypatch)
        monkeypatch.setattr(writer, "QUICK_US", 0)
        await bench.enqueue(bench.job())
        assert seen == [THERE]


async def test_one_slow_sync_among_quick_ones_sends_the_next_to_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench_at(tmp_path) as bench:
        seen = await lone(bench, monkeypatch)
        monkeypatch.setattr(writer, "QUICK_US", 1000)
        bench.store._writer._sync_us = 500
        began_us = bench.store._writer.meter.now_us()
        bench.store._writer._time(began_us - 100_000, 1, durable=True)
        await bench.enqueue(bench.job())
        assert seen == [THERE]


async def test_a_sync_that_fails_on_the_event_loop_loses_nothing_from_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Disk() as disk:
        async with bench_at(tmp_path / "live") as bench:
            seen = await lone(bench, monkeypatch)
            bench.store._enqueue_durable = False
            [written] = await bench.enqueue(bench.job())
            bench.store._enqueue_durable = True
            await asyncio.sleep(0)
            disk.fail("sync", where="-wal", times=1)
            [last] = await bench.enqueue(bench.job())
            assert seen == [HERE, HERE, THERE]
            assert after_power_cut(disk, tmp_path / "dead")[-2:] == [written, last]
