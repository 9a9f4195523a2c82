"""Reading connections of a store on SQLite."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace

import apsw
import pytest

from zizq.store.sqlite.readers import Readers

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


async def test_a_question_that_nobody_waits_for_any_more_is_stopped(tmp_path: Path) -> None:
    apsw.Connection(str(tmp_path / "db")).close()
    readers = Readers(tmp_path / "db", 2**20, 1, SimpleNamespace(lost=None))  # type: ignore[arg-type]
    begun = threading.Event()

    def endless(db: apsw.Connection) -> object:
        begun.set()
        return db.execute(ENDLESS).get

    asked = asyncio.create_task(readers.read(endless))
    await asyncio.to_thread(begun.wait)
    asked.cancel()
    async with asyncio.timeout(30):
        with pytest.raises(asyncio.CancelledError):
            await asked
        # The one connection that there is serves the next.
        assert await readers.read(lambda db: db.execute("SELECT 1").get) == 1
        await readers.stop()
