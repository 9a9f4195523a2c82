"""What can be asked of the store in memory without changing it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import accumulate

from zizq.engine import decide
from zizq.engine.bucket import Bucket
from zizq.engine.lists import JobList, ListQuery, in_order
from zizq.engine.selection import Selection
from zizq.job import ErrorRecord, JobRecord, Status
from zizq.store.base import PAGE_BYTES, Order, Page
from zizq.store.facts import StorageFacts
from zizq.store.views import Found, Tallied, Window, find_in, window_in


class MemoryReads:
    """The calls that only read."""

    _jobs: dict[str, JobRecord]
    _errors: dict[str, list[ErrorRecord]]
    _owner: dict[str, int]
    _buckets: dict[str, Bucket]

    async def get(self, job_id: str, now: int) -> JobRecord | None:
        """One job with its payload."""
        job = self._jobs.get(job_id)
        return None if job is None or decide.is_expired(job, now) else job

    async def page(self, selection: Selection, after: str | None, order: Order, limit: int, now: int) -> Page:
        """The first jobs of a selection by identifier."""
        found = sorted(self._selected(selection, now), key=lambda job: job.id, reverse=order == "desc")
        if after is not None:
            found = [job for job in found if (job.id > after if order == "asc" else job.id < after)]
        sizes = accumulate(len(job.payload or b"") for job in found)
        fitting = sum(1 for size in sizes if size <= PAGE_BYTES)
        jobs = found[: min(limit, max(1, fitting))]
        return Page(jobs, len(found) > len(jobs))

    async def count(self, selection: Selection, now: int) -> int:
        """How many jobs a selection has."""
        return len(self._selected(selection, now))

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

    # ── what is shown ──

    async def tally(self, now: int) -> dict[Tallied, int]:
        """How many jobs there are of each queue, type and status."""
        return dict(Counter(Tallied(job.queue, job.type, job.status) for job in self._there(now)))

    async def oldest_ready(self, now: int) -> dict[str, int]:
        """By queue: the `ready_at` of the ready job with the smallest identifier."""
        ready = sorted((job for job in self._there(now) if job.status is Status.READY), key=lambda job: job.id)
        return {job.queue: job.ready_at for job in reversed(ready)}

    async def held(self, owner: int, limit: int) -> list[JobRecord]:
        """The jobs that an owner holds."""
        return [self._jobs[job_id].with_(payload=None) for job_id, one in self._owner.items() if one == owner][:limit]

    async def tokens(self, now: int) -> dict[str, int]:
        """How many tokens each budget has."""
        return {key: bucket.tokens(now) for key, bucket in self._buckets.items()}

    async def window(
        self, of: JobList, place: int | str, limit: int, now: int, heard: Callable[[], None] = lambda: None
    ) -> Window | None:
        """A part of a list."""
        heard()
        return window_in(in_order(of, self._there(now)), place, limit)

    async def find(
        self, of: JobList, query: ListQuery, beside: str | None, backward: bool, limit: int, now: int
    ) -> Found | None:
        """The next job of a list that a query lets through."""
        return find_in(in_order(of, self._there(now)), query, beside, backward, limit)

    async def storage(self) -> StorageFacts:
        """There are no files, and nothing is committed."""
        return StorageFacts()

    def _selected(self, selection: Selection, now: int) -> list[JobRecord]:
        return [job for job in self._jobs.values() if job in selection and not decide.is_expired(job, now)]

    def _there(self, now: int) -> list[JobRecord]:
        return [job for job in self._jobs.values() if not decide.is_expired(job, now)]
