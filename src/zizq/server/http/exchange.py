"""One request and its response, as thin as the hot path wants them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote

from zizq.errors import (
    BadRequest,
    BodyTooLarge,
    NotAcceptable,
    Refusal,
    TooMany,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
)
from zizq.server.access import Caller
from zizq.server.http.head import head_of
from zizq.server.http.load import Load
from zizq.server.tokens import without_secrets
from zizq.wire import codec
from zizq.wire.codec import Body, Format, T
from zizq.wire.faults import STATUS
from zizq.wire.messages import ErrorBody
from zizq.wire.operations import Operation

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


READS_ON = "zizq.reads_on"
"""The extension of a scope whose connection is read from while the request is answered."""
PIECE = 32 * 2**10
"""Bytes that are sent in one go. The HTTP server holds 32 such pieces for a client that does not read, whatever their
size, and then lets us wait."""
LOGGED = 200
"""Bytes of what a request is for that a log line has at most."""


class Response(NamedTuple):
    """A whole response; without a content type it has no body either."""

    status: int
    body: bytes = b""
    content_type: bytes | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()
    rest: Sequence[bytes] = ()
    """More of the body, sent piece by piece."""

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        """All headers but the length."""
        fields = list(self.headers)
        if self.content_type is not None:
            fields.append((b"content-type", self.content_type))
        return fields


NO_CONTENT = Response(204)


class Request:
    """A request, read as far as anyone asks.

    Args:
        scope: The ASGI scope.
        receive: The ASGI receive callable.
        max_body: The largest body that is read, in bytes.
        load: Counts it and its body; None where nothing is counted.
    """

    __slots__ = ("_entered", "_held", "_load", "_max_body", "body_form", "caller", "form", "head",
                 "limits", "peer", "receive", "scope")  # fmt: skip

    form: Format
    """The format of the response; set by the router before a handler runs."""
    body_form: Format
    """The format of the body; set by `read`."""
    caller: Caller | None
    """Who calls, where the server asks for that; set before a handler runs."""
    limits: Caller | None
    """The same, where not all queues are theirs."""

    def __init__(self, scope: Scope, receive: Receive, max_body: int, load: Load | None = None) -> None:
        self.scope = scope
        self.receive = receive
        self._max_body = max_body
        self._load = load
        self._entered = False
        self._held = 0
        self.caller = self.limits = None
        self.head = head_of(scope)
        host, port = scope.get("client") or ("", 0)
        self.peer: tuple[str, int] = (host, port)
        """The address of the client."""

    @property
    def is_deaf(self) -> bool:
        """Whether nobody reads from its connection while it is answered."""
        return is_deaf(self.scope)

    def own(self, name: str) -> str:
        """What a name that the caller has chosen is known as here: those of others are different ones."""
        return name if self.caller is None else f"{self.caller.grant.id} {name}"

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
            Unavailable: When the server has too much to do.
            TooMany: When this client has.
        """
        # The content type is judged before the body is read (protocol.md#1.1).
        self.body_form = self.head.body_form
        if self.head.length > self._max_body:
            raise self._too_large()
        message = await self.receive()
        raw: bytes = await self._pieces(message) if message.get("more_body") else message.get("body", b"")
        if len(raw) > self._max_body:
            raise self._too_large()
        self.enter()
        return body.read(raw, self.body_form)

    def enter(self) -> None:
        """Wait for the answer from now on.

        Raises:
            Unavailable: When too many do.
            TooMany: When too many of this client do.
        """
        if self._load is not None:
            self._load.enter(self.peer[0])
            self._entered = True

    def hold(self, count: int) -> None:
        """Take so many bytes of memory, until `leave`.

        Raises:
            Unavailable: When there is no room.
            TooMany: When this client has more than its share.
        """
        if self._load is not None:
            self._load.hold(self.peer[0], count)
            self._held += count

    def hold_anyway(self, count: int) -> None:
        """Take so many bytes of memory, until `leave`, for an answer to what is done already."""
        if self._load is not None:
            self._load.hold_anyway(self.peer[0], count)
            self._held += count

    def leave(self) -> None:
        """Wait no more; its bodies are in memory no more."""
        if self._load is not None:
            self._load.leave(self.peer[0], 1 if self._entered else 0, self._held)

    async def _pieces(self, message: Message) -> bytes:
        """A body that comes in pieces, from the first one on."""
        chunks, size = [], 0
        began_s = 0.0 if self._load is None else self._load.now_s()
        while True:
            if message["type"] == "http.disconnect":
                raise BadRequest("failed to read body: the connection ended inside it")
            chunk = message.get("body", b"")
            chunks.append(chunk)
            size += len(chunk)
            if size > self._max_body:
                raise self._too_large()
            self.hold(len(chunk))
            if self._load is not None:
                self._load.check_pace(began_s, size)
            if not message.get("more_body"):
                return b"".join(chunks)
            message = await self.receive()

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"body is larger than {self._max_body} bytes: send less, or raise --max-body-size")

    def answer(self, status: int, value: object) -> Response:
        """A response in the format that the caller accepts."""
        return made(status, value, self.form)

    def answer_pieces(self, status: int, pieces: Sequence[bytes]) -> Response:
        """A response whose body is in the format that the caller accepts already, in pieces."""
        return Response(status, pieces[0], CONTENT_TYPE[self.form], rest=pieces[1:])


CONTENT_TYPE = {form: form.value.encode() for form in Format}


def made(status: int, value: object, form: Format) -> Response:
    """A response with a value in a format."""
    return Response(status, codec.encode(value, form), CONTENT_TYPE[form])


def refused(refusal: Refusal, form: Format, supported: list[str] | None = None) -> Response:
    """The response that says why something is refused."""
    status = next(STATUS[kind] for kind in type(refusal).__mro__ if kind in STATUS)
    if supported is None and isinstance(refusal, NotAcceptable | UnsupportedMedia):
        supported = codec.ORDINARY
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if isinstance(refusal, Unavailable | TooMany):
        headers = ((b"retry-after", b"1"),)
    elif isinstance(refusal, Unauthenticated):
        headers = ((b"www-authenticate", b"Bearer"),)
    return made(status, ErrorBody(str(refusal), supported), form)._replace(headers=headers)


def broken(form: Format) -> Response:
    """The response that owns to a defect."""
    return made(500, ErrorBody("internal server error"), form)


async def respond(send: Send, response: Response, *, with_body: bool = True) -> None:
    """Send a whole response; the body is left out for HEAD."""
    headers = response.fields
    # A 204 has no body and so no length: HTTP/2 clients take one for a broken stream (protocol.md#1.4).
    if response.status != 204:
        headers.append((b"content-length", b"%d" % (len(response.body) + sum(map(len, response.rest)))))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    if with_body and (response.rest or len(response.body) > PIECE):
        for whole in (response.body, *response.rest):
            for at in range(0, len(whole), PIECE):
                await send({"type": "http.response.body", "body": whole[at : at + PIECE], "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    else:
        await send({"type": "http.response.body", "body": response.body if with_body else b""})


def is_deaf(scope: Scope) -> bool:
    """Whether nobody reads from the connection of a request while it is answered.

    So it is with HTTP/1, where the connection carries nothing else, unless the server says otherwise.
    """
    version: str = scope["http_version"]
    return version.startswith("1") and READS_ON not in (scope.get("extensions") or {})


def target(scope: Scope) -> str:
    """What a request is for, as a log line has it: without secrets of tokens, and still percent-encoded, so that nobody
    writes a line of their own."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    if scope.get("query_string"):
        raw += b"?" + scope["query_string"]
    return without_secrets(raw)[:LOGGED].decode("ascii", "backslashreplace")


def _listed(known: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in known)
