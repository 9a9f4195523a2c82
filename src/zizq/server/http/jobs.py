"""Handlers of jobs: they parse, call the broker once, and answer; no rule is here."""

from __future__ import annotations

import msgspec

from zizq.engine import admit
from zizq.errors import BadRequest, Refusal
from zizq.job import Failure, JobRecord
from zizq.policy import MAX_MILLIS, Retention
from zizq.server.broker import Broker
from zizq.server.http.exchange import NO_CONTENT, Request, Response, whole_number
from zizq.store.base import Order
from zizq.wire import codec
from zizq.wire.codec import Body, Format
from zizq.wire.messages import (
    Enqueue,
    EnqueueBulk,
    Enqueued,
    EnqueuedBulk,
    ErrorPage,
    FailureBody,
    NotFoundIds,
    Pages,
    RetentionBody,
    SuccessBulk,
)

_ENQUEUE = Body(Enqueue)
_ENQUEUE_BULK = Body(EnqueueBulk)
_SUCCESS_BULK = Body(SuccessBulk)
_FAILURE = Body(FailureBody)
_MAX_U64 = 2**64 - 1
_MAX_U32 = 2**32 - 1
_MAX_PAGE = 2000


class JobHandlers:
    """The calls on jobs, but for the take stream."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def enqueue(self, request: Request) -> Response:
        """POST /jobs (protocol.md#2.2)."""
        body = await request.read(_ENQUEUE)
        job = _admitted(self._broker.next_id(), self._broker.now(), body, request.body_form)
        await self._broker.enqueue([job])
        return request.answer(201, _enqueued(job))

    async def enqueue_bulk(self, request: Request) -> Response:
        """POST /jobs/bulk (protocol.md#2.4)."""
        body = await request.read(_ENQUEUE_BULK)
        form, now, next_id = request.body_form, self._broker.now(), self._broker.next_id
        jobs: list[JobRecord] = []
        try:
            for one in body.jobs:
                jobs.append(_admitted(next_id(), now, one, form))  # noqa: PERF401 - its length says where it stopped
        except Refusal as refusal:
            raise type(refusal)(f"jobs[{len(jobs)}]: {refusal}") from refusal
        await self._broker.enqueue(jobs)
        return request.answer(201, EnqueuedBulk([_enqueued(job) for job in jobs]))

    async def get(self, request: Request, job_id: str) -> Response:
        """GET /jobs/{id} (protocol.md#2.5)."""
        job = await self._broker.get(job_id)
        return request.answer(200, codec.job_to_send(job, request.form))

    async def delete(self, request: Request, job_id: str) -> Response:
        """DELETE /jobs/{id} (protocol.md#2.8)."""
        await self._broker.delete(job_id)
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
        failure = Failure(
            message=body.message,
            error_type=body.error_type,
            backtrace=body.backtrace,
            retry_at=_instant("retry_at", body.retry_at),
            kill=bool(body.kill),
        )
        return request.answer(200, await self._broker.fail(job_id, failure))

    async def list_errors(self, request: Request, job_id: str) -> Response:
        """GET /jobs/{id}/errors (protocol.md#2.10)."""
        query = request.query("from", "order", "limit")
        after = _number("from", query["from"], _MAX_U32) if query.get("from") else None
        order = _order(query.get("order") or "asc")
        limit = _number("limit", query.get("limit") or "50", 2**16 - 1)
        if not 1 <= limit <= _MAX_PAGE:
            raise BadRequest(f"limit must be between 1 and {_MAX_PAGE}")
        records = await self._broker.errors(job_id, after, order, limit + 1)
        page, more = records[:limit], len(records) > limit

        def link(cursor: int | None, order: Order) -> str:
            start = "" if cursor is None else f"from={cursor}&"
            return f"/jobs/{job_id}/errors?{start}order={order}&limit={limit}"

        pages = Pages(
            self_=link(after, order),
            next=link(page[-1].attempt, order) if more else None,
            # The other way round: the page before, in reverse (protocol.md#2.6.1).
            prev=link(page[0].attempt, "desc" if order == "asc" else "asc") if page and after is not None else None,
        )
        return request.answer(200, ErrorPage(page, pages))

    async def get_error(self, request: Request, job_id: str, attempt: str) -> Response:
        """GET /jobs/{id}/errors/{attempt} (protocol.md#2.10)."""
        number = _number("attempt", attempt, _MAX_U32, "path")
        return request.answer(200, await self._broker.error(job_id, number))


def _admitted(job_id: str, now: int, body: Enqueue, form: Format) -> JobRecord:
    """The job that a request asks for."""
    admit.check(body.type, body.queue)
    if body.unique_key is not None or body.unique_while is not None or body.batch is not None or body.budgets:
        admit.check_options(body.unique_key, body.unique_while, body.batch, body.budgets)
    return admit.new_job(
        job_id,
        now,
        type=body.type,
        queue=body.queue,
        payload=codec.payload_to_store(body.payload, form),
        priority=body.priority,
        ready_at=_instant("ready_at", body.ready_at) if body.ready_at is not None else None,
        retry_limit=body.retry_limit,
        backoff=admit.checked_backoff(*msgspec.structs.astuple(body.backoff)) if body.backoff else None,
        retention=_retention(body.retention) if body.retention else None,
    )


def _retention(body: RetentionBody) -> Retention:
    return Retention(
        completed_ms=_instant("retention.completed_ms", body.completed_ms),
        dead_ms=_instant("retention.dead_ms", body.dead_ms),
    )


def _enqueued(job: JobRecord) -> Enqueued:
    return Enqueued(
        id=job.id,
        type=job.type,
        queue=job.queue,
        priority=job.priority,
        status=job.status,
        ready_at=job.ready_at,
        attempts=job.attempts,
        retry_limit=job.retry_limit,
        backoff=job.backoff,
        retention=job.retention,
        duplicate=False,
        folded=False,
    )


def _instant(field: str, value: int | None) -> int | None:
    """Milliseconds of 64 bits; those beyond what is stored stand for the end of time."""
    if value is not None and value > _MAX_U64:
        raise BadRequest(f"{field} {value} is out of range: at most {_MAX_U64}")
    return None if value is None else min(value, MAX_MILLIS)


def _number(field: str, text: str, most: int, where: str = "query parameters") -> int:
    number = whole_number(text, most)
    if number is None:
        raise BadRequest(f"invalid {where}: {field} {text!r} is not a whole number up to {most}")
    return number


def _order(text: str) -> Order:
    if text == "asc":
        return "asc"
    if text == "desc":
        return "desc"
    raise BadRequest(f"invalid query parameters: order {text!r} is neither asc nor desc")
