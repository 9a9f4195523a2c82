"""A connection whose bytes go to another one and back, as they are."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, cast

from zizq.server.http.departures import Peer


class End(asyncio.Protocol):
    """One of two connections that are as one.

    Args:
        left: Called when it is gone.
        ended: Called when it sends no more.
    """

    due_at = math.inf
    """When it is to be over: whether it is silent is for those to judge who speak on it."""

    def __init__(self, left: Callable[[Any], None], ended: Callable[[Any], None] = lambda end: None) -> None:
        self.other: End | None = None
        self.transport: asyncio.Transport | None = None
        self._left = left
        self._ended = ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there."""
        self.transport = cast("asyncio.Transport", transport)

    def join(self, other: End) -> None:
        """Be as one with another connection from now on."""
        self.other, other.other = other, self

    def data_received(self, data: bytes) -> None:
        """Bytes came: they go on."""
        if there := self._there():
            there.write(data)

    def eof_received(self) -> bool:
        """No more bytes come, which is told on; there may be some to send."""
        if there := self._there():
            there.write_eof()
        self._ended(self)
        return True

    def pause_writing(self) -> None:
        """Nobody reads here, so nothing is read there."""
        if there := self._there():
            there.pause_reading()

    def resume_writing(self) -> None:
        """Somebody has read."""
        if there := self._there():
            there.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        """It is gone."""
        self.transport = None
        self._left(self)

    def close(self) -> None:
        """End it when all is sent."""
        if self.transport is not None:
            self.transport.close()

    def finish(self, due_at: float) -> None:
        """Send no more, and end it at an instant: until then the other side may read what it was sent last."""
        self.due_at = min(self.due_at, due_at)
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write_eof()

    def _there(self) -> asyncio.Transport | None:
        """The other one, while it is open."""
        there = None if self.other is None else self.other.transport
        return None if there is None or there.is_closing() else there

    def stop_soon(self) -> None:
        """Nothing: it ends when those who speak on it want so."""

    def expire(self) -> None:
        """Its time is up."""
        self.cut()

    def cut(self) -> None:
        """End it now."""
        if self.transport is not None:
            self.transport.abort()


def proxy_line(client: Peer | None, server: Peer | None) -> bytes:
    """What tells of a client that comes by way of us: the first version of the PROXY protocol."""
    if client is None or server is None:
        return b"PROXY UNKNOWN\r\n"
    kind = "TCP6" if ":" in client[0] else "TCP4"
    return f"PROXY {kind} {client[0]} {server[0]} {client[1]} {server[1]}\r\n".encode()
