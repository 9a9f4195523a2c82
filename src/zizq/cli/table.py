"""Rows of text that line up and fit a terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import NamedTuple

_GAP = "  "
_LEAST = 8
"""Characters that are kept at least of what may be cut."""


class Column(NamedTuple):
    """A column: its title, whether it holds numbers, and whether its texts may be cut."""

    title: str
    is_number: bool = False
    may_be_cut: bool = False


class Table:
    """Lines up rows that come page by page: columns only ever get wider.

    Args:
        columns: The columns, in their order.
        width: The width of the terminal; None where lines may be of any length.
    """

    def __init__(self, columns: Sequence[Column], width: int | None = None) -> None:
        self._columns = columns
        self._width = width
        self._widths = [0] * len(columns)

    def lines(self, rows: Sequence[Sequence[str]]) -> list[str]:
        """The rows as lines; the first time the titles come before them."""
        if not any(self._widths):
            rows = [[column.title for column in self._columns], *rows]
        self._widths = [
            max(width, *(len(row[number]) for row in rows)) if rows else width
            for number, width in enumerate(self._widths)
        ]
        widths = self._fitting()
        return [self._line(row, widths) for row in rows]

    def _fitting(self) -> list[int]:
        """The widths; of the columns that may be cut the widest are made less, until a line fits."""
        widths = list(self._widths)
        if self._width is None:
            return widths
        soft = [number for number, column in enumerate(self._columns) if column.may_be_cut]
        for _ in range(sum(widths) + len(_GAP) * (len(widths) - 1) - self._width):
            widest = max(soft, key=lambda number: widths[number], default=None)
            if widest is None or widths[widest] <= _LEAST:
                break
            widths[widest] -= 1
        return widths

    def _line(self, row: Sequence[str], widths: Sequence[int]) -> str:
        return _GAP.join(map(_cell, self._columns, row, widths)).rstrip()


def _cell(column: Column, text: str, width: int) -> str:
    if len(text) > width:
        text = text[: width - 1] + "…"
    return text.rjust(width) if column.is_number else text.ljust(width)


def terminal_width() -> int | None:
    """How many characters fit a line of the output; None where it is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
