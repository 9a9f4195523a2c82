"""Which row of a table is selected, and which are on the screen; pure.

A row is selected by its key, so that it stays selected while others come and go around it, and stays at its place on
the screen while there is room. At an edge the selection keeps to that end of the table, whatever is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum


class Edge(Enum):
    """An end of a table."""

    HEAD = "head"
    TAIL = "tail"


class Cursor:
    """The selected row, by key and by number; `top` is the first row on the screen, `height` how many fit it."""

    def __init__(self) -> None:
        self.key: str | None = None
        self.row = 0
        self.top = 0
        self.height = 20
        self.edge: Edge | None = Edge.HEAD

    def settle(self, keys: Sequence[str]) -> None:
        """Find the selected row after the rows have changed; one that is gone gives way to what took its place."""
        from_top = self.row - self.top
        if not keys:
            self.key, self.row, self.top = None, 0, 0
            return
        self.row = self._found(keys)
        self.key = keys[self.row]
        self.top = self.row - from_top
        self._show(len(keys))

    def move(self, by: int, keys: Sequence[str]) -> None:
        """Go down by so many rows, or up."""
        self.settle(keys)
        if keys:
            self.edge = None
            self.row = min(max(self.row + by, 0), len(keys) - 1)
            self.key = keys[self.row]
            self._show(len(keys))

    def go(self, edge: Edge, keys: Sequence[str]) -> None:
        """Go to an end, and stay there."""
        self.edge = edge
        self.settle(keys)

    def select(self, key: str, keys: Sequence[str]) -> None:
        """Go to the row of a key."""
        self.edge, self.key = None, key
        self.settle(keys)

    def shift(self, by: int) -> None:
        """Follow the rows when their numbers change by so much."""
        self.row += by
        self.top += by

    def _found(self, keys: Sequence[str]) -> int:
        if self.edge is not None:
            return 0 if self.edge is Edge.HEAD else len(keys) - 1
        if self.key in keys:
            return keys.index(self.key)
        return min(max(self.row, 0), len(keys) - 1)

    def _show(self, length: int) -> None:
        self.top = max(min(self.top, self.row), self.row - self.height + 1)
        self.top = max(min(self.top, length - self.height), 0)
