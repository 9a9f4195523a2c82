"""The take stream: jobs and heartbeats as frames, joined by the server and split by the client (protocol.md#1.3)."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from struct import Struct

import msgspec

from zizq.errors import DecodeError, NotAcceptable
from zizq.job import JobRecord
from zizq.wire.codec import Format

MAX_FRAME = 64 * 1024 * 1024
"""The largest frame a client takes, in bytes: four times the default limit on a request body."""

_encode_json = msgspec.json.Encoder().encode
_encode_msgpack = msgspec.msgpack.Encoder().encode
_SIZE = Struct(">I")
_pack_size, _size_at = _SIZE.pack, _SIZE.unpack_from


class StreamFormat(StrEnum):
    """A stream format, as its content type."""

    SSE = "text/event-stream"
    NDJSON = "application/x-ndjson"
    MSGPACK = "application/vnd.zizq.msgpack-stream"

    @property
    def body(self) -> Format:
        """The format of the jobs inside."""
        return Format.MSGPACK if self is StreamFormat.MSGPACK else Format.JSON

    @property
    def heartbeat(self) -> bytes:
        """The frame that says "still here"."""
        return _HEARTBEATS[self]


STREAMS = [form.value for form in StreamFormat]
_HEARTBEATS = {
    StreamFormat.SSE: b": heartbeat\n\n",
    StreamFormat.NDJSON: b"\n",
    StreamFormat.MSGPACK: b"\0\0\0\0",
}


def stream_format(accept: str | None) -> StreamFormat:
    """The format of a take stream (protocol.md#1.1).

    Raises:
        NotAcceptable: When the caller accepts none.
    """
    if accept is None:
        return StreamFormat.NDJSON
    if "text/event-stream" in accept:
        return StreamFormat.SSE
    if "application/vnd.zizq.msgpack-stream" in accept or "application/msgpack" in accept:
        return StreamFormat.MSGPACK
    if any(name in accept for name in ("application/x-ndjson", "application/json", "*/*")):
        return StreamFormat.NDJSON
    raise NotAcceptable("not acceptable")


def join(jobs: Iterable[JobRecord], form: StreamFormat) -> bytes:
    """Jobs as one run of frames, so that a slow socket is paid for once a batch and not once a job.

    Args:
        jobs: The jobs, with their payloads in the format of the stream.
        form: The format.
    """
    if form is StreamFormat.MSGPACK:
        parts = []
        for job in jobs:
            body = _encode_msgpack(job)
            parts.append(_pack_size(len(body)))
            parts.append(body)
        return b"".join(parts)
    before, after = (b"data: ", b"\n\n") if form is StreamFormat.SSE else (b"", b"\n")
    return b"".join([before + _encode_json(job) + after for job in jobs])


class Splitter:
    """Cuts what a socket delivers into frames, whatever the pieces it arrives in.

    Args:
        form: MessagePack or NDJSON; clients do not ask for SSE.
        max_frame: The largest frame that is taken, in bytes.
    """

    def __init__(self, form: StreamFormat, max_frame: int = MAX_FRAME) -> None:
        self._rest = b""
        self._max_frame = max_frame
        self._cut = self._cut_msgpack if form is StreamFormat.MSGPACK else self._cut_lines

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that `data` completes, in order; heartbeats are left out.

        Raises:
            DecodeError: When a frame is over the limit. The splitter is of no use after that.
        """
        return self._cut(self._rest + data if self._rest else data)

    def finish(self) -> None:
        """Say that no more comes.

        Raises:
            DecodeError: When the stream ended inside a frame.
        """
        if self._rest:
            raise DecodeError(f"the take stream ended inside a frame, after {len(self._rest)} bytes of it")

    def _cut_msgpack(self, data: bytes) -> list[bytes]:
        frames, start, last, most = [], 0, len(data) - 4, self._max_frame
        while start <= last:
            (size,) = _size_at(data, start)
            if size > most:
                self._check(size)
            end = start + 4 + size
            if end > len(data):
                break
            if size:
                frames.append(data[start + 4 : end])
            start = end
        self._rest = data[start:]
        return frames

    def _cut_lines(self, data: bytes) -> list[bytes]:
        *lines, self._rest = data.split(b"\n")
        self._check(len(self._rest))
        return [line for line in lines if line]

    def _check(self, size: int) -> None:
        if size > self._max_frame:
            raise DecodeError(f"a frame of {size} bytes is over the limit of {self._max_frame}")
