"""Background duties: the promoter makes due jobs ready, the ticker fires due cron entries, the timekeeper fails jobs
that are held for too long, the reaper deletes what is past its retention.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from zizq.clock import Clock
from zizq.server.broker import Broker
from zizq.server.crontab import Crontab

log = logging.getLogger("zizq.duties")

T = TypeVar("T")
REAP_BATCH = 1000
OVERDUE_BATCH = 1000
RETRY_S = 1.0
"""The wait before a duty that failed is tried again."""
NAP_S = 10.0
"""The longest sleep of a duty that waits for a time: the wall clock may be set forward meanwhile."""


class Alarm:
    """A sleep that can be cut short."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """End the sleep, or the next one if none is on."""
        self._rung.set()

    def hush(self) -> None:
        """Take back a ring that came before the sleep."""
        self._rung.clear()

    async def sleep(self, seconds: float) -> None:
        """Sleep until rung, `seconds` at most."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._rung.wait()
        except TimeoutError:
            pass
        self._rung.clear()


class Punctual:
    """A duty that is done when something comes due, within milliseconds.

    Args:
        name: What it is called in the log.
        clock: The time by which things are due.
        duty: Does all that is due; returns when the next is, in Unix milliseconds, or None.
    """

    def __init__(self, name: str, clock: Clock, duty: Callable[[], Awaitable[int | None]]) -> None:
        self._name = name
        self._clock = clock
        self._duty = duty
        self._alarm = Alarm()
        self._next_due: int | None = None

    def scheduled(self, at: int) -> None:
        """Something will be due; wake up if it comes before all else."""
        if self._next_due is None or at < self._next_due:
            self._next_due = at
            self._alarm.ring()

    async def run(self) -> None:
        """Do the duty for ever."""
        while True:
            # Unknown until the pass has answered: whatever is scheduled meanwhile is noted, or found by the next pass.
            self._next_due = None
            due = await attempt(self._name, self._duty)
            if due is not None and (self._next_due is None or due < self._next_due):
                self._next_due = due
            # It has been heard: left on, it would lead from pass to pass where a pass itself rings.
            self._alarm.hush()
            await self._alarm.sleep(self._nap())

    def _nap(self) -> float:
        if self._next_due is None:
            return NAP_S
        return min(NAP_S, (self._next_due - self._clock.wall_ms()) / 1000)


class Promoter(Punctual):
    """Makes scheduled jobs ready as they come due (protocol.md#4.2).

    Args:
        broker: What it asks.
        clock: The time by which jobs are due.
        batch: How many jobs a commit promotes at most.
    """

    def __init__(self, broker: Broker, clock: Clock, batch: int) -> None:
        super().__init__("promoter", clock, lambda: broker.promote(batch))
        broker.on_scheduled = self.scheduled


class Ticker(Punctual):
    """Fires cron entries as they come due (protocol.md#7.5).

    Args:
        crontab: What it asks.
        clock: The time by which entries are due.
        batch: How many entries are fired at once at most.
    """

    def __init__(self, crontab: Crontab, clock: Clock, batch: int) -> None:
        super().__init__("ticker", clock, lambda: crontab.fire(batch))
        crontab.on_saved = self.scheduled


class Timekeeper(Punctual):
    """Fails jobs in flight as their time is up (protocol.md#14.1).

    Args:
        broker: What it asks.
        clock: The time by which jobs are overdue.
    """

    def __init__(self, broker: Broker, clock: Clock) -> None:
        super().__init__("timekeeper", clock, lambda: broker.fail_overdue(OVERDUE_BATCH))
        broker.on_overdue = self.scheduled


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
            await attempt("reaper", lambda: self._broker.reap(REAP_BATCH))


async def attempt(name: str, duty: Callable[[], Awaitable[T]]) -> T:
    """Do a duty; where it fails, do it again after a while, until it is done. The first failure is logged."""
    told = False
    while True:
        try:
            return await duty()
        except Exception:
            if not told:
                log.exception("duty failed, will be tried again", extra={"fields": {"duty": name}})
            told = True
            await asyncio.sleep(RETRY_S)
