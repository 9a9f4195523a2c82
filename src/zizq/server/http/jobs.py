"""Handlers of jobs: they parse, call the broker or the catalog once, and answer; no rule is here."""

from __future__ import annotations

from zizq.errors import BadRequest, Refusal, Unprocessable
from zizq.job import JobRecord, any_bound
from zizq.server.broker import Broker
from zizq.server.catalog import Catalog
from zizq.server.http import bodies
from zizq.server.http.exchange import NO_CONTENT, Request, Response
from zizq.server.http.query import number
from zizq.wire import codec
from zizq.wire.codec import Body
from zizq.wire.messages import (
    MAX_U32,
    Enqueue,
    EnqueueBulk,
    EnqueuedBulk,
    FailureBody,
    NotFoundIds,
    PatchBody,
    SuccessBulk,
)

_ENQUEUE = Body(Enqueue)
_ENQUEUE_BULK = Body(EnqueueBulk)
_SUCCESS_BULK = Body(SuccessBulk)
_FAILURE = Body(FailureBody)
_PATCH = Body(PatchBody)


class JobHandlers:
    """The calls on jobs that are named or brought, but for the take stream."""

    def __init__(self, broker: Broker, catalog: Catalog) -> None:
        self._broker = broker
        self._catalog = catalog

    async def enqueue(self, request: Request) -> Response:
        """POST /jobs (protocol.md#2.2)."""
        body, now = await request.read(_ENQUEUE), self._broker.now()
        job = bodies.new_job(self._broker.next_id(), now, body, request.body_form)
        if job.batch is not None:
            await self._broker.check_batch(job)
        if not job.is_bound:
            await self._broker.enqueue([job])
            return request.answer(201, bodies.enqueued_plain(job))
        [stands] = await self._broker.enqueue([job], bodies.creations(body.budgets or (), now))
        return request.answer(201 if stands.id == job.id else 200, bodies.enqueued(job, stands))

    async def enqueue_bulk(self, request: Request) -> Response:
        """POST /jobs/bulk (protocol.md#2.4)."""
        body = await request.read(_ENQUEUE_BULK)
        form, now, next_id = request.body_form, self._broker.now(), self._broker.next_id
        jobs: list[JobRecord] = []
        try:
            for one in body.jobs:
                job = bodies.new_job(next_id(), now, one, form)
                if job.batch is not None:
                    await self._broker.check_batch(job)
                jobs.append(job)
        except Refusal as refusal:
            raise type(refusal)(f"jobs[{len(jobs)}]: {refusal}") from refusal
        if not any_bound(jobs):
            await self._broker.enqueue(jobs)
            return request.answer(201, EnqueuedBulk(list(map(bodies.enqueued_plain, jobs))))
        create = bodies.creations((draw for one in body.jobs for draw in one.budgets or ()), now)
        try:
            stands = await self._broker.enqueue(jobs, create)
        except Unprocessable as error:
            raise Unprocessable(f"jobs[{error.index}]: {error}") from error
        answers = [bodies.enqueued(job, stand) for job, stand in zip(jobs, stands, strict=True)]
        some_new = any(stand.id == job.id for job, stand in zip(jobs, stands, strict=True))
        return request.answer(201 if some_new else 200, EnqueuedBulk(answers))

    async def get(self, request: Request, job_id: str) -> Response:
        """GET /jobs/{id} (protocol.md#2.5)."""
        job = await self._catalog.get(job_id)
        return request.answer(200, codec.job_to_send(job, request.form))

    async def patch(self, request: Request, job_id: str) -> Response:
        """PATCH /jobs/{id} (protocol.md#2.9)."""
        body = await request.read(_PATCH)
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
            return request.answer(404, {"error": "job not found in in-flight set"})
        return NO_CONTENT

    async def succeed_bulk(self, request: Request) -> Response:
        """POST /jobs/success (protocol.md#4.7)."""
        body = await request.read(_SUCCESS_BULK)
        if not body.ids:
            raise BadRequest("ids must not be empty")
        missing = await self._broker.succeed(body.ids)
        return request.answer(422, NotFoundIds(missing)) if missing else NO_CONTENT

    async def fail(self, request: Request, job_id: str) -> Response:
        """POST /jobs/{id}/failure (protocol.md#4.8)."""
        body = await request.read(_FAILURE)
        return request.answer(200, await self._broker.fail(job_id, bodies.failure(body)))

    async def get_error(self, request: Request, job_id: str, attempt: str) -> Response:
        """GET /jobs/{id}/errors/{attempt} (protocol.md#2.10)."""
        record = await self._catalog.error(job_id, number("attempt", attempt, MAX_U32, "path"))
        return request.answer(200, record)
