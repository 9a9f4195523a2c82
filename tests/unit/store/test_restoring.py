"""Restores: who is kept out meanwhile, and whose the data is afterwards."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from zizq.errors import ConfigError
from zizq.store.archive import pack
from zizq.store.sqlite.restoring import Restoring
from zizq.store.sqlite.schema import FolderLock, open_database


@pytest.fixture
def archive(tmp_path: Path) -> io.BytesIO:
    path = tmp_path / "made" / "jobs.db"
    path.parent.mkdir()
    db = open_database(path, 2**20)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    db.close()
    return io.BytesIO(b"".join(pack([path], 0)))


def test_a_store_in_use_is_told_of_before_anything_is_unpacked(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path / "root" / "data")
    with pytest.raises(ConfigError, match="in use by another server"), Restoring(tmp_path / "root", force=True):
        pytest.fail("it should not have got so far")
    lock.release()
    assert [one.name for one in (tmp_path / "root").iterdir()] == ["data"]


def test_no_server_starts_on_a_store_that_is_being_replaced(tmp_path: Path, archive: io.BytesIO) -> None:
    root = tmp_path / "root"
    (root / "data").mkdir(parents=True)
    with Restoring(root, force=True) as steps:
        steps.unpack(archive)
        with pytest.raises(ConfigError, match="in use"):
            FolderLock(root / "data")
        assert steps.replace(7) == root / "data-before-7"
    FolderLock(root / "data").release()


def test_a_store_that_a_server_has_made_meanwhile_is_not_replaced(tmp_path: Path, archive: io.BytesIO) -> None:
    root = tmp_path / "root"
    with Restoring(root, force=False) as steps:
        steps.unpack(archive)
        lock = FolderLock(root / "data")
        with pytest.raises(ConfigError, match="in use"):
            steps.replace(7)
        lock.release()
    assert [one.name for one in root.iterdir()] == ["data"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_restores_is_the_servers(tmp_path: Path, archive: io.BytesIO) -> None:
    root = tmp_path / "root"
    root.mkdir()
    os.chown(root, 12345, 12346)
    with Restoring(root, force=False) as steps:
        steps.unpack(archive)
        steps.replace(7)
    made = (root / "data", root / "data" / "jobs.db")
    assert {(one.stat().st_uid, one.stat().st_gid) for one in made} == {(12345, 12346)}
