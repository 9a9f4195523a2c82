"""From where on takes look for ready jobs, so that none walks again over what it has handed out. Pure.

A take that walked from the head of an index would pass over all jobs in flight, and over all that are long gone but
cannot be swept since somebody looks at an old state of the database. So a server remembers for each queue the key below
which it has left nothing, its *floor*. Whatever it makes ready lowers it, and so does what it hears of others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

from zizq.engine.purse import Key

FIRST: Key = (-1, "")
"""Before all jobs."""
END: Key = (2**31 - 1, "")
"""Behind all jobs."""
ALL = ""
"""What stands for all queues together; no queue has this name."""
NOWHERE: Mapping[Collection[str], Key | None] = MappingProxyType({})


class Floors:
    """The floors of all queues that were asked for, and one for all of them together."""

    def __init__(self) -> None:
        self._floors: dict[str, Key] = {}
        self._lowered: dict[str, Key] | None = None
        self._anew = False

    def begin(self) -> None:
        """Takes are under way until they `end`, and what becomes ready meanwhile may be behind them."""
        self._lowered, self._anew = {}, False

    def of(self, queues: Collection[str]) -> dict[str, Key]:
        """Where a take begins to look: by queue, or under `ALL` where it looks at all of them."""
        return {queue: self._floors.get(queue, FIRST) for queue in queues or (ALL,)}

    def end(self, reached: Mapping[Collection[str], Key | None] = NOWHERE) -> None:
        """The takes are over.

        Args:
            reached: By their queues, the key up to which they have left nothing, itself included; None where they have
                left nothing at all. Nothing where they have failed.
        """
        lowered, self._lowered = self._lowered or {}, None
        for queues, key in reached.items():
            floor = END if key is None else (key[0], key[1] + "+")
            for queue in queues or (ALL,):
                self._floors[queue] = FIRST if self._anew else min(floor, lowered.get(queue, END))

    def lower(self, keys: Mapping[str, Key]) -> None:
        """Jobs became ready: by queue, the first of them."""
        if not keys:
            return
        for queue, key in (*keys.items(), (ALL, min(keys.values()))):
            if queue in self._floors:
                self._floors[queue] = min(self._floors[queue], key)
            if self._lowered is not None:
                self._lowered[queue] = min(self._lowered.get(queue, END), key)

    def clear(self) -> None:
        """Look at all queues from their heads again."""
        self._floors.clear()
        self._anew = True


class Watched:
    """The queues that streams take of: those to look at where nobody tells of them."""

    def __init__(self) -> None:
        self._of: dict[int, frozenset[str]] = {}

    def add(self, owner: int, queues: frozenset[str]) -> None:
        """A stream takes of these queues; of all where there are none."""
        self._of[owner] = queues

    def drop(self, owner: int) -> None:
        """A stream takes no more."""
        self._of.pop(owner, None)

    @property
    def sees_all(self) -> bool:
        """Whether some stream takes of all queues."""
        return frozenset() in self._of.values()

    @property
    def queues(self) -> frozenset[str]:
        """All queues that are named by some stream."""
        return frozenset().union(*set(self._of.values()))
