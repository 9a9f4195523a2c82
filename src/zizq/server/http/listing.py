"""Handlers of lists: jobs and errors page by page, and the calls on all jobs that a filter chooses."""

from __future__ import annotations

import asyncio

from zizq.engine.changes import Change, Delete, Retry
from zizq.job import JobRecord
from zizq.server.catalog import Catalog
from zizq.server.http import bodies
from zizq.server.http.exchange import Request, Response
from zizq.server.http.gate import check_move
from zizq.server.http.query import Filter, change_filter, check_suits, job_filter, number, page_request
from zizq.server.payloads import Payloads
from zizq.wire import operations as op
from zizq.wire import paging
from zizq.wire.codec import Body, Format
from zizq.wire.messages import MAX_U32, Count, Deleted, ErrorPage, PatchBody, Patched, Retried

_PATCH = Body(PatchBody)


class ListHandlers:
    """The calls on many jobs, and on the errors of one."""

    def __init__(self, catalog: Catalog, payloads: Payloads) -> None:
        self._catalog = catalog
        self._payloads = payloads

    async def list_jobs(self, request: Request) -> Response:
        """GET /jobs (protocol.md#2.6)."""
        query = request.query(op.LIST_JOBS)
        wanted, chosen = page_request(query, str), job_filter(query)
        jobs, more = await self._catalog.page(*chosen, wanted.after, wanted.order, wanted.limit)
        # As they were read, and as they will be sent.
        request.hold(2 * sum(len(job.payload or b"") for job in jobs))
        pages = wanted.pages(op.LIST_JOBS.path, [job.id for job in jobs], more, chosen.text())
        body: list[bytes] = []
        await self._translate(jobs, request.form)
        for piece in paging.pieces(jobs, pages, request.form):
            body.append(piece)
            # Others get their turn.
            await asyncio.sleep(0)
        return request.answer_pieces(200, body)

    async def _translate(self, jobs: list[JobRecord], form: Format) -> None:
        """Put payloads into the format of a response, each in the place of what it was; others get their turn."""
        size = 0
        for at, job in enumerate(jobs):
            jobs[at] = await self._payloads.sent(job, form)
            size += len(job.payload or b"")
            if size >= paging.PIECE_BYTES:
                size = 0
                await asyncio.sleep(0)

    async def count_jobs(self, request: Request) -> Response:
        """GET /jobs/count (protocol.md#2.7)."""
        chosen = job_filter(request.query(op.COUNT_JOBS))
        return request.answer(200, Count(await self._catalog.count(*chosen)))

    async def patch_jobs(self, request: Request) -> Response:
        """PATCH /jobs (protocol.md#2.9)."""
        chosen = change_filter(request.query(op.PATCH_JOBS))
        body = await request.read(_PATCH)
        if request.limits is not None:
            check_move(request.limits, body)
        patch = bodies.patch(body)
        return request.answer(200, Patched(await self._change(chosen, patch, "patch")))

    async def delete_jobs(self, request: Request) -> Response:
        """DELETE /jobs (protocol.md#2.8)."""
        chosen = change_filter(request.query(op.DELETE_JOBS))
        return request.answer(200, Deleted(await self._change(chosen, Delete(), "delete")))

    async def retry_jobs(self, request: Request) -> Response:
        """POST /jobs/retry (protocol.md#2.11)."""
        chosen = change_filter(request.query(op.RETRY_JOBS))
        return request.answer(200, Retried(await self._change(chosen, Retry(), "retry")))

    async def list_errors(self, request: Request, job_id: str) -> Response:
        """GET /jobs/{id}/errors (protocol.md#2.10)."""
        wanted = page_request(request.query(op.LIST_ERRORS), _attempt)
        records = await self._catalog.errors(job_id, wanted.after, wanted.order, wanted.limit + 1)
        page, more = records[: wanted.limit], len(records) > wanted.limit
        pages = wanted.pages(op.LIST_ERRORS.at(job_id), [record.attempt for record in page], more)
        return request.answer(200, ErrorPage(page, pages))

    async def _change(self, chosen: Filter, change: Change, verb: str) -> int:
        check_suits(chosen.selection, change, verb)
        return await self._catalog.change(*chosen, change)


def _attempt(text: str) -> int:
    return number("from", text, MAX_U32)
