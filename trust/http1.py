"""What any bytes on a connection of HTTP/1.1 may do: no harm, and the same whatever the pieces they come in."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from functools import cache
from hashlib import sha256
from typing import Any

from trust.line import Client
from zizq.server.http.exchange import Scope
from zizq.server.net.heads import Heads
from zizq.server.net.http1 import AHEAD, READ_AHEAD
from zizq.server.net.limits import MAX_HEAD

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
FLOOD = 6 * MAX_HEAD
"""Bytes that are sent to see that few of them are kept."""
PIECE = 64 * 1024
STILL = 4
"""Turns of the event loop in which nothing has happened, after which nothing does."""
SILENT_S = 1000.0
_TOKEN_LINE = re.compile(rb"\r\nauthorization:[^\r\n]*", re.IGNORECASE)
MOST_KEPT = READ_AHEAD + MAX_HEAD + 2 * PIECE


def feed(data: bytes) -> None:
    """Send bytes whole and cut, then without an end to who reads and who does not.

    Args:
        data: How they are cut, how many of the last are repeated without an end, and the bytes.
    """
    cut, tail, raw = (data[0] if data else 0), 1 + (data[1] if data[1:] else 0), data[2:]
    # Of long ones not each byte alone: that takes too long.
    _loop().run_until_complete(_check(raw, max(1 + cut, len(raw) // 64), raw[-tail:]))


class Echo:
    """An application that answers with what it has read, and keeps what it was asked.

    Args:
        reads: Whether it reads at once.
    """

    def __init__(self, *, reads: bool) -> None:
        self.asked: list[object] = []
        self.reads = asyncio.Event()
        if reads:
            self.reads.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        # Where a token stood among them is not kept with a head.
        headers = sorted(scope["headers"], key=lambda field: field[0] == b"authorization")
        asked = [scope["method"], scope["raw_path"], scope["query_string"], headers, scope["http_version"]]
        self.asked.append(asked)
        await self.reads.wait()
        body, is_whole = sha256(), False
        while not is_whole and (message := await receive())["type"] == "http.request":
            body.update(message["body"])
            is_whole = not message["more_body"]
        asked += [body.digest(), is_whole]
        with suppress(ConnectionResetError):
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"64")]})
            await send({"type": "http.response.body", "body": body.hexdigest().encode()})


class Forgetful(Heads):
    """Heads of which none is known."""

    def find(self, data: bytes) -> tuple[Scope, bytes] | None:
        """Nothing was ever seen."""
        return None


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


async def _check(raw: bytes, step: int, tail: bytes) -> None:
    whole, pieces = await _send([raw]), await _send([raw[at : at + step] for at in range(0, len(raw), step)])
    # Whoever sends too far ahead is answered that far.
    if len(whole[0]) <= AHEAD:
        assert whole == pieces, (whole, pieces)
    head, end, body = raw.partition(b"\r\n\r\n")
    again = [_TOKEN_LINE.sub(b"", raw, 1), _shown(raw, step), raw, raw, head + end + body[::-1]]
    known, anew = await _send(again, Heads()), await _send(again, Forgetful())
    assert known == anew, (known, anew)
    for reads in (True, False):
        await _flood(raw, tail, reads=reads)


def _shown(raw: bytes, number: int) -> bytes:
    """Bytes with a token as one more line."""
    lines = raw.split(b"\r\n")
    lines.insert(number % len(lines), b"authorization: Bearer x")
    return b"\r\n".join(lines)


async def _send(pieces: list[bytes], heads: Heads | None = None) -> tuple[list[object], bytes, bytes, bool]:
    """What is asked and answered where bytes come in pieces, whether they go on to HTTP/2, and how it ends."""
    echo = Echo(reads=True)
    client = Client(echo, heads)
    for piece in pieces:
        if client.http2:
            break
        await _tell(client, piece)
        assert client.transport.is_reading or client.has_been_let_go, "who is answered at once is read from"
    answers, is_over = client.transport.written.replace(CONTINUE, b""), client.has_been_let_go
    if not client.http2:
        client.pass_s(SILENT_S)
        await _settle(client)
        assert client.has_been_let_go, "who is silent for too long is not let go"
    await _leave(client, echo)
    return echo.asked, answers, client.http2[:16], is_over


async def _flood(raw: bytes, more: bytes, *, reads: bool) -> None:
    """Send bytes without an end, and see what is kept of them while all are answered, or nobody is."""
    echo = Echo(reads=reads)
    client = Client(echo)
    sent, piece = 0, raw
    while piece and sent < FLOOD and client.transport.is_reading and not client.http2:
        await _tell(client, piece)
        sent += len(piece)
        assert client.kept <= MOST_KEPT, (client.kept, sent)
        piece = (more * (PIECE // len(more) + 1))[:PIECE] if more else b""
    await _leave(client, echo)


async def _tell(client: Client, piece: bytes) -> None:
    client.connection.data_received(piece)
    await _settle(client)


async def _settle(client: Client) -> None:
    """Wait until nothing more happens."""
    still, before = 0, (0, 0)
    while still < STILL:
        await asyncio.sleep(0)
        now = len(client.transport.written), len(client.running)
        still, before = still + 1 if now == before else 0, now


async def _leave(client: Client, echo: Echo) -> None:
    """Hang up: then nobody may be left that waits for something."""
    echo.reads.set()
    if not client.http2:
        client.connection.connection_lost(None)
    await _settle(client)
    assert not client.running, "a request is not over although its client has gone"
