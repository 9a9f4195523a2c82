"""A store whose writer is looked at."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw
from trust.disk import Disk, Images

from zizq.policy import Defaults
from zizq.store.base import CommitMode
from zizq.store.sqlite.schema import open_database
from zizq.store.sqlite.store import SqliteStore
from zizq.testing.bench import Bench, Recorder
from zizq.testing.clock import LoadedDice

HERE, THERE = threading.main_thread().name, "zizq-writer"


async def opened(place: Path, **options: Any) -> Bench:
    """A store that is open; whoever calls closes it."""
    listener = Recorder()
    store = SqliteStore(place, Defaults(), LoadedDice(), **options)
    await store.open(listener)
    return Bench(store, listener, LoadedDice())


@asynccontextmanager
async def bench_at(place: Path, **options: Any) -> AsyncIterator[Bench]:
    """A store, for as long as the block lasts."""
    bench = await opened(place, **options)
    try:
        yield bench
    finally:
        await bench.store.close()


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


def threads_of(store: SqliteStore) -> list[str]:
    """The threads that insert, update and delete jobs, as they do it."""
    seen: list[str] = []

    def note(cursor: apsw.Cursor, sql: str, bindings: Any) -> bool:
        if any(words in sql for words in ("INSERT INTO jobs", "UPDATE jobs", "DELETE FROM jobs")):
            seen.append(threading.current_thread().name)
        return True

    store._writer._db.exec_trace = note
    return seen


async def handed_over(writer: Any, calls: int) -> None:
    """Let the event loop go on until the thread has so many calls."""
    while writer._away < calls:  # noqa: ASYNC110 - it has no event for that
        await asyncio.sleep(0)


@asynccontextmanager
async def buffered(place: Path) -> AsyncIterator[Bench]:
    """A store in which an enqueue was made: the first commit to an empty log waits for the disk, and so the thread."""
    async with bench_at(place, enqueue_mode=CommitMode.BUFFERED) as bench:
        await bench.enqueue(bench.job())
        yield bench


def after_power_cut(disk: Disk, folder: Path, how: str = "nothing") -> list[str]:
    """The jobs that are there when the power fails now, and nothing of what was not synced has reached the disk."""
    (folder / "data").mkdir(parents=True)
    images = Images(disk.tape)
    images.advance(len(disk.tape))
    images.make(folder / "data", how)
    with disk.aside():
        db = open_database(folder / "data" / "jobs.db", 2**20)
    try:
        assert db.execute("PRAGMA integrity_check").get == "ok"
        return [row[0] for row in db.execute("SELECT id FROM jobs ORDER BY id")]
    finally:
        db.close()
