"""h2corn around an application: HTTP/2, TLS, WebSockets, and HTTP/1.1 beside them.

It reads certificates once, when it starts. New ones are therefore given to a second HTTP server on the same socket,
and the first lets nobody in any more: it ends when the last of its streams does.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import socket
from contextlib import suppress
from typing import Any, cast

from zizq.errors import ConfigError
from zizq.server.descriptors import ADMIN, connections
from zizq.server.http.exchange import Receive, Scope, Send
from zizq.server.net import limits
from zizq.server.net.limits import MAX_FIELDS, MAX_HEAD, WINDOW, Asgi
from zizq.server.settings import Address, Settings
from zizq.wire.events import MAX_TEXT

log = logging.getLogger("zizq.serve")

ENDLESS_S = 1e9
"""How long an HTTP server that may be replaced lets open requests go on: take streams have no end."""


class NativeServer:
    """Serves an application on a socket that listens.

    Args:
        address: Which API that is, and with which certificates.
        asgi: The application.
        settings: The options that all endpoints share.
        listener: The socket; who made it closes it. One of the Unix kind has to name each client first, by the
            PROXY protocol.
    """

    def __init__(self, address: Address, asgi: Asgi, settings: Settings, listener: socket.socket) -> None:
        self._address = address
        self._asgi = asgi if address.tls_cert is None else self._noted
        self._application = asgi
        self._settings = settings
        self._listener = listener
        self._server: Any = None
        self._serving: dict[asyncio.Task[None], Any] = {}
        self._requests: set[asyncio.Task[None]] = set()
        self._is_cut = False
        self._is_over = False
        self._reviving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve.

        Raises:
            ConfigError: When a certificate is wrong, or h2corn is not there.
        """
        self._server = await self._serve()

    async def reload(self) -> None:
        """Read the certificates anew, for connections that come from now on; open streams go on.

        Connections on which nothing happens are closed, others once their last request is answered.

        Raises:
            ConfigError: When a certificate is wrong; then those from before stay in force.
        """
        if self._reviving is not None:
            self._reviving.cancel()
        former, self._server = self._server, await self._serve()
        if former is not None:
            former.shutdown()

    def stop_soon(self) -> None:
        """Let nobody in any more; open requests may finish within the shutdown timeout."""
        self._is_over = True
        if self._reviving is not None:
            self._reviving.cancel()
        for server in self._serving.values():
            server.shutdown()

    async def stopped(self) -> None:
        """Wait until the open requests are through, or have been cut off at the timeout."""
        if self._address.tls_cert is not None and self._serving:
            await asyncio.wait(self._serving, timeout=self._settings.drain_timeout / 1000)
            self._is_cut = True
            for request in self._requests:
                request.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self) -> Any:
        """An HTTP server that has begun to accept connections."""
        try:
            import h2corn
        except ModuleNotFoundError as error:
            raise ConfigError("the server needs h2corn: pip install 'zizq[server]'") from error
        _silence_banner()
        try:
            server = h2corn.Server(self._asgi, h2corn.Config(**self._config()))
            serving = asyncio.create_task(server.serve())
            serving.add_done_callback(self._ended)
            self._serving[serving] = server
            await server.wait_started()
        except asyncio.CancelledError:
            # What has not begun yet does not hear of a shutdown.
            serving.cancel()
            raise
        except (ValueError, OSError) as error:
            where, files = address_of(self._listener), ", ".join(map(str, self._address.tls_files))
            what = f"{where} with {files}" if files else where
            raise ConfigError(f"cannot serve the {self._address.api} API on {what}: {error}") from error
        return server

    def _ended(self, serving: asyncio.Task[None]) -> None:
        server = self._serving.pop(serving)
        # What it fails with comes out of `wait_started` too, and must not be logged as an error that nobody saw.
        error = None if serving.cancelled() else serving.exception()
        if error is not None and server is self._server:
            log.error("the HTTP server failed, all connections are lost: it begins anew",
                      extra={"fields": {"api": self._address.api, "error": str(error)}})  # fmt: skip
            self._reviving = asyncio.ensure_future(self._revive())

    async def _revive(self) -> None:
        """Serve again after the HTTP server has failed, as it does where descriptors are short."""
        self._server = None
        while self._server is None and not self._is_over:
            await asyncio.sleep(limits.REVIVE_S)
            with suppress(ConfigError):
                server = await self._serve()
                # Among those that waited to be let in there may have been too many again.
                self._server = server if server in self._serving.values() else None

    async def _noted(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application, with open requests noted: the HTTP server would let them go on without end."""
        request = cast("asyncio.Task[None]", asyncio.current_task())
        self._requests.add(request)
        try:
            await self._application(scope, receive, send)
        except asyncio.CancelledError:
            if not self._is_cut:
                raise
        finally:
            self._requests.discard(request)

    def _config(self) -> dict[str, Any]:
        """What the HTTP server is told; limits that we answer for ourselves are off there."""
        address, listener = self._address, self._listener
        return {
            "bind": (f"fd://{listener.fileno()}",),
            "proxy_protocol": "v1" if listener.family == socket.AF_UNIX else "off",
            "lifespan": "off",
            # The event loop is the limit, and what more threads there are wait for it.
            "runtime_threads": 1,
            "access_log": False,
            "log_format": "text",
            "max_request_body_size": 0,
            "limit_connections": ADMIN if address.api == "admin" else connections(self._settings.max_connections),
            "max_concurrent_streams": 256,
            "limit_request_head_size": MAX_HEAD,
            "limit_request_line": MAX_HEAD,
            "limit_request_field_size": MAX_HEAD,
            "limit_request_fields": MAX_FIELDS,
            "h2_max_header_list_size": MAX_HEAD,
            "h2_max_header_block_size": MAX_HEAD,
            "h2_initial_stream_window_size": WINDOW,
            "h2_initial_connection_window_size": WINDOW,
            "h2_timeout_response_stall": limits.PATIENCE_S,
            "h2_timeout_write": limits.PATIENCE_S,
            "websocket_max_message_size": MAX_TEXT,
            "timeout_graceful_shutdown": self._settings.drain_timeout / 1000 if address.tls_cert is None else ENDLESS_S,
            "timeout_handshake": limits.OPENING_S,
            "timeout_request_header": limits.HEAD_S,
            "timeout_keep_alive": limits.IDLE_S[address.api],
            "timeout_request_body_idle": limits.PATIENCE_S,
            "certfile": address.tls_cert,
            "keyfile": address.tls_key,
            "ca_certs": address.tls_client_ca,
            "cert_reqs": "required" if address.tls_client_ca else "none",
        }


def address_of(listener: socket.socket) -> str:
    """Where a socket listens."""
    if listener.family == socket.AF_UNIX:
        return str(listener.getsockname())
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _silence_banner() -> None:
    """Keep h2corn, which is pinned and has no option for it, from writing a banner of its own to stderr."""
    native: Any = importlib.import_module("h2corn._lib")
    native.emit_banner = lambda config, tls: None
