"""`GET /events`: a WebSocket that tells a client of its windows, and hears its wishes (protocol.md#10.1)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
from msgspec.structs import asdict

from zizq.clock import Clock
from zizq.engine.changes import Delete, Retry
from zizq.engine.selection import Selection
from zizq.errors import Denied, Refusal
from zizq.job import check_name
from zizq.server.access import Caller
from zizq.server.auth import Auth
from zizq.server.catalog import Catalog
from zizq.server.http.exchange import Receive, Scope, Send
from zizq.server.http.gate import check_admin, note_refusal
from zizq.server.insight.feed import Feed
from zizq.wire import operations as op
from zizq.wire.events import Deed, DeleteJob, Find, PauseQueue, ResumeQueue, SetDetailLevel, Subscribe, wish_in
from zizq.wire.faults import STATUS

log = logging.getLogger("zizq.api.admin")

PATH = "/events"
MOST = 16
"""Clients at a time: each has up to four windows of 2,000 jobs, and others need the connections that are left."""
LOOK_S = 5.0
"""How often it is asked whether a client may still be there."""
CLOSE_S = 1.0
REVOKED = 1008
GOING_AWAY = 1001
FULL = 1013

MakeFeed = Callable[[Callable[[Any], Any]], Feed]


class EventHandler:
    """Serves the WebSocket.

    Args:
        make_feed: Makes what tells one client, of what sends to it.
        catalog: Deletes and retries jobs, and pauses queues.
        clock: Measures how long a client stayed.
        auth: Knows who may call.
    """

    def __init__(self, make_feed: MakeFeed, catalog: Catalog, clock: Clock, auth: Auth) -> None:
        self._make_feed = make_feed
        self._catalog = catalog
        self._clock = clock
        self._auth = auth
        self._clients: set[asyncio.Task[Any]] = set()
        self._ending = False

    def end(self) -> None:
        """Let all clients go, and let no more in."""
        self._ending = True
        for client in self._clients:
            client.cancel()

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one client to its end."""
        await receive()
        began_s = self._clock.mono_s()
        status = await self._admitted(scope, send)
        if isinstance(status, int):
            log.info("request", extra={"fields": {"method": "GET", "path": PATH, "status": status, "latency_ms": 0}})
            return
        await send({"type": "websocket.accept"})
        code = await self._attend(status[0], scope, receive, send)
        seconds = round(self._clock.mono_s() - began_s, 3)
        log.info("events ended", extra={"fields": {"path": PATH, "code": code, "seconds": seconds}})

    async def _admitted(self, scope: Scope, send: Send) -> int | tuple[Caller | None]:
        """Who calls, or the status with which a client was sent away."""
        try:
            caller = check_admin(self._auth, scope, op.Scope.READ)
            if self._ending or len(self._clients) >= MOST:
                await send_away(scope, send, 503, "there are too many clients: try again later")
                return 503
            return (caller,)
        except Denied as refusal:
            status = STATUS[type(refusal)]
            await send_away(scope, send, status, str(refusal))
            return status

    async def _attend(self, caller: Caller | None, scope: Scope, receive: Receive, send: Send) -> int | None:
        """Tell and hear until one of them ends; returns the code that we closed with, or None."""

        async def tell(event: Any) -> None:
            await send({"type": "websocket.send", "text": msgspec.json.encode(event).decode()})

        feed = self._make_feed(tell)
        parts = [
            asyncio.ensure_future(feed.run()),
            asyncio.ensure_future(self._hear(feed, caller, scope, receive)),
            asyncio.ensure_future(self._watch(caller)),
        ]
        self._clients.add(parts[2])
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            teller, hearer, watch = parts
            if hearer.done():
                return None
            code = (GOING_AWAY if self._ending else REVOKED) if watch.done() else 1011
            if teller.done() and not teller.cancelled() and not isinstance(teller.exception(), OSError | None):
                log.error("events failed", exc_info=teller.exception())
            # A client that does not read does not hear of it either.
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await send({"type": "websocket.close", "code": code})
            return code
        finally:
            self._clients.discard(parts[2])
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)

    async def _watch(self, caller: Caller | None) -> None:
        """Wait until the client may be there no more."""
        while True:
            await asyncio.sleep(LOOK_S)
            if caller is not None and not self._auth.still_holds(caller):
                return

    async def _hear(self, feed: Feed, caller: Caller | None, scope: Scope, receive: Receive) -> None:
        """Do what the client wishes, until it leaves."""
        while (message := await receive())["type"] == "websocket.receive":
            wish = wish_in(message.get("text") or "")
            if isinstance(wish, Subscribe):
                feed.subscribe(wish)
            elif isinstance(wish, SetDetailLevel):
                feed.set_detail(wish)
            elif isinstance(wish, Find):
                feed.find(wish)
            elif wish is not None:
                await self._act(wish, caller, scope)

    async def _act(self, deed: Deed, caller: Caller | None, scope: Scope) -> None:
        """Change something; there is no answer but what comes of it."""
        try:
            if caller is not None:
                caller.check_scope(op.Scope.MANAGE)
            await self._do(deed)
        except Denied as refusal:
            note_refusal(self._auth, refusal, scope, caller)
        except Refusal as refusal:
            log.warning("wish not granted", extra={"fields": {**asdict(deed), "reason": str(refusal)}})

    async def _do(self, deed: Deed) -> None:
        if isinstance(deed, PauseQueue):
            check_name("queue", deed.queue)
            await self._catalog.pause_queue(deed.queue)
        elif isinstance(deed, ResumeQueue):
            await self._catalog.resume_queue(deed.queue)
        else:
            change = Delete() if isinstance(deed, DeleteJob) else Retry()
            await self._catalog.change(Selection(ids=frozenset([deed.id])), None, change)


async def send_away(scope: Scope, send: Send, status: int, text: str) -> None:
    """Refuse the connection, with the reason where the HTTP server can send it."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": FULL if status == 503 else REVOKED})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(text.encode()))]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": text.encode()})
