"""A process that puts large payloads into their stored form, and out of it. `payloads.py` starts it as a script.

What travels is what `jq_process.py` says, with two tasks, each with a content type. The answer to `store`, with that of
the payload, is what is wrong with it, or no text; and the stored form, or no bytes where the payload is that already.
The answer to `send` is the payload in a form for others.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

MOST_VALUES = 2_000_000
"""Values that a payload may have. Whoever reads it needs a fifth of a second and 100 MB for as many."""


class Reader:
    """Reads payloads."""

    def __init__(self) -> None:
        import msgspec

        from zizq.errors import BadRequest
        from zizq.wire import codec

        self._codec = codec
        self._refusal = BadRequest
        self._raw = msgspec.Raw
        self._read = msgspec.msgpack.Decoder().decode
        self._write = msgspec.msgpack.Encoder().encode

    def prove(self) -> None:
        """Read the smallest payload."""
        self._codec.payload_to_store(self._raw(b"1"), self._codec.Format.JSON)

    def answer(self, request: bytes) -> bytes:
        """The answer to a request, whose payload is read here."""
        task, (name,), seconds, [size] = self._read(request)
        doors.allow(seconds)
        form, raw = self._codec.Format(name), sys.stdin.buffer.read(size)
        return bytes(self._codec.payload_to_send(self._raw(raw), form)) if task == "send" else self._stored(raw, form)

    def _stored(self, raw: bytes, form: Any) -> bytes:
        try:
            stored = bytes(self._codec.payload_to_store(self._raw(raw), form))
        except self._refusal as refusal:
            return self._write((str(refusal), b""))
        count = _count(self._codec.read_payload(stored, self._codec.Format.MSGPACK))
        if count > MOST_VALUES:
            trouble = f"invalid payload: it has {count} values: send at most {MOST_VALUES}, or send text"
            return self._write((trouble, b""))
        return self._write(("", b"" if stored == raw else stored))


def _count(value: Any) -> int:
    """How many values a payload has, those inside others included."""
    total, left = 1, [value]
    while left:
        inner = left.pop()
        some = inner.values() if isinstance(inner, dict) else inner
        if isinstance(inner, dict | list):
            total += len(inner)
            left += [one for one in some if isinstance(one, dict | list)]
    return total


def _without_client() -> None:
    """Have the package begin empty: it would load the client, whose transport claims a GB of address space."""
    package = types.ModuleType("zizq")
    package.__path__ = [str(Path(__file__).parents[1])]
    sys.modules["zizq"] = package


if __name__ == "__main__":
    sys.path += sys.argv[2:]
    _without_client()
    from zizq.server import jq_process as doors

    doors.serve(Reader, int(sys.argv[1]))
