"""How jobs leave flight: what one transaction does for all calls that share it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from zizq.clock import Dice
from zizq.engine import decide
from zizq.engine.decide import Settled
from zizq.engine.transitions import Cause
from zizq.job import ErrorRecord, Failure, JobRecord
from zizq.policy import Defaults
from zizq.store import rows
from zizq.store.postgres import flight
from zizq.store.postgres.database import Transaction
from zizq.store.postgres.flight import JOB, META, Flying
from zizq.store.postgres.holdings import Holdings

# A job that sets no retention leaves nothing to decide, where the server keeps no completed jobs. The driver looks at
# each text of an array more than once, which takes longer than to write them all in one, and to read them here.
_SUCCEED = f"""
    WITH gone AS (
        DELETE FROM zizq.flight f
        WHERE f.id = ANY(string_to_array($1, ',')) AND (f.fence = $2 OR f.id = ANY($3::text[]))
        RETURNING f.id, f.fence, f.dequeued_at
    ), removed AS (
        DELETE FROM zizq.jobs j USING gone WHERE j.id = gone.id AND $4
            AND (j.options IS NULL OR substring(j.options FOR 4) = $5::bytea)
        RETURNING gone.id AS flown, gone.fence, gone.dequeued_at AS taken_at, {JOB}
    )
    SELECT * FROM removed UNION ALL
    SELECT id, fence, dequeued_at, {", ".join(["NULL"] * len(META))} FROM gone
    WHERE id NOT IN (SELECT flown FROM removed)"""  # noqa: S608 - constants


class Succeed(NamedTuple):
    """A call of `succeed`, whose identifiers have the right shape."""

    ids: Sequence[str]
    now: int


class Fail(NamedTuple):
    """A call of `fail`."""

    job_id: str
    failure: Failure
    now: int


class FailOverdue(NamedTuple):
    """A call of `fail_overdue`."""

    now: int
    limit: int


class Release(NamedTuple):
    """A call of `release`."""

    owner: int
    died_at: int | None
    running: int | None


class ReleaseJobs(NamedTuple):
    """A call of `release_jobs`."""

    ids: Sequence[str]
    owners: Sequence[int] | None


Call = Succeed | Fail | FailOverdue | Release | ReleaseJobs


class Effects:
    """What a transaction has done, to be told once it is committed."""

    def __init__(self) -> None:
        self.left: list[tuple[str, int]] = []
        """Jobs that are not in flight any more, and under which fences they were held."""
        self.moves: list[tuple[Cause, list[JobRecord], list[ErrorRecord]]] = []


class Settling:
    """The work of one transaction.

    Args:
        db: The transaction.
        fence: The number under which this server holds jobs.
        holdings: What it knows of them; not changed.
        defaults: What jobs get where they say nothing.
        dice: Places retries inside their jitter.
    """

    def __init__(self, db: Transaction, fence: int, holdings: Holdings, defaults: Defaults, dice: Dice) -> None:
        self._db = db
        self._fence = fence
        self._holdings = holdings
        self._defaults = defaults
        self._dice = dice
        self.effects = Effects()

    async def succeed(self, calls: Sequence[Succeed]) -> list[list[bool]]:
        """Complete jobs; a job that two calls name is completed for the first."""
        now_of: dict[str, int] = {}
        for call in reversed(calls):
            now_of.update(dict.fromkeys(self._holdings.not_lost(call.ids), call.now))
        found = await self._db.fetch(
            _SUCCEED,
            ",".join(now_of),
            self._fence,
            self._holdings.others(now_of),
            self._defaults.completed_ms == 0,
            rows.OPEN,
        )
        done = {row[0] for row in found}
        self.effects.left += [(row[0], row[1]) for row in found]
        await flight.free(self._db, [(row[0], row[1]) for row in found], self._fence)
        jobs = [rows.to_job((*row[3:], None), row[2]) for row in found if row[3] is not None]
        rest = {row[0]: row[2] for row in found if row[3] is None}
        if rest:
            jobs += await self._complete(rest, now_of, done)
        if jobs:
            self.effects.moves.append((Cause.SUCCEED, jobs, []))
        outcome = []
        for call in calls:
            outcome.append([job_id in done for job_id in call.ids])
            done.difference_update(call.ids)
        return outcome

    async def _complete(self, taken_at: dict[str, int], now_of: dict[str, int], done: set[str]) -> list[JobRecord]:
        """Complete jobs that are out of flight, and have something to say in what becomes of them."""
        text = f"SELECT {JOB} FROM zizq.jobs j WHERE j.id = ANY($1) ORDER BY j.id FOR UPDATE"  # noqa: S608
        found = await self._db.fetch(text, list(taken_at))
        flown = [rows.to_job((*row, None), taken_at[row[0]]) for row in found]
        done -= taken_at.keys() - {job.id for job in flown}
        settled = [decide.on_success(job, now_of[job.id], self._defaults) for job in flown]
        await flight.write(self._db, settled)
        return [one.job for one in settled]

    async def fail(self, calls: Sequence[Fail]) -> list[JobRecord | None]:
        """Count and record failures; a job that two calls name fails for the first."""
        wanted = {call.job_id: call for call in reversed(calls)}
        ids = self._holdings.not_lost(wanted)
        held = await self._hold(ids, self._holdings.others(ids))
        settled = {
            one.job.id: decide.on_failure(
                one.job, wanted[one.job.id].failure, wanted[one.job.id].now, self._defaults, self._dice.unit()
            )
            for one in held
        }
        await self._end(held, list(settled.values()))
        outcome = []
        for call in calls:
            one = settled.pop(call.job_id, None)
            outcome.append(None if one is None else one.job)
        return outcome

    async def fail_overdue(self, call: FailOverdue) -> int:
        """Fail jobs of this server that were held for too long."""
        condition = """f.id IN (SELECT o.id FROM zizq.flight o WHERE o.fence = $1 AND o.overdue_at <= $2
                                ORDER BY o.fence, o.overdue_at LIMIT $3)"""
        held = await flight.hold(self._db, condition, self._fence, call.now, call.limit)
        settled = [
            decide.on_timeout(one.job, one.stream_ms, call.now, self._defaults, self._dice.unit()) for one in held
        ]
        await self._end(held, settled)
        return len(held)

    async def release_jobs(self, call: ReleaseJobs) -> list[bool]:
        """Give jobs back by their identifiers."""
        ids = self._holdings.not_lost(call.ids)
        if call.owners is None:
            held = await self._hold(ids, self._holdings.others(ids))
        else:
            condition = "f.id = ANY($1::text[]) AND f.fence = $2 AND f.owner = ANY($3::bigint[])"
            held = await flight.hold(self._db, condition, ids, self._fence, call.owners)
        await self._put_back(held)
        found = {one.job.id for one in held}
        return [job_id in found for job_id in call.ids]

    async def release(self, call: Release) -> int:
        """Give back all that an owner holds, but for jobs of which too many workers have died."""
        ids = self._holdings.of(call.owner)
        held = await flight.hold(self._db, "f.id = ANY($1::text[]) AND f.fence = $2", ids, self._fence) if ids else []
        dead: dict[str, Settled] = {}
        if call.died_at is not None and held:
            running = sorted(held, key=lambda one: one.turn)[: call.running]
            deaths = await flight.count_deaths(self._db, running)
            for one, count in zip(running, deaths, strict=True):
                settled = decide.on_worker_death(one.job, count, call.died_at, self._defaults)
                if settled is not None:
                    dead[one.job.id] = settled
        await self._end([one for one in held if one.job.id in dead], list(dead.values()))
        await self._put_back([one for one in held if one.job.id not in dead])
        return len(held)

    async def _hold(self, ids: Sequence[str], others: Sequence[str]) -> list[Flying]:
        condition = "f.id = ANY($1::text[]) AND (f.fence = $2 OR f.id = ANY($3::text[]))"
        return await flight.hold(self._db, condition, ids, self._fence, others)

    async def _end(self, held: Sequence[Flying], settled: Sequence[Settled]) -> None:
        """Jobs have failed."""
        if not settled:
            return
        await flight.write(self._db, settled)
        await self._drop(held)
        errors = [one.error for one in settled if one.error is not None]
        self.effects.moves.append((Cause.FAIL, [one.job for one in settled], errors))

    async def _put_back(self, held: Sequence[Flying]) -> None:
        if not held:
            return
        await flight.put_back(self._db, held)
        await self._drop(held)
        self.effects.moves.append((Cause.RELEASE, [decide.on_release(one.job) for one in held], []))

    async def _drop(self, held: Sequence[Flying]) -> None:
        left = [(one.job.id, one.fence) for one in held]
        await flight.drop(self._db, held)
        await flight.free(self._db, left, self._fence)
        self.effects.left += left
