"""The network for coroutines: connections of an event loop, each with one request under way at a time."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar, cast

from zizq.client.call import Request, Response
from zizq.client.http import Answer, Broken, Requests
from zizq.client.settings import Settings
from zizq.client.transport import (
    FAILURES,
    IDLE_S,
    MAX_CONNECTIONS,
    PIECE,
    Silent,
    Stream,
    closed,
    not_answered,
    not_connected,
    not_free,
    not_streamed,
    tls_context,
)

T = TypeVar("T")
ROOM = 32 * 1024
"""Bytes that are read in one go: what the server sends in one piece. Room that asyncio makes by itself is mapped and
unmapped at each read, as it is for 256 KiB."""


class Connection(asyncio.BufferedProtocol):
    """A connection to the server.

    Args:
        patience_s: How long a wait for bytes may take.
        on_lost: Hears that it is of no use any more.
    """

    def __init__(self, patience_s: float, on_lost: Callable[[Connection], None]) -> None:
        self.answer = Answer()
        self.idle_since = 0.0
        self._patience_s = patience_s
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self._by_pieces = False
        self._is_paused = False
        self._error: OSError | Broken | None = None
        self._room = memoryview(bytearray(ROOM))

    @property
    def is_usable(self) -> bool:
        """Whether it may carry another request."""
        return self._error is None and not self.answer.is_last and not self._transport.get_write_buffer_size()

    def ask(self, request: bytes) -> asyncio.Future[None]:
        """Send a request; what is returned waits for the whole answer.

        Raises:
            OSError: When the connection breaks.
            Broken: When the answer is none.
            Silent: When nothing came for too long.
        """
        self.answer.begin()
        self._transport.write(request)
        return self._wait()

    async def open(self, request: bytes) -> None:
        """Send a request, and wait for the head of the answer; raises as `ask` does."""
        self._by_pieces = True
        self.answer.begin()
        self._transport.write(request)
        while not self.answer.has_head:
            await self._wait()

    async def read(self) -> bytes:
        """The next bytes of the body; empty at its end. Raises as `ask` does."""
        while not (piece := self.answer.take()):
            if self.answer.is_complete:
                return b""
            if self._error is not None:
                raise self._error
            if self._is_paused:
                self._is_paused = False
                self._transport.resume_reading()
            await self._wait()
        return piece

    def abort(self) -> None:
        """Close the connection now."""
        if self._error is None:
            self._error = Broken("it was closed here")
        self._quiet()
        self._transport.abort()

    def _wait(self) -> asyncio.Future[None]:
        """What waits for whatever comes next."""
        loop = self._loop
        self._waiter = waiter = loop.create_future()
        if self._error is not None:
            waiter.set_exception(self._error)
            return waiter
        self._deadline = loop.time() + self._patience_s
        # A timer for each wait would cost more than a request: one that rings too early is set anew.
        if self._timer is None:
            self._timer = loop.call_at(self._deadline, self._check)
        return waiter

    def _check(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._check)
        else:
            self._waiter.set_exception(Silent())

    def _quiet(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fail(self, error: OSError | Broken) -> None:
        if self._error is None:
            self._error = error
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(self._error)

    # ── asyncio.BufferedProtocol ──

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where bytes are put as they come."""
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes came."""
        answer = self.answer
        try:
            answer.feed(self._room[:nbytes])
        except Broken as error:
            self._fail(error)
            self._transport.abort()
            return
        waiter = self._waiter
        if waiter is None or waiter.done():
            self._note_unawaited()
        elif answer.is_complete or (self._by_pieces and answer.has_head):
            waiter.set_result(None)
        else:
            self._deadline = self._loop.time() + self._patience_s

    def _note_unawaited(self) -> None:
        """Bytes came that nobody waits for: of a stream they are held, but not for ever more of them."""
        if self.answer.is_complete:
            self._transport.abort()
        elif self.answer.held > PIECE and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def eof_received(self) -> None:
        """No more bytes come."""
        try:
            self.answer.finish()
        except Broken as error:
            self._fail(error)
            return
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        self._error = Broken("it was closed")

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        self._quiet()
        self._fail(exc if isinstance(exc, OSError) else Broken("it was closed"))
        self._on_lost(self)


class Pool:
    """The connections of one event loop.

    Args:
        requests: Where they lead.
        settings: How long they may take.
        context: What they are secured with; None where they are not.
        most: How many there may be beside those of streams.
    """

    def __init__(self, requests: Requests, settings: Settings, context: ssl.SSLContext | None, most: int) -> None:
        self._requests = requests
        self._settings = settings
        self._context = context
        self._most = most
        self._loop = asyncio.get_running_loop()
        # Those that count: the open ones, and those that are about to be.
        self._counted: set[Connection] = set()
        self._idle: list[Connection] = []
        # Each is told of a connection that it may have, or with None that it may look again.
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._is_closed = False

    def take_idle(self) -> Connection | None:
        """A connection for one request, if one is open and idle."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable and self._loop.time() - connection.idle_since < IDLE_S:
                return connection
            connection.abort()
        return None

    async def take(self) -> Connection:
        """A connection for one request where none is idle; raises TransportError when there can be none."""
        if len(self._counted) >= self._most and (free := await self._wait()) is not None:
            return free
        return await self.connect(self._settings.read_timeout, counts=True)

    def give(self, connection: Connection) -> None:
        """A connection is needed no more."""
        if self._is_closed or not connection.is_usable:
            connection.abort()
        elif self._waiting:
            self._pass_on(connection)
        else:
            connection.idle_since = self._loop.time()
            self._idle.append(connection)

    async def connect(self, patience_s: float, *, counts: bool = False) -> Connection:
        """A new connection; raises TransportError when there can be none."""
        settings = self._settings
        connection = Connection(patience_s, self._forget)
        if counts:
            self._counted.add(connection)
        try:
            async with asyncio.timeout(settings.connect_timeout):
                await self._loop.create_connection(
                    lambda: connection, self._requests.host, self._requests.port, ssl=self._context
                )
        except BaseException as error:
            self._forget(connection)
            if isinstance(error, OSError):
                raise not_connected(error, settings) from error
            raise
        return connection

    def close(self) -> None:
        """Close the idle connections, and others when they are given back; nobody waits for one any more."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().abort()
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(closed())

    async def _wait(self) -> Connection | None:
        """Wait for a connection that is free: it, or None as soon as there may be one more."""
        try:
            async with asyncio.timeout(self._settings.read_timeout):
                while len(self._counted) >= self._most:
                    free = await self._next()
                    if free is not None and free.is_usable:
                        return free
        except TimeoutError as error:
            raise not_free(self._most, self._settings) from error
        return None

    async def _next(self) -> Connection | None:
        """What this caller is told when it is its turn."""
        waiter: asyncio.Future[Connection | None] = self._loop.create_future()
        self._waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                with suppress(ValueError):
                    self._waiting.remove(waiter)
            elif waiter.exception() is None:
                # It was just told, and does not want it any more.
                self._pass_on(waiter.result())
            raise

    def _pass_on(self, free: Connection | None) -> None:
        """Tell whoever has waited for longest."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(free)
                return
        if free is not None:
            self.give(free)

    def _forget(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
        if connection in self._counted:
            self._counted.remove(connection)
            self._pass_on(None)


def forget_closed(kept: dict[asyncio.AbstractEventLoop, T]) -> None:
    """Drop what is kept for event loops that are closed."""
    for loop in [one for one in kept if one.is_closed()]:
        del kept[loop]


class NetworkTransport:
    """A `Transport` on the connections of whatever event loop calls.

    Args:
        settings: Where the server is and how to reach it.
        max_connections: How many each event loop may have beside those of its streams.

    Raises:
        ConfigError: When a certificate cannot be read.
    """

    def __init__(self, settings: Settings, max_connections: int = MAX_CONNECTIONS) -> None:
        self._settings = settings
        self._max_connections = max_connections
        self._requests = Requests(settings)
        self._context = tls_context(settings)
        # After a fork the loop is another one, and so nothing is shared with the parent.
        self._pools: dict[asyncio.AbstractEventLoop, Pool] = {}
        self._closed = False

    async def send(self, request: Request) -> Response:
        """The answer to a request, whatever its status."""
        pool = self._pool()
        sent = self._requests.write(request)
        connection = pool.take_idle() or await pool.take()
        try:
            await connection.ask(sent)
        except BaseException as error:
            connection.abort()
            if isinstance(error, FAILURES):
                raise not_answered(error, self._settings) from error
            raise
        answer = connection.answer.whole()
        pool.give(connection)
        return answer

    async def open_stream(self, request: Request) -> Stream:
        """The answer to a request, as soon as its head is there."""
        pool = self._pool()
        sent = self._requests.write(request)
        connection = await pool.connect(self._settings.stream_idle_timeout)
        try:
            await connection.open(sent)
        except BaseException as error:
            connection.abort()
            if isinstance(error, FAILURES):
                raise not_answered(error, self._settings) from error
            raise
        return _Stream(connection, self._settings)

    async def close(self) -> None:
        """Close the idle connections; those of other event loops stay as they are."""
        self._closed = True
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            pool.close()
            # Sockets are closed when the loop has come round.
            await asyncio.sleep(0)

    def _pool(self) -> Pool:
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is not None:
            return pool
        if self._closed:
            raise closed()
        forget_closed(self._pools)
        pool = self._pools[loop] = Pool(self._requests, self._settings, self._context, self._max_connections)
        return pool


class _Stream:
    def __init__(self, connection: Connection, settings: Settings) -> None:
        answer = connection.answer
        self.status, self.content_type, self.retry_after = answer.status, answer.content_type, answer.retry_after
        self._connection = connection
        self._settings = settings

    async def read(self) -> bytes:
        try:
            return await self._connection.read()
        except FAILURES as error:
            raise not_streamed(error, self._settings) from error

    async def close(self) -> None:
        self._connection.abort()
