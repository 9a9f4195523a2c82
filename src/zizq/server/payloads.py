"""Payloads of jobs on their way into the store and out of it: small ones are translated at once, large ones elsewhere.

To read 16 MB of lists in lists takes seconds, in which the event loop would serve nobody else. So payloads that are not
small are read by processes of their own (`payload_process.py`), where time and memory have limits.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from zizq.errors import BadRequest, Unavailable
from zizq.job import JobRecord
from zizq.server.pool import Exceeded, Pool, Trade
from zizq.wire import codec
from zizq.wire.codec import Format
from zizq.words import size

SMALL = 256 * 2**10
"""The largest payload, in bytes, that is read at once: a few milliseconds mostly, 80 where it is all empty lists."""
TIMEOUT_MS = 5000
MEMORY = 2**30
PROCESSES = 2
PATIENCE_S = 1.0
"""How long a payload waits for a process to put it into its form for an answer. Behind payloads that come in it might
wait for minutes, and a take stream that is silent for half a minute is given up by its client."""

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
    """Puts payloads into their stored form, and into that of an answer."""

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

    async def sent(self, job: JobRecord, form: Format) -> JobRecord:
        """A job as `codec.job_to_send` has it, however large its payload is and whatever else is being read."""
        if form is Format.MSGPACK or job.payload is None or len(job.payload) <= SMALL:
            return codec.job_to_send(job, form)
        on = f"a payload of {size(len(job.payload))}"
        try:
            async with asyncio.timeout(PATIENCE_S):
                return job.with_(payload=msgspec.Raw(await self._answer("send", (form,), [bytes(job.payload)], on)))
        except (TimeoutError, Exceeded, Unavailable, BadRequest):
            # It was stored, so it has to come out: then the others wait.
            return codec.job_to_send(job, form)
