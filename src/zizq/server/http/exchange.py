"""One request and its response, as thin as the hot path wants them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from zizq.errors import BadRequest, BodyTooLarge
from zizq.wire import codec
from zizq.wire.codec import Body, Format, T
from zizq.wire.operations import Operation

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
    rest: Sequence[bytes] = ()
    """More of the body, sent piece by piece."""


NO_CONTENT = Response(204)


class Request:
    """A request, read as far as anyone asks.

    Args:
        scope: The ASGI scope.
        receive: The ASGI receive callable.
        max_body: The largest body that is read, in bytes.
    """

    __slots__ = ("_headers", "_max_body", "body_form", "form", "receive", "scope")

    form: Format
    """The format of the response; set by the router before a handler runs."""
    body_form: Format
    """The format of the body; set by `read`."""

    def __init__(self, scope: Scope, receive: Receive, max_body: int) -> None:
        self.scope = scope
        self.receive = receive
        self._max_body = max_body
        # Of a header that comes twice the first counts (protocol.md#1.1).
        self._headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))

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

    def header(self, name: bytes) -> str | None:
        """A header by its name in lower case; "" where it is not visible ASCII."""
        value = self._headers.get(name)
        return None if value is None else _visible(value)

    def query(self, operation: Operation) -> dict[str, str]:
        """The query parameters, of those that the operation knows.

        Raises:
            BadRequest: When one is unknown or comes twice.
        """
        raw: bytes = self.scope["query_string"]
        if not raw:
            return {}
        known = [parameter.name for parameter in operation.query]
        found: dict[str, str] = {}
        for name, value in parse_qsl(raw.decode("utf-8", "replace"), keep_blank_values=True):
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
        # The content type is judged before the body is read (protocol.md#1.1).
        self.body_form = codec.request_format(self.header(b"content-type"))
        return body.read(await self._bytes(), self.body_form)

    async def _bytes(self) -> bytes:
        length = self._headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max_body:
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

    def answer_pieces(self, status: int, pieces: Sequence[bytes]) -> Response:
        """A response whose body is in the format that the caller accepts already, in pieces."""
        return Response(status, pieces[0], _CONTENT_TYPE[self.form], rest=pieces[1:])


_CONTENT_TYPE = {form: form.value.encode() for form in Format}


async def respond(send: Send, response: Response, *, with_body: bool = True) -> None:
    """Send a whole response; the body is left out for HEAD."""
    headers = list(response.headers)
    if response.content_type is not None:
        headers.append((b"content-type", response.content_type))
    # A 204 has no body and so no length: HTTP/2 clients take one for a broken stream (protocol.md#1.4).
    if response.status != 204:
        headers.append((b"content-length", b"%d" % (len(response.body) + sum(map(len, response.rest)))))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    body = response.body if with_body else b""
    for piece in response.rest if with_body else ():
        await send({"type": "http.response.body", "body": body, "more_body": True})
        body = piece
    await send({"type": "http.response.body", "body": body})


@lru_cache(maxsize=256)
def _visible(value: bytes) -> str:
    text = value.decode("latin-1")
    # A tab is white space between two formats, as good as a blank (RFC 9110, 5.6.3).
    return text if text.isascii() and text.replace("\t", " ").isprintable() else ""


def _listed(known: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in known)
