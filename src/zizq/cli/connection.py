"""A plain connection to a server, for commands that look at more of an answer, or less, than the client hands out."""

from __future__ import annotations

import http.client
import ssl
from urllib.parse import urlsplit

from zizq.client.options import TLS


def connection_to(url: str, tls: TLS | None, timeout_s: float) -> http.client.HTTPConnection:
    """A connection that is opened by its first request.

    Args:
        url: Of the server.
        tls: The certificates to trust and to show; None for those of the system, and none.
        timeout_s: How long to wait each time.
    """
    place = urlsplit(url)
    host = place.hostname or ""
    if place.scheme != "https":
        return http.client.HTTPConnection(host, place.port or 80, timeout=timeout_s)
    context = ssl.create_default_context()
    roots = tls.ca_pem() if tls else None
    if roots:
        context.load_verify_locations(cadata=roots.decode())
    if tls and tls.client_cert and tls.client_key:
        context.load_cert_chain(str(tls.client_cert), str(tls.client_key))
    return http.client.HTTPSConnection(host, place.port or 443, timeout=timeout_s, context=context)
