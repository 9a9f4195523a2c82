"""What the writer does to the database, each for many calls at once.

A step takes the calls of one kind that share a commit and returns an outcome for each, in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from itertools import chain
from typing import Any, NamedTuple

import apsw

from zizq.budget import Budget
from zizq.engine import decide, purse
from zizq.engine.bucket import BucketState
from zizq.engine.decide import Settled
from zizq.engine.purse import Key
from zizq.errors import Refusal
from zizq.job import JobRecord
from zizq.policy import Defaults
from zizq.store import rows
from zizq.store.sqlite import sql
from zizq.store.sqlite.budget_statements import BudgetStatements, SaveBudget
from zizq.store.sqlite.change_statements import Armed, ChangeStatements, Known
from zizq.store.sqlite.cron_statements import CronStatements
from zizq.store.sqlite.key_statements import KeyStatements
from zizq.store.sqlite.pause_statements import PauseStatements
from zizq.store.sqlite.schema import MIGRATIONS

_SETTLED: tuple[str, ...] = (
    "status", "ready_at", "attempts", "dequeued_at", "failed_at", "completed_at", "purge_at"
)  # fmt: skip
_SETTLED_AND_PATCHED = (*_SETTLED, "queue", "priority", "options")


class Step(IntEnum):
    """The kinds of calls, in the order in which they run inside a transaction."""

    ENQUEUE = 0
    ADMIT = 1
    BUDGET = 2
    TOKENS = 3
    CRON = 4
    CLEAR_CRONS = 5
    PAUSE = 6
    SEAL = 7
    SETTLE = 8
    RELEASE = 9
    PROMOTE = 10
    CHANGE = 11
    COLLECT = 12
    ARM = 13
    APPLY = 14
    CLEAR = 15
    REAP = 16
    RESET = 17
    TRIM = 18
    TOUCH = 19
    REFILL = 20
    PIN = 21
    """Not of the database: a connection for reading is told to see what has been committed up to here."""


class Deaths(NamedTuple):
    """Jobs that may have been running when their worker died, when that was, and the rule for those it happens to."""

    jobs: Sequence[JobRecord]
    at: int
    defaults: Defaults


class Release(NamedTuple):
    """Jobs that go back to ready, and those among them whose worker died; None where it left in good order."""

    jobs: Sequence[JobRecord]
    deaths: Deaths | None


class Refill(NamedTuple):
    """A question for the ready jobs of a lane from a key on."""

    lane: str
    edge: Key
    limit: int


class Refilled(NamedTuple):
    """Its answer: jobs in order, and where the rest begins."""

    jobs: list[JobRecord]
    edge: Key | None


class Begun(NamedTuple):
    """What a store begins with.

    Args:
        lanes: Those that hold ready jobs.
        armed: A change to carry on.
        budgets: All budgets, with their tokens.
        paused: The queues that are paused, and since when.
    """

    lanes: list[str]
    armed: Armed | None
    budgets: list[tuple[Budget, BucketState | None]]
    paused: dict[str, int]


class Statements:
    """The steps, on one connection, inside a transaction that the writer opens and ends."""

    def __init__(self, db: apsw.Connection) -> None:
        self.db = self._db = db
        self.budgets = BudgetStatements(db)
        self.changes = ChangeStatements(db, self.budgets)
        self.pauses = PauseStatements(db)
        crons = CronStatements(db, self.budgets)
        keys = KeyStatements(db, self.changes, self.budgets, crons)
        self._steps: dict[Step, Callable[[Sequence[Any]], Sequence[Any]]] = {
            Step.ENQUEUE: self.enqueue,
            Step.ADMIT: keys.admit,
            Step.SEAL: keys.seal,
            Step.SETTLE: self.settle,
            Step.RELEASE: self.release,
            Step.PROMOTE: self.promote,
            Step.CHANGE: self.changes.change,
            Step.BUDGET: self.save_budgets,
            Step.TOKENS: self.budgets.note,
            Step.CRON: crons.save,
            Step.CLEAR_CRONS: crons.clear,
            Step.PAUSE: self.pauses.save,
            Step.COLLECT: self.changes.collect,
            Step.ARM: self.changes.arm,
            Step.APPLY: self.changes.apply,
            Step.CLEAR: self.changes.clear,
            Step.REAP: self.reap,
            Step.RESET: self.reset,
            Step.TRIM: self.trim,
            Step.TOUCH: self.touch,
            Step.REFILL: self.refill,
        }

    def known(self) -> Known:
        """What is known of the database beside it, before a transaction."""
        return self.changes.known

    def restore(self, known: Known) -> None:
        """After a transaction that failed: know again what was known before it."""
        self.changes.known = known

    def begin(self) -> Begun:
        """At the start: read what memory keeps, and forget what was only begun when the server died."""
        return Begun(self.changes.ready_lanes(), self.changes.resume(), self.budgets.load(), self.pauses.load())

    def is_one(self, step: Step, arguments: Sequence[Any]) -> bool:
        """Whether calls of a step are carried out by a single statement, which needs no transaction around it."""
        if step is Step.ENQUEUE:
            return sum(map(len, arguments)) <= sql.MOST
        if step is Step.SETTLE:
            return not self.changes.in_bulk and not any(
                one.kept or one.job.attempts for call in arguments for one in call
            )
        return step in (Step.REFILL, Step.TRIM, Step.TOUCH)

    def run(self, step: Step, arguments: Sequence[Any]) -> Sequence[Any]:
        """Carry out the calls of a step; returns an outcome for each."""
        return self._steps[step](arguments)

    def enqueue(self, calls: Sequence[Sequence[JobRecord]]) -> Sequence[Sequence[JobRecord]]:
        """Insert new jobs that have no keys; the outcome is these."""
        sql.insert(self._db, "jobs", rows.PLAIN, rows.to_rows(chain.from_iterable(calls)))
        return calls

    def save_budgets(self, calls: Sequence[SaveBudget]) -> list[bool | Refusal]:
        """Put budgets in the place of those before."""
        return self.budgets.save(calls, self.changes.known.armed)

    def settle(self, calls: Sequence[Sequence[Settled]]) -> list[None]:
        """Carry out what was decided for jobs in flight."""
        settled: Sequence[Settled] = [one for call in calls for one in call]
        columns = _SETTLED
        if self.changes.in_bulk:
            settled, columns = self.changes.overtake(settled), _SETTLED_AND_PATCHED
        gone = [one.job for one in settled if not one.kept]
        sql.delete(self._db, "jobs", "id", [job.id for job in gone])
        sql.delete(self._db, "errors", "job_id", [job.id for job in gone if job.attempts])
        kept = [one for one in settled if one.kept]
        sql.update_jobs(self._db, columns, [[one.job.id, *rows.to_values(one.job, columns)] for one in kept])
        errors = [[one.job.id, *rows.to_error_row(one.error)] for one in kept if one.error is not None]
        # Whoever deletes a job that is being settled must not meet its errors again.
        sql.insert(self._db, "errors", rows.ERROR_COLUMNS, errors, only="job_id IN (SELECT id FROM jobs)")
        return [None] * len(calls)

    def release(self, calls: Sequence[Release]) -> list[list[Settled]]:
        """Note when released jobs had been taken; they are stored as ready all the while.

        The outcome is those that are dead instead, since one more worker died while it held them.
        """
        outcomes = []
        for jobs, deaths in calls:
            for job in jobs:
                self._db.execute("UPDATE jobs SET dequeued_at = ? WHERE id = ?", (job.dequeued_at, job.id))
            dead = [] if deaths is None else self._count(deaths)
            if dead:
                self.settle([dead])
            outcomes.append(dead)
        return outcomes

    def _count(self, deaths: Deaths) -> list[Settled]:
        """Count a death of each job's worker; returns the jobs that are dead by it."""
        text = "UPDATE jobs SET deaths = deaths + 1 WHERE id = ? RETURNING deaths"
        dead = []
        for job in deaths.jobs:
            count: Any = self._db.execute(text, (job.id,)).get
            # None where it was deleted meanwhile.
            settled = count and decide.on_worker_death(job, count, deaths.at, deaths.defaults)
            if settled:
                dead.append(settled)
        return dead

    def promote(self, calls: Sequence[tuple[int, int]]) -> list[list[JobRecord]]:
        """Make due jobs ready."""
        text = f"""UPDATE jobs SET status = 1 WHERE id IN (
                       SELECT id FROM jobs INDEXED BY due
                       WHERE status = 0 AND ready_at <= ? {self.changes.unless_pending}
                       ORDER BY ready_at, id LIMIT ?)
                   RETURNING {rows.LIGHT_ONLY}"""  # noqa: S608 - constants
        return [[rows.to_job(row) for row in self._db.execute(text, call)] for call in calls]

    def reap(self, calls: Sequence[tuple[int, int]]) -> list[list[JobRecord]]:
        """Remove finished jobs past their retention."""
        text = f"""DELETE FROM jobs WHERE id IN (
                       SELECT id FROM jobs INDEXED BY purge WHERE purge_at <= ? {self.changes.unless_pending}
                       ORDER BY purge_at LIMIT ?)
                   RETURNING {rows.BARE}"""  # noqa: S608 - constants
        outcomes = []
        for call in calls:
            removed = [rows.to_job(row) for row in self._db.execute(text, call)]
            sql.delete(self._db, "errors", "job_id", [job.id for job in removed])
            outcomes.append(removed)
        self._db.execute("DELETE FROM tally WHERE jobs = 0")
        return outcomes

    def reset(self, calls: Sequence[None]) -> list[None]:
        """Remove everything."""
        # Without triggers a table is emptied at once and not row by row.
        self._db.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
        try:
            for table in (
                "jobs",
                "errors",
                "tally",
                "pending",
                "bulk",
                "budgets",
                "draws",
                "crons",
                "cron_entries",
                "cron_draws",
                "paused_queues",
            ):
                self._db.execute(f"DELETE FROM {table}")  # noqa: S608 - a constant
        finally:
            self._db.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 1)
        self.changes.forget()
        return [None] * len(calls)

    def trim(self, calls: Sequence[int]) -> list[None]:
        """Give up to so many free pages at the end of the file back to the disk."""
        for pages in calls:
            self._db.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()
        return [None] * len(calls)

    def touch(self, calls: Sequence[None]) -> list[None]:
        """Write what is there already: the smallest commit there is."""
        self._db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        return [None] * len(calls)

    def refill(self, calls: Sequence[Refill]) -> list[Refilled]:
        """Read the ready jobs of lanes from their edges on."""
        # The row (priority, id) compares as one value, so that the read starts in the index just at the edge.
        text = f"""SELECT {rows.LIGHT_ONLY} FROM jobs INDEXED BY ready
                   WHERE status = 1 AND queue = ? AND budgets = ? AND (priority, id) >= (?, ?)
                   {self.changes.unless_pending}
                   ORDER BY priority, id LIMIT ?"""  # noqa: S608 - constants
        outcomes = []
        for lane, edge, limit in calls:
            # All rows first, and then all jobs: a fifth less time than in turn.
            read = self._db.execute(text, (*purse.parts(lane), *edge, limit + 1)).fetchall()
            found = [rows.to_job(row) for row in read]
            beyond = (found[limit].priority, found[limit].id) if len(found) > limit else None
            outcomes.append(Refilled(found[:limit], beyond))
        return outcomes
