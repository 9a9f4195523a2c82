"""Heads of requests that came before: a client sends the same one again and again, and only its bodies differ.

What llhttp has read of a head once holds for the same bytes ever after, how long the body is included. So a request
whose head is known, and that comes whole, need not be read again.
"""

from __future__ import annotations

from typing import NamedTuple

from zizq.server.http.exchange import Scope
from zizq.server.http.head import Head, head_of

MOST = 512
"""Heads that are kept: those of a few kinds of requests, with bodies of many lengths."""
LONGEST = 1024
"""Bytes of a head that is kept. With all that is made of them they have a megabyte or two."""
_END = b"\r\n\r\n"
_USUAL = frozenset(
    (
        b"host",
        b"user-agent",
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"sec-fetch-mode",
        b"connection",
        b"content-type",
        b"content-length",
    )
)
"""Headers that are the same each time and hold no secret: what is secret stays in memory no longer than its request."""


class Known(NamedTuple):
    """What is known of a request by its head."""

    scope: Scope
    head: Head
    """What the application has made of it."""
    length: int
    """Bytes of its body."""


class Heads:
    """The heads that came last for the first time, over all connections."""

    def __init__(self) -> None:
        self._known: dict[bytes, Known] = {}

    def find(self, data: bytes) -> tuple[Scope, Head, bytes] | None:
        """The scope, the head and the body of a request that the bytes are exactly; None where its head is not known.

        The scope has no client and no server.
        """
        end = _end(data)
        known = self._known.get(data[:end])
        if known is None or known.length != len(data) - end:
            return None
        return known.scope, known.head, data[end:]

    def learn(self, data: bytes, scope: Scope, length: int) -> None:
        """Keep the head of a request.

        Args:
            data: The request, and nothing beside it.
            scope: What was made of its head.
            length: How many bytes its body was found to have. Where they are not those behind the head, it came in
                chunks, or some other way that the head does not tell.
        """
        end = _end(data)
        if not end or len(data) - end != length or scope["query_string"]:
            return
        if any(name not in _USUAL for name, _ in scope["headers"]):
            return
        if len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        self._known[data[:end]] = Known({**scope, "client": None, "server": None}, head_of(scope), length)


def _end(data: bytes) -> int:
    """Where the head ends; 0 where it does not, or is too long."""
    at = data.find(_END, 0, LONGEST)
    return 0 if at < 0 else at + len(_END)
