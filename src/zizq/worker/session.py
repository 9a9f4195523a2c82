"""The take stream of a worker: opened, read, and opened again when it breaks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from zizq.client.job import Job
from zizq.errors import DecodeError, ZizqError
from zizq.worker.hooks import Connected, Disconnected, Surroundings, call
from zizq.worker.options import Reconnect
from zizq.worker.outbox import is_transient
from zizq.worker.slots import Slots

logger = logging.getLogger("zizq")

_LASTED = 5.0
"""Seconds after which a stream counts as a good one even if no job came: longer than a heartbeat takes."""


class Stream(Protocol):
    """What a session needs of an open take stream."""

    def batches(self) -> AsyncIterator[list[Job]]:
        """The jobs of each chunk, until the server ends the stream."""


class Takes(Protocol):
    """What a session needs of a client."""

    def take(self, *, queues: list[str], prefetch: int, worker_id: str | None) -> AbstractAsyncContextManager[Stream]:
        """Open a take stream."""


class Session:
    """Keeps a take stream open, and hands what comes to the slots.

    It goes on reading while all slots are busy, as far as the buffer has room: only so is a lost connection noticed
    at once, and a job that is running claimed again before another worker gets it.

    Args:
        client: Opens the streams.
        slots: Runs the jobs.
        queues: Which queues to take from; empty is all.
        prefetch: The most jobs that are here unreported.
        reconnect: How long to wait before a new attempt; None makes the first loss final.
        around: The clock that tells how long a stream lasted, the dice that spread delays, the hooks that are told.
    """

    def __init__(
        self,
        client: Takes,
        slots: Slots,
        queues: list[str],
        prefetch: int,
        reconnect: Reconnect | None,
        around: Surroundings,
    ) -> None:
        self._client = client
        self._slots = slots
        self._queues = queues
        self._prefetch = prefetch
        self._reconnect = reconnect
        self._clock = around.clock
        self._dice = around.dice
        self._hooks = around.hooks
        self._worker_id = around.worker_id
        self._stopped = asyncio.Event()
        self._closing = asyncio.Event()
        self._failures = 0
        self._open = False

    @property
    def is_open(self) -> bool:
        """Whether a stream is open now."""
        return self._open

    def stop(self) -> None:
        """Take no more jobs. The stream stays open, for the server gives away the jobs of one that closes."""
        self._stopped.set()

    def close(self) -> None:
        """Close the stream: every job has been reported."""
        self._stopped.set()
        self._closing.set()

    async def run(self) -> None:
        """Read until stopped and closed.

        Raises:
            ClientError: When the server refuses the stream.
            TransportError: When the stream is lost and `reconnect` is None.
        """
        while not self._stopped.is_set():
            error = await self._once()
            if self._stopped.is_set() or (self._reconnect is None and error is None):
                return
            if error is not None and (self._reconnect is None or not _worth_another(error)):
                raise error
            self._failures += 1
            await self._wait_to_reconnect(error)

    async def _once(self) -> ZizqError | None:
        """One stream, from its opening to its end; what ended it is returned."""
        opened_at = self._clock.mono_s()
        error: ZizqError | None = None
        try:
            async with self._client.take(
                queues=self._queues, prefetch=self._prefetch, worker_id=self._worker_id
            ) as stream:
                self._connected()
                await self._read_until_closed(stream)
        except ZizqError as exc:
            error = exc
        finally:
            if self._open:
                self._lost(error, self._clock.mono_s() - opened_at)
        return error

    async def _read_until_closed(self, stream: Stream) -> None:
        # While the worker drains, a read stays under way: to cancel it could close the stream too early.
        reading = asyncio.create_task(self._read(stream), name="zizq-reader")
        closing = asyncio.create_task(self._closing.wait())
        try:
            await asyncio.wait({reading, closing}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
        finally:
            reading.cancel()
            closing.cancel()
            await asyncio.wait({reading, closing})

    async def _read(self, stream: Stream) -> None:
        async for jobs in stream.batches():
            self._failures = 0
            if self._stopped.is_set():
                await self._closing.wait()
                return
            self._slots.accept(jobs)
            await self._slots.wait_room(self._prefetch)

    def _connected(self) -> None:
        self._open = True
        logger.info(
            "the worker takes jobs", extra={"fields": {"worker": self._worker_id, "queues": self._queues or "all"}}
        )
        call(self._hooks.on_connect, Connected(self._worker_id))

    def _lost(self, error: ZizqError | None, lasted: float) -> None:
        self._open = False
        if lasted >= _LASTED:
            self._failures = 0
        if not self._stopped.is_set():
            self._slots.discard()
        call(self._hooks.on_disconnect, Disconnected(self._worker_id, error))

    async def _wait_to_reconnect(self, error: ZizqError | None) -> None:
        delay = (self._reconnect or Reconnect()).delay(self._failures, self._dice.unit())
        reason = str(error or "the server closed it")
        logger.warning(
            "the take stream is down, reconnecting in %.1f s: %s",
            delay,
            reason,
            extra={"fields": {"error": reason, "seconds": round(delay, 3)}},
        )
        try:
            async with asyncio.timeout(delay):
                await self._stopped.wait()
        except TimeoutError:
            return


def _worth_another(error: ZizqError) -> bool:
    return is_transient(error) or isinstance(error, DecodeError)
