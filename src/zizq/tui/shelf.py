"""A table that is here as a whole: queues, crons, budgets or workers; pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from zizq.tui import details, tables
from zizq.tui.cursor import Cursor
from zizq.tui.grid import Column, Row
from zizq.tui.lines import Line
from zizq.wire.insight import BudgetInsight, CronInsight, FailureInsight, QueueInsight, WorkerInsight

T = TypeVar("T")
Tell = Callable[[T, Sequence[FailureInsight], int, int], list[Line]]
"""Everything there is to know of a value, given failures, the wall clock and the width."""


class Shelf(Generic[T]):
    """One such table.

    Args:
        kind: What is in it.
        columns: Its columns.
        key: What a value is known by.
        row: A value as a row, given the wall clock.
        tell: A value in full.
    """

    def __init__(
        self,
        kind: type[T],
        columns: Sequence[Column],
        key: Callable[[T], str],
        row: Callable[[T, int], Row],
        tell: Tell[T],
    ) -> None:
        self.kind = kind
        self.columns = columns
        self._key = key
        self._row = row
        self._tell = tell
        self.values: list[T] = []
        self.cursor = Cursor()
        self.is_known = False

    @property
    def keys(self) -> list[str]:
        """What the values are known by, in their order."""
        return [self._key(value) for value in self.values]

    def load(self, body: bytes) -> None:
        """Take what the server answered.

        Raises:
            msgspec.DecodeError: When that is nothing of the kind.
        """
        self.values = msgspec.json.decode(body, type=list[self.kind])  # type: ignore[name-defined]
        self.is_known = True
        self.cursor.settle(self.keys)

    def rows(self, now_at: int) -> list[Row]:
        """The rows that are on the screen."""
        top = self.cursor.top
        return [self._row(value, now_at) for value in self.values[top : top + self.cursor.height]]

    def lines(self, failures: Sequence[FailureInsight], now_at: int, width: int) -> list[Line]:
        """The selected value in full."""
        if not self.values:
            return []
        return self._tell(self.values[self.cursor.row], failures, now_at, width)

    def find(self, text: str, forward: bool) -> bool:
        """Go to the next row that has a text in it, around the end if need be; false when none has."""
        wanted, count = text.casefold(), len(self.values)
        step = 1 if forward else -1
        for distance in range(1, count + 1):
            number = (self.cursor.row + step * distance) % count
            if any(wanted in cell.casefold() for cell in self._row(self.values[number], 0).texts):
                self.cursor.select(self.keys[number], self.keys)
                return True
        return False


def shelves() -> dict[str, Shelf[Any]]:
    """A table for each of these kinds, empty, by the name that the server gives it."""
    return {
        "queues": Shelf(
            QueueInsight, tables.QUEUE_COLUMNS, lambda queue: queue.queue, tables.queue_row, details.queue_lines
        ),
        "crons": Shelf(CronInsight, tables.CRON_COLUMNS, tables.cron_key, tables.cron_row, details.cron_lines),
        "budgets": Shelf(
            BudgetInsight, tables.BUDGET_COLUMNS, lambda budget: budget.key, tables.budget_row, details.budget_lines
        ),
        "workers": Shelf(
            WorkerInsight,
            tables.WORKER_COLUMNS,
            lambda worker: str(worker.stream),
            tables.worker_row,
            details.worker_lines,
        ),
    }
