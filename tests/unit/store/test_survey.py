"""A store, seen from outside."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import apsw

from zizq.clock import SystemDice
from zizq.store.base import Silence
from zizq.store.opening import StoreOptions, make_store, survey_store
from zizq.store.sqlite.schema import MIGRATIONS


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_where_there_is_no_store_there_are_no_facts(tmp_path):
    assert survey_store(tmp_path / "missing") is None
    assert survey_store(tmp_path) is None
    assert files(tmp_path) == set()


async def test_an_open_store_tells_who_has_it(tmp_path):
    store = make_store(tmp_path, StoreOptions(), SystemDice())
    await store.open(Silence())
    facts = survey_store(tmp_path)
    assert (facts.error, facts.format, facts.known_format) == (None, len(MIGRATIONS), len(MIGRATIONS))
    assert facts.log_size == (tmp_path / "data" / "jobs.db-wal").stat().st_size
    if sys.platform == "linux":
        assert facts.holder == os.getpid()
    await store.close()


async def test_a_closed_store_is_left_as_it_is(tmp_path):
    store = make_store(tmp_path, StoreOptions(), SystemDice())
    await store.open(Silence())
    await store.close()
    before = files(tmp_path)
    facts = survey_store(tmp_path)
    assert (facts.holder, facts.format, facts.log_size) == (None, len(MIGRATIONS), 0)
    assert facts.size == (tmp_path / "data" / "jobs.db").stat().st_size
    assert files(tmp_path) == before


def test_free_pages_and_older_formats_are_told(tmp_path):
    (tmp_path / "data").mkdir()
    db = apsw.Connection(str(tmp_path / "data" / "jobs.db"))
    db.execute("PRAGMA application_id = 0x7A697A71; CREATE TABLE t (a); INSERT INTO t VALUES (zeroblob(100000))")
    db.execute("DROP TABLE t")
    db.close()
    facts = survey_store(tmp_path)
    assert (facts.error, facts.format) == (None, 0)
    assert facts.free > 90_000
    assert facts.size > facts.free
