"""Every store against the one suite."""

from __future__ import annotations

from pathlib import Path

from zizq.clock import Dice
from zizq.policy import Defaults
from zizq.store.base import CommitMode, Store
from zizq.store.memory import MemoryStore
from zizq.store.sqlite.store import SqliteStore
from zizq.testing.conformance import DurableStoreConformance, StoreConformance


class TestMemoryStore(StoreConformance):
    def make(self, place: Path, defaults: Defaults, dice: Dice) -> Store:
        return MemoryStore(defaults, dice)


class TestSqliteStore(DurableStoreConformance):
    def make(self, place: Path, defaults: Defaults, dice: Dice) -> Store:
        return SqliteStore(place, defaults, dice)


class TestSqliteStoreThatIsBuffered(DurableStoreConformance):
    """Lone enqueues are then committed on the event loop."""

    def make(self, place: Path, defaults: Defaults, dice: Dice) -> Store:
        return SqliteStore(place, defaults, dice, enqueue_mode=CommitMode.BUFFERED)
