"""A small HTTP endpoint in a worker process, for those who ask whether it lives and whether it is ready."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import NamedTuple

from zizq.errors import ConfigError
from zizq.worker.health import MAX_HEAD, WorkerHealth, answer, refusal

logger = logging.getLogger("zizq")

PATIENCE_S = 5.0
"""How long a request and its response may take."""
MOST = 32
"""Connections at once: more than that is nobody who looks after this worker."""


class Address(NamedTuple):
    """Where to listen; port 0 lets the system choose."""

    host: str
    port: int


class Subject(NamedTuple):
    """Who is asked.

    Args:
        health: Says how the worker is.
        ailing: Says why it does not live; None when it does. An event loop that answers lives.
    """

    health: Callable[[], WorkerHealth]
    ailing: Callable[[], str | None] = lambda: None


@contextlib.asynccontextmanager
async def probed(address: Address | None, subject: Subject) -> AsyncIterator[None]:
    """Answer for as long as the block lasts; nobody where there is no address.

    Raises:
        ConfigError: When it cannot be listened on.
    """
    if address is None:
        yield
        return
    desk = _Desk(subject)
    try:
        server = await asyncio.start_server(desk.serve, address.host, address.port, limit=MAX_HEAD)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {address.host}:{address.port} for health checks: {error.strerror or error}:"
            " choose another --health-port"
        ) from error
    host, port = server.sockets[0].getsockname()[:2]
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    logger.info("listening for health checks", extra={"fields": {"addr": shown}})
    try:
        yield
    finally:
        server.close()
        await desk.close()


@contextlib.contextmanager
def probed_apart(address: Address | None, subject: Subject) -> Iterator[None]:
    """The same from a thread of its own, for a process without an event loop.

    Raises:
        ConfigError: When it cannot be listened on.
    """
    if address is None:
        yield
        return
    thread = _Apart(address, subject)
    thread.start()
    try:
        thread.opened()
        yield
    finally:
        thread.close()


class _Desk:
    """Serves one request on each connection."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._open: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer a request, and close the connection."""
        task = asyncio.current_task()
        if task is None or len(self._open) >= MOST:
            writer.close()
            return
        self._open.add(task)
        try:
            async with asyncio.timeout(PATIENCE_S):
                writer.write(await self._response(reader))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            return
        finally:
            self._open.discard(task)
            writer.close()

    async def _response(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return refusal(431, f"send at most {MAX_HEAD >> 10} KiB of headers")
        return answer(head, self._subject.health, self._subject.ailing)

    async def close(self) -> None:
        """Cut off what is still open."""
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)


class _Apart(threading.Thread):
    """A thread with an event loop of its own, in which the endpoint is served."""

    def __init__(self, address: Address, subject: Subject) -> None:
        super().__init__(name="zizq-health", daemon=True)
        self._address = address
        self._subject = subject
        self._begun = threading.Event()
        self._error: ConfigError | None = None
        self._end: Callable[[], object] = lambda: None

    def run(self) -> None:
        """Serve until closed."""
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        self._end = lambda: loop.call_soon_threadsafe(ended.set)
        try:
            async with probed(self._address, self._subject):
                self._begun.set()
                await ended.wait()
        except ConfigError as error:
            self._error = error
        finally:
            self._begun.set()

    def opened(self) -> None:
        """Wait until it listens.

        Raises:
            ConfigError: When it cannot.
        """
        self._begun.wait()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End the thread."""
        with contextlib.suppress(RuntimeError):  # its loop is closed already
            self._end()
        self.join()
