"""The admin API, on a port of its own: a table of paths, and what each does (protocol.md#10)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine

from zizq.clock import Clock
from zizq.errors import Conflicting, Denied, Refusal, Unsupported
from zizq.server.auth import Auth
from zizq.server.http.departures import Departures
from zizq.server.http.exchange import NO_CONTENT, Message, Receive, Response, Scope, Send, respond
from zizq.server.http.gate import check_admin
from zizq.server.upkeep import Upkeep
from zizq.wire.faults import STATUS

log = logging.getLogger("zizq.api.admin")

Handler = Callable[[Scope, Send], Coroutine[None, None, int]]
"""Answers a request; returns the status."""

GONE = 499
"""What is logged of a client that left before the answer was complete, as elsewhere."""
STALL_S = 300
"""Seconds after which a client that takes no more of a backup is cut off: its files take room, and no other is made."""


class AdminApi:
    """The admin API. Its errors are plain text, and what it does not know is an empty 404.

    Args:
        upkeep: What handlers call to back up and compact the store.
        clock: Measures latency.
        departures: Says when the client of a request that takes long has gone.
        auth: Knows who may call.
    """

    def __init__(self, upkeep: Upkeep, clock: Clock, departures: Departures, auth: Auth) -> None:
        self._upkeep = upkeep
        self._auth = auth
        self._clock = clock
        self._departures = departures
        self._routes: dict[tuple[str, str], Handler] = {
            ("POST", "/backup"): self._backup,
            ("POST", "/compact"): self._compact,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        began, status = self._clock.mono_s(), 500
        try:
            check_admin(self._auth, scope)
            handler = self._routes.get((method, path), _unknown)
            status = await self._attended(handler, scope, receive, send)
        except asyncio.CancelledError:
            status = GONE
            raise
        except Denied as refusal:
            status = await _deny(refusal, send)
        finally:
            spent_ms = round((self._clock.mono_s() - began) * 1000, 3)
            query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
            fields = {"method": method, "path": path + query, "status": status, "latency_ms": spent_ms}
            log.info("request", extra={"fields": fields})

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
        if scope["http_version"].startswith("1"):
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

    async def _backup(self, scope: Scope, send: Send) -> int:
        """POST /backup: the whole store, while it is in use."""
        made = False
        try:
            async with self._upkeep.backup() as pieces:
                made = True
                await _stream(pieces, send)
        except Exception as error:
            if made:
                # The status is out already. A stream that breaks off tells the client.
                raise
            return await _refuse(error, "backup failed", send)
        # Only now: who has heard the end may leave, and may ask for the next.
        await send({"type": "http.response.body", "body": b""})
        return 200

    async def _compact(self, scope: Scope, send: Send) -> int:
        """POST /compact: answers when it is done."""
        try:
            await self._upkeep.compact()
        except Exception as error:
            return await _refuse(error, "compact failed", send)
        await respond(send, NO_CONTENT)
        return NO_CONTENT.status


async def _stream(pieces: AsyncIterator[bytes], send: Send) -> None:
    headers = [
        (b"content-type", b"application/gzip"),
        (b"content-disposition", b'attachment; filename="backup.tar.gz"'),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    async for piece in pieces:
        async with asyncio.timeout(STALL_S):
            await send({"type": "http.response.body", "body": piece, "more_body": True})


async def _refuse(error: Exception, text: str, send: Send) -> int:
    """Answer with an error: its own text where the caller can do something about it, else what is said here."""
    status = 500
    if isinstance(error, Conflicting | Unsupported):
        status, text = STATUS[type(error)], str(error)
    else:
        reason = str(error) if isinstance(error, Refusal) else None
        log.error(text, extra={"fields": {"reason": reason}} if reason else {}, exc_info=None if reason else error)
    await respond(send, Response(status, text.encode(), b"text/plain; charset=utf-8"))
    return status


async def _deny(refusal: Denied, send: Send) -> int:
    """Say that the caller may not do this."""
    status = STATUS[type(refusal)]
    headers = ((b"www-authenticate", b"Bearer"),) if status == 401 else ()
    await respond(send, Response(status, str(refusal).encode(), b"text/plain; charset=utf-8", headers))
    return status


async def _watch(receive: Receive, gone: Callable[[], object]) -> None:
    """Hear from the HTTP server that the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
    gone()


async def _unknown(scope: Scope, send: Send) -> int:
    await respond(send, Response(404), with_body=scope["method"] != "HEAD")
    return 404
