"""The store in plain dictionaries: the oracle that every other store must equal.

It is written to be seen to be right, not to be fast, and it keeps nothing when it is closed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from zizq.clock import Dice
from zizq.engine import decide
from zizq.engine.decide import Settled
from zizq.engine.window import key_of
from zizq.job import ErrorRecord, Failure, JobRecord, Status
from zizq.policy import Defaults
from zizq.store.base import Listener, Order, Silence


class MemoryStore:
    """A store that lasts as long as its process.

    Args:
        defaults: What jobs get where they say nothing.
        dice: Places retries inside their jitter.
    """

    def __init__(self, defaults: Defaults, dice: Dice) -> None:
        self._defaults = defaults
        self._dice = dice
        self._listener: Listener = Silence()
        self._jobs: dict[str, JobRecord] = {}
        self._errors: dict[str, list[ErrorRecord]] = {}
        self._owner: dict[str, int] = {}

    async def open(self, listener: Listener) -> None:
        """Begin empty."""
        self._listener = listener

    async def close(self) -> None:
        """Nothing to give up."""

    async def enqueue(self, jobs: Sequence[JobRecord]) -> None:
        """Keep new jobs."""
        for job in jobs:
            self._jobs[job.id] = job
        self._announce(jobs)

    async def take(self, owner: int, queues: Collection[str], limit: int, now: int) -> list[JobRecord]:
        """Hand out the first ready jobs."""
        ready = [
            job for job in self._jobs.values() if job.status is Status.READY and (not queues or job.queue in queues)
        ]
        taken = [decide.on_take(job, now) for job in sorted(ready, key=key_of)[:limit]]
        for job in taken:
            self._jobs[job.id] = job
            self._owner[job.id] = owner
        return taken

    async def release(self, owner: int) -> int:
        """Give back what an owner holds."""
        held = [job_id for job_id, holder in self._owner.items() if holder == owner]
        self._free(held)
        for job_id in held:
            self._jobs[job_id] = decide.on_release(self._jobs[job_id])
        self._announce([self._jobs[job_id] for job_id in held])
        return len(held)

    async def succeed(self, ids: Sequence[str], now: int) -> list[bool]:
        """Complete jobs that are in flight."""
        found = [job_id in self._owner for job_id in ids]
        held = [job_id for job_id in ids if job_id in self._owner]
        for job_id in held:
            self._settle(decide.on_success(self._jobs[job_id], now, self._defaults))
        self._free(held)
        return found

    async def fail(self, job_id: str, failure: Failure, now: int) -> JobRecord | None:
        """Count and record a failure."""
        if job_id not in self._owner:
            return None
        settled = decide.on_failure(self._jobs[job_id], failure, now, self._defaults, self._dice.unit())
        self._settle(settled)
        self._free([job_id])
        self._announce([settled.job])
        return settled.job.with_(payload=None)

    async def delete(self, ids: Sequence[str], now: int) -> list[bool]:
        """Remove jobs in any status."""
        found = [await self.get(job_id, now) is not None for job_id in ids]
        for job_id in ids:
            self._remove(job_id)
        self._free([job_id for job_id in ids if job_id in self._owner])
        return found

    async def promote(self, now: int, limit: int) -> int:
        """Make scheduled jobs ready whose time has come."""
        due = [job for job in self._scheduled() if job.ready_at <= now][:limit]
        ready = [decide.on_promote(job) for job in due]
        self._jobs.update((job.id, job) for job in ready)
        self._announce(ready)
        return len(ready)

    async def next_due(self) -> int | None:
        """The earliest instant for which a job is scheduled."""
        return next((job.ready_at for job in self._scheduled()), None)

    async def reap(self, now: int, limit: int) -> int:
        """Remove finished jobs past their retention."""
        expired = [job.id for job in self._jobs.values() if decide.is_expired(job, now)][:limit]
        for job_id in expired:
            self._remove(job_id)
        return len(expired)

    async def get(self, job_id: str, now: int) -> JobRecord | None:
        """One job with its payload."""
        job = self._jobs.get(job_id)
        return None if job is None or decide.is_expired(job, now) else job

    async def errors(self, job_id: str, after: int | None, order: Order, limit: int) -> list[ErrorRecord]:
        """Failures of a job by attempt."""
        records = sorted(self._errors.get(job_id, ()), key=lambda record: record.attempt, reverse=order == "desc")
        if after is not None:
            records = [r for r in records if (r.attempt > after if order == "asc" else r.attempt < after)]
        return records[:limit]

    async def error(self, job_id: str, attempt: int) -> ErrorRecord | None:
        """One failure of a job."""
        return next((record for record in self._errors.get(job_id, ()) if record.attempt == attempt), None)

    async def queues(self, now: int) -> list[str]:
        """The queues that hold a job."""
        names = {job.queue for job in self._jobs.values() if not decide.is_expired(job, now)}
        return sorted(names, key=str.encode)

    async def reset(self) -> None:
        """Remove everything."""
        self._free(list(self._owner))
        self._jobs.clear()
        self._errors.clear()

    def trouble(self) -> str | None:
        """Memory is never full before the process is."""
        return None

    def _scheduled(self) -> list[JobRecord]:
        waiting = [job for job in self._jobs.values() if job.status is Status.SCHEDULED]
        return sorted(waiting, key=lambda job: (job.ready_at, job.id))

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

    def _free(self, ids: Sequence[str]) -> None:
        for job_id in ids:
            self._listener.freed(self._owner.pop(job_id), 1)

    def _announce(self, jobs: Iterable[JobRecord]) -> None:
        ready = {job.queue for job in jobs if job.status is Status.READY}
        if ready:
            self._listener.available(ready)
        for job in jobs:
            if job.status is Status.SCHEDULED:
                self._listener.scheduled(job.ready_at)
