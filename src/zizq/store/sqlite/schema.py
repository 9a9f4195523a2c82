"""The database file: its tables, its settings, and the lock that keeps a second server out.

To change the tables: append a migration, never edit one that was released. Each runs once, in a transaction; the
number of migrations that ran is kept in `user_version`.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw

from zizq.errors import ConfigError
from zizq.store.removal import sync_folder
from zizq.store.sqlite.mending import rewrite

log = logging.getLogger("zizq.store")

APPLICATION_ID = 0x7A697A71  # "zizq"
PAGE_SIZE = 4096
"""Of new stores; those from before keep theirs. A commit of one job writes a page of each table and index that it
touches: a fifth less time than with pages of 8 KiB, and all else the same (docs/decisions/speed.md)."""
BUSY_MS = 5000
"""How long a connection waits for a lock that another one has."""
RESTORING = "restore.tmp"
"""The folder beside the data where a restore unpacks; it is gone when the restore is over."""
STATEMENTS = 512
"""Prepared statements that a connection keeps: a statement for each number of rows that comes up."""

MIGRATIONS = [
    """
    CREATE TABLE jobs (
        id TEXT PRIMARY KEY,
        queue TEXT NOT NULL,
        type TEXT NOT NULL,
        priority INTEGER NOT NULL,
        status INTEGER NOT NULL,         -- rows.STATUS; a job in flight is stored as ready
        ready_at INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        payload BLOB NOT NULL,           -- MessagePack
        budgets TEXT NOT NULL DEFAULT '',  -- purse.budget_keys: jobs of one queue with the same ones form a lane
        key TEXT,                        -- rows.key_of: what other jobs of its unique or batch key are found by
        options BLOB,                    -- rows.Options, or NULL where a job sets none
        dequeued_at INTEGER,
        failed_at INTEGER,
        completed_at INTEGER,
        purge_at INTEGER,
        deaths INTEGER NOT NULL DEFAULT 0  -- workers that died while they held it
    ) WITHOUT ROWID;
    CREATE INDEX ready ON jobs (queue, budgets, priority, id) WHERE status = 1;
    CREATE INDEX due ON jobs (ready_at, id) WHERE status = 0;
    CREATE INDEX keyed ON jobs (key, status, id) WHERE key IS NOT NULL;
    CREATE INDEX purge ON jobs (purge_at, queue, type, status) WHERE purge_at IS NOT NULL;
    -- For lists, in the order of identifiers: one range for each queue, type and status.
    CREATE INDEX place ON jobs (queue, type, status, id);
    CREATE TABLE budgets (
        key TEXT PRIMARY KEY,
        budget BLOB NOT NULL,            -- MessagePack of a budget.Budget
        state BLOB                       -- MessagePack of a bucket.BucketState; NULL for a full one
    ) WITHOUT ROWID;
    -- Which jobs draw on a budget, and how much; finished ones do not hold it back any more.
    CREATE TABLE draws (
        budget TEXT NOT NULL,
        id TEXT NOT NULL,
        cost INTEGER NOT NULL,
        finished INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (budget, id)
    ) WITHOUT ROWID;
    -- Found by budget and job: a second index, by job alone, would cost more than the few words of SQL that do without.
    CREATE TRIGGER draw_removed AFTER DELETE ON jobs WHEN old.budgets <> '' AND NOT instr(old.budgets, ',') BEGIN
        DELETE FROM draws WHERE budget = old.budgets AND id = old.id;
    END;
    CREATE TRIGGER draws_removed AFTER DELETE ON jobs WHEN instr(old.budgets, ',') BEGIN
        DELETE FROM draws WHERE id = old.id
        AND budget IN (SELECT value FROM json_each('[' || replace(json_quote(old.budgets), ',', '","') || ']'));
    END;
    CREATE TRIGGER draws_changed AFTER UPDATE OF budgets ON jobs WHEN old.budgets <> '' BEGIN
        DELETE FROM draws WHERE id = old.id
        AND budget IN (SELECT value FROM json_each('[' || replace(json_quote(old.budgets), ',', '","') || ']'));
    END;
    CREATE TRIGGER draws_moved AFTER UPDATE OF status ON jobs WHEN new.budgets <> '' BEGIN
        UPDATE draws SET finished = new.status >= 2 WHERE id = new.id
        AND budget IN (SELECT value FROM json_each('[' || replace(json_quote(new.budgets), ',', '","') || ']'));
    END;
    CREATE TABLE errors (
        job_id TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        message TEXT NOT NULL,
        error_type TEXT,
        backtrace TEXT,
        dequeued_at INTEGER NOT NULL,
        failed_at INTEGER NOT NULL,
        PRIMARY KEY (job_id, attempt)
    ) WITHOUT ROWID;
    -- How many jobs there are of each queue, type and status, so that no question of how many reads the jobs, and every
    -- list knows where to look. Kept by triggers, so that no statement can forget it; rows that came down to none are
    -- swept with the expired jobs.
    CREATE TABLE tally (
        queue TEXT NOT NULL,
        type TEXT NOT NULL,
        status INTEGER NOT NULL,
        jobs INTEGER NOT NULL,
        PRIMARY KEY (queue, type, status)
    ) WITHOUT ROWID;
    CREATE TRIGGER job_added AFTER INSERT ON jobs BEGIN
        INSERT INTO tally VALUES (new.queue, new.type, new.status, 1) ON CONFLICT DO UPDATE SET jobs = jobs + 1;
    END;
    CREATE TRIGGER job_removed AFTER DELETE ON jobs BEGIN
        UPDATE tally SET jobs = jobs - 1 WHERE queue = old.queue AND type = old.type AND status = old.status;
    END;
    CREATE TRIGGER job_moved AFTER UPDATE OF queue, status ON jobs BEGIN
        UPDATE tally SET jobs = jobs - 1 WHERE queue = old.queue AND type = old.type AND status = old.status;
        INSERT INTO tally VALUES (new.queue, new.type, new.status, 1) ON CONFLICT DO UPDATE SET jobs = jobs + 1;
    END;
    -- A change of so many jobs that it takes several commits: which jobs are still to be changed, and, once it is
    -- certain, how. There is one at a time.
    CREATE TABLE pending (id TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE bulk (
        change BLOB NOT NULL,            -- MessagePack of an engine.changes.Change
        now INTEGER NOT NULL
    );
    CREATE TABLE paused_queues (
        queue TEXT PRIMARY KEY,          -- whether or not it has jobs
        paused_at INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE crons (
        name TEXT PRIMARY KEY,
        settings BLOB NOT NULL           -- MessagePack of a cron.CronGroup without its entries
    ) WITHOUT ROWID;
    CREATE TABLE cron_entries (
        cron TEXT NOT NULL,
        name TEXT NOT NULL,
        next_at INTEGER,                 -- as in the entry; NULL where it never fires again
        entry BLOB NOT NULL,             -- MessagePack of a cron.CronEntry
        PRIMARY KEY (cron, name)
    ) WITHOUT ROWID;
    -- What the jobs of cron entries draw, for budgets that are changed or deleted.
    CREATE TABLE cron_draws (
        cron TEXT NOT NULL,
        name TEXT NOT NULL,
        budget TEXT NOT NULL,
        cost INTEGER NOT NULL,
        PRIMARY KEY (cron, name, budget)
    ) WITHOUT ROWID;
    CREATE INDEX cron_drawing ON cron_draws (budget, cost);
    CREATE TRIGGER cron_draws_removed AFTER DELETE ON cron_entries BEGIN
        DELETE FROM cron_draws WHERE cron = old.cron AND name = old.name;
    END;
    CREATE INDEX next_firing ON cron_entries (next_at) WHERE next_at IS NOT NULL;
    """,
]


def connect(
    path: Path, cache_bytes: int, flags: int = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
) -> apsw.Connection:
    """A connection for reading or writing, with our settings."""
    db = apsw.Connection(str(path), flags, statementcachesize=STATEMENTS)
    with closed_on_error(db):
        # The last one to close would copy the log into the database, even one of which nobody knows what is on disk.
        # Only the writer may, who does know (`Checkpoints.close`).
        db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        db.set_busy_timeout(BUSY_MS)
        db.execute(f"PRAGMA cache_size = -{max(1, cache_bytes // 1024)}")
        db.execute("PRAGMA temp_store = MEMORY")
    return db


@contextmanager
def closed_on_error(db: apsw.Connection) -> Iterator[None]:
    """Close a connection where the block fails: as long as one is open, the next believes what it knew of the log."""
    try:
        yield
    except BaseException:
        with suppress(apsw.Error):
            db.close()
        raise


def open_database(path: Path, cache_bytes: int, migrations: Sequence[str] = MIGRATIONS) -> apsw.Connection:
    """The writing connection to a database that is up to date, made when it is missing.

    Args:
        path: The database file.
        cache_bytes: Memory for its pages.
        migrations: What brings it up to date.

    Raises:
        ConfigError: When the file is not ours, is newer than this program, or cannot be opened.
    """
    try:
        rewrite(path)
        db = connect(path, cache_bytes)
        with closed_on_error(db):
            db.execute(f"PRAGMA page_size = {PAGE_SIZE}")
            # Has to stand before the first table: without it, room is never given back to the disk.
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            db.execute("PRAGMA journal_mode = WAL")
            _migrate(db, path, migrations)
    except apsw.Error as error:
        raise ConfigError(f"cannot open the store {path}: {error}") from error
    return db


def open_for_reading(path: Path, cache_bytes: int) -> apsw.Connection:
    """A connection that changes neither the database nor its log, not even when it closes.

    Raises:
        ConfigError: When the file is not ours, is of another version, or cannot be read.
    """
    try:
        db = connect(path, cache_bytes, apsw.SQLITE_OPEN_READONLY)
        with closed_on_error(db):
            done = format_of(db, path)
            if done < len(MIGRATIONS) and _one(db, "SELECT count(*) FROM sqlite_schema"):
                raise ConfigError(f"{path} has format {done}, this zizq reads {len(MIGRATIONS)}: start its server once")
    except apsw.Error as error:
        raise ConfigError(f"cannot read the store {path}: {error}") from error
    return db


def format_of(db: apsw.Connection, path: Path, known: int = len(MIGRATIONS)) -> int:
    """How many migrations a database has seen that is ours, or empty."""
    owner, done = _one(db, "PRAGMA application_id"), _one(db, "PRAGMA user_version")
    if owner not in (0, APPLICATION_ID) or (owner == 0 and _one(db, "SELECT count(*) FROM sqlite_schema")):
        raise ConfigError(f"{path} is a database of another program: choose another --root-dir")
    if done > known:
        raise ConfigError(f"{path} has format {done}, this zizq knows {known}: use a newer zizq")
    return done


def _migrate(db: apsw.Connection, path: Path, migrations: Sequence[str]) -> None:
    done, known = format_of(db, path, len(migrations)), len(migrations)
    if done == known:
        return
    db.execute("PRAGMA synchronous = FULL")
    with db:
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        for script in migrations[done:]:
            db.execute(script)
        db.execute(f"PRAGMA user_version = {known}")
    if done:
        log.info("migrated store", extra={"fields": {"from": done, "to": known}})


def _one(db: apsw.Connection, sql: str) -> int:
    value = db.execute(sql).get
    return int(value)


def check_restored(folder: Path) -> None:
    """See to it that no new database takes the place of one that was to be restored.

    Args:
        folder: The folder of the data.

    Raises:
        ConfigError: When a restore goes on there, or broke off, and no data is there yet.
    """
    if not folder.exists() and folder.with_name(RESTORING).exists():
        raise ConfigError(
            f"a restore into {folder.parent} goes on, or broke off: wait for it, or do it again (zizq restore --force)"
        )


def _make(folder: Path) -> None:
    """Make a folder that a power cut does not take back; SQLite makes certain only of what is in it."""
    missing = [one for one in folder.parents if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    # Two in any case: whoever made them may have died before it was certain.
    for one in {folder, *folder.parents[:2], *missing, *(parent.parent for parent in missing)}:
        sync_folder(one)


class FolderLock:
    """Holds a folder for one process; the system lets go of it when the process ends, however it ends."""

    def __init__(self, folder: Path, others: str = "another server") -> None:
        """Make the folder and lock it.

        Args:
            folder: The folder.
            others: Who else may hold it.

        Raises:
            ConfigError: When the folder cannot be made, or another process holds it.
        """
        try:
            _make(folder)
            self._file = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise ConfigError(f"cannot use {folder} as a store: {error}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise ConfigError(f"{folder} is in use by {others}: stop it or choose another --root-dir") from error

    def release(self) -> None:
        """Let go of the folder."""
        os.close(self._file)
