"""Restores: who is kept out meanwhile, and whose the data is afterwards."""

from __future__ import annotations

import asyncio
import io
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from zizq.errors import ConfigError
from zizq.store.archive import pack
from zizq.store.base import Silence
from zizq.store.opening import StoreOptions, make_store
from zizq.store.sqlite.restoring import Restoring
from zizq.store.sqlite.schema import RESTORING, FolderLock, open_database
from zizq.testing.clock import LoadedDice


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


def test_of_two_restores_at_a_time_one_is_refused_and_harms_nothing(tmp_path: Path, archive: io.BytesIO) -> None:
    root = tmp_path / "root"
    with Restoring(root, force=False) as steps:
        steps.unpack(archive)
        with (
            pytest.raises(ConfigError, match=r"restore\.tmp is in use by another restore"),
            Restoring(root, force=False),
        ):
            pytest.fail("it should not have got so far")
        steps.replace(7)
    assert [one.name for one in root.iterdir()] == ["data"]


DIES = """
import os, signal, sys
from pathlib import Path
from zizq.store.sqlite.restoring import Restoring

root, archive, event, after = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])

def die_at(name, arguments):
    global after
    if name == event and "restore.tmp" in repr(arguments) or name == event == "os.rename":
        after -= 1
        if after < 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(die_at)
with Restoring(root, force=True) as steps, archive.open("rb") as file:
    steps.unpack(file)
    assert steps.check(0, lambda text: None) == []
    steps.replace(7)
"""


async def start(root: Path) -> None:
    """Open a store as a server does, and close it."""
    store = make_store(root, StoreOptions(), LoadedDice())
    await store.open(Silence())
    await store.close()


POINTS = [("os.mkdir", 0), ("os.mkdir", 1), ("open", 0), ("open", 2), ("os.rename", 0)]
CASES = [(*point, had) for point in POINTS for had in (True, False)] + [("os.rename", 1, True)]


@pytest.mark.parametrize(("event", "after", "had_data"), CASES)
def test_a_restore_that_is_killed_loses_nothing_and_no_server_begins_anew_for_it(
    tmp_path: Path, archive: io.BytesIO, event: str, after: int, had_data: bool
) -> None:
    root, path = tmp_path / "root", tmp_path / "archive"
    path.write_bytes(archive.getvalue())
    root.mkdir()
    if had_data:
        (root / "data").mkdir()
        (root / "data" / "jobs.db").write_bytes(b"")
        (root / "data" / "precious").write_text("x")
    ended = subprocess.run([sys.executable, "-c", DIES, str(root), str(path), event, str(after)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert bool(list(root.glob("data*/precious"))) is had_data
    if (root / "data").exists() or not (root / RESTORING).exists():
        asyncio.run(start(root))
    else:
        with pytest.raises(ConfigError, match=r"a restore into .* goes on, or broke off"):
            asyncio.run(start(root))
        assert not (root / "data").exists()
    with Restoring(root, force=True) as steps:
        steps.unpack(archive)
        steps.replace(8)
    asyncio.run(start(root))
    assert not (root / RESTORING).exists()
    assert bool(list(root.glob("data*/precious"))) is had_data


def test_a_disk_that_is_full_in_the_midst_of_a_restore_leaves_all_as_it_was(
    tmp_path: Path, archive: io.BytesIO
) -> None:
    root = tmp_path / "root"
    (root / "data").mkdir(parents=True)
    (root / "data" / "precious").write_text("x")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Restoring(root, force=True) as steps:
        # What is not written is refused as by a disk that is full.
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))
        try:
            with pytest.raises(ConfigError, match=r"cannot write .*restore\.tmp/data/jobs\.db: File too large"):
                steps.unpack(archive)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(one.name for one in root.rglob("*")) == ["data", "lock", "precious"]


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
