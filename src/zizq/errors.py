"""Every error of the project, in one tree.

    ZizqError
    ├─ ConfigError             an option, URL or certificate is wrong: yours to mend
    ├─ Refusal                 the server declines a request
    │   ├─ BadRequest            it is malformed
    │   │   ├─ NotAcceptable       no response format suits
    │   │   ├─ UnsupportedMedia    no request format suits
    │   │   ├─ BodyTooLarge        it is over the size limit
    │   │   └─ TooSlow             its body does not come
    │   ├─ Unprocessable         it is well formed and breaks a rule
    │   ├─ Missing               what it names is not there
    │   ├─ Conflicting           what is there stands against it
    │   ├─ Denied                the caller may not make it
    │   │   ├─ Unauthenticated     nobody knows who calls
    │   │   └─ NotPermitted        who calls is known, and may not do this
    │   ├─ Unsupported           this server cannot do it at all
    │   ├─ TooMany               this client asks too much at once
    │   └─ Unavailable           the server cannot do it just now
    │       └─ Outdated            what the write was based on has changed meanwhile
    ├─ TransportError          no answer came (also a ConnectionError): worth a retry
    │   └─ StreamIdleTimeout     a take stream fell silent
    ├─ ResponseError           an answer came, and it says no
    │   ├─ ClientError           4xx
    │   │   ├─ InvalidRequest      400, 422
    │   │   ├─ Forbidden           401, 403
    │   │   ├─ NotFound            404
    │   │   ├─ Conflict            409
    │   │   └─ UnsupportedFormat   406, 415
    │   └─ ServerError           5xx: worth a retry
    ├─ EncodeError             a value cannot travel
    ├─ DecodeError             what came cannot be read
    └─ HandlerError            a job cannot be given to a handler
        ├─ NoRouteError          no route for its type
        ├─ PayloadDecodeError    its payload does not fit its kind
        ├─ HandlerTimeout        its handler ran over the route's timeout
        └─ HandlerDied           the process that ran it died

`Cancel` and `RetryLater` stand outside: handlers raise them to say what becomes of a job.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Self


class ZizqError(Exception):
    """The root of all errors of this package."""

    retryable = False
    """Whether the same call may succeed later without any change."""


class ConfigError(ZizqError, ValueError):
    """An option, a URL or a certificate is wrong."""


# ── the server declines ──────────────────────────────────────────────────────────────────────────────


class Refusal(ZizqError):
    """The server declines a request; `wire.faults` gives each kind its status."""


class BadRequest(Refusal):
    """The request is malformed."""


class NotAcceptable(BadRequest):
    """No response format that the caller accepts can be sent."""


class UnsupportedMedia(BadRequest):
    """The body comes in a format that is not spoken here."""


class BodyTooLarge(BadRequest):
    """The body is over the size limit."""


class TooSlow(BadRequest):
    """The body takes too long to come."""


class Unprocessable(Refusal):
    """The request is well formed and breaks a rule."""

    index: int | None = None
    """Which job of a request it is about, where that has several."""

    def at(self, index: int) -> Unprocessable:
        """The same, about one job of a request."""
        self.index = index
        return self


class Missing(Refusal):
    """What the request names is not there."""


class Conflicting(Refusal):
    """What is there stands against the request."""


class Denied(Refusal):
    """The caller may not make the request."""

    reason = ""
    """The kind of refusal, in a word, by which refusals are counted."""

    def because(self, reason: str) -> Self:
        """The same, for a reason."""
        self.reason = reason
        return self


class Unauthenticated(Denied):
    """Nobody knows who calls: there is no token and no certificate, or none that is known."""


class NotPermitted(Denied):
    """Who calls is known, and may not do this."""


class Unsupported(Refusal):
    """What the request asks for cannot be done by this server, whatever the request."""


class TooMany(Refusal):
    """One client asks too much at once, while others are served."""

    retryable = True


class Unavailable(Refusal):
    """The server cannot do it just now: the store cannot write, or there is too much to do.

    What was answered before is safe.
    """

    retryable = True


class Outdated(Unavailable):
    """What a write was based on has changed meanwhile, and nothing was written: read again."""


# ── the client's view ────────────────────────────────────────────────────────────────────────────────


class TransportError(ZizqError, ConnectionError):
    """No answer came: refused, cut off, timed out or not found."""

    retryable = True


class StreamIdleTimeout(TransportError):
    """A take stream was silent for longer than its idle timeout, heartbeats included."""


class ResponseError(ZizqError):
    """The server answered with an error.

    Args:
        status: The HTTP status.
        message: The server's text, as it came.
        body: The whole decoded body, or None where it could not be read.
        retry_after: After how many seconds to come again; None where the server does not say.
    """

    def __init__(self, status: int, message: str, body: object = None, retry_after: float | None = None) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message
        self.body = body
        self.retry_after = retry_after
        # What says "not now" rather than "not so".
        self.retryable = type(self).retryable or status in (408, 429)


class ClientError(ResponseError):
    """A 4xx answer: the request must change before it can succeed."""


class InvalidRequest(ClientError):
    """400 or 422: the request is malformed or breaks a rule."""


class Forbidden(ClientError):
    """401 or 403: the caller may not do this."""


class NotFound(ClientError):
    """404: what the call names is not there."""


class Conflict(ClientError):
    """409: the call collides with what is there."""


class UnsupportedFormat(ClientError):
    """406 or 415: the server does not speak the format."""


class ServerError(ResponseError):
    """A 5xx answer: the server failed, and may recover."""

    retryable = True


class EncodeError(ZizqError):
    """A value cannot be turned into what travels."""


class DecodeError(ZizqError):
    """What came cannot be read."""


# ── handlers ─────────────────────────────────────────────────────────────────────────────────────────


class HandlerError(ZizqError):
    """A job cannot be given to a handler, or its handler could not finish."""


class NoRouteError(HandlerError):
    """No route, and no fallback, is registered for the type of a job."""


class PayloadDecodeError(HandlerError):
    """The payload of a job does not fit the kind its route names."""


class HandlerTimeout(HandlerError, TimeoutError):
    """The handler ran longer than its route's timeout."""


class HandlerDied(HandlerError):
    """The process that ran the handler died before it answered."""


class Cancel(Exception):
    """Raise it in a handler to send the job straight to dead, whatever retries remain."""


class RetryLater(Exception):
    """Raise it in a handler to run the job again at a time of your choice, whatever its retry limit.

    Args:
        reason: What the error record of the job will say.
        after: The delay, as a timedelta or in seconds.
        at: The instant, as an aware datetime. Give exactly one of `after` and `at`.

    Raises:
        ConfigError: When neither or both are given, or `at` is naive.
    """

    def __init__(
        self,
        reason: str = "retry later",
        *,
        after: timedelta | float | None = None,
        at: datetime | None = None,
    ) -> None:
        super().__init__(reason)
        if (after is None) == (at is None):
            raise ConfigError("RetryLater takes exactly one of after= and at=")
        if at is not None and at.tzinfo is None:
            raise ConfigError(f"RetryLater(at={at!r}) is naive: give it a time zone")
        self.after = after.total_seconds() if isinstance(after, timedelta) else after
        self.at = at
