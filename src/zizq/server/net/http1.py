"""HTTP/1.1 on the event loop: the bytes of a connection in, calls of an ASGI application out.

A request is answered without a thread between the socket and the application, each of which would have to be woken
(docs/decisions/http-server.md). llhttp, by way of httptools, reads the requests: what lengths and chunks mean, and what
is no HTTP, is not for us to say. Beside that are the rules of one connection here: answers come in the order of the
requests, nobody sends ahead without bound, and whoever is silent for too long is let go.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from typing import Any, Protocol, cast
from urllib.parse import unquote

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, parse_url

from zizq.server.http.exchange import READS_ON, Scope
from zizq.server.http.head import KEPT, Head
from zizq.server.net.exchange import STATUS_LINES, Exchange
from zizq.server.net.heads import Heads
from zizq.server.net.limits import HEAD_S, IDLE_S, LINGER_S, MAX_FIELDS, MAX_HEAD, OPENING_S, PATIENCE_S, Asgi

log = logging.getLogger("zizq.serve")

PREFACE = b"PRI * HTTP/2.0\r\n"
"""What a connection begins with that is to speak HTTP/2 (RFC 9113, 3.4)."""
AHEAD = 16
"""Requests that a client may send before it has the answer to the first."""
READ_AHEAD = 128 * 1024
"""Bytes of a body that are read before anybody asks for them."""
_ASGI = {"version": "3.0", "spec_version": "2.4"}
_NEVER = math.inf


class Host(Protocol):
    """What a connection needs of who let it in."""

    asgi: Asgi
    loop: asyncio.AbstractEventLoop
    heads: Heads
    """Heads of requests that need not be read again."""

    def date(self) -> bytes:
        """The line of the header that says when an answer was made."""

    running: set[Exchange]
    """Those that the application is at."""

    def left(self, one: Connection) -> None:
        """A connection has ended."""

    def ended(self, exchange: Exchange) -> None:
        """The application is through with a request."""

    def speaks_http2(self, connection: Connection, data: bytes) -> None:
        """A connection has begun with the preface of HTTP/2, and is somebody else's from now on."""


class Connection(asyncio.Protocol):
    """One connection, until it ends or turns out to speak HTTP/2.

    Args:
        host: Who let it in.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.date = host.date
        """The line of the header that says when an answer was made."""
        self.due_at = host.loop.time() + OPENING_S
        """When it is let go, by the event loop's clock, unless something comes before."""
        self.is_lost = True
        """Whether there is no connection, any more or yet."""
        self.is_full = False
        """Whether the client does not read as fast as it is written to."""
        self.transport: asyncio.Transport
        self.client: tuple[str, int] | None = None
        self.server: tuple[str, int] | None = None
        self._parser: Any = HttpRequestParser(self)
        self._opening = b""
        self._is_open = False
        self._current: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        # The one whose bytes are coming; none between requests, and where no more are wanted.
        self._reading: Exchange | None = None
        self._is_last = False
        # Whether something came that is not answered.
        self._has_more = False
        self._is_paused = False
        self._drained: asyncio.Future[None] | None = None
        self._in_head = False
        self._kept_bytes = 0
        self._has_moved = False
        # Whether a head has to be measured: few come in parts, or in so much at once.
        self._is_wide = False
        # The status that refuses what came last, when those before it are answered; 0 for none.
        self._flaw = 0
        self._fields: list[tuple[bytes, bytes]] = []
        self._target = b""

    # ── what the transport tells ──

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there."""
        self.is_lost = False
        self.transport = cast("asyncio.Transport", transport)
        if self._is_last:
            self.transport.close()
        self.client, self.server = _address(transport, "peername"), _address(transport, "sockname")

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if not self._is_open:
            data = self._opening = self._opening + data
            if PREFACE.startswith(data[: len(PREFACE)]):
                if len(data) >= len(PREFACE):
                    self.host.speaks_http2(self, data)
                return
            self._is_open, self._opening = True, b""
        if self._is_last and self._reading is None:
            self._has_more = True
            return
        was_idle = self._current is None
        is_first = was_idle and not self._in_head
        if is_first and (known := self.host.heads.find(data)):
            self._take(*known)
            return
        if status := self._parse(data):
            self._refuse(status)
        if self._current is not None:
            if was_idle:
                if is_first and self._current.is_whole and not self._is_last:
                    self.host.heads.learn(data, self._current.scope, self._current.held)
                self._start(self._current)
            self.pace()

    def _take(self, scope: Scope, head: Head, body: bytes) -> None:
        """Answer a request that came whole, behind a head that is known."""
        exchange = Exchange(self, scope, body=body)
        self.due_at, self._kept_bytes, self._current = _NEVER, 0, exchange
        self.host.running.add(exchange)
        together = head.together
        # Who does not read has to wait, which only a call alone can.
        if together is None or self.is_full:
            self.begin(exchange)
        else:
            together(exchange)

    def _parse(self, data: bytes) -> int:
        """Read on; returns the status that refuses what came, 0 for none."""
        self._is_wide, self._has_moved = self._in_head or len(data) > MAX_HEAD, False
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            # It is answered as if it had not asked to switch to something else.
            self._is_last = True
        except HttpParserError:
            self._find(400)
        # Of what the parser keeps to itself: a field that does not end, in a head, a trailer or beside a chunk.
        self._kept_bytes = 0 if self._has_moved else self._kept_bytes + len(data)
        if self._kept_bytes > MAX_HEAD:
            self._find(431)
        return self._flaw

    def _find(self, flaw: int) -> None:
        """What comes is no request, for the first reason that was found; behind the last one nothing need be any."""
        if self._is_last and self._reading is None:
            self._has_more = True
        else:
            self._flaw = flaw

    def eof_received(self) -> bool:
        """The client sends no more; it may still read."""
        self._is_last = True
        for exchange in self._exchanges():
            exchange.leave()
        return self._current is not None

    def connection_lost(self, error: Exception | None) -> None:
        """It is gone."""
        self.is_lost = True
        for exchange in self._exchanges():
            exchange.leave()
        self.resume_writing()
        self.host.left(self)

    def pause_writing(self) -> None:
        """The client does not read what is sent to it."""
        self.is_full = True

    def resume_writing(self) -> None:
        """The client has read, or has gone."""
        self.is_full = False
        if self._drained is not None:
            # Whoever waited may have been cancelled.
            if not self._drained.done():
                self._drained.set_result(None)
            self._drained = None

    # ── what the parser tells ──

    def on_message_begin(self) -> None:
        """The first byte of a request came."""
        self._target = b""
        self._in_head = self._has_moved = True
        if self._current is None:
            self.due_at = self.host.loop.time() + HEAD_S

    def on_url(self, target: bytes) -> None:
        """A piece of what is asked for came."""
        self._target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header came, or behind the body a trailer, of which we want none."""
        if self._in_head:
            self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._in_head, self._has_moved = False, True
        # There may be a secret among them, which stays no longer than its request.
        fields, self._fields = self._fields, []
        if len(fields) > MAX_FIELDS or (self._is_wide and _size(fields) + len(self._target) > MAX_HEAD):
            self._find(431)
        elif any(name == b"transfer-encoding" and value.strip().lower() != b"chunked" for name, value in fields):
            # What llhttp does not know it takes for no body, and says so behind the head, when the call has begun.
            self._find(501)
        if self._flaw or self._is_last or len(self._waiting) >= AHEAD:
            # Those before are answered, and then the connection ends: whoever sent so many sends the rest again.
            self._is_last = self._has_more = True
            return
        expects = any(name == b"expect" and value.lower() == b"100-continue" for name, value in fields)
        exchange = Exchange(self, self._scope(fields), expects=expects)
        self._reading = exchange
        if not self._parser.should_keep_alive() or self._parser.get_http_version() == "1.0":
            self._is_last = True
        self.due_at = self.host.loop.time() + PATIENCE_S
        if self._current is None:
            self._current = exchange
        else:
            self._waiting.append(exchange)

    def on_body(self, piece: bytes) -> None:
        """A piece of a body came."""
        self._has_moved = True
        if self._reading is not None:
            self._reading.feed(piece)
            self.due_at = self.host.loop.time() + PATIENCE_S

    def on_message_complete(self) -> None:
        """The last byte of a request came."""
        if self._reading is not None:
            self._reading.end()
            self._reading = None
            self.due_at = _NEVER

    def _scope(self, fields: list[tuple[bytes, bytes]]) -> Scope:
        path, _, query = _origin(self._target).partition(b"?")
        text = path.decode("latin-1")
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": self._parser.get_http_version(),
            "method": self._parser.get_method().decode("latin-1"),
            "scheme": "http",
            "path": unquote(text) if "%" in text else text,
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": fields,
            "client": self.client,
            "server": self.server,
            "extensions": {READS_ON: {}, KEPT: {}},
        }

    # ── what the answers tell ──

    @property
    def ends_here(self) -> bool:
        """Whether no request is answered after the one that is answered now."""
        return self._is_last and not (self._waiting or self._flaw)

    def new_future(self) -> asyncio.Future[None]:
        """Something to wait for."""
        return self.host.loop.create_future()

    def begin(self, exchange: Exchange) -> None:
        """Call the application for a request whose head is known, unless the server has stopped to wait for it."""
        if exchange in self.host.running:
            exchange.scope = {**exchange.scope, "client": self.client, "server": self.server}
            self._start(exchange)

    def ended(self, exchange: Exchange) -> None:
        """The application is through with a request."""
        self.host.ended(exchange)

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self.transport.write(data)

    async def drained(self) -> None:
        """Wait until the client has read enough."""
        if self._drained is None or self._drained.done():
            self._drained = self.host.loop.create_future()
        await self._drained

    def finished(self) -> None:
        """The answer is out: go on with the next request, or end."""
        done = cast("Exchange", self._current)
        done.leave()
        self._current = self._waiting.popleft() if self._waiting else None
        if self._current is not None and not done.is_last:
            if self._reading is not None:
                self.due_at = self.host.loop.time() + PATIENCE_S
            self._start(self._current)
        elif self._flaw and not done.is_last:
            self._refuse(self._flaw)
            return
        elif done.is_last or self._is_last:
            self._end(at_once=done.is_whole and not self._has_more)
            return
        else:
            self.due_at = self.host.loop.time() + IDLE_S["primary"]
        self.pace()

    def pace(self) -> None:
        """Read on, or no further while others have to be answered first."""
        reading = self._reading
        is_paused = bool(self._waiting) or (reading is not None and reading.held > READ_AHEAD)
        if is_paused != self._is_paused and not self.is_lost and not self.transport.is_closing():
            self._is_paused = is_paused
            if is_paused:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    # ── its end ──

    def stop_soon(self) -> None:
        """Begin no more requests; what is asked already is answered."""
        self._is_last = True
        if self._current is None and not self.is_lost:
            self.transport.close()

    def expire(self) -> None:
        """Let a client go that has been silent for too long."""
        if self._reading is not None and self._is_paused:
            # It is we who do not read.
            self.due_at = self.host.loop.time() + PATIENCE_S
        elif self._reading is not None:
            # The application has to answer that.
            self._reading.leave()
            self._reading, self._is_last, self.due_at = None, True, _NEVER
        elif self._in_head:
            self._refuse(408)
        elif not self.is_lost and not self.transport.is_closing():
            self.transport.close()
        else:
            # What is left to send is not read.
            self.cut()

    def cut(self) -> None:
        """End it now; what the application does for it goes on."""
        if not self.is_lost:
            self.transport.abort()

    def _exchanges(self) -> list[Exchange]:
        return [] if self._current is None else [self._current, *self._waiting]

    def _refuse(self, status: int) -> None:
        """Answer what is no request, after those before it; a body that is none its call answers."""
        self._is_last, self._in_head, self._has_more = True, False, True
        if self._reading is not None:
            self._reading.leave()
            self._reading, self._flaw = None, 0
        if self._current is None:
            head = (STATUS_LINES[status], self.date(), b"content-length: 0\r\nconnection: close\r\n\r\n")
            self.write(b"".join(head))
            self._end(at_once=False)

    def _end(self, *, at_once: bool) -> None:
        """Close; where more may be on its way that nobody wants, not before the client can have read why."""
        self._is_last, self._reading, self._current = True, None, None
        self._waiting.clear()
        if at_once:
            self.due_at = self.host.loop.time() + PATIENCE_S
            self.transport.close()
            return
        self.due_at = self.host.loop.time() + LINGER_S
        self.pace()
        if not self.transport.is_closing():
            self.transport.write_eof()

    def _start(self, exchange: Exchange) -> None:
        exchange.task = self.host.loop.create_task(self._run(exchange))
        self.host.running.add(exchange)

    async def _run(self, exchange: Exchange) -> None:
        try:
            await self.host.asgi(exchange.scope, exchange.receive, exchange.send)
        except Exception:
            log.exception("the application failed")
        finally:
            self.host.ended(exchange)
            if exchange is self._current:
                # It has ended without an answer, or inside one.
                self.cut()


def _size(fields: list[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) for name, value in fields)


def _origin(target: bytes) -> bytes:
    """The path and query of what a request is for, which may name the server too (RFC 9112, 3.2.2)."""
    if target.startswith(b"/") or b"://" not in target:
        return target
    parts = parse_url(target)
    return (parts.path or b"/") + (b"?" + parts.query if parts.query else b"")


def _address(transport: asyncio.BaseTransport, name: str) -> tuple[str, int] | None:
    address = transport.get_extra_info(name)
    return None if not address else (address[0], address[1])
