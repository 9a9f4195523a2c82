"""Sends the reports in the outbox, each lane in a task of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any, Protocol

from msgspec import structs

from zizq.wire.messages import FailureBody
from zizq.worker.failures import EPOCH
from zizq.worker.hooks import Acked, Surroundings, call
from zizq.worker.options import Reconnect
from zizq.worker.outbox import Nack, Outbox, Verdict, judge

logger = logging.getLogger("zizq")

_REPEAT = Reconnect(first=0.5, longest=30.0, factor=2.0)
"""How long a report that was not taken waits: as long as the stream does, for it is the same server that is away."""
_NAMED = 5
"""Jobs that a line in the log names at most."""
_ACKS_AT_ONCE = 2
"""Requests for acknowledgements under way together: while one is written down, the server deals with the outcome of the
other. One alone says nothing of how many more will come; so the second one is full."""
_NACKS_AT_ONCE = 8
"""Requests for failures under way together; there is no request for many failures."""


class Reports(Protocol):
    """What the sender needs of a client."""

    async def report_success_bulk(self, ids: list[str], /) -> list[str]:
        """Complete jobs, and return the identifiers of those that were not in flight."""

    async def report_failure(
        self,
        job_id: str,
        message: str,
        /,
        *,
        error_type: str | None,
        backtrace: str | None,
        retry_at: datetime | None,
        kill: bool,
    ) -> object:
        """Fail a job."""


class Sender:
    """Two lanes from the outbox to the server. A report that cannot be delivered is sent again until it is.

    Args:
        client: Sends the requests.
        outbox: What is to be sent.
        around: The summary that counts what was given up, the dice that spread repeats, the hooks that are told.
    """

    def __init__(self, client: Reports, outbox: Outbox, around: Surroundings) -> None:
        self.outbox = outbox
        self._client = client
        self._summary = around.summary
        self._dice = around.dice
        self._on_ack = around.hooks.on_ack
        self._worker_id = around.worker_id
        self._ack_came = asyncio.Event()
        self._acks_under_way = 0
        # How many requests have failed since one was taken.
        self._ack_failures = 0
        self._nack_came = asyncio.Event()
        self._settled = asyncio.Event()
        self._hurry = asyncio.Event()
        self._allowed = asyncio.Event()
        self._allowed.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to send."""
        self._spawn(self._send_acks(), "zizq-acks")
        self._spawn(self._send_nacks(), "zizq-nacks")

    def ack(self, job_id: str, attempts: int) -> None:
        """Report a success, as soon as the lane is free."""
        self.outbox.ack(job_id, attempts)
        self._ack_came.set()

    def nack(self, job_id: str, attempts: int, failure: FailureBody) -> None:
        """Report a failure, as soon as the lane is free."""
        self.outbox.nack(job_id, attempts, failure)
        self._nack_came.set()

    def hold(self) -> None:
        """Send nothing until `go_on`: a server that has lost our stream has all jobs back, and refuses reports."""
        self._allowed.clear()

    def go_on(self) -> None:
        """Send what waits, and what comes."""
        self._allowed.set()

    async def wait_room(self) -> None:
        """Wait until the outbox has room."""
        while self.outbox.full:
            self._settled.clear()
            await self._settled.wait()

    async def flush(self, timeout: float | None) -> None:
        """Wait until all is delivered. Repeats come quickly now, for there may be no later.

        Args:
            timeout: Seconds to wait at most; None is no limit.
        """
        self._hurry.set()
        try:
            async with asyncio.timeout(timeout):
                while len(self.outbox):
                    self._settled.clear()
                    await self._settled.wait()
        except TimeoutError:
            logger.warning(
                "reports of finished jobs could not be delivered", extra={"fields": {"count": len(self.outbox)}}
            )

    async def close(self) -> None:
        """Stop sending; what is left in the outbox counts as dropped."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._summary.ack_dropped += len(self.outbox)

    def _spawn(self, lane: Coroutine[Any, Any, None], name: str | None = None) -> None:
        task = asyncio.create_task(lane, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pause(self, failures: int, error: Exception) -> None:
        """Wait before a report is repeated."""
        delay = _REPEAT.delay(failures, self._dice.unit(), error)
        if self._hurry.is_set():
            await asyncio.sleep(min(delay, _REPEAT.first))
            return
        try:
            async with asyncio.timeout(delay):
                await self._hurry.wait()
        except TimeoutError:
            return

    # ── acknowledgements ─────────────────────────────────────────────────────────────────────────────

    async def _send_acks(self) -> None:
        while True:
            ids = await self._next_acks()
            self._acks_under_way += 1
            self._spawn(self._send_batch(ids))

    async def _next_acks(self) -> list[str]:
        while True:
            await self._allowed.wait()
            if ids := self._acks_to_send():
                return ids
            self._ack_came.clear()
            await self._ack_came.wait()

    def _acks_to_send(self) -> list[str]:
        """What waits, where no request is under way; a full batch beside one, unless the last that ended has failed."""
        if not self._acks_under_way:
            return self.outbox.next_acks()
        beside = self._acks_under_way < _ACKS_AT_ONCE and not self._ack_failures
        return self.outbox.next_full_acks() if beside else []

    async def _send_batch(self, ids: list[str]) -> None:
        """Send acknowledgements; where they must be repeated, the request is under way until it is time for that."""
        try:
            missed = await self._client.report_success_bulk(ids)
        except Exception as exc:
            if self._acks_failed(ids, exc):
                self._ack_failures += 1
                await self._pause(self._ack_failures, exc)
            else:
                self._ack_failures = 0
        else:
            self._ack_failures = 0
            self._acks_answered(ids, missed)
        self._acks_under_way -= 1
        self._settled.set()
        self._ack_came.set()

    def _acks_answered(self, ids: list[str], missed: list[str]) -> None:
        self._not_found(self.outbox.acks_answered(ids, missed))
        if self._on_ack is not None:
            lost = set(missed)
            call(self._on_ack, Acked(self._worker_id, [one for one in ids if one not in lost]))

    def _acks_failed(self, ids: list[str], error: Exception) -> bool:
        """Settle a request that failed; True when it must be repeated."""
        if judge(error) is Verdict.REPEAT:
            logger.warning("acknowledgements not delivered: will repeat", extra=_told(error, len(ids)))
            self.outbox.repeat_acks(ids)
            return True
        self.outbox.drop_acks(ids)
        self._refused(len(ids), error)
        return False

    # ── failures ─────────────────────────────────────────────────────────────────────────────────────

    async def _send_nacks(self) -> None:
        room = asyncio.Semaphore(_NACKS_AT_ONCE)
        while True:
            await room.acquire()
            self._spawn(self._send_nack(await self._next_nack(), room))

    async def _next_nack(self) -> Nack:
        while True:
            await self._allowed.wait()
            if (nack := self.outbox.next_nack()) is not None:
                return nack
            self._nack_came.clear()
            await self._nack_came.wait()

    async def _send_nack(self, nack: Nack, room: asyncio.Semaphore) -> None:
        """Send one failure; one that must be repeated waits here, out of the way of the others."""
        failure = nack.failure
        try:
            await self._client.report_failure(
                nack.job_id,
                failure.message,
                error_type=failure.error_type,
                backtrace=failure.backtrace,
                retry_at=_instant(failure.retry_at),
                kill=bool(failure.kill),
            )
        except Exception as exc:
            room.release()
            if self._nack_failed(nack, exc):
                await self._pause(nack.tries + 1, exc)
                self.outbox.repeat_nack(structs.replace(nack, tries=nack.tries + 1))
                self._nack_came.set()
        else:
            room.release()
            self.outbox.nack_answered(nack, found=True)
        self._settled.set()

    def _nack_failed(self, nack: Nack, error: Exception) -> bool:
        """Settle a request that failed; True when it must be repeated."""
        verdict = judge(error)
        if verdict is Verdict.REPEAT:
            logger.warning("a failure was not delivered: will repeat", extra=_told(error, 1))
            return True
        if verdict is Verdict.DROP:
            self.outbox.nack_answered(nack, found=True)
            self._refused(1, error)
        elif self.outbox.nack_answered(nack, found=False):
            self._nack_came.set()
        else:
            self._not_found([nack.job_id])
        return False

    # ── what is told ─────────────────────────────────────────────────────────────────────────────────

    def _not_found(self, ids: list[str]) -> None:
        if ids:
            self._summary.not_found += len(ids)
            # The message says it all by itself, for programs whose logging shows no extras.
            logger.warning(
                "%d finished jobs were no longer in flight when they were reported, and may run again: they took longer"
                " than their timeout, went to another worker while the server was lost, or were deleted (%s)",
                len(ids),
                ", ".join(ids[:_NAMED]) + (", ..." if len(ids) > _NAMED else ""),
                extra={"fields": {"not_found": len(ids), "ids": ids[:_NAMED]}},
            )

    def _refused(self, count: int, error: Exception) -> None:
        self._summary.ack_dropped += count
        logger.error("the server refuses reports of finished jobs: dropped", extra=_told(error, count))


def _instant(at: int | None) -> datetime | None:
    return None if at is None else EPOCH + timedelta(milliseconds=at)


def _told(error: Exception, count: int) -> dict[str, object]:
    return {"fields": {"error": str(error), "error_type": type(error).__name__, "count": count}}
