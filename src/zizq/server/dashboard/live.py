"""The live feed: one sample a second for all who watch, and none while nobody does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from zizq.errors import Unavailable

log = logging.getLogger("zizq.dashboard")

PERIOD_S = 1.0
MOST = 16
"""Viewers at a time: each holds one of the connections of the admin port, and pages need some as well."""

Sample = Callable[[], Awaitable[bytes]]
"""Makes what is sent to everybody."""


class Live:
    """Samples, and hands each sample to all viewers. Who reads slowly misses some; none waits for another.

    Args:
        sample: Makes one.
        period_s: Seconds between two.
    """

    def __init__(self, sample: Sample, period_s: float = PERIOD_S) -> None:
        self._sample = sample
        self._period_s = period_s
        self._viewers = 0
        self._latest: asyncio.Future[bytes] | None = None
        self._sampling: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def viewers(self) -> int:
        """How many watch."""
        return self._viewers

    def watch(self, may_watch: Callable[[], bool]) -> AsyncIterator[bytes]:
        """All samples from now on, until the viewer leaves or the feed is closed.

        Args:
            may_watch: Whether the viewer may still see them; asked before each sample.

        Raises:
            Unavailable: When too many watch, or the server stops.
        """
        if self._closed or self._viewers >= MOST:
            raise Unavailable(f"{self._viewers} pages are open that show live figures, which is all there may be")
        return self._watch(may_watch)

    def close(self) -> None:
        """End all feeds; there are no new ones."""
        self._closed = True
        if self._sampling is not None:
            self._sampling.cancel()
        if self._latest is not None:
            self._latest.cancel()

    async def _watch(self, may_watch: Callable[[], bool]) -> AsyncIterator[bytes]:
        self._viewers += 1
        try:
            while not self._closed:
                if self._sampling is None:
                    self._latest = asyncio.get_running_loop().create_future()
                    self._sampling = asyncio.create_task(self._run())
                sample = await self._next()
                if sample is None or not may_watch():
                    return
                yield sample
        finally:
            self._viewers -= 1
            if self._viewers == 0 and self._sampling is not None:
                self._sampling.cancel()
                self._sampling = None

    async def _next(self) -> bytes | None:
        """The sample that comes next; None when there is none any more."""
        latest = self._latest
        assert latest is not None  # noqa: S101 - there is one wherever samples are made
        # Waited for, and not awaited: that would cancel it for all viewers with the first that leaves.
        await asyncio.wait([latest])
        return None if latest.cancelled() else latest.result()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sample = await self._sample()
            except Exception:
                # At the task's root: a figure that cannot be had must not end the feed.
                log.exception("the dashboard has no figures just now")
            else:
                latest, self._latest = self._latest, loop.create_future()
                if latest is not None:
                    latest.set_result(sample)
            await asyncio.sleep(self._period_s)
