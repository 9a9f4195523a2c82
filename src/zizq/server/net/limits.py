"""What connections may do, and for how long; the same for everybody who serves them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from zizq.server.http.exchange import Receive, Scope, Send

Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

BACKLOG = 4096
"""Connections that may wait to be accepted: a fleet of workers that comes back at once after a restart."""
MAX_HEAD = 64 * 1024
"""Bytes that the first line of a request and its headers may have, as they come and, in HTTP/2, unpacked."""
MAX_FIELDS = 100
"""Headers that a request may have."""
WINDOW = 2**20
"""Bytes of bodies that an HTTP/2 client may send ahead of us, over all streams of its connection."""
OPENING_S = 5.0
"""How long the first byte of a connection may take."""
HEAD_S = 10.0
"""How long the head of a request may take from its first byte."""
PATIENCE_S = 30.0
"""How long a client may send nothing of a body, or read nothing over HTTP/2 of what is sent to it."""
IDLE_S = {"primary": 120.0, "admin": 10.0}
"""How long a connection may be idle. The admin port has few, and browsers would keep several for minutes."""
LINGER_S = 2.0
"""How long a client that was refused has to read why, before its connection is closed."""
REVIVE_S = 1.0
"""How long a failed HTTP server rests: by then some of those that it cut off have let go."""
