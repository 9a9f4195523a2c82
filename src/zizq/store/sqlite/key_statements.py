"""What the writer does to the database when jobs are enqueued that have keys or draw on budgets.

Jobs are found by the index `keyed`. Whether a job that is found holds its key is decided when it matters, from its
status and what is in flight: so a key is free, or taken again, without any writing when its job moves.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import apsw

from zizq.budget import Budget
from zizq.engine import unique
from zizq.engine.decide import is_expired
from zizq.errors import Outdated, Refusal
from zizq.job import JobRecord, Status
from zizq.store import rows
from zizq.store.sqlite import sql
from zizq.store.sqlite.budget_statements import BudgetStatements
from zizq.store.sqlite.change_statements import ChangeStatements
from zizq.store.sqlite.cron_statements import CronStatements, Firing


class AdmitCall(NamedTuple):
    """An enqueue of jobs of which some have keys.

    Args:
        jobs: The jobs.
        folds: Jobs that wait under batch keys, with the payloads that they get.
        pending: Which job is thought to wait under each batch key that is concerned, or None.
        now: The wall clock.
        create: Budgets to create where jobs draw on them and they are missing.
        most_budgets: How many budgets there may be.
        firing: The cron entry that they come of, if they do.
        flying: The jobs in flight that have one of the keys, as the store knows them when it puts the call in.
    """

    jobs: Sequence[JobRecord]
    folds: Sequence[JobRecord]
    pending: Mapping[str, str | None]
    now: int
    create: Mapping[str, Budget]
    most_budgets: int
    firing: Firing | None = None
    flying: Collection[str] = ()


class Admitted(NamedTuple):
    """What came of an enqueue.

    Args:
        jobs: For each job itself, or the one that stands for it.
        folded: The jobs that others were folded into, as they are now.
        created: The budgets that were missing.
    """

    jobs: Sequence[JobRecord]
    folded: Sequence[JobRecord]
    created: Sequence[Budget]


class KeyStatements:
    """The steps of jobs with keys, on the writer's connection."""

    def __init__(
        self, db: apsw.Connection, changes: ChangeStatements, budgets: BudgetStatements, crons: CronStatements
    ) -> None:
        self._db = db
        self._changes = changes
        self._budgets = budgets
        self._crons = crons

    def admit(self, calls: Sequence[AdmitCall]) -> list[Admitted | Refusal]:
        """Enqueue jobs, or the jobs that stand for them."""
        outcomes: list[Admitted | Refusal] = []
        for call in calls:
            try:
                outcomes.append(self._admit(call))
            except Refusal as refusal:
                outcomes.append(refusal)
        return outcomes

    def seal(self, calls: Sequence[Sequence[str]]) -> list[None]:
        """Let nothing be folded into jobs any more: they were taken."""
        for ids in calls:
            self._seal(ids)
        return [None] * len(calls)

    def _admit(self, call: AdmitCall) -> Admitted:
        if call.firing is not None:
            self._crons.check(call.firing)
        if not self._is_pending(call):
            raise Outdated("the job that waits under a batch key has changed meanwhile: try again")
        outcome, new = unique.admitted(call.jobs, self._holders(call))
        # Nothing is written before all is known to be right: the other calls of the commit go on.
        numbered = [(index, job) for index, job in enumerate(call.jobs) if outcome[index] is job]
        created = self._budgets.check(numbered, call.create, call.most_budgets)
        self._budgets.bind(new, created)
        # Of all that have a batch key, in whatever status, only the last can be folded into.
        last = {name: job.id for job in new if job.batch is not None and (name := rows.key_of(job)) is not None}
        sql.among(self._db, f"UPDATE jobs SET key = NULL WHERE key IN {sql.AMONG}", last)  # noqa: S608 - a constant
        sql.insert(self._db, "jobs", rows.BOUND, [rows.to_bound_row(job) for job in new])
        self._seal([job.id for job in new if job.batch is not None and job.id not in last.values()])
        text = f"UPDATE jobs SET payload = ? WHERE id = ? RETURNING {rows.LIGHT_ONLY}"  # noqa: S608 - a constant
        if call.firing is not None:
            self._crons.advance(call.firing)
        folded = [rows.to_job(row) for job in call.folds for row in self._db.execute(text, (job.payload, job.id))]
        return Admitted(outcome, folded, created)

    def _is_pending(self, call: AdmitCall) -> bool:
        """Whether the jobs that are thought to wait under batch keys still do."""
        found = pending(self._db, call.pending, call.flying, self._changes.unless_leaving)
        return all((found[key].id if key in found else None) == job_id for key, job_id in call.pending.items())

    def _holders(self, call: AdmitCall) -> dict[str, list[JobRecord]]:
        """The jobs that may hold the unique keys of a call, the youngest of each first."""
        names = [name for job in call.jobs if job.unique_key is not None for name in rows.unique_names(job.unique_key)]
        holders: dict[str, list[JobRecord]] = {}
        # A finished job holds its key only by the widest scope; there may be many others.
        text = f"""SELECT {rows.BARE} FROM jobs INDEXED BY keyed
                   WHERE key IN {sql.AMONG} AND (status < 2 OR key >= 'e' AND key < 'f')
                   {self._changes.unless_leaving}
                   ORDER BY id DESC"""  # noqa: S608 - constants
        for job in map(rows.to_job, sql.among(self._db, text, names)):
            if job.unique_key is not None and not is_expired(job, call.now):
                holders.setdefault(job.unique_key, []).append(_as_known(job, call.flying))
        return holders

    def _seal(self, ids: Sequence[str]) -> None:
        # An update with a question in it first finds all its rows, and then each again: half as much time again.
        for some in sql.chunks(ids):
            self._db.execute(f"UPDATE jobs SET key = NULL WHERE id IN ({sql.marks(len(some))})", some)  # noqa: S608


def pending(
    db: apsw.Connection, keys: Collection[str], flying: Collection[str], condition: str
) -> dict[str, JobRecord]:
    """The jobs that wait under batch keys, meet a condition, and can be folded into, with payloads."""
    text = f"""SELECT {rows.WHOLE} FROM jobs INDEXED BY keyed
               WHERE key IN {sql.AMONG} AND status = 1 {condition}"""  # noqa: S608 - constants
    waiting = map(rows.to_job, sql.among(db, text, [rows.batch_name(key) for key in keys]))
    return {job.batch.key: job for job in waiting if job.batch is not None and job.id not in flying}


def _as_known(job: JobRecord, flying: Collection[str]) -> JobRecord:
    in_flight = job.id in flying and job.status is Status.READY
    return job.with_(status=Status.IN_FLIGHT) if in_flight else job
