"""JSON and MessagePack: choosing a format, reading and writing bodies, and the one stored form of a payload.

A payload is stored as MessagePack. One that arrives as MessagePack is checked and kept byte for byte; one that
arrives as JSON is translated once, with its keys sorted. So the common path, MessagePack in and out, never decodes
a payload into a new value and back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from functools import lru_cache
from typing import Any, Generic, TypeVar

import msgspec

from zizq.cron import CronEntry, CronGroup
from zizq.errors import BadRequest, DecodeError, NotAcceptable, UnsupportedMedia
from zizq.job import JobRecord

T = TypeVar("T")
_SCALARS = frozenset((str, int, float, bool, type(None)))
_FLOAT_FROM = 2**64
_FLOAT_BELOW = -(2**63)
MAX_DEPTH = 128
"""How deep a payload may be nested. Far below what the decoders bear, so that whatever is taken in can be sent out
again, from however deep a stack: one job that cannot be encoded would end every take stream that meets it."""
USUAL_DEPTH = 6
"""How deep most payloads are nested at most: up to there msgspec says by itself whether JSON can say all of one."""


class Format(StrEnum):
    """A body format, as its content type."""

    JSON = "application/json"
    MSGPACK = "application/msgpack"


_NAMES = {Format.JSON: "JSON", Format.MSGPACK: "MessagePack"}
ORDINARY = [Format.JSON.value, Format.MSGPACK.value]

_json_encoder = msgspec.json.Encoder()
_json_sorted = msgspec.json.Encoder(order="sorted")
_msgpack_encoder = msgspec.msgpack.Encoder()
_msgpack_sorted = msgspec.msgpack.Encoder(order="sorted")
_decode_json = msgspec.json.Decoder().decode
_decode_msgpack = msgspec.msgpack.Decoder().decode


def _usual() -> Any:
    """The type of what JSON can say, nested no deeper than `USUAL_DEPTH`."""
    scalar: Any = str | int | float | bool | None
    value: Any = scalar
    for _ in range(USUAL_DEPTH):
        value = scalar | list[value] | dict[str, value]
    return value


_decode_usual = msgspec.msgpack.Decoder(_usual()).decode
_encoders = {Format.JSON: _json_encoder.encode, Format.MSGPACK: _msgpack_encoder.encode}


@lru_cache(maxsize=64)
def response_format(accept: str | None) -> Format:
    """The format of an ordinary response (protocol.md#1.1): plain substring search, no q-values.

    Raises:
        NotAcceptable: When the caller accepts neither format.
    """
    if accept is None:
        return Format.JSON
    if "application/msgpack" in accept:
        return Format.MSGPACK
    if "application/json" in accept or "*/*" in accept:
        return Format.JSON
    raise NotAcceptable("not acceptable")


@lru_cache(maxsize=64)
def request_format(content_type: str | None) -> Format:
    """The format of a request body (protocol.md#1.1).

    Raises:
        UnsupportedMedia: When the content type is neither of ours.
    """
    if content_type is None or "application/json" in content_type:
        return Format.MSGPACK if content_type and "application/msgpack" in content_type else Format.JSON
    if "application/msgpack" in content_type:
        return Format.MSGPACK
    raise UnsupportedMedia("unsupported media type")


def encode(value: object, form: Format) -> bytes:
    """A body in the given format."""
    return _encoders[form](value)


class Body(Generic[T]):
    """Reads bodies of one type in both formats."""

    def __init__(self, shape: type[T]) -> None:
        self._decode = {
            Format.JSON: msgspec.json.Decoder(shape).decode,
            Format.MSGPACK: msgspec.msgpack.Decoder(shape).decode,
        }

    def read(self, body: bytes, form: Format) -> T:
        """The value in a body.

        Raises:
            BadRequest: When the body is malformed or does not fit the type.
        """
        try:
            return self._decode[form](body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadRequest(f"invalid {_NAMES[form]}: {error}") from error


# ── payloads ─────────────────────────────────────────────────────────────────────────────────────────


def payload_to_store(raw: msgspec.Raw, form: Format) -> msgspec.Raw:
    """A payload in its stored form, checked to its last byte.

    Raises:
        BadRequest: When it is malformed, nested too deeply, or has no equivalent in JSON (binary data, extension
            types, map keys that are not strings).
    """
    try:
        if form is Format.MSGPACK:
            _check_msgpack(raw)
            # A copy, since a Raw holds on to the whole request body that it is a part of.
            return raw.copy()
        value = _decode_json(raw)
        # Each level takes two brackets, so that most payloads are too short to be too deep.
        if len(raw) > 2 * MAX_DEPTH:
            _measure(value, MAX_DEPTH)
        return _translate(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"invalid {_NAMES[form]}: {error} in payload") from error


def payloads_to_store(raws: Sequence[msgspec.Raw], form: Format) -> list[msgspec.Raw]:
    """Payloads in their stored form: of usual ones of MessagePack in half the time that `payload_to_store` takes.

    Raises:
        BadRequest: As `payload_to_store` does.
    """
    if form is Format.MSGPACK:
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # One after the other, and none is kept.
            deque(map(_decode_usual, raws), maxlen=0)
            return list(map(msgspec.Raw.copy, raws))
    return [payload_to_store(raw, form) for raw in raws]


def payload_to_send(stored: msgspec.Raw, form: Format) -> msgspec.Raw:
    """A stored payload in the format of a response."""
    if form is Format.MSGPACK:
        return stored
    return msgspec.Raw(_json_sorted.encode(_decode_msgpack(stored)))


def job_to_send(job: JobRecord, form: Format) -> JobRecord:
    """A job whose payload is in the format of a response."""
    if form is Format.MSGPACK or job.payload is None:
        return job
    return job.with_(payload=payload_to_send(job.payload, form))


def entry_to_send(entry: CronEntry, form: Format) -> CronEntry:
    """A cron entry whose payload is in the format of a response."""
    if form is Format.MSGPACK:
        return entry
    return entry.with_(job=msgspec.structs.replace(entry.job, payload=payload_to_send(entry.job.payload, form)))


def group_to_send(group: CronGroup, form: Format) -> CronGroup:
    """A cron group whose payloads are in the format of a response."""
    return group.with_(entries=tuple(entry_to_send(entry, form) for entry in group.entries))


def read_payload(raw: bytes | msgspec.Raw, form: Format) -> Any:
    """The plain value of a payload.

    Raises:
        DecodeError: When it is malformed.
    """
    try:
        return (_decode_msgpack if form is Format.MSGPACK else _decode_json)(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"payload is not valid {form}: {error}") from error


def _translate(value: Any) -> msgspec.Raw:
    try:
        return msgspec.Raw(_msgpack_sorted.encode(value))
    except OverflowError:
        return msgspec.Raw(_msgpack_sorted.encode(_narrow(value)))


def _narrow(value: Any) -> Any:
    """The value with integers beyond 64 bits as floats (protocol.md#1.2)."""
    if isinstance(value, dict):
        return {key: _narrow(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_narrow(item) for item in value]
    if isinstance(value, int) and not _FLOAT_BELOW <= value < _FLOAT_FROM:
        try:
            return float(value)
        except OverflowError as error:
            raise BadRequest("invalid JSON: number out of range in payload") from error
    return value


def _measure(value: Any, depth: int) -> None:
    """Refuse a value from JSON that is nested deeper than `depth`."""
    if type(value) not in (dict, list):
        return
    if not depth:
        raise BadRequest(f"invalid JSON: payload is nested deeper than {MAX_DEPTH} levels")
    for item in value.values() if type(value) is dict else value:
        if type(item) not in _SCALARS:
            _measure(item, depth - 1)


def _check_msgpack(raw: msgspec.Raw) -> None:
    """Refuse a payload as `_check` does."""
    try:
        _decode_usual(raw)
    except msgspec.ValidationError:
        # Nested deeper, or wrong: slower, and in words of ours.
        _check(_decode_msgpack(raw), MAX_DEPTH)


def _check(value: Any, depth: int) -> None:
    """Refuse a value from MessagePack that is nested deeper than `depth`, or that JSON cannot say."""
    kind = type(value)
    if kind in (dict, list) and not depth:
        raise BadRequest(f"invalid MessagePack: payload is nested deeper than {MAX_DEPTH} levels")
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise BadRequest(f"invalid MessagePack: map key {key!r} in payload is not a string")
            if type(item) not in _SCALARS:
                _check(item, depth - 1)
    elif kind is list:
        for item in value:
            if type(item) not in _SCALARS:
                _check(item, depth - 1)
    elif kind not in _SCALARS:
        raise BadRequest(f"invalid MessagePack: payload holds {kind.__name__}, which JSON has not")
