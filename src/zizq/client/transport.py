"""The port to the network, and its one implementation, on pyreqwest.

HTTP/1.1 with keep-alive: measured faster than HTTP/2 here. Proxies named in the environment are not used, for a job
server is near and HTTP_PROXY is meant for the world outside; redirects are not followed, for the server sends none.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import time
from contextlib import suppress
from datetime import timedelta
from functools import lru_cache
from typing import Any, Generic, Protocol, TypeVar, cast

# The exceptions are imported here, and not by the extension when the first error comes: a signal that arrived
# meanwhile would make that import fail, and the extension then aborts the process.
from pyreqwest import exceptions as foreign
from pyreqwest import runtime
from pyreqwest.client import Client, ClientBuilder, SyncClient, SyncClientBuilder
from pyreqwest.http import Url
from pyreqwest.request import StreamRequest, SyncStreamRequest
from pyreqwest.response import Response as ForeignResponse
from pyreqwest.response import SyncResponse as SyncForeignResponse

from zizq.client.call import Request, Response
from zizq.client.settings import Settings
from zizq.errors import ConfigError, StreamIdleTimeout, TransportError, ZizqError

logger = logging.getLogger("zizq")

C = TypeVar("C", Client, SyncClient)
_IDLE_CONNECTIONS = 1024
"""How many idle connections are kept: enough that a burst of callers does not close and open them again."""
_CLOSING = 2.0
"""Seconds that a stream may take to close."""
_LAST_WORDS = 0.005
"""Seconds that the exit of the interpreter waits. A thread of the extension that has just handed over an answer may
still be inside the interpreter; if that is torn down around it, the process aborts: measured at 5 exits in 100 where a
program ends right after it has closed a take stream, and at none in 200 with this."""
atexit.register(time.sleep, _LAST_WORDS)


# ── the port ─────────────────────────────────────────────────────────────────────────────────────────


class Stream(Protocol):
    """The body of an answer, as it arrives."""

    status: int
    content_type: str | None
    retry_after: float | None

    async def read(self) -> bytes:
        """The next bytes; empty at the end.

        Raises:
            TransportError: When the connection broke, or was silent for too long.
        """

    async def close(self) -> None:
        """Close the connection now. Closing twice is no error."""


class Transport(Protocol):
    """Sends requests from coroutines."""

    async def send(self, request: Request) -> Response:
        """The answer to a request, whatever its status.

        Raises:
            TransportError: When none came.
        """

    async def open_stream(self, request: Request) -> Stream:
        """The answer to a request, as soon as its head is there.

        Raises:
            TransportError: When none came.
        """

    async def close(self) -> None:
        """Close the idle connections. Closing twice is no error."""


class SyncStream(Protocol):
    """A `Stream` for threads."""

    status: int
    content_type: str | None
    retry_after: float | None

    def read(self) -> bytes:
        """The next bytes; empty at the end."""

    def close(self) -> None:
        """Close the connection now."""


class SyncTransport(Protocol):
    """A `Transport` for threads: any number of them at a time."""

    def send(self, request: Request) -> Response:
        """The answer to a request, whatever its status."""

    def open_stream(self, request: Request) -> SyncStream:
        """The answer to a request, as soon as its head is there."""

    def close(self) -> None:
        """Close the idle connections."""


# ── pyreqwest ────────────────────────────────────────────────────────────────────────────────────────


class _PerProcess(Generic[C]):
    """A pyreqwest client for each process that uses it, built at its first use there.

    A client that was inherited over a fork is kept and never touched again, not even to close it: its runtime has no
    thread here, and its sockets are the parent's.
    """

    def __init__(self, builder: type[ClientBuilder] | type[SyncClientBuilder], settings: Settings, idle: float) -> None:
        self._builder = builder
        self._settings = settings
        self._idle = idle
        self._roots = settings.tls.ca_pem() if settings.tls else None
        self._identity = settings.tls.identity_pem() if settings.tls else None
        self._clients: dict[int, C] = {}
        self._closed = False

    def get(self) -> C:
        """The client of this process.

        Raises:
            ConfigError: When it cannot be built: the certificates are no good, or a fork of a fork asks.
            ZizqError: When it was closed.
        """
        client = self._clients.get(os.getpid())
        if client is not None:
            return client
        if self._closed:
            raise ZizqError("the client is closed: make a new one")
        # Two threads may both build one; setdefault makes them use the same.
        return self._clients.setdefault(os.getpid(), self._build())

    def pop(self) -> C | None:
        """The client of this process, if there is one to close; from now on there is none."""
        self._closed = True
        return self._clients.pop(os.getpid(), None)

    def _build(self) -> C:
        # pyreqwest has two runtimes and refuses the one that ran before a fork; the other still starts.
        runtime.runtime_worker_threads(1)
        for threads in (False, True):
            try:
                return cast("C", self._configured().runtime_multithreaded(threads).build())
            except ValueError as error:
                raise ConfigError(f"the certificates in tls= cannot be used: {_cause(error)}") from error
            except RuntimeError as error:
                refused = error
        raise ConfigError(
            "zizq cannot connect from the fork of a fork: create no client before the first fork, or start processes "
            "by the 'spawn' method"
        ) from refused

    def _configured(self) -> ClientBuilder | SyncClientBuilder:
        settings = self._settings
        builder = self._builder().user_agent("zizq-python").http1_only().no_proxy()
        builder = builder.connect_timeout(timedelta(seconds=settings.connect_timeout))
        builder = builder.read_timeout(timedelta(seconds=self._idle)).pool_max_idle_per_host(_IDLE_CONNECTIONS)
        builder = builder.follow_redirects(False).referer(False)
        builder = builder.gzip(False).brotli(False).zstd(False).deflate(False)
        if settings.token is not None:
            builder = builder.default_headers({"authorization": f"Bearer {settings.token}"})
        if self._roots:
            builder = builder.add_root_certificate_pem(self._roots)
        if self._identity:
            builder = builder.identity_pem(self._identity)
        return builder


class ReqwestTransport:
    """A `Transport` on pyreqwest.

    Args:
        settings: Where the server is and how to reach it.

    Raises:
        ConfigError: When a certificate cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._calls = _PerProcess[Client](ClientBuilder, settings, settings.read_timeout)
        self._streams = _PerProcess[Client](ClientBuilder, settings, settings.stream_idle_timeout)
        self._late: set[asyncio.Future[None]] = set()

    async def send(self, request: Request) -> Response:
        """The answer to a request, whatever its status."""
        method, path, headers, body = request
        building = self._calls.get().request(method, _url(self._settings.url + path)).headers(headers)
        if body is not None:
            building.body_bytes(body)
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        cancels = task.cancelling()
        try:
            answer = await building.build().send()
            content = bytes(await answer.bytes())
        except foreign.RequestError as error:
            raise _translated(error, self._settings) from error
        if task.cancelling() > cancels:
            # pyreqwest forgets a cancellation that comes together with the answer.
            raise asyncio.CancelledError
        return Response(answer.status, answer.get_header("content-type"), content, _pause(answer))

    async def open_stream(self, request: Request) -> Stream:
        """The answer to a request, as soon as its head is there."""
        opening = asyncio.ensure_future(self._open(request))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # pyreqwest lets a request run on that is cancelled before its answer came: jobs would flow to nobody.
            late = asyncio.ensure_future(_close_once_open(opening))
            self._late.add(late)
            late.add_done_callback(self._late.discard)
            raise

    async def _open(self, request: Request) -> Stream:
        building = self._streams.get().request(request.method, self._settings.url + request.path)
        # Without this the answer is held back until 64 KiB of its body are there.
        opening = building.headers(request.headers).streamed_read_buffer_limit(0).build_streamed()
        try:
            return _ReqwestStream(opening, await opening.__aenter__(), self._settings)
        except foreign.RequestError as error:
            raise _translated(error, self._settings) from error

    async def close(self) -> None:
        """Close the idle connections; those of a parent process stay as they are."""
        for client in (self._calls.pop(), self._streams.pop()):
            if client is not None:
                await client.close()


class _ReqwestStream:
    def __init__(self, opened: StreamRequest, answer: ForeignResponse, settings: Settings) -> None:
        self.status = answer.status
        self.content_type = answer.get_header("content-type")
        self.retry_after = _pause(answer)
        self._opened: StreamRequest | None = opened
        self._read = answer.body_reader.read_chunk
        self._settings = settings

    async def read(self) -> bytes:
        try:
            chunk = await self._read()
        except foreign.RequestError as error:
            raise _stream_translated(error, self._settings) from error
        return b"" if chunk is None else bytes(chunk)

    async def close(self) -> None:
        # Bounded, since a shutdown waits for it. A stream that is let go of is closed when it is collected.
        opened, self._opened = self._opened, None
        if opened is None:
            return
        try:
            async with asyncio.timeout(_CLOSING):
                await opened.__aexit__(None, None, None)
        except TimeoutError:
            logger.warning("a take stream did not close within %g s: it is dropped", _CLOSING)


async def _close_once_open(opening: asyncio.Future[Stream]) -> None:
    with suppress(ZizqError):
        await (await opening).close()


class SyncReqwestTransport:
    """A `SyncTransport` on pyreqwest.

    Args:
        settings: Where the server is and how to reach it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._calls = _PerProcess[SyncClient](SyncClientBuilder, settings, settings.read_timeout)
        self._streams = _PerProcess[SyncClient](SyncClientBuilder, settings, settings.stream_idle_timeout)

    def send(self, request: Request) -> Response:
        """The answer to a request, whatever its status."""
        method, path, headers, body = request
        building = self._calls.get().request(method, _url(self._settings.url + path)).headers(headers)
        if body is not None:
            building.body_bytes(body)
        try:
            answer = building.build().send()
            return Response(answer.status, answer.get_header("content-type"), bytes(answer.bytes()), _pause(answer))
        except foreign.RequestError as error:
            raise _translated(error, self._settings) from error

    def open_stream(self, request: Request) -> SyncStream:
        """The answer to a request, as soon as its head is there."""
        building = self._streams.get().request(request.method, self._settings.url + request.path)
        opening = building.headers(request.headers).streamed_read_buffer_limit(0).build_streamed()
        try:
            return _SyncReqwestStream(opening, opening.__enter__(), self._settings)
        except foreign.RequestError as error:
            raise _translated(error, self._settings) from error

    def close(self) -> None:
        """Close the idle connections; those of a parent process stay as they are."""
        for client in (self._calls.pop(), self._streams.pop()):
            if client is not None:
                client.close()


class _SyncReqwestStream:
    def __init__(self, opened: SyncStreamRequest, answer: SyncForeignResponse, settings: Settings) -> None:
        self.status = answer.status
        self.content_type = answer.get_header("content-type")
        self.retry_after = _pause(answer)
        self._opened = opened
        self._read = answer.body_reader.read_chunk
        self._settings = settings

    def read(self) -> bytes:
        try:
            chunk = self._read()
        except foreign.RequestError as error:
            raise _stream_translated(error, self._settings) from error
        return b"" if chunk is None else bytes(chunk)

    def close(self) -> None:
        self._opened.__exit__(None, None, None)


@lru_cache(maxsize=64)
def _url(text: str) -> Url:
    """A URL, parsed; the few of the busy calls are parsed once."""
    return Url(text)


def _pause(answer: ForeignResponse | SyncForeignResponse) -> float | None:
    """After how many seconds the server wants us again; None where it does not say, or names a date."""
    text = answer.get_header("retry-after") if answer.status in (429, 503) else None
    return float(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 10 else None


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────


def _stream_translated(error: foreign.RequestError, settings: Settings) -> ZizqError:
    if isinstance(error, foreign.RequestTimeoutError):
        return StreamIdleTimeout(
            f"the take stream from {settings.url} was silent for {settings.stream_idle_timeout:g} s: the server is "
            f"gone, or stream_idle_timeout is shorter than its heartbeat"
        )
    return _translated(error, settings)


def _translated(error: foreign.RequestError, settings: Settings) -> ZizqError:
    causes = [cause["message"] for cause in error.details.get("causes") or ()]
    connecting = "client error (Connect)" in causes
    if isinstance(error, foreign.ClientClosedError):
        return ZizqError("the client is closed: make a new one")
    if isinstance(error, foreign.RequestTimeoutError):
        if connecting:
            return TransportError(f"cannot connect to {settings.url} within {settings.connect_timeout:g} s")
        return TransportError(
            f"no answer from {settings.url} within {settings.read_timeout:g} s: it may have done it all the same"
        )
    if connecting:
        cause = _cause(error)
        hint = "Name its authority in tls=TLS(ca=...)" if "UnknownIssuer" in cause else "Is the server running there?"
        return TransportError(f"cannot connect to {settings.url}: {cause}. {hint}")
    return TransportError(f"the connection to {settings.url} broke: {_cause(error)}")


def _cause(error: Exception) -> str:
    """The innermost cause, which is the one that says what happened."""
    details = getattr(error, "details", None) or {}
    causes = [cause["message"] for cause in details.get("causes") or ()]
    return str(causes[-1]).partition(" (os error")[0] if causes else str(error)
