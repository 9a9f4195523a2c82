"""Applications behind a connection of HTTP/1.1, and what is sent to them and comes back."""

from __future__ import annotations

import asyncio
from typing import Any

from trust.line import DATE

GET = b"GET /jobs HTTP/1.1\r\nhost: x\r\n\r\n"


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
