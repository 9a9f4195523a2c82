"""Payloads on their way into the store: small ones are put into their stored form at once, large ones elsewhere.

To read 16 MB of lists in lists takes seconds, in which the event loop would serve nobody else. So payloads that are not
small are read by processes of their own (`payload_process.py`), where time and memory have limits.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from zizq.errors import BadRequest
from zizq.server.pool import Exceeded, Pool, Trade
from zizq.wire import codec
from zizq.wire.codec import Format
from zizq.words import size

SMALL = 256 * 2**10
"""The largest payload, in bytes, that is read at once: a few milliseconds mostly, 80 where it is all empty lists."""
TIMEOUT_MS = 5000
MEMORY = 2**30
PROCESSES = 2

_TRADE = Trade(
    program=Path(__file__).with_name("payload_process.py"),
    what="no large payload can be read",
    memory="memory",
    needs="large payloads cannot be read",
    if_slow="send less, or in fewer pieces",
    if_large="send less, or in fewer pieces",
)
_answer: msgspec.msgpack.Decoder[tuple[str, bytes]] = msgspec.msgpack.Decoder(tuple[str, bytes])


class Payloads(Pool):
    """Puts payloads into their stored form."""

    def __init__(self) -> None:
        super().__init__(_TRADE, TIMEOUT_MS, MEMORY, PROCESSES)

    async def stored(self, raw: msgspec.Raw, form: Format) -> msgspec.Raw:
        """A payload as `codec.payload_to_store` has it, however large it is.

        Raises:
            BadRequest: When it is malformed, cannot be stored, or takes too long or too much memory to read.
            Unavailable: When no process can be started.
        """
        if len(raw) <= SMALL:
            return codec.payload_to_store(raw, form)
        try:
            on = f"a payload of {size(len(raw))}"
            trouble, found = _answer.decode(await self._answer("store", (form,), [bytes(raw)], on))
        except Exceeded as error:
            raise BadRequest(f"invalid payload: {error}") from None
        if trouble:
            raise BadRequest(trouble)
        return msgspec.Raw(found or bytes(raw))
