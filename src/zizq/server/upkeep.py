"""Backups while serving, and giving space back."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from zizq.clock import Clock
from zizq.server.packing import packed
from zizq.store.base import Store
from zizq.words import size

log = logging.getLogger("zizq.upkeep")


class Upkeep:
    """Looks after the store.

    Args:
        store: The store.
        clock: The time of backups.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    @asynccontextmanager
    async def backup(self) -> AsyncIterator[AsyncGenerator[bytes]]:
        """A backup of the store as it is now, piece by piece; made once the block is entered, sent at any pace.

        Raises:
            Conflicting: When another backup is not over yet.
            Unavailable: When the store cannot be copied.
            Unsupported: When the store is not of a kind that can be.
        """
        began, now = self._clock.mono_s(), self._clock.wall_ms()
        async with self._store.snapshot() as files:
            fields = {"bytes": sum(file.stat().st_size for file in files), "seconds": self._since(began)}
            log.info("snapshot made", extra={"fields": fields})
            async with aclosing(packed(files, now)) as pieces:
                yield pieces
        log.info("backup sent", extra={"fields": {"seconds": self._since(began)}})

    async def compact(self) -> None:
        """Give free space back to the disk.

        Raises:
            Unavailable: When the store cannot write.
        """
        began = self._clock.mono_s()
        before, after = await self._store.compact()
        fields = {"before": size(before), "after": size(after), "seconds": self._since(began)}
        log.info("compacted", extra={"fields": fields})

    def _since(self, began: float) -> float:
        return round(self._clock.mono_s() - began, 3)
