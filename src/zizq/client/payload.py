"""Payloads on their way out: what callers hand in, as what travels."""

from __future__ import annotations

from typing import Literal

import msgspec

from zizq.errors import EncodeError
from zizq.wire.codec import Format, encode


def encode_payload(payload: object, form: Format, order: Literal["deterministic"] | None = None) -> msgspec.Raw:
    """A payload in the given format, the same in both: a datetime is text in MessagePack too.

    Args:
        payload: Whatever msgspec can turn into plain values.
        form: The format.
        order: `deterministic` gives sets an order, so that equal payloads are equal bytes; None leaves it to chance.

    Raises:
        EncodeError: When it has no equivalent in JSON.
    """
    try:
        return msgspec.Raw(encode(msgspec.to_builtins(payload, str_keys=True, order=order), form))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise EncodeError(f"the payload cannot be sent: {error}") from error
