"""What a client is told at construction, checked once."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from zizq.client.options import TLS, Duration, to_ms
from zizq.errors import ConfigError
from zizq.wire.codec import Format

DEFAULT_URL = "http://127.0.0.1:7890"
_FORMATS = {"msgpack": Format.MSGPACK, "json": Format.JSON}


@dataclass(frozen=True)
class Settings:
    """Where the server is and how to reach it.

    Args:
        url: The address of the server without a trailing slash; a path in it goes before every call's.
        connect_timeout: For opening a connection, in seconds.
        read_timeout: For each wait for bytes of an answer, in seconds.
        stream_idle_timeout: The longest silence on a take stream, in seconds.
        tls: Certificates.
        token: What says who calls; None for nothing.
    """

    url: str
    connect_timeout: float
    read_timeout: float
    stream_idle_timeout: float
    tls: TLS | None
    token: str | None = field(default=None, repr=False)


def check_settings(
    url: str | None,
    tls: TLS | None,
    connect_timeout: Duration,
    read_timeout: Duration,
    stream_idle_timeout: Duration,
    token: str | None = None,
) -> Settings:
    """Settings from the arguments of a client.

    Raises:
        ConfigError: When the URL, a timeout or the token is wrong, or `tls` comes with an `http://` URL.
    """
    address = check_url(url or os.environ.get("ZIZQ_URL") or DEFAULT_URL)
    if tls is not None and address.startswith("http://"):
        raise ConfigError(f"tls= is of no use with {address}: write https://")
    return Settings(
        url=address,
        connect_timeout=_timeout("connect_timeout", connect_timeout),
        read_timeout=_timeout("read_timeout", read_timeout),
        stream_idle_timeout=_timeout("stream_idle_timeout", stream_idle_timeout),
        tls=tls,
        token=_token(token),
    )


def check_url(url: str) -> str:
    """The URL without trailing slashes.

    Raises:
        ConfigError: When it is not `http(s)://host[:port][/prefix]`.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise ConfigError(f"{url!r} is not a URL: {error}") from error
    if not usable or any(character.isspace() for character in url):
        raise ConfigError(f"{url!r} is not a server's URL: write http://host:port or https://host:port")
    if "@" in parts.netloc:
        raise ConfigError(f"the URL of {parts.hostname} names a user, and the server knows no users: leave it out")
    for mark, name in (("?", "a query"), ("#", "a fragment")):
        if mark in url:
            raise ConfigError(f"{url!r} has {name}: leave it out")
    return url.rstrip("/")


def check_format(name: str) -> Format:
    """The body format of a name.

    Raises:
        ConfigError: When it is neither `msgpack` nor `json`.
    """
    form = _FORMATS.get(name)
    if form is None:
        raise ConfigError(f"format={name!r} is not spoken: choose 'msgpack' or 'json'")
    return form


def check_connections(count: int) -> int:
    """How many connections there may be.

    Raises:
        ConfigError: When there may be none.
    """
    if count < 1:
        raise ConfigError(f"max_connections={count!r} leaves no connection: give 1 or more")
    return count


def _token(given: str | None) -> str | None:
    # In a file, and so in a variable that was filled from one, a line break follows it.
    token = (given or os.environ.get("ZIZQ_TOKEN") or "").strip()
    if not all("!" <= character <= "~" for character in token):
        raise ConfigError("the token has blanks or characters beyond ASCII: give it as `zizq token create` printed it")
    return token or None


def _timeout(name: str, value: Duration) -> float:
    ms = to_ms(name, value)
    if ms == 0:
        raise ConfigError(f"{name}={value!r} leaves no time: give seconds over 0")
    return ms / 1000
