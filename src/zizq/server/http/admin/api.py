"""The admin API, on a port of its own: a table of paths, and what each does (protocol.md#10)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from urllib.parse import urlsplit

from zizq.clock import Clock
from zizq.errors import Denied
from zizq.server.auth import Auth
from zizq.server.http.admin.answers import Handler
from zizq.server.http.admin.events import PATH, EventHandler, send_away
from zizq.server.http.admin.insight import InsightHandlers
from zizq.server.http.admin.metrics import MetricsHandler
from zizq.server.http.admin.upkeep import UpkeepHandlers
from zizq.server.http.departures import Departures
from zizq.server.http.exchange import Message, Receive, Response, Scope, Send, is_deaf, respond, target
from zizq.server.http.gate import check_admin
from zizq.server.http.head import headers_of
from zizq.server.insight.service import Insights
from zizq.server.upkeep import Upkeep
from zizq.wire import operations as op
from zizq.wire.faults import STATUS

log = logging.getLogger("zizq.api.admin")

Application = Callable[[Scope, Receive, Send], Awaitable[None]]
"""An ASGI application."""
FOREIGN = "This server is for its own machine: call it localhost or 127.0.0.1, or have the proxy do so.\n"
GONE = 499
"""What is logged of a client that left before the answer was complete, as elsewhere."""


class AdminApi:
    """The admin API. Its errors are plain text, and what it does not know is an empty 404.

    Args:
        upkeep: What handlers call to back up and compact the store.
        insights: What handlers ask about the server.
        metrics: What serves `GET /metrics`.
        events: What serves `GET /events`.
        clock: Measures latency.
        departures: Says when the client of a request that takes long has gone.
        auth: Knows who may call.
        fallback: An application that gets what is unknown here. It has to ask for itself who calls.
        local_only: Whether only names of this machine are answered. A page of another site can have its own name lead
            to 127.0.0.1, and would then be of the same origin to a browser.
    """

    def __init__(  # noqa: PLR0913 - a duty each
        self,
        upkeep: Upkeep,
        insights: Insights,
        metrics: MetricsHandler,
        events: EventHandler,
        clock: Clock,
        departures: Departures,
        auth: Auth,
        fallback: Application | None = None,
        *,
        local_only: bool = False,
    ) -> None:
        self._local_only = local_only
        self._auth = auth
        self._events = events
        self._clock = clock
        self._departures = departures
        self._fallback = fallback
        self._routes = UpkeepHandlers(upkeep).routes | InsightHandlers(insights).routes | metrics.routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if self._local_only and scope["type"] != "lifespan" and not _is_called_locally(scope):
            await _send_foreigner_away(scope, receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "websocket" and scope["path"] == PATH:
            await self._events.serve(scope, receive, send)
        elif scope["type"] == "websocket" and self._fallback is not None:
            await self._fallback(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})

    def end_events(self) -> None:
        """Let those go who are told of events."""
        self._events.end()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        began, status = self._clock.mono_s(), 500
        try:
            route = self._routes.get((method, scope["path"]))
            if route is None and self._fallback is not None:
                status = await _served(self._fallback, scope, receive, send)
                return
            handler, needed = route or (_unknown, op.Scope.ADMIN)
            check_admin(self._auth, scope, needed)
            status = await self._attended(handler, scope, receive, send)
        except asyncio.CancelledError:
            status = GONE
            raise
        except Denied as refusal:
            status = await _deny(refusal, send)
        finally:
            spent_ms = round((self._clock.mono_s() - began) * 1000, 3)
            fields = {"method": method, "path": target(scope), "status": status, "latency_ms": spent_ms}
            # Who looks does so every second; and refusals are counted, and logged now and then, elsewhere.
            is_plain = method in ("GET", "HEAD") or status in (401, 403)
            log.log(logging.DEBUG if is_plain else logging.INFO, "request", extra={"fields": fields})

    async def _attended(self, handler: Handler, scope: Scope, receive: Receive, send: Send) -> int:
        """Wait for an answer that may take long, and give up when nobody is there any more to hear it."""
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        answer = asyncio.ensure_future(handler(scope, noted))
        gone = answer.cancel
        watch = asyncio.ensure_future(_watch(receive, gone))
        host, port = scope["client"] or ("", 0)
        if is_deaf(scope):
            self._departures.watch((host, port), gone)
        try:
            await asyncio.wait([answer])
            if not answer.cancelled():
                return answer.result()
            if not begun:
                # For nobody: the HTTP server complains of requests without an answer.
                await respond(send, Response(GONE))
            return GONE
        finally:
            answer.cancel()
            watch.cancel()
            self._departures.forget((host, port), gone)


def _is_called_locally(scope: Scope) -> bool:
    """Whether the Host header names this machine."""
    host = headers_of(scope).get(b"host", b"").decode("latin-1")
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or name.endswith(".localhost") or ip_address(name).is_loopback
    except ValueError:
        return False


async def _send_foreigner_away(scope: Scope, receive: Receive, send: Send) -> None:
    log.info("request", extra={"fields": {"path": target(scope), "status": 421}})
    if scope["type"] == "websocket":
        await receive()
        await send_away(scope, send, 421, FOREIGN)
    else:
        await respond(send, Response(421, FOREIGN.encode(), b"text/plain; charset=utf-8"))


async def _deny(refusal: Denied, send: Send) -> int:
    """Say that the caller may not do this."""
    status = STATUS[type(refusal)]
    headers = ((b"www-authenticate", b"Bearer"),) if status == 401 else ()
    await respond(send, Response(status, str(refusal).encode(), b"text/plain; charset=utf-8", headers))
    return status


async def _served(application: Application, scope: Scope, receive: Receive, send: Send) -> int:
    """Let another application answer; returns the status."""
    status = 500

    async def noted(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)
        await send(message)

    await application(scope, receive, noted)
    return status


async def _watch(receive: Receive, gone: Callable[[], object]) -> None:
    """Hear from the HTTP server that the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
    gone()


async def _unknown(scope: Scope, send: Send) -> int:
    await respond(send, Response(404), with_body=scope["method"] != "HEAD")
    return 404
