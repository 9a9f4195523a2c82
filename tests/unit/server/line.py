"""The other end of a connection of HTTP/1.1, and applications behind it, without a socket and with a clock in hand."""

from __future__ import annotations

import asyncio
from typing import Any

from zizq.server.net.http1 import AHEAD, Connection

GET = b"GET /jobs HTTP/1.1\r\nhost: x\r\n\r\n"
DATE = b"date: today\r\n"


class Transport:
    """Keeps what is written, and what is asked of it."""

    def __init__(self) -> None:
        self.written = b""
        self.is_reading = True
        self.has_ended = self.is_closed = self.is_aborted = False

    def get_extra_info(self, name: str) -> tuple[str, int]:
        return {"peername": ("10.0.0.9", 4000), "sockname": ("10.0.0.1", 7890)}[name]

    def write(self, data: bytes) -> None:
        self.written += data

    def write_eof(self) -> None:
        self.has_ended = True

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_aborted = True

    def is_closing(self) -> bool:
        return self.is_closed or self.is_aborted

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True


class Loop:
    """The event loop, but for the time."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def time(self) -> float:
        return self.now_s

    def create_future(self) -> Any:
        return asyncio.get_running_loop().create_future()

    def create_task(self, work: Any) -> Any:
        return asyncio.get_running_loop().create_task(work)


class Client:
    """The other end of a connection; the application behind it is a function of the test."""

    def __init__(self, asgi: Any) -> None:
        self.asgi = asgi
        self.loop: Any = Loop()
        self.running: set[Any] = set()
        self.has_left = False
        self.http2 = b""
        self.transport = Transport()
        self.connection = Connection(self)
        self.connection.connection_made(self.transport)  # type: ignore[arg-type]

    def date(self) -> bytes:
        return DATE

    def left(self, one: Connection) -> None:
        self.has_left = True

    def ended(self, exchange: Any) -> None:
        self.running.discard(exchange)

    def speaks_http2(self, connection: Connection, data: bytes) -> None:
        self.http2 = data

    async def send(self, data: bytes) -> bytes:
        """What has come back when all that this sets off has been done."""
        before = len(self.transport.written)
        self.connection.data_received(data)
        return await self.answer(before)

    async def answer(self, before: int = 0) -> bytes:
        for _ in range(3 * AHEAD):
            await asyncio.sleep(0)
        return self.transport.written[before:]

    def pass_s(self, seconds: float) -> bool:
        """Let time go by; returns whether that was too long for the client."""
        self.loop.now_s += seconds
        if self.connection.due_at > self.loop.now_s:
            return False
        self.connection.expire()
        return True


class App:
    """Answers with what it read, and keeps what it was asked."""

    def __init__(self, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = (), *, reads: bool = True) -> None:
        self.scopes: list[Any] = []
        self.heard: list[Any] = []
        self._status, self._headers, self._reads = status, headers, reads

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        body = b""
        while self._reads:
            message = await receive()
            self.heard.append(message)
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        length = () if self._headers else ((b"content-length", b"%d" % len(body)),)
        await send({"type": "http.response.start", "status": self._status, "headers": [*self._headers, *length]})
        await send({"type": "http.response.body", "body": body})


class Streaming:
    """Sends what the test puts in, until it ends or the client does."""

    def __init__(self) -> None:
        self.pieces: asyncio.Queue[bytes] = asyncio.Queue()
        self.has_heard_end = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        listening = asyncio.ensure_future(self._listen(receive))
        try:
            while piece := await self.pieces.get():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            listening.cancel()

    async def _listen(self, receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.has_heard_end = True


def post(body: bytes, head: bytes = b"") -> bytes:
    return b"POST /jobs HTTP/1.1\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body)


def ok(body: bytes, *, last: bool = False) -> bytes:
    close = b"connection: close\r\n" if last else b""
    return b"HTTP/1.1 200 OK\r\n" + DATE + b"content-length: %d\r\n%b\r\n%b" % (len(body), close, body)
