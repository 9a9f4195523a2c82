"""What the handlers of the admin API have in common."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine

from zizq.errors import Conflicting, Refusal, Unsupported
from zizq.server.http.exchange import Response, Scope, Send, respond
from zizq.wire import operations as op
from zizq.wire.faults import STATUS

log = logging.getLogger("zizq.api.admin")

Handler = Callable[[Scope, Send], Coroutine[None, None, int]]
"""Answers a request; returns the status."""
Routes = dict[tuple[str, str], tuple[Handler, op.Scope]]
"""By method and path: who answers, and the scope that a caller needs."""


async def refuse(error: Exception, text: str, send: Send) -> int:
    """Answer with an error: its own text where the caller can do something about it, else what is said here."""
    status = 500
    if isinstance(error, Conflicting | Unsupported):
        status, text = STATUS[type(error)], str(error)
    else:
        reason = str(error) if isinstance(error, Refusal) else None
        log.error(text, extra={"fields": {"reason": reason}} if reason else {}, exc_info=None if reason else error)
    await respond(send, Response(status, text.encode(), b"text/plain; charset=utf-8"))
    return status
