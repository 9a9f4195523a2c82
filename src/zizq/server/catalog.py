"""The catalog: what is queued, to be read, counted, changed and paused. It asks the store, and filters by payload.

A payload changes only by a fold, so what a filter says of a job stays true but for that. Filters are asked page by
page, in the order of identifiers, and what they let through is then read or changed at one instant.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from zizq.clock import Clock
from zizq.engine.changes import Change, Delete, Patch, Retry
from zizq.engine.selection import EVERYTHING, Selection
from zizq.errors import Missing, Unprocessable
from zizq.job import ErrorRecord, JobRecord
from zizq.store.base import Order, Page, Store
from zizq.wire.insight import Counts
from zizq.wire.messages import QueueState

_BATCH = 1000
"""Jobs that are read and filtered at a time."""


class Filters(Protocol):
    """Judges payloads by expressions that come from outside (protocol.md#2.6.2)."""

    async def matches(self, expression: str, payloads: Sequence[bytes]) -> list[bool]:
        """Whether each of the payloads, in their stored form, meets an expression.

        Raises:
            BadRequest: When the expression is malformed, or takes too long or too much memory.
        """


class Catalog:
    """What the server knows of jobs that rest.

    Args:
        store: Where they rest.
        clock: The time by which they expire.
        filters: Judges payloads.
    """

    def __init__(self, store: Store, clock: Clock, filters: Filters) -> None:
        self._store = store
        self._clock = clock
        self._filters = filters

    # ── read ──

    async def get(self, job_id: str) -> JobRecord:
        """One job with its payload.

        Raises:
            Missing: When there is none.
        """
        job = await self._store.get(job_id, self._clock.wall_ms())
        if job is None:
            raise Missing("job not found")
        return job

    async def errors(self, job_id: str, after: int | None, order: Order, limit: int) -> list[ErrorRecord]:
        """Failures of a job.

        Raises:
            Missing: When there is no such job.
        """
        await self.get(job_id)
        return await self._store.errors(job_id, after, order, limit)

    async def error(self, job_id: str, attempt: int) -> ErrorRecord:
        """One failure of a job.

        Raises:
            Missing: When there is no such job, or no such failure.
        """
        await self.get(job_id)
        record = await self._store.error(job_id, attempt)
        if record is None:
            raise Missing("error record not found")
        return record

    async def queues(self) -> list[str]:
        """The names of the queues that hold a job."""
        return await self._store.queues(self._clock.wall_ms())

    async def queue_states(self) -> list[QueueState]:
        """The state of every queue that holds a job or is paused, sorted by their UTF-8 bytes."""
        counts: dict[str, dict[str, int]] = {}
        for (queue, _, status), jobs in (await self._store.tally(self._clock.wall_ms())).items():
            of_queue = counts.setdefault(queue, {})
            of_queue[status.value] = of_queue.get(status.value, 0) + jobs
        paused = await self._store.paused_queues()
        names = sorted(counts.keys() | paused.keys(), key=str.encode)
        return [_state(name, paused.get(name), counts.get(name, {})) for name in names]

    async def queue_state(self, queue: str) -> QueueState:
        """The state of one queue, whether or not it holds a job."""
        states = await self.queue_states()
        return next((state for state in states if state.queue == queue), _state(queue, None, {}))

    async def page(
        self, selection: Selection, expression: str | None, after: str | None, order: Order, limit: int
    ) -> Page:
        """The first jobs of a selection by identifier.

        Args:
            selection: Which jobs.
            expression: A jq filter on their payloads; None for all.
            after: Only identifiers beyond this text, in the given order; None for all.
            order: By identifier, ascending or descending.
            limit: How many at most.

        Raises:
            BadRequest: When the filter is malformed or too slow.
        """
        if expression is None:
            return await self._store.page(selection, after, order, limit, self._clock.wall_ms())
        ids: list[str] = []
        async for some in self._matching(selection, expression, after, order):
            ids += some
            if len(ids) > limit:
                break
        chosen = selection.with_(ids=frozenset(ids[:limit]))
        page = await self._store.page(chosen, after, order, limit, self._clock.wall_ms())
        return Page(page.jobs, page.more or len(ids) > limit)

    async def count(self, selection: Selection, expression: str | None) -> int:
        """How many jobs a selection has, of those that a filter lets through.

        Raises:
            BadRequest: When the filter is malformed or too slow.
        """
        if expression is None:
            return await self._store.count(selection, self._clock.wall_ms())
        return sum([len(some) async for some in self._matching(selection, expression)])

    # ── change ──

    async def change(self, selection: Selection, expression: str | None, change: Change) -> int:
        """Delete, patch or retry the jobs of a selection that the change suits, all at once; returns how many.

        Raises:
            BadRequest: When the filter is malformed or too slow.
            Unavailable: When the store cannot write; nothing was changed.
        """
        if expression is not None:
            ids = [job_id async for some in self._matching(selection, expression) for job_id in some]
            selection = selection.with_(ids=frozenset(ids))
        changed = await self._store.change(selection, change, self._clock.wall_ms())
        return changed.jobs

    async def patch(self, job_id: str, patch: Patch) -> JobRecord:
        """Change one job; returns it without its payload.

        Raises:
            Missing: When there is none.
            Unprocessable: When it is finished.
        """
        return await self._change_one(job_id, patch, "patch")

    async def retry(self, job_id: str) -> JobRecord:
        """Bring one dead job back to ready; returns it without its payload.

        Raises:
            Missing: When there is none.
            Unprocessable: When it is not dead.
        """
        return await self._change_one(job_id, Retry(), "retry")

    async def delete(self, job_id: str) -> None:
        """Remove a job in any status.

        Raises:
            Missing: When there is none.
        """
        if not await self.change(_only(job_id), None, Delete()):
            raise Missing("job not found")

    async def pause_queue(self, queue: str) -> QueueState:
        """Let no job of a queue be taken any more; returns its state after that.

        Raises:
            Unprocessable: When it is one too many.
            Unavailable: When the store cannot write; nothing was changed.
        """
        await self._store.pause_queue(queue, self._clock.wall_ms())
        return await self.queue_state(queue)

    async def resume_queue(self, queue: str) -> QueueState:
        """Let jobs of a queue be taken again; returns its state after that.

        Raises:
            Unavailable: When the store cannot write; nothing was changed.
        """
        await self._store.resume_queue(queue)
        return await self.queue_state(queue)

    async def _change_one(self, job_id: str, change: Change, verb: str) -> JobRecord:
        changed = await self._store.change(_only(job_id), change, self._clock.wall_ms())
        if changed.job is None:
            job = await self.get(job_id)
            raise Unprocessable(f"cannot {verb} job {job_id} in {job.status} status")
        return changed.job

    async def _matching(
        self, selection: Selection, expression: str, after: str | None = None, order: Order = "asc"
    ) -> AsyncIterator[list[str]]:
        """The identifiers of jobs that meet a filter, batch by batch."""
        # Asked once with nothing, so that a malformed filter is refused where no job meets the selection.
        await self._filters.matches(expression, [])
        more = True
        while more:
            jobs, more = await self._store.page(selection, after, order, _BATCH, self._clock.wall_ms())
            verdicts = await self._filters.matches(expression, [job.payload or b"" for job in jobs])
            yield [job.id for job, verdict in zip(jobs, verdicts, strict=True) if verdict]
            after = jobs[-1].id if jobs else None


def _state(queue: str, paused_at: int | None, counts: Mapping[str, int]) -> QueueState:
    return QueueState(queue=queue, paused=paused_at is not None, paused_at=paused_at, counts=Counts(**counts))


def _only(job_id: str) -> Selection:
    return EVERYTHING.with_(ids=frozenset((job_id,)))
