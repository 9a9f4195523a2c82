"""Succeed, fail and release: how jobs leave flight."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from zizq.errors import Unavailable
from zizq.ids import is_id
from zizq.job import Failure, JobRecord
from zizq.store import rows
from zizq.store.postgres.flight import JOB
from zizq.store.postgres.gather import Gather
from zizq.store.postgres.parts import Parts
from zizq.store.postgres.settling import Call, Effects, Fail, FailOverdue, Release, ReleaseJobs, Settling, Succeed

MOST_SETTLED = 5000
"""Jobs that one transaction settles at most, but for a call that has more."""


class SettleCalls(Parts):
    """The calls that end what is in flight, or give it back."""

    _settles: Gather[Call, Any]
    _owed: list[Call]
    """What could not be given back when it was called for."""

    def _gather_settles(self) -> Gather[Call, Any]:
        return Gather(self._settle_all, MOST_SETTLED, _weight)

    async def in_flight(self, ids: Collection[str]) -> dict[str, JobRecord]:
        """Those of the jobs that are in flight."""
        text = f"""SELECT f.dequeued_at, {JOB} FROM zizq.flight f JOIN zizq.jobs j USING (id)
                   WHERE f.id = ANY($1)"""  # noqa: S608 - constants
        async with self._db.reading() as db:
            found = await db.fetch(text, list(filter(is_id, ids)))
        jobs = [rows.to_job((*row[1:], None), row[0]) for row in found]
        return {job.id: job for job in jobs}

    async def succeed(self, ids: Sequence[str], now: int) -> list[bool]:
        """Complete jobs that are in flight."""
        known = list(filter(is_id, ids))
        outcome: list[bool] = await self._settles.call(Succeed(known, now))
        if len(known) == len(ids):
            return outcome
        of_known = iter(outcome)
        return [is_id(job_id) and next(of_known) for job_id in ids]

    async def fail(self, job_id: str, failure: Failure, now: int) -> JobRecord | None:
        """Count and record a failure."""
        job: JobRecord | None = await self._settles.call(Fail(job_id, failure, now)) if is_id(job_id) else None
        return job

    async def fail_overdue(self, now: int, limit: int) -> int:
        """Fail jobs of this server that were held for longer than they may be."""
        count: int = await self._settles.call(FailOverdue(now, limit))
        return count

    async def next_overdue(self) -> int | None:
        """When the next job of this server will have been held for too long."""
        text = "SELECT min(overdue_at) FROM zizq.flight WHERE fence = $1 AND overdue_at IS NOT NULL"
        async with self._db.reading() as db:
            at: int | None = await db.fetchval(text, self._fence)
        return at

    async def release(self, owner: int, *, died_at: int | None = None, running: int | None = None) -> int:
        """Give back what an owner holds."""
        self._watched.drop(owner)
        held = len(self._holdings.of(owner))
        count = await self._owe(Release(owner, died_at, running))
        return held if count is None else count

    async def release_jobs(self, ids: Sequence[str], owners: Collection[int] | None = None) -> list[bool]:
        """Give back jobs that are in flight."""
        known = list(filter(is_id, ids))
        outcome = iter(await self._settles.call(ReleaseJobs(known, None if owners is None else list(owners))))
        return [is_id(job_id) and next(outcome) for job_id in ids]

    async def _owe(self, call: Call) -> Any:
        """Give jobs back now, or as soon as the database can be reached; None where it cannot."""
        try:
            return await self._settles.call(call)
        except Unavailable:
            self._owed.append(call)
            return None

    async def _settle_all(self, calls: Sequence[Call]) -> Sequence[Any]:
        outcomes, effects = await self._db.again(partial(self._settle_once, calls))
        self._left(effects.left)
        for cause, jobs, errors in effects.moves:
            self._moved(cause, jobs, errors)
        return outcomes

    async def _settle_once(self, calls: Sequence[Call]) -> tuple[Sequence[Any], Effects]:
        """One transaction: first what is done with, so that a job that is being settled is not given back."""
        outcomes: dict[int, Any] = {}
        async with self._db.writing(durable=self._durable, hot=True, calls=len(calls)) as db:
            work = Settling(db, self._fence, self._holdings, self._defaults, self._dice)
            successes = {at: call for at, call in enumerate(calls) if isinstance(call, Succeed)}
            if successes:
                outcomes.update(zip(successes, await work.succeed(list(successes.values())), strict=True))
            failures = {at: call for at, call in enumerate(calls) if isinstance(call, Fail)}
            if failures:
                outcomes.update(zip(failures, await work.fail(list(failures.values())), strict=True))
            for at, call in enumerate(calls):
                if isinstance(call, FailOverdue):
                    outcomes[at] = await work.fail_overdue(call)
                elif isinstance(call, ReleaseJobs):
                    outcomes[at] = await work.release_jobs(call)
                elif isinstance(call, Release):
                    outcomes[at] = await work.release(call)
        return [outcomes[at] for at in range(len(calls))], work.effects


def _weight(call: Call) -> int:
    if isinstance(call, Succeed | ReleaseJobs):
        return len(call.ids)
    return call.limit if isinstance(call, FailOverdue) else 1
