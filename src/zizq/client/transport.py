"""The port to the network; `connections` is behind it for coroutines, and `sockets` for threads.

HTTP/1.1 with keep-alive: measured faster than HTTP/2 here. Proxies named in the environment are not used, for a job
server is near and HTTP_PROXY is meant for the world outside; redirects are not followed, for the server sends none.
"""

from __future__ import annotations

import os
import socket
import ssl
import tempfile
from pathlib import Path
from typing import Protocol

from zizq.client.call import Request, Response
from zizq.client.http import Broken
from zizq.client.settings import Settings
from zizq.errors import ConfigError, StreamIdleTimeout, TransportError, ZizqError

IDLE_S = 60.0
"""How long an idle connection is kept: less than servers and proxies do, so that it is not they who close it."""
MAX_CONNECTIONS = 100
"""How many connections coroutines have at a time: more only wait in the server, and each takes a descriptor of it."""
IDLE_CONNECTIONS = 1024
"""How many idle ones threads keep: enough that a burst of callers does not close and open them again."""
PIECE = 64 * 1024
"""Bytes that are read in one go. Room for 128 KiB and more is mapped and unmapped at each read, which is a third of
what a thread's request costs."""
_UNKNOWN_ISSUER = {2, 18, 19, 20, 21}
"""What OpenSSL calls certificates whose authority it does not know."""


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


# ── TLS ──────────────────────────────────────────────────────────────────────────────────────────────


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """What connections are secured with; None where they are not.

    Raises:
        ConfigError: When a certificate cannot be read, or is no good.
    """
    if not settings.url.startswith("https://"):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs()
    if settings.tls is None:
        return context
    roots, identity = settings.tls.ca_pem(), settings.tls.identity_pem()
    try:
        if roots is not None:
            # There may be words between the certificates, in whatever language.
            context.load_verify_locations(cadata=roots.decode("ascii", "ignore"))
        if identity is not None:
            _show(context, identity)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(f"the certificates in tls= cannot be used: {_cause(error)}") from error
    return context


def _show(context: ssl.SSLContext, identity: bytes) -> None:
    # OpenSSL takes them from a file only; this one nobody else can read, and it is gone at once.
    file, name = tempfile.mkstemp(prefix="zizq-")
    try:
        with os.fdopen(file, "wb") as out:
            out.write(identity)
        # A key that is encrypted must not have OpenSSL ask for a password on the terminal.
        context.load_cert_chain(name, password="")
    finally:
        Path(name).unlink()


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────


class Silent(Exception):
    """Nothing came for too long."""


FAILURES = (OSError, Broken, Silent)
"""What a request may come to on its connection, for `not_answered` to put into words."""


def closed() -> ZizqError:
    """What the user of a closed client is told."""
    return ZizqError("the client is closed: make a new one")


def not_connected(error: OSError, settings: Settings) -> TransportError:
    """What an attempt to connect has come to."""
    if isinstance(error, TimeoutError) and error.errno is None:
        return TransportError(f"cannot connect to {settings.url} within {settings.connect_timeout:g} s")
    unknown = isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in _UNKNOWN_ISSUER
    hint = "Name its authority in tls=TLS(ca=...)" if unknown else "Is the server running there?"
    return TransportError(f"cannot connect to {settings.url}: {_cause(error)}. {hint}")


def not_free(most: int, settings: Settings) -> TransportError:
    """What the wait for a connection has come to."""
    return TransportError(
        f"none of the {most} connections to {settings.url} was free within {settings.read_timeout:g} s: "
        f"nothing was sent. Make fewer calls at a time, or allow more (max_connections)"
    )


def not_answered(error: OSError | Broken | Silent, settings: Settings) -> TransportError:
    """What a request has come to that has no answer."""
    if isinstance(error, Silent):
        text = f"no answer from {settings.url} within {settings.read_timeout:g} s: it may have done it all the same"
        return TransportError(text)
    return TransportError(f"the connection to {settings.url} broke: {_cause(error)}")


def not_streamed(error: OSError | Broken | Silent, settings: Settings) -> TransportError:
    """What a stream has come to."""
    if isinstance(error, Silent):
        return StreamIdleTimeout(
            f"the take stream from {settings.url} was silent for {settings.stream_idle_timeout:g} s: the server is "
            f"gone, or stream_idle_timeout is shorter than its heartbeat"
        )
    return not_answered(error, settings)


def _cause(error: Exception) -> str:
    """The words of whoever knows best what happened."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno is not None:
        return os.strerror(error.errno)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
