"""New jobs: how they come into the database, and what keeps some from it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from zizq.budget import Budget
from zizq.engine import decide, unique
from zizq.engine.purse import budget_keys
from zizq.errors import Outdated
from zizq.job import JobRecord, Status, any_bound
from zizq.store import rows
from zizq.store.base import NO_BUDGETS, NOTHING
from zizq.store.postgres import budget_rows, keys
from zizq.store.postgres.database import Database, Transaction
from zizq.store.postgres.flight import JOB

_PLAIN = rows.PLAIN.split(", ")
_BOUND = rows.BOUND.split(", ")


class Enqueue(NamedTuple):
    """A call of `enqueue`."""

    jobs: Sequence[JobRecord]
    now: int
    folds: Sequence[JobRecord] = ()
    pending: Mapping[str, str | None] = NOTHING
    create: Mapping[str, Budget] = NO_BUDGETS

    @property
    def is_plain(self) -> bool:
        """Whether nothing can be said against it."""
        return not (self.folds or self.pending or any_bound(self.jobs))

    @property
    def is_refusable(self) -> bool:
        """Whether something may be said against it, and not only another job in its place."""
        return bool(self.folds or self.pending) or any(job.budgets for job in self.jobs)


class Admitted(NamedTuple):
    """What came of an enqueue.

    Args:
        jobs: For each job itself, or the one that stands for it.
        folded: The jobs that others were folded into, as they are now.
    """

    jobs: Sequence[JobRecord]
    folded: Sequence[JobRecord] = ()


async def insert(db: Transaction, jobs: Sequence[JobRecord]) -> None:
    """Add jobs to which nothing but themselves matters."""
    if jobs:
        await db.copy_records_to_table("jobs", schema_name="zizq", columns=_PLAIN, records=rows.to_rows(jobs))


async def insert_alone(database: Database, jobs: Sequence[JobRecord], calls: int) -> None:
    """The same as a transaction of its own, for so many calls."""
    if jobs:
        await database.copy("jobs", _PLAIN, rows.to_rows(jobs), calls)


async def admit(db: Transaction, call: Enqueue, most_budgets: int) -> Admitted:
    """Add jobs, or find those that stand for them.

    Raises:
        Outdated: When another job waits under a batch key, or none.
        Unprocessable: When a job draws on a budget that is missing or too small. The transaction must not be committed
            after either.
    """
    await keys.lock(db, _keys(call))
    waiting = await pending(db, call.pending, "FOR UPDATE OF j")
    if any((waiting[key].id if key in waiting else None) != job_id for key, job_id in call.pending.items()):
        raise Outdated("the job that waits under a batch key has changed meanwhile: try again")
    outcome, new = unique.admitted(call.jobs, await _holders(db, call))
    drawing = [(index, job) for index, job in enumerate(call.jobs) if job.budgets and outcome[index] is job]
    await budget_rows.check(db, drawing, call.create, most_budgets, call.now)
    await _insert_bound(db, new)
    await budget_rows.bind(db, new)
    return Admitted(outcome, await _fold(db, waiting.values(), call.folds))


async def admit_all(db: Transaction, calls: Sequence[Enqueue], most_budgets: int) -> list[Admitted]:
    """As `admit`, for calls against which nothing can be said: all of them at once."""
    if not calls:
        return []
    together = Enqueue([job for call in calls for job in call.jobs], max(call.now for call in calls))
    stands = iter((await admit(db, together, most_budgets)).jobs)
    return [Admitted(list(islice(stands, len(call.jobs)))) for call in calls]


def _keys(call: Enqueue) -> set[str]:
    names = {f"u{job.unique_key}" for job in call.jobs if job.unique_key is not None}
    names |= {rows.batch_name(job.batch.key) for job in call.jobs if job.batch is not None}
    return names | {rows.batch_name(key) for key in call.pending}


async def pending(db: Transaction, batches: Collection[str], lock: str = "") -> dict[str, JobRecord]:
    """The jobs that wait under batch keys, with payloads.

    Args:
        db: The transaction.
        batches: The batch keys.
        lock: A clause that holds them until the transaction is over.
    """
    if not batches:
        return {}
    text = f"""SELECT {JOB}, j.payload FROM zizq.jobs j
               WHERE j.key = ANY($1::bytea[]) AND j.status = 1 {lock}"""  # noqa: S608 - constants
    found = await db.fetch(text, [keys.digest(rows.batch_name(key)) for key in batches])
    jobs = [rows.to_job(row) for row in found]
    # Asked when they are locked: whoever took one before that has put it into flight by now.
    flying = await db.fetch("SELECT id FROM zizq.flight WHERE id = ANY($1)", [job.id for job in jobs]) if jobs else []
    gone = {row[0] for row in flying}
    return {job.batch.key: job for job in jobs if job.batch is not None and job.id not in gone}


async def _holders(db: Transaction, call: Enqueue) -> dict[str, list[JobRecord]]:
    """The jobs that may hold the unique keys of a call, the youngest of each first."""
    wanted = list(dict.fromkeys(job.unique_key for job in call.jobs if job.unique_key is not None))
    holders: dict[str, list[JobRecord]] = {}
    if not wanted:
        return holders
    # A finished job holds its key only by the widest scope; there may be many others.
    text = f"""SELECT (SELECT f.dequeued_at FROM zizq.flight f WHERE f.id = j.id), {JOB} FROM zizq.jobs j
               WHERE j.key = ANY($1::bytea[]) AND (j.status < 2 OR j.key = ANY($2::bytea[]))"""  # noqa: S608 - constants
    names = [keys.digest(name) for key in wanted for name in rows.unique_names(key)]
    widest = [keys.digest(rows.unique_names(key)[-1]) for key in wanted]
    for row in await db.fetch(text, names, widest):
        job = rows.to_job((*row[1:], None))
        if job.unique_key is not None and not decide.is_expired(job, call.now):
            flying = row[0] is not None and job.status is Status.READY
            holders.setdefault(job.unique_key, []).append(decide.on_take(job, row[0]) if flying else job)
    for there in holders.values():
        there.sort(key=lambda job: job.id, reverse=True)
    return holders


async def _insert_bound(db: Transaction, new: Sequence[JobRecord]) -> None:
    # Of all that have a batch key, in whatever status, only the last can be folded into.
    last = {name: job.id for job in new if job.batch is not None and (name := keys.stored_key(job)) is not None}
    if last:
        await db.execute("UPDATE zizq.jobs SET key = NULL WHERE key = ANY($1::bytea[])", list(last))
    waits = set(last.values())
    records = [
        (*rows.to_row(job), None if job.batch is not None and job.id not in waits else keys.stored_key(job),
         budget_keys(job))
        for job in new
    ]  # fmt: skip
    if records:
        await db.copy_records_to_table("jobs", schema_name="zizq", columns=_BOUND, records=records)


async def _fold(db: Transaction, waiting: Collection[JobRecord], folds: Sequence[JobRecord]) -> list[JobRecord]:
    """Give jobs that wait, and that the transaction holds, their new payloads."""
    if not folds:
        return []
    await db.execute(
        """UPDATE zizq.jobs j SET payload = f.payload FROM unnest($1::text[], $2::bytea[]) f (id, payload)
           WHERE j.id = f.id""",
        [job.id for job in folds],
        [job.payload for job in folds],
    )
    ids = {job.id for job in folds}
    return [job for job in waiting if job.id in ids]
