"""Heads of requests that came before: a client sends the same one again and again, and only its bodies differ.

What llhttp has read of a head once holds for the same bytes ever after, how long the body is included. So a request
whose head is known, and that comes whole, need not be read again. A token in it is cut out before it is looked for, and
put into the scope: it is a line of its own, so that the rest means the same without it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from zizq.server.http.exchange import Scope
from zizq.server.http.head import Head, head_of
from zizq.server.net.limits import MAX_FIELDS

MOST = 512
"""Heads that are kept: those of a few kinds of requests, with bodies of many lengths."""
LONGEST = 1024
"""Bytes of a head that is kept. With all that is made of them they have a megabyte or two."""
_END = b"\r\n\r\n"
_NAME = b"uthorization: "
_TOKEN_LINE = re.compile(rb"\r\n[Aa]uthorization: ([!-~](?:[ -~]*[!-~])?)(?=\r\n)")
"""As nearly all write it: what stands there is the value, without white space around it."""
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
        head, token = data[:end], None
        known = self._known.get(head)
        if known is None:
            head, token = _without_token(head)
            known = self._known.get(head)
        if known is None or known.length != len(data) - end:
            return None
        scope = known.scope
        if token is not None:
            scope = {**scope, "headers": [*scope["headers"], (b"authorization", token)]}
        return scope, known.head, data[end:]

    def learn(self, data: bytes, scope: Scope, length: int) -> None:
        """Keep the head of a request, but for the token in it.

        Args:
            data: The request, and nothing beside it.
            scope: What was made of its head.
            length: How many bytes its body was found to have. Where they are not those behind the head, it came in
                chunks, or some other way that the head does not tell.
        """
        end = _end(data)
        if not end or len(data) - end != length or scope["query_string"]:
            return
        # An empty line before the request is read over, and behind it another line is none of the head.
        if data.startswith((b"\r", b"\n")):
            return
        head, token = _without_token(data[:end])
        headers = list(scope["headers"])
        if token is not None:
            # Where there is a second one it stays, and forbids to keep any of it.
            headers.remove((b"authorization", token))
        # With a token there may be one more.
        if len(headers) >= MAX_FIELDS or any(name not in _USUAL for name, _ in headers):
            return
        if len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        kept = {**scope, "headers": headers, "client": None, "server": None}
        self._known[head] = Known(kept, head_of(scope), length)


def _end(data: bytes) -> int:
    """Where the head ends; 0 where it does not, or is too long."""
    at = data.find(_END, 0, LONGEST)
    return 0 if at < 0 else at + len(_END)


def _without_token(head: bytes) -> tuple[bytes, bytes | None]:
    """A head without its line with a token, and that token; the head as it is where it has no such line."""
    line = _TOKEN_LINE.match(head, head.find(_NAME) - len(b"\r\nA"))
    return (head, None) if line is None else (head[: line.start()] + head[line.end() :], line[1])
