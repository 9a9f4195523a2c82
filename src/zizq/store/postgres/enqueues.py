"""Enqueue: new jobs, and what is folded into those that wait."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial

from zizq.budget import Budget
from zizq.engine.transitions import Cause
from zizq.errors import Refusal
from zizq.job import JobRecord
from zizq.store.base import NO_BUDGETS, NOTHING
from zizq.store.postgres import admitting, names
from zizq.store.postgres.admitting import Admitted, Enqueue
from zizq.store.postgres.database import Transaction
from zizq.store.postgres.gather import Gather
from zizq.store.postgres.parts import Parts

MOST_ENQUEUED = 5000
"""Jobs that one transaction enqueues at most, but for a call that has more."""


class EnqueueCalls(Parts):
    """The calls that enqueue."""

    _enqueues: Gather[Enqueue, Sequence[JobRecord]]

    def _gather_enqueues(self) -> Gather[Enqueue, Sequence[JobRecord]]:
        return Gather(self._enqueue_all, MOST_ENQUEUED, lambda call: len(call.jobs) + len(call.folds))

    async def enqueue(
        self,
        jobs: Sequence[JobRecord],
        now: int,
        folds: Sequence[JobRecord] = (),
        pending: Mapping[str, str | None] = NOTHING,
        create: Mapping[str, Budget] = NO_BUDGETS,
    ) -> Sequence[JobRecord]:
        """Insert new jobs."""
        names.check(jobs)
        return await self._enqueues.call(Enqueue(jobs, now, folds, pending, create))

    async def pending(self, keys: Collection[str]) -> dict[str, JobRecord]:
        """The jobs that wait under batch keys."""
        async with self._db.reading() as db:
            return await admitting.pending(db, keys)

    async def _enqueue_all(self, calls: Sequence[Enqueue]) -> Sequence[Sequence[JobRecord] | Exception]:
        outcomes = await self._db.again(partial(self._enqueue_once, calls))
        for call, outcome in zip(calls, outcomes, strict=True):
            if isinstance(outcome, Admitted):
                self._enqueued(call, outcome)
        return [outcome.jobs if isinstance(outcome, Admitted) else outcome for outcome in outcomes]

    async def _enqueue_once(self, calls: Sequence[Enqueue]) -> list[Admitted | Exception]:
        """One transaction."""
        outcomes: dict[int, Admitted | Exception] = {}
        plain = dict.fromkeys(at for at, call in enumerate(calls) if call.is_plain)
        if len(plain) == len(calls) and self._enqueue_durable:
            await admitting.insert_alone(self._db, [job for call in calls for job in call.jobs], len(calls))
            return [Admitted(call.jobs) for call in calls]
        keyed = [at for at, call in enumerate(calls) if at not in plain and not call.is_refusable]
        async with self._db.writing(durable=self._enqueue_durable, hot=True, calls=len(calls)) as db:
            await admitting.insert(db, [job for at in plain for job in calls[at].jobs])
            outcomes.update((at, Admitted(calls[at].jobs)) for at in plain)
            found = await admitting.admit_all(db, [calls[at] for at in keyed], self._max_budgets)
            outcomes.update(zip(keyed, found, strict=True))
            for at, call in enumerate(calls):
                if at not in outcomes:
                    outcomes[at] = await self._try(db, call)
        return [outcomes[at] for at in range(len(calls))]

    async def _try(self, db: Transaction, call: Enqueue) -> Admitted | Exception:
        """One call of a transaction that goes on without it where it is refused."""
        await db.execute("SAVEPOINT admission")
        try:
            return await admitting.admit(db, call, self._max_budgets)
        except Refusal as refusal:
            await db.execute("ROLLBACK TO SAVEPOINT admission")
            return refusal

    def _enqueued(self, call: Enqueue, admitted: Admitted) -> None:
        """A commit has added jobs."""
        stored = [job for job, stands in zip(call.jobs, admitted.jobs, strict=True) if stands is job]
        if admitted.folded:
            self._announce(admitted.folded)
        self._moved(Cause.ENQUEUE, stored)
