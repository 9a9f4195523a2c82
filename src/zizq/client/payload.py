"""Payloads on their way out: what callers hand in, as what travels."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from zizq.errors import EncodeError
from zizq.wire.codec import Format, encode


def plain_of(payload: object, order: Literal["deterministic"] | None = None) -> Any:
    """A payload as plain values, the same for both formats: a datetime is text in MessagePack too.

    Args:
        payload: Whatever msgspec can turn into them.
        order: `deterministic` gives sets an order, so that equal payloads are equal bytes; None leaves it to chance.

    Raises:
        EncodeError: When it has no equivalent in JSON.
    """
    try:
        return msgspec.to_builtins(payload, str_keys=True, order=order)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise EncodeError(f"the payload cannot be sent: {error}") from error


def encode_body(body: object, form: Format) -> bytes:
    """A body in the given format.

    Raises:
        EncodeError: When it cannot be encoded: a payload in it has a number or a text that the format has not.
    """
    try:
        return encode(body, form)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise EncodeError(f"the request, or a payload in it, cannot be sent: {error}") from error


def encode_payload(payload: object, form: Format, order: Literal["deterministic"] | None = None) -> msgspec.Raw:
    """A payload in the given format; the rest is as for `plain_of`.

    Raises:
        EncodeError: When it has no equivalent in JSON.
    """
    return msgspec.Raw(encode_body(plain_of(payload, order), form))
