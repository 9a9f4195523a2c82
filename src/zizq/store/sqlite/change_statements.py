"""What the writer does to the database when jobs are deleted, patched or retried.

A change of few jobs is one step, `change`. A change of many takes several commits, so that enqueues and takes go on
meanwhile, and still is one change to all who look:

1. `collect`, chunk by chunk: the jobs are noted in `pending`, and held back from then on: nothing takes, promotes or
   reaps them.
2. `arm`: the change itself is written down. From this commit on it has happened, whatever else happens: a server that
   dies goes on with it when it starts again. A server that dies before forgets it.
3. `apply`, chunk by chunk, until none is pending.

`clear` gives up between 1 and 2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import apsw
import msgspec

from zizq.engine.changes import Change, Delete, Patch, Rebind
from zizq.engine.decide import Settled, is_expired
from zizq.engine.purse import lane
from zizq.engine.selection import Selection
from zizq.errors import Refusal
from zizq.job import JobRecord, Status
from zizq.store import rows
from zizq.store.sqlite import sql
from zizq.store.sqlite.budget_statements import BudgetStatements

Kind = tuple[str, str, int]
"""A queue, a type and a stored status."""

_encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Change] = msgspec.msgpack.Decoder(Change)


class ChangeCall(NamedTuple):
    """A change of some jobs.

    Args:
        ids: The jobs.
        selection: What they must meet beside.
        change: What to do to them.
        now: The wall clock.
        flying: Those of them that are in flight, as memory knows them.
    """

    ids: Sequence[str]
    selection: Selection
    change: Change
    now: int
    flying: Mapping[str, JobRecord]


class ApplyCall(NamedTuple):
    """A part of a change that is armed: the next `limit` jobs of those pending."""

    change: Change
    now: int
    flying: Mapping[str, JobRecord]
    limit: int


class Moved(NamedTuple):
    """A job before a change and after it; None where it is gone. In flight, as far as the caller knew of it."""

    before: JobRecord
    after: JobRecord | None


class Armed(NamedTuple):
    """A change of many jobs that is certain and not yet carried out, and how many jobs of each kind it waits for."""

    change: Change
    now: int
    pending: Counter[Kind]


class Known(NamedTuple):
    """What the writer knows of changes of many: whether jobs may be pending, and what is armed."""

    in_bulk: bool
    armed: Change | None


class ChangeStatements:
    """The steps of changes, on the writer's connection."""

    def __init__(self, db: apsw.Connection, budgets: BudgetStatements) -> None:
        self._db = db
        self._budgets = budgets
        self.known = Known(False, None)
        """Changes inside transactions, and so has to be restored where one fails."""

    @property
    def in_bulk(self) -> bool:
        """Whether jobs may be pending."""
        return self.known.in_bulk

    @property
    def unless_pending(self) -> str:
        """A condition that holds back pending jobs; nothing where there are none, since it costs time."""
        return unless_pending(self.in_bulk)

    @property
    def unless_leaving(self) -> str:
        """A condition that leaves out jobs that are deleted, and still stored."""
        return unless_pending(isinstance(self.known.armed, Delete))

    def resume(self) -> Armed | None:
        """At the start: what was armed when the server died. What was only collected is forgotten."""
        row = self._db.execute("SELECT change, now FROM bulk").fetchone()
        if row is None:
            self._db.execute("DELETE FROM pending")
            return None
        change = decode_change(row[0])
        self.known = Known(True, change)
        kinds = "SELECT queue, type, status, count(*) FROM pending JOIN jobs USING (id) GROUP BY 1, 2, 3"
        pending = Counter({(queue, kind, status): n for queue, kind, status, n in self._db.execute(kinds)})
        return Armed(change, row[1], pending)

    def change(self, calls: Sequence[ChangeCall]) -> list[list[Moved] | Refusal]:
        """Change some jobs at once; the outcome is those that were selected and that the change suits."""
        outcomes: list[list[Moved] | Refusal] = []
        for call in calls:
            if refusal := self._refusal(call.change):
                outcomes.append(refusal)
                continue
            moved = [Moved(job, call.change.apply(job, call.now)) for job in self._select(call, self.unless_pending)]
            self._carry_out(call.change, moved)
            outcomes.append(moved)
        return outcomes

    def collect(self, calls: Sequence[ChangeCall]) -> list[list[JobRecord]]:
        """Note jobs for a change of many; the outcome is those that were selected and that the change suits."""
        self.known = Known(True, None)
        outcomes = []
        for call in calls:
            chosen = self._select(call)
            sql.insert(self._db, "pending", "id", [(job.id,) for job in chosen])
            outcomes.append(chosen)
        return outcomes

    def arm(self, calls: Sequence[tuple[Change, int]]) -> list[Refusal | None]:
        """Write down what happens to the jobs that are pending."""
        outcomes: list[Refusal | None] = []
        for change, now in calls:
            outcomes.append(self._refusal(change))
            if outcomes[-1] is not None:
                continue
            self._db.execute("INSERT INTO bulk VALUES (?, ?)", (_encode(change), now))
            self.known = Known(True, change)
        return outcomes

    def _refusal(self, change: Change) -> Refusal | None:
        """Why a change cannot be, by what there is of budgets."""
        try:
            if isinstance(change, Rebind):
                self._budgets.check_draws(change.draws)
        except Refusal as refusal:
            return refusal
        return None

    def apply(self, calls: Sequence[ApplyCall]) -> list[list[Moved] | None]:
        """Change the next of the jobs that are pending; the outcome is None when none was left."""
        outcomes: list[list[Moved] | None] = []
        for call in calls:
            ids = [row[0] for row in self._db.execute("SELECT id FROM pending ORDER BY id LIMIT ?", (call.limit,))]
            # One that was in flight when it was noted may have ended before the change was armed.
            moved = [
                Moved(job, call.change.apply(job, call.now))
                for job in map(_as_known(call.flying), self._read(ids))
                if call.change.suits(job.status)
            ]
            self._carry_out(call.change, moved)
            sql.delete(self._db, "pending", "id", ids)
            if not ids:
                self._db.execute("DELETE FROM bulk")
                self.forget()
            outcomes.append(moved if ids else None)
        return outcomes

    def clear(self, calls: Sequence[None]) -> list[list[str]]:
        """Forget the jobs that were collected; the outcome is the lanes that hold ready jobs."""
        self._db.execute("DELETE FROM pending")
        self.forget()
        return [self.ready_lanes() for _ in calls]

    def ready_lanes(self) -> list[str]:
        """The lanes that hold ready jobs."""
        return [lane(*found) for found in ready_lanes(self._db)]

    def forget(self) -> None:
        """Nothing is pending any more."""
        self.known = Known(False, None)

    def overtake(self, settled: Sequence[Settled]) -> Sequence[Settled]:
        """Jobs in flight end while many are being changed; returns what there is to do about them.

        What is armed has happened before: of jobs that are deleted there is nothing left to do, and jobs that are
        patched end as patched ones, whether or not their records in memory knew of it yet. What is only collected
        comes after.
        """
        armed = self.known.armed
        if armed is None:
            return settled
        pending = self._pending([one.job.id for one in settled])
        if isinstance(armed, Patch):
            sql.delete(self._db, "pending", "id", pending)
            return [_patched(one, armed) if one.job.id in pending else one for one in settled]
        return [one for one in settled if one.job.id not in pending]

    def _pending(self, ids: Sequence[str]) -> set[str]:
        text = f"SELECT id FROM pending WHERE id IN {sql.AMONG}"  # noqa: S608 - a constant
        return {row[0] for row in sql.among(self._db, text, ids)}

    def _select(self, call: ChangeCall, condition: str = "") -> list[JobRecord]:
        """The jobs of a call that are selected, that the change suits, and that are not expired."""
        return [
            job
            for job in map(_as_known(call.flying), self._read(call.ids, condition))
            if job in call.selection and call.change.suits(job.status) and not is_expired(job, call.now)
        ]

    def _read(self, ids: Sequence[str], condition: str = "") -> Iterator[JobRecord]:
        text = f"SELECT {rows.LIGHT_ONLY} FROM jobs WHERE id IN {sql.AMONG} {condition}"  # noqa: S608 - constants
        return map(rows.to_job, sql.among(self._db, text, ids))

    def _carry_out(self, change: Change, moved: Sequence[Moved]) -> None:
        ids = [one.before.id for one in moved]
        if not isinstance(change, Patch | Rebind):
            sql.delete(self._db, "errors", "job_id", [one.before.id for one in moved if one.before.attempts])
        if isinstance(change, Delete):
            sql.delete(self._db, "jobs", "id", ids)
        else:
            self._rewrite(rows.changed_columns(change), moved)
        if isinstance(change, Rebind):
            self._budgets.bind([one.after for one in moved if one.after is not None], ())

    def _rewrite(self, columns: Sequence[str], moved: Sequence[Moved]) -> None:
        if columns:
            after = [one.after for one in moved if one.after is not None]
            sql.update_jobs(self._db, columns, [[job.id, *rows.to_values(job, columns)] for job in after])


def ready_lanes(db: apsw.Connection) -> list[tuple[str, str]]:
    """The queues and budgets of the lanes that hold ready jobs; a step in the index each, however many jobs it has."""
    # Not as one comparison of both columns, for which SQLite looks at all rows of the queue.
    text = "SELECT queue, budgets FROM jobs INDEXED BY ready WHERE status = 1 AND {} ORDER BY queue, budgets LIMIT 1"
    in_queue, beyond = text.format("queue = ? AND budgets > ?"), text.format("queue > ?")
    lanes: list[tuple[str, str]] = []
    found: Any = db.execute(beyond, ("",)).fetchone()
    while found is not None:
        lanes.append(found)
        found = db.execute(in_queue, found).fetchone() or db.execute(beyond, found[:1]).fetchone()
    return lanes


def _patched(one: Settled, patch: Patch) -> Settled:
    """What becomes of a job that was patched while it was in flight: its end stands, with its times."""
    held = one.job.with_(status=Status.IN_FLIGHT)
    job = msgspec.structs.replace(patch, ready_at=msgspec.UNSET).apply(held, 0)
    return Settled(job.with_(status=one.job.status), one.kept, one.error)


def decode_change(stored: bytes) -> Change:
    """A change as it was written down."""
    return _decoder.decode(stored)


def unless_pending(in_bulk: bool) -> str:
    """A condition on `jobs` that holds back those that a change of many has noted."""
    return " AND NOT EXISTS (SELECT 1 FROM pending WHERE pending.id = jobs.id)" if in_bulk else ""


def _as_known(flying: Mapping[str, JobRecord]) -> Callable[[JobRecord], JobRecord]:
    """Jobs in flight are stored as ready: this puts what memory knows in their place."""

    def known(job: JobRecord) -> JobRecord:
        return flying.get(job.id, job) if job.status is Status.READY else job

    return known
