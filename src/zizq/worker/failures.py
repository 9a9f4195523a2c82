"""From what a handler raised to what the server is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from zizq.client import failure
from zizq.clock import Clock
from zizq.errors import Cancel, RetryLater
from zizq.wire.messages import FailureBody

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = (datetime(9999, 12, 31, tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)
"""The last instant that every language has a date for, in Unix milliseconds."""


class HandlerFailed(Exception):
    """A handler in another process raised; the failure was written down there.

    Args:
        failure: What the server will be told.
    """

    def __init__(self, failure: FailureBody) -> None:
        super().__init__(failure.message)
        self.failure = failure


def describe(error: BaseException, clock: Clock) -> FailureBody:
    """What the server is told of an error.

    Args:
        error: What the handler raised.
        clock: Read only for a `RetryLater` that names a delay.
    """
    if isinstance(error, HandlerFailed):
        return error.failure
    retry_at = _retry_at(error, clock) if isinstance(error, RetryLater) else None
    try:
        return failure.describe(error, retry_at=retry_at, kill=isinstance(error, Cancel))
    except Exception:  # a broken __str__ must not lose the failure itself
        name = failure.type_name(type(error))
        return failure.describe(name, name, retry_at=retry_at, kill=isinstance(error, Cancel))


def _retry_at(error: RetryLater, clock: Clock) -> int:
    if error.at is not None:
        at = (error.at - EPOCH) // timedelta(milliseconds=1)
    else:
        at = clock.wall_ms() + round((error.after or 0.0) * 1000)
    return max(0, min(at, _LATEST))
