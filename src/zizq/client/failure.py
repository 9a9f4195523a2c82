"""What the server is told of a failure."""

from __future__ import annotations

import traceback

from zizq.wire.messages import FailureBody

MAX_TEXT = 64 * 1024
"""The longest text of a failure, in characters: one huge repr must not make the server refuse the report."""


def describe(
    error: str | BaseException,
    error_type: str | None = None,
    backtrace: str | None = None,
    retry_at: int | None = None,
    kill: bool = False,
) -> FailureBody:
    """The report of a failure.

    Args:
        error: A message, or an exception, which also fills in the arguments that are None.
        error_type: The name of the kind of failure.
        backtrace: Where it happened.
        retry_at: When to run the job again, in Unix milliseconds; None leaves it to the backoff.
        kill: Whether the job is not to run again.
    """
    if isinstance(error, BaseException):
        error_type = error_type or type_name(type(error))
        backtrace = backtrace or "".join(traceback.format_exception(error))
        error = str(error) or type(error).__name__
    return FailureBody(
        message=_sendable(error[:MAX_TEXT]),
        error_type=error_type and _sendable(error_type[:MAX_TEXT]),
        # The end of a traceback has the line that failed.
        backtrace=backtrace and _sendable(backtrace[-MAX_TEXT:]),
        retry_at=retry_at,
        kill=kill or None,
    )


def type_name(kind: type) -> str:
    """The qualified name of a class; those that are built in go without their module."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _sendable(text: str) -> str:
    """The text with lone surrogates escaped, for they have no UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
