"""HTTP/1.1 as far as the API needs it: requests as bytes, and answers out of the bytes that come. Pure.

llhttp, by way of httptools, reads the answers: what lengths and chunks mean, and what is no HTTP, is not for us to say.
"""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import quote, urlsplit

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from zizq.client.call import Request, Response
from zizq.client.settings import Settings
from zizq.errors import ConfigError

MAX_HEAD = 64 * 1024
"""Bytes that come before the body of an answer at most."""
_PORTS = {"http": 80, "https": 443}
_URL_CHARACTERS = "/%:@!$&'()*+,;=~"


class Broken(Exception):
    """An answer that is none, or not whole; its text says why."""


class Requests:
    """Writes requests to one server, and knows where that is.

    Args:
        settings: Where the server is, and what tells it who calls.
    """

    def __init__(self, settings: Settings) -> None:
        parts = urlsplit(settings.url)
        self.is_secure = parts.scheme == "https"
        self.host = _ascii(parts.hostname or "")
        self.port = parts.port or _PORTS[parts.scheme]
        self._prefix = quote(parts.path, safe=_URL_CHARACTERS)
        name = f"[{self.host}]" if ":" in self.host else self.host
        host = name if self.port == _PORTS[parts.scheme] else f"{name}:{self.port}"
        self._common = f" HTTP/1.1\r\nhost: {host}\r\nuser-agent: zizq-python\r\n"
        if settings.token is not None:
            self._common += f"authorization: Bearer {settings.token}\r\n"

    def __repr__(self) -> str:
        return f"<requests to {self.host}:{self.port}>"

    def write(self, request: Request) -> bytes:
        """The bytes of a request.

        Raises:
            ConfigError: When a header has more than one line.
        """
        lines, body = _lines(*request.headers.items()), request.body
        start = f"{request.method} {self._prefix}{request.path}{self._common}{lines}"
        if body is not None:
            return f"{start}content-length: {len(body)}\r\n\r\n".encode() + body
        # To say that there is no body is of use only where there might be one.
        length = "" if request.method in ("GET", "DELETE") else "content-length: 0\r\n"
        return f"{start}{length}\r\n".encode()


class Answer:
    """The answers on one connection, of which one is awaited at a time: begin, then feed until it is complete."""

    status: int
    content_type: str | None
    retry_after: float | None
    has_head: bool
    """Whether status and headers are known."""
    is_complete: bool
    is_last: bool
    """Whether the connection carries no other answer after this one."""

    def __init__(self) -> None:
        self.has_head = self.is_complete = True
        self.is_last = self._has_end = False
        self._head_bytes = 0
        # The parser calls these two as they are, which saves a call of ours for each header and each piece.
        self._headers: dict[bytes, bytes] = {}
        self.on_header = self._headers.__setitem__
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append
        self._parser = HttpResponseParser(self)

    def begin(self) -> None:
        """A request is sent."""
        self.has_head = self.is_complete = False
        self._head_bytes = 0
        self._pieces.clear()

    def feed(self, data: bytes | memoryview) -> None:
        """Take in bytes.

        What comes behind a whole answer makes it the last one, and no less an answer.

        Raises:
            Broken: When they are no answer.
        """
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self.is_last = True
            if not self.is_complete:
                told = "a switch of protocols" if isinstance(error, HttpParserUpgrade) else f"no HTTP: {error}"
                raise Broken(f"the answer is {told}") from error
        if self.has_head:
            # Those behind a body, which mean nothing here.
            self._headers.clear()
        else:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD:
                raise Broken(f"the head of the answer has more than {MAX_HEAD} bytes")

    def finish(self) -> None:
        """No more bytes come.

        Raises:
            Broken: When the answer was not whole.
        """
        if not self.has_head:
            raise Broken("it was closed before the answer came")
        if not self.is_complete and self._has_end:
            raise Broken("it was closed inside the answer")
        self.is_complete = self.is_last = True

    def take(self) -> bytes:
        """What has come of the body since this was asked last."""
        piece = b"".join(self._pieces)
        self._pieces.clear()
        return piece

    @property
    def held(self) -> int:
        """How many bytes of the body wait to be taken."""
        return sum(map(len, self._pieces))

    def whole(self) -> Response:
        """The answer, once it is complete."""
        return Response(self.status, self.content_type, self.take(), self.retry_after)

    # ── what the parser tells ──

    def on_message_begin(self) -> None:
        """The first byte of an answer came."""
        if self.is_complete:
            raise Broken("one answer was awaited")

    def on_headers_complete(self) -> None:
        """The head is whole."""
        headers = {name.lower(): value.decode("latin-1") for name, value in self._headers.items()}
        self._headers.clear()
        self.status = status = self._parser.get_status_code()
        # Of 1xx there may be any number before the answer.
        self.has_head = status >= 200
        self.content_type = headers.get(b"content-type")
        self.retry_after = _seconds(headers.get(b"retry-after")) if status in (429, 503) else None
        self._has_end = b"content-length" in headers or b"transfer-encoding" in headers

    def on_message_complete(self) -> None:
        """The last byte came."""
        self.is_complete = self.has_head
        # Only here does the parser know.
        if not self._parser.should_keep_alive():
            self.is_last = True


@lru_cache(maxsize=64)
def _lines(*headers: tuple[str, str]) -> str:
    """Headers as they are sent, each on a line of its own."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    if lines.count("\r") != len(headers) or lines.count("\n") != len(headers) or "\0" in lines:
        raise ConfigError(f"a header cannot be sent, for it has more than one line: {dict(headers)!r}")
    return lines


def _seconds(text: str | None) -> float | None:
    """The seconds that a header says; None where it names a date."""
    return float(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 10 else None


def _ascii(host: str) -> str:
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError as error:
        raise ConfigError(f"{host!r} is no name of a host: {error}") from error
