"""Handlers of jobs: they parse, call the broker or the catalog once, and answer; no rule is here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from zizq.errors import BadRequest, Refusal, Unprocessable
from zizq.job import JobRecord, any_bound
from zizq.server.broker import Broker
from zizq.server.catalog import Catalog
from zizq.server.http import bodies
from zizq.server.http.exchange import NO_CONTENT, Request, Response
from zizq.server.http.gate import NOT_IN_FLIGHT, check_move, check_new
from zizq.server.http.query import number
from zizq.server.payloads import SMALL, Payloads
from zizq.wire.codec import Body, Format
from zizq.wire.messages import (
    MAX_U32,
    Enqueue,
    EnqueueBulk,
    EnqueuedBulk,
    FailureBody,
    NotFoundIds,
    PatchBody,
    ReleaseBody,
    SuccessBulk,
)

TURN = 256 * 2**10
"""Bytes of payloads of one request that are made into jobs before others get their turn: two milliseconds."""
MOST = 256
"""The same for jobs."""
_ENQUEUE = Body(Enqueue)
_ENQUEUE_BULK = Body(EnqueueBulk)
_SUCCESS_BULK = Body(SuccessBulk)
_RELEASE = Body(ReleaseBody)
_FAILURE = Body(FailureBody)
_PATCH = Body(PatchBody)


class JobHandlers:
    """The calls on jobs that are named or brought, but for the take stream."""

    def __init__(self, broker: Broker, catalog: Catalog, payloads: Payloads) -> None:
        self._broker = broker
        self._payloads = payloads
        self._catalog = catalog

    async def enqueue(self, request: Request) -> Response:
        """POST /jobs (protocol.md#2.2)."""
        body, now = await request.read(_ENQUEUE), self._broker.now()
        if request.limits is not None:
            check_new(request.limits, [body])
        large = len(body.payload) > SMALL
        stored = await self._payloads.stored(body.payload, request.body_form) if large else None
        job = bodies.new_job(self._broker.next_id(), now, body, request.body_form, stored)
        if job.batch is not None:
            await self._broker.check_batch(job)
        if not job.is_bound:
            await self._broker.enqueue([job])
            return request.answer(201, bodies.enqueued_plain(job))
        [stands] = await self._broker.enqueue([job], bodies.creations(body.budgets or (), now))
        answer = bodies.enqueued(job, stands, hide=_is_hidden(request, stands))
        return request.answer(201 if stands.id == job.id else 200, answer)

    async def enqueue_bulk(self, request: Request) -> Response:
        """POST /jobs/bulk (protocol.md#2.4)."""
        body = await request.read(_ENQUEUE_BULK)
        if request.limits is not None:
            check_new(request.limits, body.jobs)
        now, jobs = self._broker.now(), []
        for at in range(0, len(body.jobs), MOST):
            if at:
                await asyncio.sleep(0)
            some = body.jobs[at : at + MOST]
            plain = bodies.plain_jobs(self._broker.next_ids, now, some, request.body_form, TURN)
            jobs += await self._one_by_one(at, now, some, request.body_form) if plain is None else plain
        if not any_bound(jobs):
            if jobs:
                await self._broker.enqueue(jobs)
            return request.answer(201, EnqueuedBulk(list(map(bodies.enqueued_plain, jobs))))
        create = bodies.creations((draw for one in body.jobs for draw in one.budgets or ()), now)
        try:
            stands = await self._broker.enqueue(jobs, create)
        except Unprocessable as error:
            raise Unprocessable(f"jobs[{error.index}]: {error}") from error
        answers = [
            bodies.enqueued(job, stand, hide=_is_hidden(request, stand))
            for job, stand in zip(jobs, stands, strict=True)
        ]
        some_new = any(stand.id == job.id for job, stand in zip(jobs, stands, strict=True))
        return request.answer(201 if some_new else 200, EnqueuedBulk(answers))

    async def _one_by_one(self, first: int, now: int, asked: Sequence[Enqueue], form: Format) -> list[JobRecord]:
        """The jobs that some enqueues of a request ask for, from the `first` one on."""
        jobs: list[JobRecord] = []
        read = 0
        try:
            for one in asked:
                stored = await self._payloads.stored(one.payload, form) if len(one.payload) > SMALL else None
                job = bodies.new_job(self._broker.next_id(), now, one, form, stored)
                if job.batch is not None:
                    await self._broker.check_batch(job)
                jobs.append(job)
                read += len(one.payload)
                if read >= TURN:
                    read = 0
                    await asyncio.sleep(0)
        except Refusal as refusal:
            raise type(refusal)(f"jobs[{first + len(jobs)}]: {refusal}") from refusal
        return jobs

    async def get(self, request: Request, job_id: str) -> Response:
        """GET /jobs/{id} (protocol.md#2.5)."""
        job = await self._catalog.get(job_id)
        return request.answer(200, await self._payloads.sent(job, request.form))

    async def patch(self, request: Request, job_id: str) -> Response:
        """PATCH /jobs/{id} (protocol.md#2.9)."""
        body = await request.read(_PATCH)
        if request.limits is not None:
            check_move(request.limits, body)
        return request.answer(200, await self._catalog.patch(job_id, bodies.patch(body)))

    async def retry(self, request: Request, job_id: str) -> Response:
        """POST /jobs/{id}/retry (protocol.md#2.11)."""
        return request.answer(200, await self._catalog.retry(job_id))

    async def delete(self, request: Request, job_id: str) -> Response:
        """DELETE /jobs/{id} (protocol.md#2.8)."""
        await self._catalog.delete(job_id)
        return NO_CONTENT

    async def succeed(self, request: Request, job_id: str) -> Response:
        """POST /jobs/{id}/success (protocol.md#4.6)."""
        if await self._broker.succeed([job_id]):
            return request.answer(404, {"error": NOT_IN_FLIGHT})
        return NO_CONTENT

    async def succeed_bulk(self, request: Request) -> Response:
        """POST /jobs/success (protocol.md#4.7)."""
        body = await request.read(_SUCCESS_BULK)
        if not body.ids:
            raise BadRequest("ids must not be empty")
        missing = await self._settle(request, body.ids, self._broker.succeed)
        return request.answer(422, NotFoundIds(missing)) if missing else NO_CONTENT

    async def release(self, request: Request) -> Response:
        """POST /jobs/release (protocol.md#14.3)."""
        body = await request.read(_RELEASE)
        stream = None if body.stream is None else request.own(body.stream)
        missing = await self._settle(request, body.ids, partial(self._broker.release, stream=stream))
        return request.answer(422, NotFoundIds(missing)) if missing else NO_CONTENT

    async def _settle(
        self, request: Request, ids: Sequence[str], settle: Callable[[Sequence[str]], Awaitable[list[str]]]
    ) -> list[str]:
        """Settle jobs, of those that are the caller's; returns those that were not in flight, as far as they know."""
        if request.limits is None:
            return await settle(ids)
        flying = await self._broker.in_flight(ids)
        theirs = [job_id for job_id, job in flying.items() if request.limits.may_use(job.queue)]
        settled = set(theirs).difference(await settle(theirs))
        return [job_id for job_id in dict.fromkeys(ids) if job_id not in settled]

    async def fail(self, request: Request, job_id: str) -> Response:
        """POST /jobs/{id}/failure (protocol.md#4.8)."""
        body = await request.read(_FAILURE)
        return request.answer(200, await self._broker.fail(job_id, bodies.failure(body)))

    async def get_error(self, request: Request, job_id: str, attempt: str) -> Response:
        """GET /jobs/{id}/errors/{attempt} (protocol.md#2.10)."""
        record = await self._catalog.error(job_id, number("attempt", attempt, MAX_U32, "path"))
        return request.answer(200, record)


def _is_hidden(request: Request, job: JobRecord) -> bool:
    """Whether a job is in a queue that is none of the caller's."""
    return request.limits is not None and not request.limits.may_use(job.queue)
