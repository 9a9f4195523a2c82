"""Batched jobs: jobs that wait under one key are folded into one before they are stored (protocol.md#6).

The expressions run in processes of their own, so a fold is a read, a question to jq, and a write that holds only if
what was read is still so. Enqueues under one key take turns; those that come while one is at work share the next
turn, and so a commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import NamedTuple, Protocol
from weakref import WeakValueDictionary

import msgspec

from zizq.budget import Budget
from zizq.clock import Clock
from zizq.errors import Outdated, Unprocessable
from zizq.job import JobRecord, Status, any_batched
from zizq.store.base import NO_BUDGETS, Store


class Folder(Protocol):
    """Runs the expressions of batches."""

    async def check_batch(self, when: str, fold: str, payload: bytes) -> None:
        """Try both expressions on a payload.

        Raises:
            Unprocessable: When one cannot work.
        """

    async def fold(self, existing: bytes, when: str, fold: str, news: Sequence[bytes]) -> tuple[bytes, int, str | None]:
        """Fold payloads into one, one after the other, for as long as `when` lets them in.

        Returns:
            The payload, how many were folded into it, and why the next one failed, if it did.
        """


class FoldFailed(Unprocessable):
    """A job could not be folded into the one that waits under its key.

    Args:
        index: Which of the jobs of its request.
        reason: What went wrong.
    """

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"batch fold: {reason}")
        self.at(index)


Write = Callable[
    [Sequence[JobRecord], int, Sequence[JobRecord], Mapping[str, str | None]], Awaitable[Sequence[JobRecord]]
]
"""Stores jobs and folds as `Store.enqueue` does, by its first four arguments."""


class _Request(NamedTuple):
    jobs: Sequence[JobRecord]
    answer: asyncio.Future[Sequence[JobRecord]]
    write: Write | None
    create: Mapping[str, Budget]


class _Plan:
    """What a turn will write.

    Args:
        requests: The requests that share it.
    """

    def __init__(self, requests: Sequence[_Request]) -> None:
        self.requests = requests
        self.final = {job.id: job for request in requests for job in request.jobs}
        """Each job as it will be stored; those that are folded into others are taken out."""
        self.create = {key: budget for request in reversed(requests) for key, budget in request.create.items()}
        """Budgets to create where they are missing; of several with one key the first counts."""
        self.folds: list[JobRecord] = []
        self.stands: dict[str, str] = {}
        """For a job that was folded, the one that it went into."""

    def waiting(self, key: str) -> list[tuple[_Request, int, JobRecord]]:
        """The jobs that come under a key, with their requests and places in them."""
        coming = [
            (request, index, job)
            for request in self.requests
            for index, job in enumerate(request.jobs)
            if is_foldable(job) and job.batch is not None and job.batch.key == key
        ]
        # The store has the last of them wait; requests may have come in another order, after their expressions' trial.
        return sorted(coming, key=lambda one: one[2].id)

    def declined(self, job: JobRecord, reason: Unprocessable) -> _Declined:
        """That the request of a job cannot be carried out."""
        places = ((one, index) for one in self.requests for index, own in enumerate(one.jobs) if own.id == job.id)
        request, index = next(places)
        return _Declined(request, reason.at(index))


class Batches:
    """Enqueues requests that have batched jobs.

    Args:
        store: Where jobs rest.
        clock: The time for what is stored.
        folder: Runs the expressions.
    """

    def __init__(self, store: Store, clock: Clock, folder: Folder) -> None:
        self._store = store
        self._clock = clock
        self._folder = folder
        # Each lives for as long as a turn holds it or waits for it, and no longer.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        # What the next turn of a key takes along; such a turn is under way, and has not begun.
        self._waiting: dict[str, list[_Request]] = {}
        self._turns: set[asyncio.Task[None]] = set()

    async def check(self, job: JobRecord) -> None:
        """Hold the expressions of a batched job to their rules (protocol.md#6).

        Raises:
            Unprocessable: When one cannot work.
        """
        if job.batch is not None:
            await self._folder.check_batch(job.batch.when, job.batch.fold, bytes(job.payload or b""))

    async def enqueue(
        self, jobs: Sequence[JobRecord], write: Write | None = None, create: Mapping[str, Budget] = NO_BUDGETS
    ) -> Sequence[JobRecord]:
        """Store new jobs, or fold them, all or none; returns for each itself or the one that stands for it.

        Args:
            jobs: The jobs.
            write: Stores them, in a commit that they share with no other request; None is `Store.enqueue`.
            create: Budgets to create where jobs draw on them and they are missing; only for `Store.enqueue`.

        Raises:
            FoldFailed: When an expression fails on the payloads; nothing of this request is stored.
            Unprocessable: When a job draws on a budget that is missing or too small; nothing of this request is stored.
            Unavailable: When the store cannot write; nothing is stored.
        """
        request = _Request(jobs, asyncio.get_running_loop().create_future(), write, create)
        keys = sorted({job.batch.key for job in jobs if job.batch is not None and is_foldable(job)})
        if not _can_share(keys, request):
            self._begin(keys, lambda: [request])
        elif keys[0] in self._waiting:
            self._waiting[keys[0]].append(request)
        else:
            self._waiting[keys[0]] = [request]
            self._begin(keys, lambda: self._waiting.pop(keys[0]))
        return await request.answer

    def _begin(self, keys: Sequence[str], requests: Callable[[], Sequence[_Request]]) -> None:
        """Have requests carried out when it is their turn; a caller that leaves does not leave others behind."""
        turn = asyncio.create_task(self._turn(keys, requests))
        # Kept, for the loop alone would not.
        self._turns.add(turn)
        turn.add_done_callback(self._turns.discard)

    async def _turn(self, keys: Sequence[str], take: Callable[[], Sequence[_Request]]) -> None:
        locks = [self._locks.setdefault(key, asyncio.Lock()) for key in keys]
        async with AsyncExitStack() as held:
            for lock in locks:
                await held.enter_async_context(lock)
            requests = take()
            try:
                while requests:
                    requests = await self._round(keys, requests)
            except BaseException as error:
                for one in requests:
                    if not one.answer.done():
                        one.answer.set_exception(error)
                if not isinstance(error, Exception):
                    raise

    async def _round(self, keys: Collection[str], requests: Sequence[_Request]) -> list[_Request]:
        """Try to write what requests ask for; returns those that have to be tried again."""
        plan = _Plan(requests)
        try:
            stands = await self._carry_out(keys, plan)
        except Outdated:
            return list(requests)
        except _Declined as declined:
            if not declined.request.answer.done():
                declined.request.answer.set_exception(declined.reason)
            return [one for one in requests if one is not declined.request]
        for request in requests:
            if not request.answer.done():
                request.answer.set_result(_answer(request.jobs, plan.stands, stands))
        return []

    async def _carry_out(self, keys: Collection[str], plan: _Plan) -> dict[str, JobRecord]:
        """Fold what can be folded, and write; returns the jobs that are stored, or stand for others."""
        pending = await self._store.pending(keys)
        for key in keys:
            await self._fold(key, pending.get(key), plan)
        expected = {key: pending[key].id if key in pending else None for key in keys}
        new = [plan.final[job_id] for job_id in sorted(plan.final)]
        write = plan.requests[0].write or partial(self._store.enqueue, create=plan.create)
        try:
            stored = await write(new, self._clock.wall_ms(), plan.folds, expected)
        except Unprocessable as error:
            if error.index is None:
                raise
            raise plan.declined(new[error.index], error) from error
        stands = {job.id: stand for job, stand in zip(new, stored, strict=True)}
        return stands | {job.id: job for job in plan.folds}

    async def _fold(self, key: str, current: JobRecord | None, plan: _Plan) -> None:
        """Fold all that comes under a key into the job that waits there, or into the first that comes."""
        coming = plan.waiting(key)
        while coming or current is not None:
            if current is None:
                (_, _, current), *coming = coming
                continue
            payload, count = await self._fold_into(current, coming)
            for _, _, job in coming[:count]:
                plan.stands[job.id] = current.id
                del plan.final[job.id]
            current = current.with_(payload=msgspec.Raw(payload))
            if current.id in plan.final:
                plan.final[current.id] = current
            elif count:
                plan.folds.append(current)
            # What is left was not let in: this job is sealed, and the next one waits in its place.
            coming, current = coming[count:], None

    async def _fold_into(self, job: JobRecord, coming: Sequence[tuple[_Request, int, JobRecord]]) -> tuple[bytes, int]:
        payload = bytes(job.payload or b"")
        if not coming or job.batch is None:
            return payload, 0
        news = [bytes(other.payload or b"") for _, _, other in coming]
        payload, count, error = await self._folder.fold(payload, job.batch.when, job.batch.fold, news)
        if error is not None:
            request, index, _ = coming[count]
            raise _Declined(request, FoldFailed(index, error))
        return payload, count


class _Declined(Exception):
    """One request of a turn cannot be carried out."""

    def __init__(self, request: _Request, reason: Unprocessable) -> None:
        super().__init__(str(reason))
        self.request = request
        self.reason = reason


def _can_share(keys: Sequence[str], request: _Request) -> bool:
    """Whether others may come to share the turn of a request."""
    return len(keys) == 1 and request.write is None


def is_foldable(job: JobRecord) -> bool:
    """Whether a new job takes part in folding: one for later does not (protocol.md#6)."""
    return job.batch is not None and job.status is Status.READY


def any_foldable(jobs: Sequence[JobRecord]) -> bool:
    """Whether any of some jobs `is_foldable`."""
    return any_batched(jobs) and any(map(is_foldable, jobs))


def _answer(
    jobs: Sequence[JobRecord], folded: Mapping[str, str], stored: Mapping[str, JobRecord]
) -> Sequence[JobRecord]:
    return [stored[folded.get(job.id, job.id)].with_(payload=None) for job in jobs]
