"""Background duties: the promoter makes due jobs ready, the reaper deletes what is past its retention."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from zizq.clock import Clock
from zizq.server.broker import Broker

log = logging.getLogger("zizq.duties")

REAP_BATCH = 1000
RETRY_S = 1.0
"""The wait after a duty failed."""
NAP_S = 10.0
"""The longest sleep of the promoter: the wall clock may be set forward meanwhile."""


class Alarm:
    """A sleep that can be cut short."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """End the sleep, or the next one if none is on."""
        self._rung.set()

    async def sleep(self, seconds: float) -> None:
        """Sleep until rung, `seconds` at most."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._rung.wait()
        except TimeoutError:
            pass
        self._rung.clear()


class Promoter:
    """Makes scheduled jobs ready as they come due, within milliseconds (protocol.md#4.2).

    Args:
        broker: What it asks.
        clock: The time by which jobs are due.
        batch: How many jobs a commit promotes at most.
    """

    def __init__(self, broker: Broker, clock: Clock, batch: int) -> None:
        self._broker = broker
        self._clock = clock
        self._batch = batch
        self._alarm = Alarm()
        self._next_due: int | None = None
        broker.on_scheduled = self.scheduled

    def scheduled(self, at: int) -> None:
        """A job was scheduled; wake up if it comes before all others."""
        if self._next_due is None or at < self._next_due:
            self._next_due = at
            self._alarm.ring()

    async def run(self) -> None:
        """Promote for ever."""
        while True:
            # Unknown until the pass has answered: whatever is scheduled meanwhile must ring.
            self._next_due = None
            due = await _attempt("promoter", lambda: self._broker.promote(self._batch))
            if due is not None and (self._next_due is None or due < self._next_due):
                self._next_due = due
            await self._alarm.sleep(self._nap())

    def _nap(self) -> float:
        if self._next_due is None:
            return NAP_S
        return min(NAP_S, (self._next_due - self._clock.wall_ms()) / 1000)


class Reaper:
    """Deletes finished jobs past their retention (protocol.md#4.10).

    Args:
        broker: What it asks.
        interval_ms: How often.
    """

    def __init__(self, broker: Broker, interval_ms: int) -> None:
        self._broker = broker
        self._interval_s = interval_ms / 1000

    async def run(self) -> None:
        """Reap for ever, first after one interval."""
        while True:
            await asyncio.sleep(self._interval_s)
            await _attempt("reaper", lambda: self._broker.reap(REAP_BATCH))


async def _attempt(name: str, duty: Callable[[], Awaitable[int | None]]) -> int | None:
    """Do a duty; a failure is logged and waited out, so that the duty goes on."""
    try:
        return await duty()
    except Exception:
        log.exception("duty failed", extra={"fields": {"duty": name}})
        await asyncio.sleep(RETRY_S)
        return None
