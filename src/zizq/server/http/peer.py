"""Who is at the other end of a connection with a client certificate."""

from __future__ import annotations

import re

from zizq.server.http.exchange import Scope

_ATTRIBUTE = re.compile(r"([^=,+]+)=((?:\\.|[^\\,+])*)(?:[,+]|\Z)", re.DOTALL)
_UNREADABLE = "\N{REPLACEMENT CHARACTER}"
_ESCAPED = re.compile(rb"\\([0-9A-Fa-f]{2}|.)", re.DOTALL)


def peer_name(scope: Scope) -> str | None:
    """The common name in the certificate that the client of a request has shown.

    The server has then verified the certificate: one that does not come from the authority for clients fails the
    handshake. The name comes as RFC 4514 writes it, in the `tls` extension of ASGI, and is read and not searched: an
    organization called `x,CN=admin` is no common name.

    Returns:
        The name. None on a connection without TLS or without a certificate, and where the subject has no common name,
        several, or one with characters that cannot be printed: such a client is nobody in particular.
    """
    tls = (scope.get("extensions") or {}).get("tls") or {}
    names = [value for kind, value in _attributes(tls.get("client_cert_name") or "") if kind == "CN"]
    # A value that begins with "#" is the bytes of something that is no text.
    if len(names) != 1 or names[0].startswith("#"):
        return None
    name = _unescaped(names[0])
    return name if name and name.isprintable() and _UNREADABLE not in name else None


def _attributes(subject: str) -> list[tuple[str, str]]:
    """The attributes of a subject, still escaped; none where it is malformed."""
    found, position = [], 0
    while position < len(subject):
        attribute = _ATTRIBUTE.match(subject, position)
        if attribute is None:
            return []
        found.append((attribute[1].strip().upper(), attribute[2]))
        position = attribute.end()
    return found


def _unescaped(value: str) -> str:
    def character(escape: re.Match[bytes]) -> bytes:
        return bytes.fromhex(escape[1].decode()) if len(escape[1]) == 2 else escape[1]

    return _ESCAPED.sub(character, value.encode()).decode(errors="replace")
