"""Lets connections in: those that speak HTTP/1.1 are read here, those that speak HTTP/2 are led to h2corn.

One port has to serve both (protocol.md#1.4), and only the first bytes tell. h2corn cannot be handed a connection, so
the bytes of those that are for it go to and fro, by a socket that nobody else can reach. It starts with the first of
them: where all clients are Python it is not needed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import tempfile
from collections.abc import Coroutine
from email.utils import formatdate
from pathlib import Path
from typing import Any

from zizq.errors import ConfigError
from zizq.server.descriptors import connections
from zizq.server.net.exchange import Exchange
from zizq.server.net.heads import Heads
from zizq.server.net.http1 import Connection
from zizq.server.net.limits import BACKLOG, LINGER_S, Asgi
from zizq.server.net.native import NativeServer
from zizq.server.net.relay import End, proxy_line
from zizq.server.settings import Address, Settings

log = logging.getLogger("zizq.serve")

AT_ONCE = 64
"""Connections that are let in before others get their turn."""
SHORT_S = 1.0
"""How long nobody is let in where descriptors are short."""
LOOK_S = 1.0
"""How often silent connections are looked for."""
OWN_FILES = Path("/proc/self/fd")
"""Where Linux has the descriptors of a process, for itself."""


class Front:
    """Serves an application on a socket that listens, in cleartext.

    Args:
        address: Which API that is.
        asgi: The application.
        settings: The options that all endpoints share.
        listener: The socket; who made it closes it.
    """

    def __init__(self, address: Address, asgi: Asgi, settings: Settings, listener: socket.socket) -> None:
        self.asgi = asgi
        self.heads = Heads()
        self.running: set[Exchange] = set()
        self._settings = settings
        self._listener = listener
        self._most = connections(settings.max_connections) or sys.maxsize
        # One that is led on takes two more descriptors.
        self._descriptors = connections(0) or sys.maxsize
        self._led = 0
        self._open: set[Connection | End] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_accepting = False
        self._is_over = False
        self._empty = asyncio.Event()
        self._date = (-1, b"")
        self._http2 = Http2(address, asgi, settings)

    async def start(self) -> None:
        """Let connections in."""
        self.loop = asyncio.get_running_loop()
        self._accept_more()
        self._looking = self.loop.call_later(LOOK_S, self._look)

    def stop_soon(self) -> None:
        """Let nobody in any more; open requests may finish within the shutdown timeout."""
        self._is_over = True
        self._accept_no_more()
        for one in list(self._open):
            one.stop_soon()
        self._http2.stop_soon()
        self._check_empty()

    async def stopped(self) -> None:
        """Wait until the open requests are through, or have been cut off at the timeout."""
        try:
            async with asyncio.timeout(self._settings.drain_timeout / 1000):
                await self._empty.wait()
        except TimeoutError:
            for one in list(self._open):
                one.cut()
            for exchange in list(self.running):
                exchange.cancel()
            await self._empty.wait()
        self._looking.cancel()
        await self._http2.stopped()

    # ── letting in ──

    def _accept_more(self) -> None:
        if not self._is_accepting and not self._is_over:
            self._is_accepting = True
            self.loop.add_reader(self._listener, self._accept)

    def _accept_no_more(self) -> None:
        if self._is_accepting:
            self._is_accepting = False
            self.loop.remove_reader(self._listener)

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            if len(self._open) >= self._most or self._taken >= self._descriptors:
                # The others wait until one ends.
                self._accept_no_more()
                return
            try:
                opened, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.warning("nobody is let in for a moment", extra={"fields": {"error": str(error)}})
                self._accept_no_more()
                self.loop.call_later(SHORT_S, self._accept_more)
                return
            connection = Connection(self)
            self._open.add(connection)
            self._begin(self._enter(connection, opened))

    @property
    def _taken(self) -> int:
        """How many descriptors the connections have."""
        return len(self._open) + 2 * self._led

    async def _enter(self, connection: Connection, opened: socket.socket) -> None:
        opened.setblocking(False)
        try:
            # uvloop does it anyway.
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self.loop.connect_accepted_socket(lambda: connection, opened)
        except OSError:
            opened.close()
            self.left(connection)

    # ── what connections tell ──

    def date(self) -> bytes:
        """The line of the header that says when an answer was made."""
        second = int(self.loop.time())
        if second != self._date[0]:
            self._date = (second, f"date: {formatdate(usegmt=True)}\r\n".encode())
        return self._date[1]

    def left(self, one: Connection | End) -> None:
        """A connection has ended."""
        self._open.discard(one)
        self._accept_more()
        self._check_empty()

    def ended(self, exchange: Exchange) -> None:
        """The application is through with a request."""
        self.running.discard(exchange)
        self._check_empty()

    def _check_empty(self) -> None:
        if self._is_over and not self._open and not self.running:
            self._empty.set()

    def speaks_http2(self, connection: Connection, data: bytes) -> None:
        """A connection has begun with the preface of HTTP/2: lead it on."""
        front = End(self._left_by_client)
        front.connection_made(connection.transport)
        self._open.discard(connection)
        self._open.add(front)
        self._led += 1
        connection.transport.set_protocol(front)
        connection.transport.pause_reading()
        if self._taken > self._descriptors:
            log.warning("few descriptors: a client of HTTP/2 is not let in")
            front.cut()
            return
        self._begin(self._lead(front, proxy_line(connection.client, connection.server) + data))

    async def _lead(self, front: End, opening: bytes) -> None:
        try:
            path = await self._http2.path()
            # Once h2corn sends no more it waits for the client to leave, without end.
            ends = self._ended_by_server
            transport, back = await self.loop.create_unix_connection(lambda: End(ends, ends), path)
        except (ConfigError, OSError) as error:
            log.error("HTTP/2 cannot be served", extra={"fields": {"error": str(error)}})  # noqa: TRY400 - told already
            front.cut()
            return
        transport.write(opening)
        back.join(front)
        if front.transport is None:
            transport.close()
        else:
            front.transport.resume_reading()

    def _left_by_client(self, front: End) -> None:
        if front.other is not None:
            front.other.close()
        self._led -= 1
        self.left(front)

    def _ended_by_server(self, back: End) -> None:
        if back.other is not None:
            back.other.finish(self.loop.time() + LINGER_S)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _look(self) -> None:
        """Let those go that were silent for too long."""
        now = self.loop.time()
        for one in [one for one in self._open if one.due_at <= now]:
            one.expire()
        self._looking = self.loop.call_later(LOOK_S, self._look)


class Http2:
    """h2corn on a socket that only we can reach, from the moment that somebody speaks HTTP/2."""

    def __init__(self, address: Address, asgi: Asgi, settings: Settings) -> None:
        self._address = address
        self._asgi = asgi
        self._settings = settings
        self._starting: asyncio.Task[str] | None = None
        self._native: NativeServer | None = None
        self._name: int | None = None
        self._is_over = False

    async def path(self) -> str:
        """Where it listens; it is started if need be.

        Raises:
            ConfigError: When it cannot be served; the next call tries again.
            OSError: When there is no room for its socket; likewise.
        """
        starting = self._starting = self._starting or asyncio.ensure_future(self._start())
        try:
            return await asyncio.shield(starting)
        except (ConfigError, OSError):
            if self._starting is starting:
                self._starting = None
            raise

    def stop_soon(self) -> None:
        """Let nobody in any more."""
        self._is_over = True
        if self._native is not None:
            self._native.stop_soon()

    async def stopped(self) -> None:
        """Wait until it has ended."""
        if self._starting is not None:
            await asyncio.wait([self._starting])
        if self._native is not None:
            await self._native.stopped()
            self._close()

    async def _start(self) -> str:
        self._folder = tempfile.TemporaryDirectory(prefix="zizq-")
        self._listener = listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            path = self._listen(Path(self._folder.name) / "http2")
            native = NativeServer(self._address, self._asgi, self._settings, listener)
            await native.start()
        except BaseException:
            self._close()
            raise
        self._native = native
        if self._is_over:
            native.stop_soon()
        return path

    def _listen(self, path: Path) -> str:
        """Listen at a path in a folder of ours; returns by what we reach it."""
        self._listener.bind(str(path))
        self._listener.listen(BACKLOG)
        self._listener.setblocking(False)
        if sys.platform != "linux" or not OWN_FILES.is_dir():
            return str(path)
        # Linux finds it by a descriptor, without its name: so nothing is left behind, however we end.
        self._name = os.open(path, os.O_PATH)
        self._folder.cleanup()
        return str(OWN_FILES / str(self._name))

    def _close(self) -> None:
        self._listener.close()
        self._folder.cleanup()
        if self._name is not None:
            os.close(self._name)
            self._name = None
