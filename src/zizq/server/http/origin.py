"""Whether a browser sends a request for a page of another site.

Any page that a browser shows may have it send requests to 127.0.0.1, or to wherever else the user gets: a GET, or a
POST whose content type is that of a form or none, without asking first, and with the certificate that the user has. It
cannot read what is answered, but jobs would be enqueued, and those that a stream takes would have a worker that dies.
Browsers say where a request comes from; the official clients and curl send none of these headers.
"""

from __future__ import annotations

from collections.abc import Mapping

from zizq.errors import NotPermitted

_OWN = (b"same-origin", b"none")
"""What browsers say of our own pages, and of what their users type. Other ports and names of our domain are others."""


def check_origin(headers: Mapping[bytes, bytes]) -> None:
    """Hold a request to coming from a page of this server, from a browser's user, or from a program that is no browser.

    Args:
        headers: Its headers, with names in lower case.

    Raises:
        NotPermitted: When a page of others has sent it.
    """
    site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
    if site is not None:
        own = site in _OWN
    else:
        # So it is with browsers from before 2023, and with servers elsewhere that are called over plain HTTP.
        own = origin is None or origin.partition(b"://")[2].lower() == headers.get(b"host", b"").lower()
    if not own:
        raise NotPermitted("the request comes from a page of another site").because("origin")
