"""One API of the server on a socket of its own, with HTTP/1.1, HTTP/2 and TLS around its application.

The HTTP server reads certificates once, when it starts. New ones are therefore given to a second HTTP server on the
same socket, and the first lets nobody in any more: it ends when the last of its streams does.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, cast

from zizq.errors import ConfigError
from zizq.server.descriptors import ADMIN, connections
from zizq.server.http.exchange import Receive, Scope, Send
from zizq.server.settings import Address, Settings
from zizq.wire.events import MAX_TEXT

log = logging.getLogger("zizq.serve")

Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

BACKLOG = 4096
"""Connections that may wait to be accepted: a fleet of workers that comes back at once after a restart."""
ENDLESS_S = 1e9
"""How long an HTTP server that may be replaced lets open requests go on: take streams have no end."""

MAX_HEAD = 64 * 1024
"""Bytes that the first line of a request and its headers may have, as they come and, in HTTP/2, unpacked."""
WINDOW = 2**20
"""Bytes of bodies that an HTTP/2 client may send ahead of us, over all streams of its connection."""
PATIENCE_S = 30.0
"""How long a client may send nothing of a body, or read nothing over HTTP/2 of what is sent to it."""
IDLE_S = {"primary": 120.0, "admin": 10.0}
"""How long a connection may be idle. The admin port has few, and browsers would keep several for minutes."""
REVIVE_S = 1.0
"""How long a failed HTTP server rests: by then some of those that it cut off have let go."""


class Endpoint:
    """Serves one application for as long as it is started.

    Args:
        address: Where to listen, and with which certificates.
        asgi: The application.
        settings: The options that all endpoints share.
    """

    def __init__(self, address: Address, asgi: Asgi, settings: Settings) -> None:
        self.api = address.api
        self.scheme = address.scheme
        self.addr = ""
        self._address = address
        self._asgi = asgi
        self._settings = settings
        self._socket: socket.socket | None = None
        self._server: Any = None
        self._serving: dict[asyncio.Task[None], Any] = {}
        self._requests: set[asyncio.Task[None]] = set()
        self._is_cut = False
        self._reviving: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where it is reached, with the port that the system chose where 0 was asked for."""
        return f"{self.scheme}://{self.addr}"

    async def start(self) -> None:
        """Listen and serve.

        Raises:
            ConfigError: When the address cannot be listened on, or a certificate is wrong; nothing is left open.
        """
        self._socket = listener = self._listen()
        host, port = listener.getsockname()[:2]
        self.addr = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            self._server = await self._serve(listener)
        except ConfigError:
            listener.close()
            raise

    async def reload(self) -> bool:
        """Read the certificates anew, for connections that come from now on; open streams go on.

        Connections on which nothing happens are closed, others once their last request is answered.

        Returns:
            Whether there are any: an endpoint without TLS is left alone.

        Raises:
            ConfigError: When a certificate is wrong; then those from before stay in force.
        """
        if self._socket is None or self._address.tls_cert is None:
            return False
        if self._reviving is not None:
            self._reviving.cancel()
        former, self._server = self._server, await self._serve(self._socket)
        if former is not None:
            former.shutdown()
        return True

    async def _serve(self, listener: socket.socket) -> Any:
        """An HTTP server that has begun to accept connections."""
        try:
            import h2corn
        except ModuleNotFoundError as error:
            raise ConfigError("the server needs h2corn: pip install 'zizq[server]'") from error
        _silence_banner()
        asgi = self._asgi if self._address.tls_cert is None else self._noted
        try:
            server = h2corn.Server(asgi, h2corn.Config(**self._config(listener)))
            serving = asyncio.create_task(server.serve())
            serving.add_done_callback(self._ended)
            self._serving[serving] = server
            await server.wait_started()
        except asyncio.CancelledError:
            # What has not begun yet does not hear of a shutdown.
            serving.cancel()
            raise
        except (ValueError, OSError) as error:
            raise ConfigError(f"cannot serve the {self.api} API on {self.addr}: {error}") from error
        return server

    def _ended(self, serving: asyncio.Task[None]) -> None:
        server = self._serving.pop(serving)
        # What it fails with comes out of `wait_started` too, and must not be logged as an error that nobody saw.
        error = None if serving.cancelled() else serving.exception()
        if error is not None and server is self._server:
            log.error("the HTTP server failed, all connections are lost: it begins anew",
                      extra={"fields": {"api": self.api, "error": str(error)}})  # fmt: skip
            self._reviving = asyncio.ensure_future(self._revive())

    async def _revive(self) -> None:
        """Serve again after the HTTP server has failed, as it does where descriptors are short."""
        self._server = None
        while self._server is None and self._socket is not None:
            await asyncio.sleep(REVIVE_S)
            with suppress(ConfigError):
                server = await self._serve(self._socket)
                # Among those that waited to be let in there may have been too many again.
                self._server = server if server in self._serving.values() else None

    def stop_soon(self) -> None:
        """Let nobody in any more; open requests may finish within the shutdown timeout."""
        if self._reviving is not None:
            self._reviving.cancel()
        for server in self._serving.values():
            server.shutdown()

    async def stopped(self) -> None:
        """Wait until the open requests are through, or have been cut off at the timeout, then give up the socket."""
        if self._address.tls_cert is not None and self._serving:
            await asyncio.wait(self._serving, timeout=self._settings.drain_timeout / 1000)
            self._is_cut = True
            for request in self._requests:
                request.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()

    async def _noted(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application, with open requests noted: the HTTP server would let them go on without end."""
        request = cast("asyncio.Task[None]", asyncio.current_task())
        self._requests.add(request)
        try:
            await self._asgi(scope, receive, send)
        except asyncio.CancelledError:
            if not self._is_cut:
                raise
        finally:
            self._requests.discard(request)

    def _listen(self) -> socket.socket:
        """A listening socket whose connections notice a peer that has vanished (protocol.md#4.4)."""
        host, port = self._address.host, self._address.port
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self._settings.tcp_user_timeout and hasattr(socket, "TCP_USER_TIMEOUT"):
                # Accepted sockets inherit it.
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self._settings.tcp_user_timeout)
            listener.bind((host, port))
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            raise ConfigError(
                f"cannot listen on {host}:{port} for the {self.api} API: {error.strerror}: {self._address.remedy}"
            ) from error
        listener.setblocking(False)
        return listener

    def _config(self, listener: socket.socket) -> dict[str, Any]:
        """What the HTTP server is told; limits that we answer for ourselves are off there."""
        address = self._address
        return {
            "bind": (f"fd://{listener.fileno()}",),
            "lifespan": "off",
            # The event loop is the limit, and what more threads there are wait for it.
            "runtime_threads": 1,
            "access_log": False,
            "log_format": "text",
            "max_request_body_size": 0,
            "limit_connections": ADMIN if self.api == "admin" else connections(self._settings.max_connections),
            "max_concurrent_streams": 256,
            "limit_request_head_size": MAX_HEAD,
            "limit_request_line": MAX_HEAD,
            "limit_request_field_size": MAX_HEAD,
            "h2_max_header_list_size": MAX_HEAD,
            "h2_max_header_block_size": MAX_HEAD,
            "h2_initial_stream_window_size": WINDOW,
            "h2_initial_connection_window_size": WINDOW,
            "h2_timeout_response_stall": PATIENCE_S,
            "h2_timeout_write": PATIENCE_S,
            "websocket_max_message_size": MAX_TEXT,
            "timeout_graceful_shutdown": self._settings.drain_timeout / 1000 if address.tls_cert is None else ENDLESS_S,
            "timeout_keep_alive": IDLE_S[self.api],
            "timeout_request_body_idle": PATIENCE_S,
            "certfile": address.tls_cert,
            "keyfile": address.tls_key,
            "ca_certs": address.tls_client_ca,
            "cert_reqs": "required" if address.tls_client_ca else "none",
        }


def _silence_banner() -> None:
    """Keep h2corn, which is pinned and has no option for it, from writing a banner of its own to stderr."""
    native: Any = importlib.import_module("h2corn._lib")
    native.emit_banner = lambda config, tls: None
