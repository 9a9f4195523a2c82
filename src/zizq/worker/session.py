"""The take stream of a worker: opened, read, and opened again when it breaks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from zizq.client.job import Job
from zizq.errors import DecodeError, ZizqError
from zizq.worker.hooks import Connected, Disconnected, Surroundings, call
from zizq.worker.options import Reconnect, Wanted
from zizq.worker.outbox import is_transient
from zizq.worker.sender import Sender
from zizq.worker.slots import Slots

logger = logging.getLogger("zizq")

_LASTED = 5.0
"""Seconds after which a stream counts as a good one even if no job came: longer than a heartbeat takes."""

_CLAIMED = 1.0
"""Seconds after which the jobs of a lost stream that the new one has not brought are thought to be elsewhere."""

_GOODBYE = 1.0
"""Seconds that the server may take to end a stream which holds nothing any more."""


class Stream(Protocol):
    """What a session needs of an open take stream."""

    def batches(self) -> AsyncIterator[list[Job]]:
        """The jobs of each chunk, until the server ends the stream."""


class Takes(Protocol):
    """What a session needs of a client."""

    def take(
        self,
        *,
        queues: list[str],
        prefetch: int,
        worker_id: str | None,
        job_timeout: float | None,
        concurrency: int,
        stream: str,
    ) -> AbstractAsyncContextManager[Stream]:
        """Open a take stream."""

    async def release(self, ids: list[str], /, *, stream: str) -> object:
        """Give jobs back, and let a stream get no more and end once it holds none."""


class Session:
    """Keeps a take stream open, and hands what comes to the slots.

    It goes on reading while all slots are busy, as far as the buffer has room: only so is a lost connection noticed
    at once, and a job that is running claimed again before another worker gets it.

    A server takes back the jobs of a stream that it has lost, and would refuse their reports. So these wait until the
    next stream has had a chance to bring the jobs again, and count then.

    Args:
        client: Opens the streams.
        slots: Runs the jobs.
        sender: Sends the reports.
        wanted: What is asked of the streams.
        reconnect: How long to wait before a new attempt; None makes the first loss final.
        around: The clock that tells how long a stream lasted, the dice that spread delays, the hooks that are told.
    """

    def __init__(
        self,
        client: Takes,
        slots: Slots,
        sender: Sender,
        wanted: Wanted,
        reconnect: Reconnect | None,
        around: Surroundings,
    ) -> None:
        self._client = client
        self._slots = slots
        self._sender = sender
        self._wanted = wanted
        self._reconnect = reconnect
        self._clock = around.clock
        self._dice = around.dice
        self._hooks = around.hooks
        self._worker_id = around.worker_id
        self._stopped = asyncio.Event()
        self._closing = asyncio.Event()
        self._ended = asyncio.Event()
        self._failures = 0
        self._open = False
        self._name = ""
        self._ends_by_itself = False
        self.last_error: str | None = None
        """Why the last stream was lost, or could not be opened."""

    @property
    def is_open(self) -> bool:
        """Whether a stream is open now."""
        return self._open

    @property
    def is_stopped(self) -> bool:
        """Whether no more jobs are taken."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Take no more jobs. The stream stays open, for the server gives away the jobs of one that closes."""
        self._stopped.set()
        self._sender.go_on()

    async def give_back(self, ids: list[str], timeout: float | None) -> None:
        """Tell the server that these jobs are not run here, and that no more are wanted.

        Where that fails the end of the stream gives them back as well. But the server cannot tell that from a death of
        this process, and holds it against the jobs.

        Args:
            ids: Jobs that came and are not run.
            timeout: Seconds to wait at most; None is no limit.
        """
        if not self._open:
            return
        try:
            async with asyncio.timeout(timeout):
                await self._client.release(ids, stream=self._name)
            self._ends_by_itself = True
        except Exception as error:  # whatever it is, the reports of finished jobs must still be sent
            logger.warning("jobs could not be given back", extra={"fields": {"error": repr(error), "count": len(ids)}})

    async def wait_end(self, timeout: float | None) -> None:
        """Wait until the server ends the stream, which it does when every job was reported or given back.

        To close it first might lose a job that is just being sent.

        Args:
            timeout: Seconds to wait at most; None is as long as is sensible.
        """
        if self._ends_by_itself:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GOODBYE if timeout is None else min(timeout, _GOODBYE)):
                    await self._ended.wait()

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
        self._name = f"{self._dice.bits(128):032x}"
        try:
            async with self._client.take(
                queues=self._wanted.queues,
                prefetch=self._wanted.prefetch,
                worker_id=self._worker_id,
                job_timeout=self._wanted.job_timeout,
                concurrency=self._wanted.concurrency,
                stream=self._name,
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
        nothing_came = asyncio.get_running_loop().call_later(_CLAIMED, self._sender.go_on)
        try:
            await asyncio.wait({reading, closing}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
        finally:
            nothing_came.cancel()
            reading.cancel()
            closing.cancel()
            await asyncio.wait({reading, closing})

    async def _read(self, stream: Stream) -> None:
        async for jobs in stream.batches():
            self._failures = 0
            if self._stopped.is_set():
                await self.give_back([job.id for job in jobs], None)
            else:
                self._slots.accept(jobs)
                self._sender.go_on()
                await self._slots.wait_room(self._wanted.prefetch)

    def _connected(self) -> None:
        self._open = True
        logger.info(
            "the worker takes jobs",
            extra={"fields": {"worker": self._worker_id, "queues": self._wanted.queues or "all"}},
        )
        call(self._hooks.on_connect, Connected(self._worker_id))

    def _lost(self, error: ZizqError | None, lasted: float) -> None:
        self._open = False
        self._ended.set()
        if lasted >= _LASTED:
            self._failures = 0
        if not self._stopped.is_set():
            self._slots.discard()
            self._sender.hold()
        call(self._hooks.on_disconnect, Disconnected(self._worker_id, error))

    async def _wait_to_reconnect(self, error: ZizqError | None) -> None:
        delay = (self._reconnect or Reconnect()).delay(self._failures, self._dice.unit(), error)
        reason = self.last_error = str(error or "the server closed it")
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
