"""Tables that fit the screen; pure. Where columns do not fit, those of the least importance are left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from zizq.tui.lines import Line, Span, Style, cells, padded
from zizq.words import printable

GAP = 2


class Column(NamedTuple):
    """A column.

    Args:
        title: Above it.
        rank: Its importance: the column with the largest number is left out first.
        width: How wide it is at the least.
        grows: Whether it takes more room where there is some and its texts need it.
        is_number: Whether it holds numbers.
    """

    title: str
    rank: int
    width: int
    grows: bool = False
    is_number: bool = False


class Row(NamedTuple):
    """A row: what it is known by, its texts in the order of the columns, and how it looks."""

    key: str
    texts: tuple[str, ...]
    style: Style = ""


def fitting(columns: Sequence[Column], rows: Sequence[Row], width: int) -> list[tuple[int, int]]:
    """The columns that fit, by their numbers, and how wide each is.

    Args:
        columns: All columns.
        rows: What is on the screen; columns grow to what these need.
        width: The width of the screen.
    """
    chosen: list[int] = []
    for number in sorted(range(len(columns)), key=lambda number: columns[number].rank):
        if sum(columns[one].width + GAP for one in [*chosen, number]) - GAP > width:
            break
        chosen.append(number)
    chosen.sort()
    widths = {number: columns[number].width for number in chosen}
    needs = {
        number: max((cells(printable(row.texts[number])) for row in rows), default=0)
        for number in chosen
        if columns[number].grows
    }
    room = width - sum(widths.values()) - GAP * (len(chosen) - 1)
    # One cell after the other to the column that lacks most, so that none starves beside a long one.
    for _ in range(max(room, 0)):
        lacking = max(needs, key=lambda number: needs[number] - widths[number], default=None)
        if lacking is None or needs[lacking] <= widths[lacking]:
            break
        widths[lacking] += 1
    return [(number, widths[number]) for number in chosen]


def table(columns: Sequence[Column], rows: Sequence[Row], selected: str | None, width: int) -> list[Line]:
    """The titles, and the rows that are on the screen.

    Args:
        columns: All columns.
        rows: The rows that are to be shown.
        selected: The key of the row that is selected.
        width: The width of the screen.
    """
    chosen = fitting(columns, rows, width)
    titles = [columns[number].title for number, _ in chosen]
    lines = [_line(columns, chosen, titles, "strong", width)]
    for row in rows:
        style: Style = "selected" if row.key == selected else row.style
        lines.append(_line(columns, chosen, [printable(row.texts[number]) for number, _ in chosen], style, width))
    return lines


def _line(
    columns: Sequence[Column], chosen: Sequence[tuple[int, int]], texts: Sequence[str], style: Style, width: int
) -> Line:
    parts = [padded(text, size, columns[number].is_number) for text, (number, size) in zip(texts, chosen, strict=True)]
    return (Span(padded((" " * GAP).join(parts), width), style),)
