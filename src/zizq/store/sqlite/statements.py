"""What the writer does to the database, each for many calls at once.

A step takes the calls of one kind that share a commit and returns an outcome for each, in their order. Statements
carry many rows: with a busy thread beside it, a statement a row starves on the interpreter's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Any, NamedTuple

import apsw

from zizq.engine.decide import Settled
from zizq.engine.window import Key
from zizq.job import JobRecord
from zizq.store.sqlite import rows

_MOST = 128
"""Rows a statement at most. A group of calls should be one statement: every statement lets go of the interpreter's
lock and, beside a busy event loop, waits for its turn to get it back."""


class Step(IntEnum):
    """The kinds of calls, in the order in which they run inside a transaction."""

    ENQUEUE = 0
    SETTLE = 1
    RELEASE = 2
    PROMOTE = 3
    DELETE = 4
    REAP = 5
    RESET = 6
    REFILL = 7


class Release(NamedTuple):
    """A job that goes back to ready, and when it had been taken."""

    job_id: str
    dequeued_at: int | None


class Refill(NamedTuple):
    """A question for the ready jobs of a queue from a key on."""

    queue: str
    edge: Key
    limit: int


class Refilled(NamedTuple):
    """Its answer: jobs in order, and where the rest begins."""

    jobs: list[JobRecord]
    edge: Key | None


class Statements:
    """The steps, on one connection, inside a transaction that the writer opens and ends."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._steps: dict[Step, Callable[[Sequence[Any]], Sequence[Any]]] = {
            Step.ENQUEUE: self.enqueue,
            Step.SETTLE: self.settle,
            Step.RELEASE: self.release,
            Step.PROMOTE: self.promote,
            Step.DELETE: self.delete,
            Step.REAP: self.reap,
            Step.RESET: self.reset,
            Step.REFILL: self.refill,
        }

    def ready_queues(self) -> list[str]:
        """The queues that hold ready jobs."""
        return [row[0] for row in self._db.execute("SELECT queue FROM tally WHERE status = 1 AND jobs > 0")]

    def is_one(self, step: Step, arguments: Sequence[Any]) -> bool:
        """Whether calls of a step are carried out by a single statement, which needs no transaction around it."""
        if step is Step.ENQUEUE:
            return sum(map(len, arguments)) <= _MOST
        if step is Step.SETTLE:
            settled = [one for call in arguments for one in call]
            return len(settled) <= _MOST and not any(one.kept or one.job.attempts for one in settled)
        return step is Step.REFILL

    def run(self, step: Step, arguments: Sequence[Any]) -> Sequence[Any]:
        """Carry out the calls of a step; returns an outcome for each."""
        return self._steps[step](arguments)

    def enqueue(self, calls: Sequence[Sequence[JobRecord]]) -> list[None]:
        """Insert new jobs."""
        columns = "id, queue, type, priority, status, ready_at, payload, options"
        all_jobs = [job for jobs in calls for job in jobs]
        for chunk in _chunks(all_jobs):
            values: list[Any] = []
            for job in chunk:
                values += rows.to_row(job)
            self._db.execute(_insert(columns, len(chunk)), values)
        return [None] * len(calls)

    def settle(self, calls: Sequence[Sequence[Settled]]) -> list[None]:
        """Carry out what was decided for jobs in flight."""
        settled = [one for call in calls for one in call]
        gone = [one.job for one in settled if not one.kept]
        self._remove([job.id for job in gone], [job.id for job in gone if job.attempts])
        for one in settled:
            if one.kept:
                self._keep(one)
        return [None] * len(calls)

    def release(self, calls: Sequence[Sequence[Release]]) -> list[None]:
        """Note when released jobs had been taken; they are stored as ready all the while."""
        for call in calls:
            for one in call:
                self._db.execute("UPDATE jobs SET dequeued_at = ? WHERE id = ?", (one.dequeued_at, one.job_id))
        return [None] * len(calls)

    def promote(self, calls: Sequence[tuple[int, int]]) -> list[list[JobRecord]]:
        """Make due jobs ready."""
        sql = f"""UPDATE jobs SET status = 1 WHERE id IN (
                      SELECT id FROM jobs INDEXED BY due WHERE status = 0 AND ready_at <= ?
                      ORDER BY ready_at, id LIMIT ?)
                  RETURNING {rows.LIGHT_ONLY}"""  # noqa: S608 - a constant
        return [[rows.to_job(row) for row in self._db.execute(sql, call)] for call in calls]

    def delete(self, calls: Sequence[Sequence[str]]) -> list[list[JobRecord]]:
        """Remove jobs by identifier; the outcome is those that were there, with payloads left out."""
        outcomes = []
        for ids in calls:
            removed: list[JobRecord] = []
            for chunk in _chunks(ids):
                sql = f"DELETE FROM jobs WHERE id IN ({_marks(len(chunk))}) RETURNING {rows.LIGHT_ONLY}"  # noqa: S608
                removed += [rows.to_job(row) for row in self._db.execute(sql, chunk)]
            self._forget(removed)
            outcomes.append(removed)
        return outcomes

    def reap(self, calls: Sequence[tuple[int, int]]) -> list[int]:
        """Remove finished jobs past their retention."""
        sql = f"""DELETE FROM jobs WHERE id IN (
                      SELECT id FROM jobs INDEXED BY purge WHERE purge_at <= ? ORDER BY purge_at LIMIT ?)
                  RETURNING {rows.LIGHT_ONLY}"""  # noqa: S608 - a constant
        outcomes = []
        for call in calls:
            removed = [rows.to_job(row) for row in self._db.execute(sql, call)]
            self._forget(removed)
            outcomes.append(len(removed))
        self._db.execute("DELETE FROM tally WHERE jobs = 0")
        return outcomes

    def reset(self, calls: Sequence[None]) -> list[None]:
        """Remove everything."""
        # Without triggers a table is emptied at once and not row by row.
        self._db.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
        try:
            for table in ("jobs", "errors", "tally"):
                self._db.execute(f"DELETE FROM {table}")  # noqa: S608 - a constant
        finally:
            self._db.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 1)
        return [None] * len(calls)

    def refill(self, calls: Sequence[Refill]) -> list[Refilled]:
        """Read the ready jobs of queues from their edges on."""
        # The row (priority, id) compares as one value, so that the read starts in the index just at the edge.
        sql = f"""SELECT {rows.LIGHT_ONLY} FROM jobs INDEXED BY ready
                  WHERE status = 1 AND queue = ? AND (priority, id) >= (?, ?)
                  ORDER BY priority, id LIMIT ?"""  # noqa: S608 - a constant
        outcomes = []
        for queue, edge, limit in calls:
            found = [rows.to_job(row) for row in self._db.execute(sql, (queue, *edge, limit + 1))]
            beyond = (found[limit].priority, found[limit].id) if len(found) > limit else None
            outcomes.append(Refilled(found[:limit], beyond))
        return outcomes

    def _keep(self, one: Settled) -> None:
        job, error = one.job, one.error
        self._db.execute(
            """UPDATE jobs SET status = ?, ready_at = ?, attempts = ?, dequeued_at = ?, failed_at = ?,
                   completed_at = ?, purge_at = ? WHERE id = ?""",
            (
                rows.STATUS[job.status],
                job.ready_at,
                job.attempts,
                job.dequeued_at,
                job.failed_at,
                job.completed_at,
                job.purge_at,
                job.id,
            ),
        )
        if error is not None:
            self._db.execute(
                "INSERT INTO errors VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    job.id,
                    error.attempt,
                    error.message,
                    error.error_type,
                    error.backtrace,
                    error.dequeued_at,
                    error.failed_at,
                ),
            )

    def _remove(self, ids: Sequence[str], failed_ids: Sequence[str]) -> None:
        for table, column, some in (("jobs", "id", ids), ("errors", "job_id", failed_ids)):
            for chunk in _chunks(some):
                self._db.execute(_delete(table, column, len(chunk)), chunk)

    def _forget(self, removed: Sequence[JobRecord]) -> None:
        self._remove([], [job.id for job in removed if job.attempts])


def _chunks(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), _MOST):
        yield values[start : start + _MOST]


@lru_cache(maxsize=4 * _MOST)
def _insert(columns: str, count: int) -> str:
    row = f"({_marks(columns.count(',') + 1)})"
    return f"INSERT INTO jobs ({columns}) VALUES {', '.join([row] * count)}"  # noqa: S608 - constants


@lru_cache(maxsize=4 * _MOST)
def _delete(table: str, column: str, count: int) -> str:
    return f"DELETE FROM {table} WHERE {column} IN ({_marks(count)})"  # noqa: S608 - constants


def _marks(count: int) -> str:
    return ", ".join("?" * count)
