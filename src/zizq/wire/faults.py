"""Which error is which HTTP status, in both directions."""

from __future__ import annotations

from zizq.errors import (
    BadRequest,
    BodyTooLarge,
    ClientError,
    Conflict,
    Conflicting,
    Forbidden,
    InvalidRequest,
    Missing,
    NotAcceptable,
    NotFound,
    NotPermitted,
    Refusal,
    ResponseError,
    ServerError,
    TooMany,
    TooSlow,
    Unauthenticated,
    Unavailable,
    Unprocessable,
    Unsupported,
    UnsupportedFormat,
    UnsupportedMedia,
)

STATUS: dict[type[Refusal], int] = {
    BadRequest: 400,
    Unauthenticated: 401,
    NotPermitted: 403,
    Missing: 404,
    NotAcceptable: 406,
    TooSlow: 408,
    Conflicting: 409,
    BodyTooLarge: 413,
    UnsupportedMedia: 415,
    Unprocessable: 422,
    TooMany: 429,
    Unsupported: 501,
    Unavailable: 503,
}
"""What the server answers when it refuses."""

_ERRORS: dict[int, type[ResponseError]] = {
    400: InvalidRequest,
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    406: UnsupportedFormat,
    409: Conflict,
    415: UnsupportedFormat,
    422: InvalidRequest,
}


def error_for(status: int) -> type[ResponseError]:
    """What the client raises for a status that is no success."""
    if status >= 500:
        return ServerError
    return _ERRORS.get(status, ClientError)
