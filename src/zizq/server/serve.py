"""Sockets, TLS, signals and the HTTP server around the application."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from zizq.errors import ConfigError
from zizq.server.app import App
from zizq.server.settings import Settings

log = logging.getLogger("zizq.serve")

SWITCH_INTERVAL_S = 0.0005
"""How long a busy thread keeps the interpreter from the others. At the default, 5 ms, the writer waits that long for
its turn beside a busy event loop, at every statement."""
GC_THRESHOLDS = (50_000, 20, 50)
"""Allocations before the garbage collector looks. Jobs are not tracked by it and requests leave no cycles, so at the
default, 700, it searches the windows again and again for nothing: 3 % of the time, and pauses."""
BACKLOG = 4096
"""Connections that may wait to be accepted: a fleet of workers that comes back at once after a restart."""


@asynccontextmanager
async def listening(settings: Settings, app: App) -> AsyncIterator[str]:
    """Serve an application that was started, on HTTP/1.1 and HTTP/2, for as long as the block lasts.

    Yields the address, as `host:port`, with the port that the system chose where 0 was asked for. At the end take
    streams end cleanly and other requests may finish within the shutdown timeout.

    Raises:
        ConfigError: When the address cannot be listened on, or a certificate is wrong.
    """
    try:
        import h2corn
    except ModuleNotFoundError as error:
        raise ConfigError("the server needs h2corn: pip install 'zizq[server]'") from error
    _silence_banner()
    listener = _listen(settings)
    host, port = listener.getsockname()[:2]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        server = h2corn.Server(cast("Any", app.asgi), h2corn.Config(**_config(settings, listener)))
        serving = asyncio.create_task(server.serve())
        # What it fails with comes out of `wait_started` too, and must not be logged as an error that nobody saw.
        serving.add_done_callback(lambda task: task.cancelled() or task.exception())
        await server.wait_started()
    except (ValueError, OSError) as error:
        listener.close()
        raise ConfigError(f"cannot serve on {address}: {error}") from error
    try:
        yield address
    finally:
        server.shutdown()
        app.end_streams()
        await asyncio.gather(serving, return_exceptions=True)
        listener.close()


def _silence_banner() -> None:
    """Keep h2corn, which is pinned and has no option for it, from writing a banner of its own to stderr."""
    native: Any = importlib.import_module("h2corn._lib")
    native.emit_banner = lambda config, tls: None


def _listen(settings: Settings) -> socket.socket:
    """A listening socket whose connections notice a peer that has vanished (protocol.md#4.4)."""
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if settings.tcp_user_timeout and hasattr(socket, "TCP_USER_TIMEOUT"):
            # Accepted sockets inherit it.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, settings.tcp_user_timeout)
        listener.bind((settings.host, settings.port))
        listener.listen(BACKLOG)
    except OSError as error:
        raise ConfigError(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from error
    listener.setblocking(False)
    return listener


def _config(settings: Settings, listener: socket.socket) -> dict[str, Any]:
    """What the HTTP server is told; limits that we answer for ourselves are off there."""
    return {
        "bind": (f"fd://{listener.fileno()}",),
        "lifespan": "off",
        "access_log": False,
        "log_format": "text",
        "max_request_body_size": 0,
        "max_concurrent_streams": 1024,
        "limit_request_head_size": 64 * 1024,
        "limit_request_line": 64 * 1024,
        "timeout_graceful_shutdown": settings.drain_timeout / 1000,
        "timeout_request_body_idle": 30.0,
        "certfile": settings.tls_cert,
        "keyfile": settings.tls_key,
        "ca_certs": settings.tls_client_ca,
        "cert_reqs": "required" if settings.tls_client_ca else "none",
    }


def run(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; a second one ends the process at once.

    Raises:
        ConfigError: When the store cannot be opened or the address cannot be listened on.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        import uvloop
    except ModuleNotFoundError:
        asyncio.run(_serve(settings))
    else:
        uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    stopped = _stop_on_signals()
    app = App(settings)
    await app.start()
    try:
        log.info("store opened", extra={"fields": {"root_dir": str(settings.root_dir)}})
        async with listening(settings, app) as address:
            scheme = "https" if settings.tls_cert else "http"
            log.info("listening", extra={"fields": {"api": "primary", "addr": address, "scheme": scheme}})
            _tell(f"Listening on {scheme}://{address} (primary)")
            await stopped.wait()
            log.info("stopping", extra={"fields": {"streams": app.broker.stream_count()}})
    finally:
        await app.stop()
    log.info("stopped")
    _tell("Server stopped.")


def _stop_on_signals() -> asyncio.Event:
    """An event that the first SIGINT or SIGTERM sets; the second takes its usual, sudden course."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        stopped.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    return stopped


def _tell(text: str) -> None:
    """Say it to a person; programs read the log."""
    if sys.stderr.isatty():
        sys.stderr.write(text + "\n")
