"""One request and its response, as thin as the hot path wants them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from zizq.errors import BadRequest, BodyTooLarge
from zizq.wire import codec
from zizq.wire.codec import Body, Format, T

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Response(NamedTuple):
    """A whole response; without a content type it has no body either."""

    status: int
    body: bytes = b""
    content_type: bytes | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()


NO_CONTENT = Response(204)


class Request:
    """A request, read as far as anyone asks.

    Args:
        scope: The ASGI scope.
        receive: The ASGI receive callable.
        max_body: The largest body that is read, in bytes.
    """

    __slots__ = ("_accept", "_content_type", "_length", "_max_body", "_query", "form", "receive", "scope")

    form: Format
    """The format of the response; set by the router before a handler runs."""

    def __init__(self, scope: Scope, receive: Receive, max_body: int) -> None:
        self.scope = scope
        self.receive = receive
        self._max_body = max_body
        self._accept: bytes | None = None
        self._content_type: bytes | None = None
        self._length: bytes | None = None
        for name, value in scope["headers"]:
            if name == b"accept":
                self._accept = value if self._accept is None else self._accept
            elif name == b"content-type":
                self._content_type = value if self._content_type is None else self._content_type
            elif name == b"content-length":
                self._length = value

    @property
    def accept(self) -> str | None:
        """The Accept header; "" where it is not visible ASCII."""
        return _visible(self._accept)

    @property
    def is_http1(self) -> bool:
        """Whether it came by HTTP/1, on a connection that carries nothing else."""
        version: str = self.scope["http_version"]
        return version.startswith("1")

    @property
    def peer(self) -> tuple[str, int]:
        """The address of the client."""
        host, port = self.scope["client"] or ("", 0)
        return (host, port)

    def header(self, wanted: bytes) -> str | None:
        """The first value of a header, given in lower case."""
        return _visible(next((value for name, value in self.scope["headers"] if name == wanted), None))

    def query(self, *known: str) -> dict[str, str]:
        """The query parameters.

        Raises:
            BadRequest: When one is unknown or comes twice.
        """
        raw: bytes = self.scope["query_string"]
        if not raw:
            return {}
        found: dict[str, str] = {}
        for name, value in parse_qsl(raw.decode("latin-1"), keep_blank_values=True):
            if name not in known:
                raise BadRequest(f"invalid query parameters: unknown field `{name}`, expected {_listed(known)}")
            if name in found:
                raise BadRequest(f"invalid query parameters: duplicate field `{name}`")
            found[name] = value
        return found

    async def read(self, body: Body[T]) -> T:
        """The value in the body.

        Raises:
            UnsupportedMedia: When its format is not spoken.
            BodyTooLarge: When it is over the limit.
            BadRequest: When it is malformed.
        """
        return body.read(await self._bytes(), self.body_form)

    @property
    def body_form(self) -> Format:
        """The format of the body.

        Raises:
            UnsupportedMedia: When it is not spoken.
        """
        return codec.request_format(_visible(self._content_type))

    async def _bytes(self) -> bytes:
        self.body_form  # noqa: B018 - the content type is judged before the body is read (protocol.md#1.1)
        if self._length is not None and self._length.isdigit() and int(self._length) > self._max_body:
            raise self._too_large()
        message = await self.receive()
        if not message.get("more_body"):
            chunk: bytes = message.get("body", b"")
            if len(chunk) > self._max_body:
                raise self._too_large()
            return chunk
        chunks, size = [], 0
        while True:
            if message["type"] == "http.disconnect":
                raise BadRequest("failed to read body: the connection ended inside it")
            chunk = message.get("body", b"")
            chunks.append(chunk)
            size += len(chunk)
            if size > self._max_body:
                raise self._too_large()
            if not message.get("more_body"):
                return b"".join(chunks)
            message = await self.receive()

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"body is larger than {self._max_body} bytes: send less, or raise --max-body-size")

    def answer(self, status: int, value: object) -> Response:
        """A response in the format that the caller accepts."""
        return Response(status, codec.encode(value, self.form), _CONTENT_TYPE[self.form])


_CONTENT_TYPE = {form: form.value.encode() for form in Format}


async def respond(send: Send, response: Response, *, with_body: bool = True) -> None:
    """Send a whole response; the body is left out for HEAD."""
    headers = list(response.headers)
    if response.content_type is not None:
        headers.append((b"content-type", response.content_type))
    # A 204 has no body and so no length: HTTP/2 clients take one for a broken stream (protocol.md#1.4).
    if response.status != 204:
        headers.append((b"content-length", b"%d" % len(response.body)))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body if with_body else b""})


def _visible(value: bytes | None) -> str | None:
    if value is None:
        return None
    text = value.decode("latin-1")
    # A tab is white space between two formats, as good as a blank (RFC 9110, 5.6.3).
    return text if text.isascii() and text.replace("\t", " ").isprintable() else ""


def _listed(known: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in known) or "no parameter"


def whole_number(text: str, most: int) -> int | None:
    """The number that a parameter says, 0 to `most`; None when it says none."""
    # The length comes first: Python refuses to read thousands of digits.
    if not (text.isascii() and text.isdecimal()) or len(text) > 20 or int(text) > most:
        return None
    return int(text)
