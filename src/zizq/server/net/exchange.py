"""One request over HTTP/1.1 and its answer: what an ASGI application calls, and what the connection tells of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Protocol

from zizq.server.http.exchange import Message, Scope

log = logging.getLogger("zizq.serve")

STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
"""How an answer begins, by its status."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Line(Protocol):
    """What an exchange needs of its connection."""

    is_lost: bool
    is_full: bool
    client: tuple[str, int] | None

    @property
    def ends_here(self) -> bool:
        """Whether no request is answered after the one that is answered now."""

    def date(self) -> bytes:
        """The line of the header that says when an answer was made."""

    def new_future(self) -> asyncio.Future[None]:
        """Something to wait for."""

    def write(self, data: bytes) -> None:
        """Send bytes."""

    async def drained(self) -> None:
        """Wait until the client has read enough."""

    def begin(self, exchange: Exchange) -> None:
        """Call the application."""

    def cut(self) -> None:
        """End it now."""

    def pace(self) -> None:
        """Read on, or no further while others have to be answered first."""

    def finished(self) -> None:
        """The answer is out."""

    def ended(self, exchange: Exchange) -> None:
        """The application is through with it."""


class Exchange:
    """A request and its answer: the ASGI callables.

    Args:
        connection: Where it came from.
        scope: What is asked for.
        expects: Whether the client waits to hear that its body is wanted.
        body: The whole body, where it has come already.
    """

    __slots__ = ("_connection", "_expects", "_has_body", "_head", "_is_chunked", "_is_gone", "_is_read", "_pieces",
                 "_waiter", "held", "is_last", "is_whole", "scope", "task")  # fmt: skip

    def __init__(self, connection: Line, scope: Scope, *, expects: bool = False, body: bytes | None = None) -> None:
        self.scope = scope
        self.task: asyncio.Task[None] | None = None
        self.is_whole = body is not None
        """Whether the request has come to its end."""
        self.is_last = False
        """Whether the connection ends with the answer; known when that begins."""
        self.held = len(body or b"")
        """Bytes of the body that nobody has asked for yet."""
        self._connection = connection
        self._expects = expects
        self._pieces = [] if body is None else [body]
        self._is_read = False
        # Whether nothing more comes of it, whole or not.
        self._is_gone = False
        self._waiter: asyncio.Future[None] | None = None
        self._head = b""
        self._has_body, self._is_chunked = True, False

    async def receive(self) -> Message:
        """The next piece of the body, and after that the news that the client has gone."""
        while not (self._pieces or self._is_gone or (self.is_whole and not self._is_read)):
            if self._expects and not self.is_whole:
                self._expects = False
                self._connection.write(_CONTINUE)
            self._waiter = self._connection.new_future()
            await self._waiter
        if not self._pieces and (self._is_read or not self.is_whole):
            return {"type": "http.disconnect"}
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces = []
        self.held = 0
        self._is_read = self.is_whole
        if not self.is_whole:
            self._connection.pace()
        return {"type": "http.request", "body": body, "more_body": not self.is_whole}

    async def send(self, message: Message) -> None:
        """Send the head of the answer, or a piece of it.

        Raises:
            ConnectionResetError: When the client has gone.
        """
        connection = self._connection
        if connection.is_lost:
            raise ConnectionResetError("the client has gone")
        if message["type"] == "http.response.start":
            self._make_head(message["status"], message["headers"])
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if not self._has_body:
            body = b""
        elif self._is_chunked:
            body = _chunk(body, more=more)
        if self._head:
            body, self._head = self._head + body, b""
        if body:
            connection.write(body)
        if connection.is_full:
            await connection.drained()
            if connection.is_lost:
                raise ConnectionResetError("the client has gone")
        if not more:
            connection.finished()

    def _make_head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Make the head, which goes with the first piece of the body."""
        self._expects = False
        self.is_last = not self.is_whole or self._connection.ends_here
        parts = [self.opening(status, headers)]
        has_length = any(name == b"content-length" for name, _ in headers)
        if self.scope["method"] == "HEAD" or status in (204, 304):
            self._has_body = False
        elif not has_length and self.scope["http_version"] == "1.1":
            self._is_chunked = True
            parts.append(b"transfer-encoding: chunked\r\n")
        elif not has_length:
            self.is_last = True
        if self.is_last:
            parts.append(b"connection: close\r\n")
        parts.append(b"\r\n")
        self._head = b"".join(parts)

    # ── what answers it together with others (http.head.Whole) ──

    @property
    def address(self) -> str:
        """The address of the client."""
        client = self._connection.client
        return "" if client is None else client[0]

    @property
    def body(self) -> bytes:
        """All of the body, of one that was made with it and is not begun."""
        return self._pieces[0]

    def begin(self) -> None:
        """Have the application called for it alone."""
        self._connection.begin(self)

    def opening(self, status: int, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
        """How answers begin: the status and these headers."""
        lines = [STATUS_LINES[status], self._connection.date()]
        for name, value in fields:
            lines += (name, b": ", value, b"\r\n")
        return b"".join(lines)

    def answer(self, opening: bytes, body: bytes) -> None:
        """Send a whole answer, of few bytes; where the client has gone nobody hears it."""
        connection = self._connection
        connection.ended(self)
        if connection.is_lost:
            return
        try:
            self.is_last = connection.ends_here
            close = b"connection: close\r\n" if self.is_last else b""
            connection.write(b"%bcontent-length: %d\r\n%b\r\n%b" % (opening, len(body), close, body))
            connection.finished()
        except Exception:
            # The others that are answered with it are none the worse for it.
            log.exception("an answer was not sent")
            connection.cut()

    # ── what the connection tells ──

    def feed(self, piece: bytes) -> None:
        """A piece of the body came."""
        self._expects = False
        self._pieces.append(piece)
        self.held += len(piece)
        self._wake()

    def end(self) -> None:
        """The request is whole."""
        self.is_whole = True
        self._wake()

    def leave(self) -> None:
        """Nothing more comes."""
        self._is_gone = True
        self._wake()

    def cancel(self) -> None:
        """Have the application give up."""
        if self.task is None:
            # It is answered together with others, and its client has gone.
            self._connection.ended(self)
        else:
            # One that has not begun yet does not come to its own end.
            self.task.add_done_callback(lambda task: self._connection.ended(self))
            self.task.cancel()

    def _wake(self) -> None:
        """Let who waits look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _chunk(body: bytes, *, more: bool) -> bytes:
    """A piece of a body whose length is not known before."""
    chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    return chunk if more else chunk + b"0\r\n\r\n"
