"""Handlers of what the server tells of itself: `GET /insight/...` as JSON (protocol.md#10.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal
from urllib.parse import parse_qs

import msgspec

from zizq.errors import Unavailable
from zizq.server.http.admin.answers import Handler, Routes, refuse
from zizq.server.http.exchange import Response, Scope, Send, respond
from zizq.server.insight.service import Insights
from zizq.wire import operations as op

_JSON = b"application/json"
_NOT_KEPT = ((b"cache-control", b"no-store"),)
_STEPS: dict[str, Literal["second", "minute"]] = {"second": "second", "minute": "minute"}


class InsightHandlers:
    """The calls that only look."""

    def __init__(self, insights: Insights) -> None:
        self._insights = insights

    @property
    def routes(self) -> Routes:
        """Which of them does what; all need to be allowed to read."""
        insights = self._insights
        questions: dict[str, Callable[[], Awaitable[Any]]] = {
            "overview": insights.overview,
            "queues": insights.queues,
            "workers": insights.workers,
            "failures": insights.failures,
            "storage": insights.storage,
            "crons": insights.crons,
            "budgets": insights.budgets,
        }
        handlers = {name: _answering(question) for name, question in questions.items()} | {
            "history": self._history,
            "job": self._job,
        }
        return {("GET", f"/insight/{name}"): (handler, op.Scope.READ) for name, handler in handlers.items()}

    async def _job(self, scope: Scope, send: Send) -> int:
        """GET /insight/job?id=ID."""
        job_id = parse_qs(scope["query_string"].decode("latin-1")).get("id", [""])[-1]
        try:
            job = await self._insights.job(job_id)
        except Unavailable as error:
            return await refuse(error, "not to be read just now", send)
        if job is None:
            await respond(send, Response(404))
            return 404
        return await _answer(job, send)

    async def _history(self, scope: Scope, send: Send) -> int:
        """GET /insight/history."""
        query = parse_qs(scope["query_string"].decode("latin-1"))
        step = _STEPS.get(query.get("step", ["minute"])[-1])
        if step is None:
            text = b"step is either second or minute"
            await respond(send, Response(400, text, b"text/plain; charset=utf-8"))
            return 400
        return await _answer(await self._insights.history(step), send)


def _answering(question: Callable[[], Awaitable[Any]]) -> Handler:
    """A handler that answers with what a question comes to."""

    async def handle(scope: Scope, send: Send) -> int:
        try:
            found = await question()
        except Unavailable as error:
            return await refuse(error, "not to be read just now", send)
        return await _answer(found, send)

    return handle


async def _answer(value: Any, send: Send) -> int:
    await respond(send, Response(200, msgspec.json.encode(value), _JSON, _NOT_KEPT))
    return 200
