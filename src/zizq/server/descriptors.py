"""How many files and sockets the process may have open, and what of that is left for connections."""

from __future__ import annotations

import contextlib
import logging
import sys

try:
    import resource
except ImportError:  # not a POSIX system: it has no such limit
    resource = None  # type: ignore[assignment]

log = logging.getLogger("zizq.serve")

SPARE = 160
"""Descriptors that are not for connections to the primary API: the store's files, jq's processes, logs, and the admin
API. With none left the HTTP server would have to end all connections."""
ADMIN = 64
"""Connections that the admin port may have: a browser opens up to six."""
_UNKNOWN = sys.maxsize


def raise_limit() -> None:
    """Let this process open as many as the system allows at all."""
    if resource is None:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS says "no limit" and then refuses it.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connections(wanted: int) -> int:
    """How many connections may be let in.

    Args:
        wanted: How many there are to be at most; 0 for as many as can be.

    Returns:
        As many, or fewer where descriptors are short; at least 1, and 0 where no limit is known.
    """
    possible = limit() - SPARE
    if possible >= _UNKNOWN - SPARE:
        return wanted
    return max(1, min(wanted or possible, possible))


def warn_if_short(wanted: int) -> None:
    """Say so where the system allows fewer connections than are wanted."""
    possible = connections(wanted)
    if possible < wanted:
        log.warning(
            "few descriptors: fewer connections are let in than --max-connections says; raise the limit of open files"
            " (ulimit -n, LimitNOFILE=)",
            extra={"fields": {"max_connections": wanted, "let_in": possible, "limit": limit()}},
        )


def limit() -> int:
    """How many this process may have open; a number beyond all others where there is no limit."""
    if resource is None:
        return _UNKNOWN
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _UNKNOWN if soft == resource.RLIM_INFINITY else soft
