"""A store remembers its format, and a newer program brings it forward: wholly or not at all."""

from __future__ import annotations

import io
import logging
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from zizq.errors import ConfigError
from zizq.store.archive import pack
from zizq.store.sqlite.restoring import Restoring
from zizq.store.sqlite.schema import MIGRATIONS, open_database

CACHE = 2**20
NEXT = "ALTER TABLE jobs ADD COLUMN colour TEXT; UPDATE jobs SET colour = 'red';"
BREAKS = "CREATE TABLE more (x); CREATE TABLE jobs (id);"
DIES = """
import os, signal, sys
from pathlib import Path
import apsw
from zizq.store.sqlite.schema import MIGRATIONS, open_database

def die():
    os.kill(os.getpid(), signal.SIGKILL)

apsw.connection_hooks.append(lambda db: db.create_scalar_function("die", die, 0))
open_database(Path(sys.argv[1]), 2**20, [*MIGRATIONS, sys.argv[2]])
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A store of today's format, with a job."""
    path = tmp_path / "jobs.db"
    with closing(open_database(path, CACHE)) as db:
        db.execute(
            "INSERT INTO jobs (id, queue, type, priority, status, ready_at, payload) VALUES ('a','q','t',1,1,0,x'c0')"
        )
    return path


def columns(path: Path) -> list[str]:
    with closing(apsw.Connection(str(path))) as db:
        return [row[1] for row in db.execute("PRAGMA table_info(jobs)")]


def test_a_store_of_an_older_format_is_brought_forward(old: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "zizq.store")
    with closing(open_database(old, CACHE, [*MIGRATIONS, NEXT, "CREATE TABLE more (x)"])) as db:
        assert db.execute("SELECT id, colour FROM jobs").fetchall() == [("a", "red")]
        assert db.pragma("user_version") == len(MIGRATIONS) + 2
    [record] = caplog.records
    assert record.message == "migrated store"
    assert record.fields == {"from": len(MIGRATIONS), "to": len(MIGRATIONS) + 2}  # type: ignore[attr-defined]


def test_a_new_store_is_not_called_migrated(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "zizq.store")
    open_database(tmp_path / "jobs.db", CACHE).close()
    assert not caplog.records


def test_what_ran_is_not_run_again(old: Path) -> None:
    for _ in range(2):
        open_database(old, CACHE, [*MIGRATIONS, NEXT]).close()
    assert columns(old).count("colour") == 1


def test_a_migration_that_fails_leaves_the_old_format(old: Path) -> None:
    with pytest.raises(ConfigError, match="already exists"):
        open_database(old, CACHE, [*MIGRATIONS, NEXT, BREAKS])
    assert "colour" not in columns(old)
    with closing(open_database(old, CACHE)) as db:
        assert db.execute("SELECT id FROM jobs").fetchall() == [("a",)]


def test_a_crash_within_a_migration_leaves_the_old_format(old: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", DIES, str(old), f"{NEXT} SELECT die();"], check=False)
    assert ended.returncode == -signal.SIGKILL
    with closing(open_database(old, CACHE)) as db:
        assert db.execute("SELECT id FROM jobs").fetchall() == [("a",)]
    assert "colour" not in columns(old)


def test_a_newer_format_is_refused_and_left_alone(old: Path) -> None:
    open_database(old, CACHE, [*MIGRATIONS, NEXT]).close()
    before = old.read_bytes()
    with pytest.raises(
        ConfigError, match=f"has format {len(MIGRATIONS) + 1}, this zizq knows {len(MIGRATIONS)}.*newer"
    ):
        open_database(old, CACHE)
    assert old.read_bytes() == before


def test_a_backup_of_an_older_format_is_restored_and_brought_forward_at_the_next_start(
    old: Path, tmp_path: Path
) -> None:
    with closing(apsw.Connection(str(old))) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    archive = io.BytesIO(b"".join(pack([old], 0)))
    with Restoring(tmp_path / "new", force=False, known=len(MIGRATIONS) + 1) as steps:
        steps.unpack(archive)
        # Made by hand, it is not whole, which only a check in today's format would see.
        assert steps.check(0, lambda text: None) == []
        assert steps.replace(0) is None
    with closing(open_database(tmp_path / "new" / "data" / "jobs.db", CACHE, [*MIGRATIONS, NEXT])) as db:
        assert db.execute("SELECT id, colour FROM jobs").fetchall() == [("a", "red")]


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with closing(apsw.Connection(str(path))) as db:
        db.execute("CREATE TABLE theirs (x)")
    with pytest.raises(ConfigError, match="another program"):
        open_database(path, CACHE)
