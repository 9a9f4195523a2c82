"""One API of the server on a socket of its own, with HTTP and TLS around its application."""

from __future__ import annotations

import socket

from zizq.errors import ConfigError
from zizq.server.net.front import Front
from zizq.server.net.limits import BACKLOG, Asgi
from zizq.server.net.native import NativeServer, address_of
from zizq.server.settings import Address, Settings


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
        self._server: Front | NativeServer | None = None

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
        self.addr = address_of(listener)
        server = self._make(listener)
        try:
            await server.start()
        except ConfigError:
            listener.close()
            raise
        self._server = server

    def _make(self, listener: socket.socket) -> Front | NativeServer:
        # Browsers want WebSockets of the admin API, and TLS costs more than what the front saves.
        is_plain = self.api == "primary" and self._address.tls_cert is None
        return (Front if is_plain else NativeServer)(self._address, self._asgi, self._settings, listener)

    async def reload(self) -> bool:
        """Read the certificates anew, for connections that come from now on; open streams go on.

        Returns:
            Whether there are any: an endpoint without TLS is left alone.

        Raises:
            ConfigError: When a certificate is wrong; then those from before stay in force.
        """
        if not isinstance(self._server, NativeServer) or self._address.tls_cert is None:
            return False
        await self._server.reload()
        return True

    def stop_soon(self) -> None:
        """Let nobody in any more; open requests may finish within the shutdown timeout."""
        if self._server is not None:
            self._server.stop_soon()

    async def stopped(self) -> None:
        """Wait until the open requests are through, or have been cut off at the timeout, then give up the socket."""
        if self._server is not None:
            await self._server.stopped()
        if self._socket is not None:
            self._socket.close()

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
