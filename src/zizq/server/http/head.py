"""What the head of a request says, made out once for all requests that have the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property, lru_cache
from typing import Any, Protocol

from zizq.wire import codec
from zizq.wire.codec import Format

KEPT = "zizq.kept"
"""The extension of a scope where an application may keep what it has made of the head: requests with the same head
share it, where the HTTP server knows of them."""


class Whole(Protocol):
    """A request that has come whole and that nobody is at yet; it is to be begun, or answered."""

    @property
    def body(self) -> bytes:
        """All of its body."""

    @property
    def address(self) -> str:
        """The address of the client."""

    @property
    def scope(self) -> Any:
        """The ASGI scope, but for who sent it."""

    def begin(self) -> None:
        """Have the application called for it alone, unless it was given up meanwhile."""

    def opening(self, status: int, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
        """How answers begin, up to their length: the status and all other headers."""

    def answer(self, opening: bytes, body: bytes) -> None:
        """Answer it, with few bytes; where the client has gone nobody hears it."""


Together = Callable[[Whole], None]
"""Begins or answers a request, soon, together with others that come beside it."""


class Head:
    """The head of a request.

    Args:
        scope: The ASGI scope. Of what is not in the head itself, such as who sent it, nothing is kept.
    """

    def __init__(self, scope: Any) -> None:
        self.method: str = scope["method"]
        self.path = _path(scope)
        """The path as it came, still percent-encoded: an encoded slash is a part of its segment and parts none."""
        self.headers = headers_of(scope)
        """The bytes of the headers, but for the one that is secret, and not the same for all that share this."""
        self.headers.pop(b"authorization", None)
        self.together: Together | None = None
        """Takes those requests with this head that come whole, where the application can answer many at once."""

    def header(self, name: bytes) -> str | None:
        """A header by its name in lower case; "" where it is not visible ASCII."""
        value = self.headers.get(name)
        return None if value is None else _visible(value)

    @cached_property
    def form(self) -> Format:
        """The format of the response.

        Raises:
            NotAcceptable: When the caller accepts neither.
        """
        return codec.response_format(self.header(b"accept"))

    @cached_property
    def body_form(self) -> Format:
        """The format of the body.

        Raises:
            UnsupportedMedia: When it is not spoken.
        """
        return codec.request_format(self.header(b"content-type"))

    @cached_property
    def length(self) -> int:
        """How many bytes the body is said to have; 0 where nothing is said."""
        length = self.headers.get(b"content-length", b"0")
        return int(length) if length.isdigit() else 0


def head_of(scope: Any) -> Head:
    """The head of a request, the same one for the same head where that can be known."""
    kept = (scope.get("extensions") or {}).get(KEPT)
    if kept is None:
        return Head(scope)
    head: Head | None = kept.get("head")
    if head is None:
        head = kept["head"] = Head(scope)
    return head


def headers_of(scope: Any) -> dict[bytes, bytes]:
    """The headers of a request; of one that comes twice the first counts (protocol.md#1.1)."""
    return dict(reversed(scope["headers"]))


def _path(scope: Any) -> str:
    raw: bytes | None = scope.get("raw_path")
    path: str = scope["path"]
    return path if raw is None or b"%" not in raw else raw.decode("latin-1")


@lru_cache(maxsize=256)
def _visible(value: bytes) -> str:
    text = value.decode("latin-1")
    # A tab is white space between two formats, as good as a blank (RFC 9110, 5.6.3).
    return text if text.isascii() and text.replace("\t", " ").isprintable() else ""
