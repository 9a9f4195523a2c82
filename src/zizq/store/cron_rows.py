"""Cron groups to rows and back, once for all databases. Each entry is a row of its own, with its name and next time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from zizq.cron import CronEntry, CronGroup
from zizq.engine.cron import rules
from zizq.store.base import Due

_encode = msgspec.msgpack.Encoder().encode
_group = msgspec.msgpack.Decoder(CronGroup).decode
_entry = msgspec.msgpack.Decoder(CronEntry).decode


class Stored(NamedTuple):
    """A group as its rows have it: what it has beside its entries, or None; and the row of each entry by its name."""

    settings: bytes | None
    entries: dict[str, tuple[int | None, bytes]]

    @classmethod
    def of(cls, group: CronGroup | None) -> Stored:
        """What the rows of a group are like; None for one that is not there."""
        if group is None:
            return cls(None, {})
        return cls(settings(group), {entry.name: entry_row(entry) for entry in group.entries})

    def without(self, other: Stored) -> list[str]:
        """The names of entries that have no such row in the other form of the group."""
        return [name for name, row in self.entries.items() if other.entries.get(name) != row]


def new_entries(group: CronGroup | None, before: Stored) -> list[CronEntry]:
    """The entries of a group that were not there before as they are."""
    entries = () if group is None else group.entries
    return [entry for entry in entries if before.entries.get(entry.name) != entry_row(entry)]


def settings(group: CronGroup) -> bytes:
    """What a group has beside its entries."""
    return _encode(group.with_(entries=()))


def entry_row(entry: CronEntry) -> tuple[int | None, bytes]:
    """When an entry is due, and all of it."""
    return entry.next_enqueue_at, _encode(entry)


def draw_rows(entries: Iterable[CronEntry]) -> list[tuple[str, str, int]]:
    """What the jobs of entries draw: the name of the entry, the budget, the cost."""
    return [(entry.name, draw.key, draw.cost) for entry in entries for draw in entry.job.budgets or ()]


def to_group(stored: Sequence[tuple[bytes, bytes | None]]) -> CronGroup:
    """The group in rows of what it has beside its entries, and an entry; None for that in the row of one without."""
    return _group(stored[0][0]).with_(entries=tuple(_entry(entry) for _, entry in stored if entry is not None))


def to_due(settings: bytes, entry: bytes) -> Due:
    """A group without its entries, and one of them."""
    return Due(_group(settings), _entry(entry))


def hold(due: Due, stored: tuple[bytes, bytes] | tuple[None, None] | None) -> None:
    """Hold an entry and its group to what they are thought to be.

    Raises:
        Conflicting: When something else is stored.
    """
    if stored != (settings(due.group), _encode(due.entry)):
        raise rules.has_changed(*due)
