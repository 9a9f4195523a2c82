"""The network for threads: sockets, each with one request under way at a time."""

from __future__ import annotations

import os
import select
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from zizq.client.call import Request, Response
from zizq.client.http import Answer, Requests
from zizq.client.settings import Settings
from zizq.client.transport import (
    FAILURES,
    IDLE_CONNECTIONS,
    IDLE_S,
    PIECE,
    Silent,
    SyncStream,
    closed,
    not_answered,
    not_connected,
    not_streamed,
    tls_context,
)
from zizq.clock import SystemClock

_clock = SystemClock()


class Connection:
    """A connection to the server, used by one thread at a time.

    Args:
        opened: Its socket.
        patience_s: How long a wait for bytes may take.
    """

    def __init__(self, opened: socket.socket, patience_s: float) -> None:
        self.answer = Answer()
        self.idle_since = 0.0
        self.process = os.getpid()
        self._socket = opened
        self._has_news = _watch(opened)
        opened.settimeout(patience_s)

    @property
    def is_alive(self) -> bool:
        """Whether an idle connection is still there: neither old, nor closed by the server."""
        if _clock.mono_s() - self.idle_since > IDLE_S:
            return False
        return not self._has_news()

    def ask(self, request: bytes) -> Response:
        """Send a request, and wait for the whole answer.

        Raises:
            OSError: When the connection breaks.
            Broken: When the answer is none.
            Silent: When nothing came for too long.
        """
        try:
            self.send(request)
        except (BrokenPipeError, ConnectionResetError):
            # A server that refuses a body does not read it to its end; what it said of it may be there.
            with suppress(*FAILURES):
                return self._whole()
            raise
        return self._whole()

    def send(self, request: bytes) -> None:
        """Send a request.

        Raises:
            OSError: When the connection breaks.
            Silent: When the server does not read it.
        """
        self.answer.begin()
        try:
            self._socket.sendall(request)
        except TimeoutError as error:
            raise Silent from error

    def open(self) -> None:
        """Wait for the head of the answer; raises as `ask` does."""
        while not self.answer.has_head:
            self._receive()

    def read(self) -> bytes:
        """The next bytes of the body; empty at its end. Raises as `ask` does."""
        while not (piece := self.answer.take()):
            if self.answer.is_complete:
                return b""
            self._receive()
        return piece

    def close(self) -> None:
        """Close the connection now, also under a thread that waits on it."""
        # Not where it came over a fork: it is the parent's, who goes on with it.
        if self.process == os.getpid():
            with suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        self._socket.close()

    def _whole(self) -> Response:
        while not self.answer.is_complete:
            self._receive()
        return self.answer.whole()

    def _receive(self) -> None:
        try:
            data = self._socket.recv(PIECE)
        except TimeoutError as error:
            raise Silent from error
        if data:
            self.answer.feed(data)
        else:
            self.answer.finish()


class SyncNetworkTransport:
    """A `SyncTransport` on sockets.

    Args:
        settings: Where the server is and how to reach it.

    Raises:
        ConfigError: When a certificate cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._requests = Requests(settings)
        self._context = tls_context(settings)
        # Those that came over a fork are left alone.
        self._idle: dict[int, list[Connection]] = {}
        self._closed = False

    def send(self, request: Request) -> Response:
        """The answer to a request, whatever its status."""
        sent = self._requests.write(request)
        connection = self._take()
        try:
            answer = connection.ask(sent)
        except BaseException as error:
            connection.close()
            if isinstance(error, FAILURES):
                raise not_answered(error, self._settings) from error
            raise
        self._give(connection)
        return answer

    def open_stream(self, request: Request) -> SyncStream:
        """The answer to a request, as soon as its head is there."""
        if self._closed:
            raise closed()
        sent = self._requests.write(request)
        connection = self._connect(self._settings.stream_idle_timeout)
        try:
            connection.send(sent)
            connection.open()
        except BaseException as error:
            connection.close()
            if isinstance(error, FAILURES):
                raise not_answered(error, self._settings) from error
            raise
        return _SyncStream(connection, self._settings)

    def close(self) -> None:
        """Close the idle connections; those of a parent process stay as they are."""
        self._closed = True
        for connection in self._idle.pop(os.getpid(), ()):
            connection.close()

    def _take(self) -> Connection:
        if self._closed:
            raise closed()
        idle = self._idle.setdefault(os.getpid(), [])
        while idle:
            try:
                connection = idle.pop()
            except IndexError:
                # Another thread took it meanwhile.
                break
            if connection.is_alive:
                return connection
            connection.close()
        return self._connect(self._settings.read_timeout)

    def _give(self, connection: Connection) -> None:
        idle = self._idle.setdefault(connection.process, [])
        if self._closed or connection.answer.is_last or len(idle) >= IDLE_CONNECTIONS:
            connection.close()
        else:
            connection.idle_since = _clock.mono_s()
            idle.append(connection)

    def _connect(self, patience_s: float) -> Connection:
        host, port = self._requests.host, self._requests.port
        try:
            opened = socket.create_connection((host, port), self._settings.connect_timeout)
            try:
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._context is not None:
                    opened = self._context.wrap_socket(opened, server_hostname=host)
                return Connection(opened, patience_s)
            except BaseException:
                opened.close()
                raise
        except OSError as error:
            raise not_connected(error, self._settings) from error


class _SyncStream:
    def __init__(self, connection: Connection, settings: Settings) -> None:
        answer = connection.answer
        self.status, self.content_type, self.retry_after = answer.status, answer.content_type, answer.retry_after
        self._connection = connection
        self._settings = settings

    def read(self) -> bytes:
        try:
            return self._connection.read()
        except FAILURES as error:
            raise not_streamed(error, self._settings) from error

    def close(self) -> None:
        self._connection.close()


def _watch(opened: socket.socket | ssl.SSLSocket) -> Callable[[], object]:
    """What tells, without waiting, whether there are bytes to be read, or the end."""
    if not hasattr(select, "poll"):
        return lambda: select.select([opened], [], [], 0)[0]
    poll = select.poll()
    poll.register(opened, select.POLLIN)
    return partial(poll.poll, 0)
