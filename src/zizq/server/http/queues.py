"""Handlers of queues: which there are, what state they are in, and their pauses (protocol.md#9, protocol.md#14.6)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from zizq.job import check_name
from zizq.server.catalog import Catalog
from zizq.server.http.exchange import Request, Response
from zizq.server.http.query import flag
from zizq.wire import operations as op
from zizq.wire.messages import Queues


class QueueHandlers:
    """The calls on queues."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    @property
    def routes(self) -> dict[op.Operation, Callable[..., Awaitable[Response]]]:
        """Which of them does what."""
        return {
            op.QUEUES: self.list_queues,
            op.GET_QUEUE: self.get,
            op.PAUSE_QUEUE: self.pause,
            op.RESUME_QUEUE: self.resume,
        }

    async def list_queues(self, request: Request) -> Response:
        """GET /queues."""
        may_use = request.limits.may_use if request.limits is not None else lambda _: True
        if not flag(request.query(op.QUEUES), "states"):
            return request.answer(200, Queues(list(filter(may_use, await self._catalog.queues()))))
        states = [state for state in await self._catalog.queue_states() if may_use(state.queue)]
        return request.answer(200, Queues([state.queue for state in states if state.counts.total], states))

    async def get(self, request: Request, queue: str) -> Response:
        """GET /queues/{queue}."""
        check_name("queue", queue)
        return request.answer(200, await self._catalog.queue_state(queue))

    async def pause(self, request: Request, queue: str) -> Response:
        """PUT /queues/{queue}/pause."""
        check_name("queue", queue)
        return request.answer(200, await self._catalog.pause_queue(queue))

    async def resume(self, request: Request, queue: str) -> Response:
        """DELETE /queues/{queue}/pause."""
        check_name("queue", queue)
        return request.answer(200, await self._catalog.resume_queue(queue))
