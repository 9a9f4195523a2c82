"""The store in plain dictionaries: the oracle that every other store must equal.

It is written to be seen to be right, not to be fast, and it keeps nothing when it is closed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path

from zizq.budget import Budget, Draw
from zizq.clock import Dice
from zizq.cron import CronGroup, CronJob
from zizq.engine import budgets, decide, pauses, unique
from zizq.engine.bucket import Bucket
from zizq.engine.changes import Change, Rebind, Retry
from zizq.engine.decide import Settled
from zizq.engine.selection import Selection
from zizq.engine.transitions import Cause
from zizq.engine.window import key_of
from zizq.errors import Outdated, Unprocessable, Unsupported
from zizq.job import TERMINAL, ErrorRecord, Failure, JobRecord, Status
from zizq.policy import Defaults
from zizq.store.base import NO_BUDGETS, NOTHING, Changed, Compacted, Listener, Silence
from zizq.store.memory_copies import MemoryCopies
from zizq.store.memory_crons import MemoryCrons
from zizq.store.memory_reads import MemoryReads


class MemoryStore(MemoryReads, MemoryCrons, MemoryCopies):
    """A store that lasts as long as its process.

    Args:
        defaults: What jobs get where they say nothing.
        dice: Places retries inside their jitter.
        max_budgets: How many budgets there may be.
    """

    def __init__(self, defaults: Defaults, dice: Dice, max_budgets: int = budgets.MAX_BUDGETS) -> None:
        self._defaults = defaults
        self._dice = dice
        self._listener: Listener = Silence()
        self._jobs: dict[str, JobRecord] = {}
        self._errors: dict[str, list[ErrorRecord]] = {}
        self._owner: dict[str, int] = {}
        self._timeouts: dict[str, int] = {}
        self._deaths: dict[str, int] = {}
        self._batched: dict[str, str] = {}
        self._buckets: dict[str, Bucket] = {}
        self._held: dict[str, Sequence[Draw]] = {}
        self._max_budgets = max_budgets
        self._crons: dict[str, CronGroup] = {}
        self._paused: dict[str, int] = {}

    async def open(self, listener: Listener) -> None:
        """Begin empty."""
        self._listener = listener

    async def close(self) -> None:
        """Nothing to give up."""

    async def enqueue(
        self,
        jobs: Sequence[JobRecord],
        now: int,
        folds: Sequence[JobRecord] = (),
        pending: Mapping[str, str | None] = NOTHING,
        create: Mapping[str, Budget] = NO_BUDGETS,
    ) -> Sequence[JobRecord]:
        """Keep new jobs."""
        waiting = await self.pending(pending)
        if any((waiting[key].id if key in waiting else None) != job_id for key, job_id in pending.items()):
            raise Outdated("the job that waits under a batch key has changed meanwhile: try again")
        outcome = self._admit(jobs, now, create)
        for job in folds:
            self._jobs[job.id] = self._jobs[job.id].with_(payload=job.payload)
        stored = [job for job, stands in zip(jobs, outcome, strict=True) if stands is job]
        self._announce(stored)
        self._announce(folds)
        self._tell(Cause.ENQUEUE, stored)
        return outcome

    def _admit(self, jobs: Sequence[JobRecord], now: int, create: Mapping[str, Budget]) -> list[JobRecord]:
        before = (dict(self._jobs), dict(self._batched), dict(self._buckets))
        try:
            outcome = []
            for index, job in enumerate(jobs):
                outcome.append(self._enqueue(job, now))
                if outcome[-1] is job:
                    self._check_draws(index, job, now, create)
        except Unprocessable:
            self._jobs, self._batched, self._buckets = before
            raise
        return outcome

    def _check_draws(self, index: int, job: JobRecord | CronJob, now: int, create: Mapping[str, Budget]) -> None:
        for draw in job.budgets or ():
            if draw.key not in self._buckets and draw.key in create:
                if len(self._buckets) >= self._max_budgets:
                    raise budgets.too_many_budgets(draw.key, self._max_budgets).at(index)
                self._buckets[draw.key] = Bucket(create[draw.key], now)
            if refusal := budgets.draw_refusal(draw, self._budget(draw.key)):
                raise refusal.at(index)

    def _budget(self, key: str) -> Budget | None:
        bucket = self._buckets.get(key)
        return None if bucket is None else bucket.budget

    async def budgets(self) -> list[Budget]:
        """All budgets."""
        return [self._buckets[key].budget for key in sorted(self._buckets)]

    async def save_budget(self, key: str, before: Budget | None, after: Budget | None, now: int) -> bool:
        """Create, change or delete a budget."""
        bucket = self._buckets.get(key)
        if self._budget(key) != before:
            return False
        least = 0 if after is None else after.capacity
        unfinished = [job for job in self._jobs.values() if job.status not in TERMINAL]
        costs = [draw.cost for job in unfinished for draw in job.budgets or () if draw.key == key and draw.cost > least]
        crons = self._crons_drawing(key, least)
        if after is None:
            if costs:
                raise budgets.in_use_by_jobs(key, len(costs))
            if crons:
                raise budgets.in_use_by_crons(key, len(crons), min(crons))
            self._buckets.pop(key, None)
            return True
        if costs:
            raise budgets.too_small_for_jobs(after, len(costs), max(costs))
        if crons:
            raise budgets.too_small_for_crons(after, len(crons), max(crons.values()), min(crons))
        if bucket is None and len(self._buckets) >= self._max_budgets:
            raise budgets.too_many_budgets(key, self._max_budgets)
        if bucket is None:
            self._buckets[key] = Bucket(after, now)
        else:
            bucket.change(after, now)
        self._tell_of_budgets([key])
        return True

    def _crons_drawing(self, key: str, above: int) -> dict[str, int]:
        """The cron entries whose jobs draw more than so much, and how much."""
        entries = {f"{group.name}/{entry.name}": entry for group in self._crons.values() for entry in group.entries}
        draws = [(name, draw) for name, entry in entries.items() for draw in entry.job.budgets or ()]
        return {name: draw.cost for name, draw in draws if draw.key == key and draw.cost > above}

    def _pay(self, job: JobRecord, now: int, blocked: set[str]) -> bool:
        """Take the tokens of a job, unless one that stands before it waits for one of its budgets."""
        draws = [draw for draw in job.budgets or () if draw.key in self._buckets]
        keys = {draw.key for draw in draws}
        if keys & blocked or not all(self._buckets[draw.key].affords(draw.cost, now) for draw in draws):
            blocked |= keys
            return False
        for draw in draws:
            self._buckets[draw.key].take(draw.cost, now)
        return True

    def _tell_of_budgets(self, keys: Collection[str]) -> None:
        queues = dict.fromkeys(job.queue for job in self._ready() for draw in job.budgets or () if draw.key in keys)
        if queues:
            self._listener.available(queues)

    def _ready(self) -> list[JobRecord]:
        """The ready jobs that are not paused."""
        return [job for job in self._jobs.values() if job.status is Status.READY and job.queue not in self._paused]

    def _enqueue(self, job: JobRecord, now: int) -> JobRecord:
        if job.unique_key is not None:
            others = [one for one in self._jobs.values() if one.unique_key == job.unique_key]
            for other in sorted(others, key=lambda one: one.id, reverse=True):
                if not decide.is_expired(other, now) and unique.conflicts(job.unique_while or "", other):
                    return other.with_(payload=None)
        if job.batch is not None and job.status is Status.READY:
            self._batched[job.batch.key] = job.id
        self._jobs[job.id] = job
        return job

    async def pending(self, keys: Collection[str]) -> dict[str, JobRecord]:
        """The jobs that wait under batch keys."""
        found = {key: self._jobs.get(self._batched.get(key, "")) for key in keys}
        return {key: job for key, job in found.items() if job is not None and job.status is Status.READY}

    async def take(
        self, owner: int, queues: Collection[str], limit: int, now: int, timeout_ms: int | None = None
    ) -> list[JobRecord]:
        """Hand out the first ready jobs."""
        ready = [job for job in self._ready() if not queues or job.queue in queues]
        blocked: set[str] = set()
        paid = (job for job in sorted(ready, key=key_of) if self._pay(job, now, blocked))
        taken = [decide.on_take(job, now) for job in islice(paid, limit)]
        for job in taken:
            self._jobs[job.id] = job
            self._owner[job.id] = owner
            self._held[job.id] = job.budgets or ()
            if timeout_ms is not None:
                self._timeouts[job.id] = timeout_ms
            if job.batch is not None and self._batched.get(job.batch.key) == job.id:
                del self._batched[job.batch.key]
        payable = self._next_payable()
        if payable is not None:
            self._listener.scheduled(payable)
        self._tell_overdue()
        return taken

    async def release(self, owner: int, *, died_at: int | None = None, running: int | None = None) -> int:
        """Give back what an owner holds."""
        held = [job_id for job_id, holder in self._owner.items() if holder == owner]
        if died_at is not None:
            self._count_deaths(held[:running], died_at)
        await self.release_jobs([job_id for job_id in held if job_id in self._owner])
        return len(held)

    def _count_deaths(self, ids: Sequence[str], now: int) -> None:
        """Count a death of each job's worker; those that are dead by it leave their owner."""
        for job_id in ids:
            self._deaths[job_id] = self._deaths.get(job_id, 0) + 1
            settled = decide.on_worker_death(self._jobs[job_id], self._deaths[job_id], now, self._defaults)
            if settled is not None:
                self._settle(settled)
                self._free([job_id])
                self._tell_failed(settled)

    async def release_jobs(self, ids: Sequence[str], owners: Collection[int] | None = None) -> list[bool]:
        """Give back jobs that are in flight."""
        found = [job_id in self._owner and (owners is None or self._owner[job_id] in owners) for job_id in ids]
        held = [job_id for job_id, is_held in zip(ids, found, strict=True) if is_held]
        self._free(held)
        for job_id in held:
            self._jobs[job_id] = decide.on_release(self._jobs[job_id])
        released = [self._jobs[job_id] for job_id in held]
        self._announce(released)
        self._tell(Cause.RELEASE, released)
        return found

    async def in_flight(self, ids: Collection[str]) -> dict[str, JobRecord]:
        """Those of the jobs that are in flight."""
        return {job_id: self._jobs[job_id].with_(payload=None) for job_id in ids if job_id in self._owner}

    async def succeed(self, ids: Sequence[str], now: int) -> list[bool]:
        """Complete jobs that are in flight."""
        found = [job_id in self._owner for job_id in ids]
        held = [job_id for job_id in ids if job_id in self._owner]
        settled = [decide.on_success(self._jobs[job_id], now, self._defaults) for job_id in held]
        for one in settled:
            self._settle(one)
        self._free(held)
        self._tell(Cause.SUCCEED, [one.job for one in settled])
        return found

    async def fail(self, job_id: str, failure: Failure, now: int) -> JobRecord | None:
        """Count and record a failure."""
        if job_id not in self._owner:
            return None
        settled = decide.on_failure(self._jobs[job_id], failure, now, self._defaults, self._dice.unit())
        self._settle(settled)
        self._free([job_id])
        self._announce([settled.job])
        self._tell_failed(settled)
        return settled.job.with_(payload=None)

    async def fail_overdue(self, now: int, limit: int) -> int:
        """Fail jobs that were held for longer than they may be."""
        overdue = [job_id for at, job_id in self._overdue() if at <= now][:limit]
        for job_id in overdue:
            job, stream_ms = self._jobs[job_id], self._timeouts.get(job_id)
            settled = decide.on_timeout(job, stream_ms, now, self._defaults, self._dice.unit())
            self._settle(settled)
            self._free([job_id])
            self._announce([settled.job])
            self._tell_failed(settled)
        return len(overdue)

    async def next_overdue(self) -> int | None:
        """When the next job will have been held for too long."""
        return next((at for at, _ in self._overdue()), None)

    def _overdue(self) -> list[tuple[int, str]]:
        """The jobs in flight that may be held for so long only, and until when, earliest first."""
        times = [(decide.overdue_at(self._jobs[job_id], self._timeouts.get(job_id)), job_id) for job_id in self._owner]
        return sorted((at, job_id) for at, job_id in times if at is not None)

    def _tell_overdue(self) -> None:
        for at, _ in self._overdue()[:1]:
            self._listener.overdue(at)

    async def change(self, selection: Selection, change: Change, now: int) -> Changed:
        """Delete, patch, retry or rebind jobs."""
        for draw in change.draws if isinstance(change, Rebind) else ():
            if refusal := budgets.draw_refusal(draw, self._budget(draw.key)):
                raise refusal
        chosen = [job for job in self._selected(selection, now) if change.suits(job.status)]
        after = [job for job in (self._apply(change, job, now) for job in chosen) if job is not None]
        self._announce(after)
        # Others may have waited behind them.
        self._tell_of_budgets({draw.key for job in chosen for draw in job.budgets or ()})
        self._tell(change.cause, after or chosen)
        named = selection.ids is not None and len(selection.ids) == 1
        return Changed(len(chosen), after[0].with_(payload=None) if named and after else None)

    async def promote(self, now: int, limit: int) -> int:
        """Make scheduled jobs ready whose time has come."""
        for bucket in self._buckets.values():
            bucket.tokens(now)
        self._tell_of_budgets(self._buckets)
        due = [job for job in self._scheduled() if job.ready_at <= now][:limit]
        ready = [decide.on_promote(job) for job in due]
        self._jobs.update((job.id, job) for job in ready)
        self._announce(ready)
        self._tell(Cause.PROMOTE, ready)
        return len(ready)

    async def next_due(self) -> int | None:
        """The earliest instant for which a job is scheduled, or at which a budget lets one go."""
        times = [job.ready_at for job in self._scheduled()[:1]]
        return min((at for at in (*times, self._next_payable()) if at is not None), default=None)

    def _next_payable(self) -> int | None:
        """When time alone lets the next ready job go that its budgets could not pay when they were last asked."""
        found = []
        for job in self._ready():
            known = [(self._buckets[draw.key], draw.cost) for draw in job.budgets or () if draw.key in self._buckets]
            # At 0 no tokens come back, and 0 is the answer of those that can pay.
            times = [bucket.affordable_at(cost, 0) for bucket, cost in known]
            latest = max((at for at in times if at is not None), default=0)
            if latest and None not in times:
                found.append(latest)
        return min(found, default=None)

    async def reap(self, now: int, limit: int) -> int:
        """Remove finished jobs past their retention."""
        expired = [job for job in self._jobs.values() if decide.is_expired(job, now)][:limit]
        for job in expired:
            self._remove(job.id)
        self._tell(Cause.REAP, expired)
        return len(expired)

    async def paused_queues(self) -> dict[str, int]:
        """The queues that are paused."""
        return dict(self._paused)

    async def pause_queue(self, queue: str, now: int) -> int:
        """Let no job of a queue be taken any more."""
        if queue not in self._paused:
            if len(self._paused) >= pauses.MAX_PAUSED:
                raise pauses.too_many_paused(queue)
            drawn = {draw.key for job in self._ready() if job.queue == queue for draw in job.budgets or ()}
            self._paused[queue] = now
            # Others may have waited behind its jobs.
            self._tell_of_budgets(drawn)
        return self._paused[queue]

    async def resume_queue(self, queue: str) -> bool:
        """Let jobs of a queue be taken again."""
        was_paused = self._paused.pop(queue, None) is not None
        if was_paused:
            self._listener.available([queue])
        return was_paused

    async def reset(self) -> None:
        """Remove everything."""
        self._free(list(self._owner))
        for kept in (
            self._jobs, self._errors, self._deaths, self._batched, self._buckets, self._crons, self._paused,
        ):  # fmt: skip
            kept.clear()
        self._listener.moved(Cause.DELETE, None)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Sequence[Path]]:
        """Refused: there are no files."""
        raise Unsupported("a store in memory cannot be backed up: it ends with its process")
        yield ()

    async def compact(self) -> Compacted:
        """Nothing, for memory has no file."""
        return Compacted(0, 0)

    def trouble(self) -> str | None:
        """Memory is never full before the process is."""
        return None

    def _scheduled(self) -> list[JobRecord]:
        waiting = [job for job in self._jobs.values() if job.status is Status.SCHEDULED]
        return sorted(waiting, key=lambda job: (job.ready_at, job.id))

    def _apply(self, change: Change, job: JobRecord, now: int) -> JobRecord | None:
        after = change.apply(job, now)
        if after is None:
            self._remove(job.id)
            self._free([job.id] if job.id in self._owner else [])
            return None
        if isinstance(change, Retry):
            self._errors.pop(job.id, None)
            self._deaths.pop(job.id, None)
        self._jobs[job.id] = after
        return after

    def _settle(self, settled: Settled) -> None:
        job = settled.job
        if settled.error is not None:
            self._errors.setdefault(job.id, []).append(settled.error)
        if settled.kept:
            self._jobs[job.id] = job
        else:
            self._remove(job.id)

    def _remove(self, job_id: str) -> None:
        self._jobs.pop(job_id, None)
        self._errors.pop(job_id, None)
        self._deaths.pop(job_id, None)

    def _free(self, ids: Sequence[str]) -> None:
        for job_id in ids:
            self._listener.freed(self._owner.pop(job_id), 1)
            self._give_back(self._held.pop(job_id, ()))
            self._timeouts.pop(job_id, None)

    def _give_back(self, draws: Sequence[Draw]) -> None:
        for draw in draws:
            if draw.key in self._buckets:
                self._buckets[draw.key].give_back(draw.cost)
        if draws:
            self._tell_of_budgets({draw.key for draw in draws})

    def _tell(self, cause: Cause, jobs: Sequence[JobRecord], errors: Sequence[ErrorRecord] = ()) -> None:
        if jobs:
            self._listener.moved(cause, jobs, errors)

    def _tell_failed(self, settled: Settled) -> None:
        self._tell(Cause.FAIL, [settled.job], [settled.error] if settled.error is not None else [])

    def _announce(self, jobs: Iterable[JobRecord]) -> None:
        queues = dict.fromkeys(job.queue for job in jobs if job.status is Status.READY)
        if ready := [queue for queue in queues if queue not in self._paused]:
            self._listener.available(ready)
        for job in jobs:
            if job.status is Status.SCHEDULED:
                self._listener.scheduled(job.ready_at)
