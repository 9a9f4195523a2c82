"""Proves that a store is whole, by reading all of it; nothing is written.

What must hold is said by the statements that write (`statements` and its neighbours) and by the rules of the engine;
here it is asked of what was stored. Rows are streamed, and what has to be counted is counted in the order of an index,
so that the memory for it does not depend on the jobs.

Some of what looks wrong may be right, since a job in flight is stored as ready, and a dead job that is retried takes
neither keys nor budgets into account. So of jobs that share a unique key only those are wrong that can never have come
to it; the same holds for budgets. And a change of many jobs may be half carried out.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw

from zizq.engine.changes import Delete
from zizq.errors import ConfigError
from zizq.ids import is_id
from zizq.job import JobRecord
from zizq.store import rows
from zizq.store.findings import Checked, Findings
from zizq.store.flaws import JOB_COLUMNS, UNREADABLE
from zizq.store.sqlite.change_statements import decode_change, unless_pending
from zizq.store.sqlite.schema import MIGRATIONS, FolderLock, open_for_reading
from zizq.words import count

_CACHE_BYTES = 64 * 2**20
_STEP = 20_000
"""Jobs between two words of progress."""
_SCHEMA = "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL"


def check(root: Path, now: int, progress: Callable[[str], None]) -> Checked:
    """Read the store in a folder, which no server may be using.

    Args:
        root: The folder of the server.
        now: The wall clock, in Unix milliseconds.
        progress: Hears what is being done.

    Raises:
        ConfigError: When there is no store, it is in use, or it is of another version.
    """
    path = root / "data" / "jobs.db"
    if not path.is_file():
        raise ConfigError(f"there is no store in {root}: name its folder with --root-dir")
    lock = FolderLock(path.parent)
    try:
        db = open_for_reading(path, _CACHE_BYTES)
        try:
            return examine(db, now, progress)._replace(size=_size(path))
        finally:
            db.close()
    finally:
        lock.release()


def examine(db: apsw.Connection, now: int, progress: Callable[[str], None] = lambda told: None) -> Checked:
    """Read a store, which must not change meanwhile; its size is left at 0.

    Args:
        db: A connection to it.
        now: The wall clock, in Unix milliseconds.
        progress: Hears what is being done.
    """
    return _Check(db, now, progress).run()


def _size(path: Path) -> int:
    files = (path, path.with_name(f"{path.name}-wal"))
    return sum(file.stat().st_size for file in files if file.exists())


class _Check:
    """One look at a store."""

    def __init__(self, db: apsw.Connection, now: int, progress: Callable[[str], None]) -> None:
        self._db = db
        self._now = now
        self._progress = progress
        self._findings = Findings()
        self._schema: set[Any] | None = None
        self._unfinished = 0
        self._present = ""
        """A condition on jobs: that they are not deleted by a change that has still to reach them."""

    def run(self) -> Checked:
        """Look at everything."""
        steps = {
            "the file": self._check_file,
            "the schema": self._check_schema,
            "changes": self._check_changes,
            "counts": self._check_tally,
            "jobs": self._check_jobs,
            "errors": self._check_errors,
            "budgets": self._check_budgets,
            "unique keys": self._check_unique,
            "batch keys": self._check_batches,
            "crons": self._check_crons,
            "pauses": self._check_pauses,
        }
        self._attempt("tables", self._read_schema)
        if self._schema is None or self._schema:
            for name, step in steps.items():
                self._progress(f"checking {name}")
                self._attempt(name, step)
        return self._findings.checked(self._unfinished)

    def _attempt(self, name: str, step: Callable[[], None]) -> None:
        try:
            step()
        except (apsw.Error, ValueError) as error:
            # A damaged file may stop a question half-way; the others can still be asked.
            self._findings.add("file", f"{name}: cannot be read to the end ({type(error).__name__}: {error})")

    def _each(self, kind: str, text: str, sql: str, values: tuple[Any, ...] = ()) -> None:
        """Note a violation for each row of an answer, with the row put into a text."""
        for row in self._db.execute(sql, values):
            self._findings.add(kind, text.format(*row))

    # ── the file ──

    def _check_file(self) -> None:
        """Pages, and that each index agrees with its table."""
        for row in self._db.execute("PRAGMA integrity_check"):
            if row[0] != "ok":
                self._findings.add("file", f"file: {row[0]}")

    def _read_schema(self) -> None:
        self._schema = set(self._db.execute(_SCHEMA))

    def _check_schema(self) -> None:
        """Tables, indexes and triggers: those that a new store has."""
        with closing(apsw.Connection(":memory:")) as new:
            for script in MIGRATIONS:
                new.execute(script)
            wanted = set(new.execute(_SCHEMA))
        for kind, name in sorted({row[:2] for row in wanted ^ (self._schema or set())}):
            self._findings.add("schema", f"schema: {kind} {name!r} is missing, unknown, or not as it is to be")

    def _check_changes(self) -> None:
        """What is written down of a change of many jobs."""
        changes: list[Any] = self._db.execute("SELECT change FROM bulk").fetchall()
        if len(changes) > 1:
            self._findings.add(
                "bulk", f"bulk: {len(changes)} changes of many jobs are certain, and there is one at most"
            )
        for row in changes:
            try:
                self._present = unless_pending(isinstance(decode_change(row[0]), Delete))
            except UNREADABLE as error:
                self._findings.add("bulk", f"bulk: the change of many jobs cannot be read: {error}")
        for row in self._db.execute("SELECT id FROM pending"):
            self._unfinished += len(changes)
            if not is_id(str(row[0])):
                self._findings.add("pending", f"pending: {row[0]!r} is not 25 characters of [0-9a-z]")

    # ── jobs ──

    def _check_tally(self) -> None:
        """The counts by queue, type and status."""
        text = """SELECT queue, type, status, count(*),
                      coalesce((SELECT jobs FROM tally AS t
                                WHERE t.queue = jobs.queue AND t.type = jobs.type AND t.status = jobs.status), 0)
                  FROM jobs INDEXED BY place GROUP BY 1, 2, 3"""
        for row in self._db.execute(text):
            self._findings.count(*row)
        text = """SELECT queue, type, status, 0, jobs FROM tally AS t WHERE jobs <> 0 AND NOT EXISTS (
                      SELECT 1 FROM jobs INDEXED BY place
                      WHERE queue = t.queue AND type = t.type AND status = t.status)"""
        for row in self._db.execute(text):
            self._findings.count(*row)

    def _check_jobs(self) -> None:
        """Each job by itself, and what it has in other tables."""
        total = count(self._findings.jobs)
        db = self._db
        for number, row in enumerate(db.execute(f"SELECT {JOB_COLUMNS} FROM jobs ORDER BY id")):  # noqa: S608 - constant
            if not number % _STEP:
                self._progress(f"checking jobs, {count(number)} of {total}")
            try:
                self._check_job(row)
            except (TypeError, ValueError, AttributeError) as error:
                # A column takes whatever is put into it.
                self._findings.add("value", f"job {row[0]}: a value is of the wrong type ({error})")

    def _check_job(self, row: rows.Row) -> None:
        job = self._findings.job(row)
        if job is None:
            return
        if job.budgets:
            self._check_draws(job)
        if job.attempts:
            text = "SELECT count(*), coalesce(min(attempt), 1), coalesce(max(attempt), 0) FROM errors WHERE job_id = ?"
            errors: Any = self._db.execute(text, (job.id,)).fetchone()
            self._findings.errors(job, *errors)

    def _check_draws(self, job: JobRecord) -> None:
        """What is noted of the budgets that a job draws on."""
        noted: dict[str, Any] = {}
        for draw in job.budgets or ():
            text = "SELECT cost, finished FROM draws WHERE budget = ? AND id = ?"
            noted[draw.key] = self._db.execute(text, (draw.key, job.id)).fetchone()
        self._findings.draws(job, noted)

    def _check_errors(self) -> None:
        """Errors of jobs that are not there, or never failed."""
        self._each(
            "errors",
            "job {0}: it has errors, and {1}",
            """SELECT DISTINCT job_id, iif(jobs.id IS NULL, 'is not there', 'no attempts')
               FROM errors LEFT JOIN jobs ON jobs.id = job_id WHERE attempts IS NULL OR attempts = 0""",
        )

    # ── keys ──

    def _check_unique(self) -> None:
        """Jobs that have the same unique key although neither let the other in."""
        # One that failed may have been dead, and come back without a question.
        waits = f"status < 2 AND failed_at IS NULL {self._present}"
        stays = f"(purge_at IS NULL OR purge_at > ?) {self._present}"
        self._check_scope("a", "never finished", waits, ())
        self._check_scope("e", "exist", stays, (self._now,))
        self._each(
            "unique",
            "unique key {0!r}: the jobs {1} and {2} have it and never finished",
            f"""SELECT substr(a.key, 2), a.id, e.id
                FROM (SELECT key, id FROM jobs INDEXED BY keyed WHERE key >= 'a' AND key < 'b' AND {waits}) AS a
                JOIN (SELECT key, id FROM jobs INDEXED BY keyed WHERE key >= 'e' AND key < 'f' AND {waits}) AS e
                ON e.key = 'e' || substr(a.key, 2)""",  # noqa: S608 - constants
        )

    def _check_scope(self, scope: str, told: str, condition: str, values: tuple[Any, ...]) -> None:
        """Jobs of one scope, whose keys all begin with its letter."""
        self._each(
            "unique",
            f"unique key {{0!r}}: {{1}} jobs have it and {told}, among them {{2}} and {{3}}",
            f"""SELECT substr(key, 2), count(*), min(id), max(id) FROM jobs INDEXED BY keyed
                WHERE key >= '{scope}' AND key < char(unicode('{scope}') + 1) AND {condition}
                GROUP BY key HAVING count(*) > 1""",  # noqa: S608 - constants
            values,
        )

    def _check_batches(self) -> None:
        """Jobs that wait under the same batch key."""
        self._each(
            "batch",
            "batch key {0!r}: {1} jobs wait under it, among them {2} and {3}",
            """SELECT substr(key, 2), count(*), min(id), max(id) FROM jobs INDEXED BY keyed
               WHERE key >= 'b' AND key < 'c' GROUP BY key HAVING count(*) > 1""",
        )

    # ── budgets and crons ──

    def _check_budgets(self) -> None:
        """Each budget, and what is drawn on it."""
        for row in self._db.execute("SELECT key, budget, state FROM budgets"):
            self._findings.budget(*row)
        # A dead job may come back when its budget is gone or smaller.
        text = """SELECT budget, count(*), max(cost) FROM draws WHERE finished = 0
                  AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = draws.id AND failed_at IS NOT NULL)
                  GROUP BY budget"""
        for key, jobs, cost in self._db.execute(text):
            self._findings.drawn(key, cost, f"{jobs} unfinished jobs")
        self._each(
            "draws",
            "draw of job {1} on {0!r}: {2}",
            """SELECT budget, draws.id, iif(jobs.id IS NULL, 'there is no such job', 'the job does not draw on it')
               FROM draws LEFT JOIN jobs ON jobs.id = draws.id
               WHERE jobs.id IS NULL OR NOT instr(',' || jobs.budgets || ',', ',' || draws.budget || ',')""",
        )

    def _check_crons(self) -> None:
        """Each group and entry, and what is noted of them in columns."""
        for row in self._db.execute("SELECT name, settings FROM crons"):
            self._findings.cron(*row)
        text = """SELECT cron, name, next_at, entry, EXISTS (SELECT 1 FROM crons WHERE crons.name = cron)
                  FROM cron_entries"""
        for row in self._db.execute(text):
            self._check_entry(*row)
        self._each(
            "cron_draws",
            "cron entry {0}/{1}: there is no such entry, and draws of it are noted",
            """SELECT DISTINCT cron, name FROM cron_draws AS d WHERE NOT EXISTS (
                   SELECT 1 FROM cron_entries AS e WHERE e.cron = d.cron AND e.name = d.name)""",
        )

    def _check_entry(self, cron: str, name: str, next_at: int | None, stored: bytes, has_group: int) -> None:
        if not has_group:
            self._findings.add("group", f"cron entry {cron}/{name}: its group is not there")
        draws: Any = self._db.execute("SELECT budget, cost FROM cron_draws WHERE cron = ? AND name = ?", (cron, name))
        self._findings.entry(cron, name, next_at, stored, dict(draws.fetchall()))

    def _check_pauses(self) -> None:
        """Each paused queue: a name that it can have, and when it was paused."""
        for row in self._db.execute("SELECT queue, paused_at FROM paused_queues"):
            self._findings.pause(*row)
