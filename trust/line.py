"""The other end of a connection of HTTP/1.1, without a socket and with a clock in hand."""

from __future__ import annotations

import asyncio
from typing import Any

from zizq.server.net.heads import Heads
from zizq.server.net.http1 import AHEAD, Connection

DATE = b"date: today\r\n"


class Transport:
    """Keeps what is written, and what is asked of it."""

    def __init__(self) -> None:
        self.written = b""
        self.is_reading = True
        self.has_ended = self.is_closed = self.is_aborted = False

    def get_extra_info(self, name: str) -> tuple[str, int]:
        """Who speaks to whom."""
        return {"peername": ("10.0.0.9", 4000), "sockname": ("10.0.0.1", 7890)}[name]

    def write(self, data: bytes) -> None:
        """Keep what is sent."""
        self.written += data

    def write_eof(self) -> None:
        """Send no more."""
        self.has_ended = True

    def close(self) -> None:
        """Close when all is sent."""
        self.is_closed = True

    def abort(self) -> None:
        """Close now."""
        self.is_aborted = True

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self.is_closed or self.is_aborted

    def pause_reading(self) -> None:
        """Read no more."""
        self.is_reading = False

    def resume_reading(self) -> None:
        """Read on."""
        self.is_reading = True


class Loop:
    """The event loop, but for the time."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def time(self) -> float:
        """The time, in seconds."""
        return self.now_s

    def create_future(self) -> Any:
        """Something to wait for."""
        return asyncio.get_running_loop().create_future()

    def create_task(self, work: Any) -> Any:
        """Something that goes on by itself."""
        return asyncio.get_running_loop().create_task(work)


class Client:
    """The other end of a connection.

    Args:
        asgi: The application behind it.
        heads: What the server knows of requests that came before; None where nothing came.
    """

    def __init__(self, asgi: Any, heads: Heads | None = None) -> None:
        self.asgi = asgi
        self.heads = heads or Heads()
        self.loop: Any = Loop()
        self.running: set[Any] = set()
        self.has_left = False
        self.http2 = b""
        self.transport = Transport()
        self.connection = Connection(self)
        self.connection.connection_made(self.transport)  # type: ignore[arg-type]

    @property
    def has_been_let_go(self) -> bool:
        """Whether nothing that it sends matters any more."""
        return self.transport.has_ended or self.transport.is_closing()

    @property
    def kept(self) -> int:
        """Bytes that are kept of what it sent: of a head that is not whole, and of bodies that nobody has read."""
        one = self.connection
        head = len(one._opening) + len(one._target) + sum(len(name) + len(value) for name, value in one._fields)
        return head + one._kept_bytes + sum(exchange.held for exchange in one._exchanges())

    def date(self) -> bytes:
        """The line of the header that says when an answer was made."""
        return DATE

    def left(self, one: Connection) -> None:
        """The connection has ended."""
        self.has_left = True

    def ended(self, exchange: Any) -> None:
        """The application is through with a request."""
        self.running.discard(exchange)

    def speaks_http2(self, connection: Connection, data: bytes) -> None:
        """The connection is for somebody else."""
        self.http2 = data

    async def send(self, data: bytes) -> bytes:
        """What has come back when all that this sets off has been done."""
        before = len(self.transport.written)
        self.connection.data_received(data)
        return await self.answer(before)

    async def answer(self, before: int = 0) -> bytes:
        """What has been sent, from a place on, when nothing more happens."""
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
