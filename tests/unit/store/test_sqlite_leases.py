"""Time limits and worker deaths where the disk refuses, and where many jobs are being deleted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

from zizq.engine.changes import Delete
from zizq.errors import Unavailable
from zizq.job import Status
from zizq.policy import Defaults
from zizq.store.sqlite import changes
from zizq.store.sqlite.store import SqliteStore
from zizq.testing.bench import NOW, Bench, Recorder
from zizq.testing.clock import LoadedDice


@asynccontextmanager
async def opened(place: Path) -> AsyncIterator[tuple[Bench, SqliteStore]]:
    listener = Recorder()
    store = SqliteStore(place, Defaults(max_worker_deaths=1), LoadedDice())
    await store.open(listener)
    try:
        yield Bench(store, listener, LoadedDice()), store
    finally:
        await store.close()


def refuse(store: SqliteStore, statement: str | None) -> None:
    """Let statements that begin so fail as on a full disk; None lets all pass again."""

    def fail(cursor: apsw.Cursor, sql: str, bindings: Any) -> bool:
        if statement is not None and sql.lstrip().startswith(statement):
            raise apsw.FullError("the disk is full")
        return True

    store._writer._db.exec_trace = fail


async def test_a_job_whose_end_the_disk_refuses_stays_overdue(tmp_path: Path) -> None:
    async with opened(tmp_path) as (bench, store):
        [job_id] = await bench.enqueue(bench.job(timeout_ms=5))
        await bench.take()
        refuse(store, "WITH new")
        with pytest.raises(Unavailable):
            await store.fail_overdue(NOW + 5, 9)
        assert await bench.status(job_id) is Status.IN_FLIGHT
        assert await store.next_overdue() == NOW + 5
        assert bench.heard.overdue_at == [NOW + 5, NOW + 5]
        refuse(store, None)
        assert await store.fail_overdue(NOW + 5, 9) == 1
        assert await bench.status(job_id) is Status.SCHEDULED


async def test_a_success_that_the_disk_refuses_leaves_the_time_limit_in_force(tmp_path: Path) -> None:
    async with opened(tmp_path) as (bench, store):
        [job_id] = await bench.enqueue(bench.job(timeout_ms=5))
        await bench.take()
        refuse(store, "DELETE FROM jobs")
        settling = asyncio.ensure_future(store.succeed([job_id], NOW))
        await asyncio.sleep(0)
        # Its time is up while its success is on the way: that is not overdue, and not forgotten either.
        assert await store.fail_overdue(NOW + 5, 9) == 0
        with pytest.raises(Unavailable):
            await settling
        refuse(store, None)
        assert await store.fail_overdue(NOW + 5, 9) == 1


async def test_a_death_that_the_disk_refuses_is_forgotten_and_the_job_given_back(tmp_path: Path) -> None:
    async with opened(tmp_path) as (bench, store):
        [job_id] = await bench.enqueue(bench.job())
        await bench.take()
        await store.release(1, died_at=NOW)
        await bench.take()
        refuse(store, "UPDATE jobs")
        assert await store.release(1, died_at=NOW) == 1
        assert await bench.status(job_id) is Status.READY
        refuse(store, None)
        await bench.take()
        await store.release(1, died_at=NOW)
        assert await bench.status(job_id) is Status.DEAD


async def test_a_job_that_dies_with_its_worker_while_many_are_deleted_is_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "FEW", 10)
    async with opened(tmp_path) as (bench, store):
        await bench.enqueue(bench.job())
        await bench.take()
        await store.release(1, died_at=NOW)
        await bench.take()
        await bench.enqueue(*[bench.job() for _ in range(500)])
        deleting = asyncio.ensure_future(bench.change(Delete()))
        while not store._changes.held:  # noqa: ASYNC110 - the collecting goes on meanwhile
            await asyncio.sleep(0)
        await store.release(1, died_at=NOW)
        await deleting
        # The rows are still being deleted; what is left of them must not be seen, by its old place or its new one.
        for status in Status:
            assert await bench.count(statuses=[status]) == 0
