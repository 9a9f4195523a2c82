"""Lines of styled text, and how they are made to fit; pure. What the styles look like is `looks.py`'s business."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Literal, NamedTuple

from zizq.words import printable

Style = Literal["", "strong", "faint", "good", "bad", "in_flight", "ready", "scheduled", "dead", "selected"]


class Span(NamedTuple):
    """A text in one style."""

    text: str
    style: Style = ""


Line = tuple[Span, ...]
"""One line of the screen."""


def plain(line: Line) -> str:
    """The text of a line."""
    return "".join(span.text for span in line)


def cells(text: str) -> int:
    """How many columns of a terminal a text takes: East Asian letters take two, accents none."""
    if text.isascii():
        return len(text)
    return sum(map(_cells_of, text))


def cut(text: str, width: int) -> str:
    """A text that takes so many columns at most; what is cut off is told by a mark."""
    if cells(text) <= width:
        return text
    return text[: _fitting(text, width - 1)] + "…" if width >= 1 else ""


def padded(text: str, width: int, is_number: bool = False) -> str:
    """A text that takes exactly so many columns: numbers to the right, all else to the left."""
    text = cut(text, width)
    blank = " " * (width - cells(text))
    return blank + text if is_number else text + blank


def fit(left: Iterable[Span], right: Iterable[Span], width: int) -> Line:
    """A line with something at either end; where both do not fit, the right end gives way from its right."""
    left, right = _cut_line(tuple(left), width), tuple(right)
    room = width - cells(plain(left)) - 1
    right = _cut_line(right, max(room, 0))
    gap = width - cells(plain(left)) - cells(plain(right))
    return (*left, Span(" " * gap), *right)


def wrapped(text: str, width: int, indent: int = 0) -> list[str]:
    """The lines of a text of others, none wider than so many columns, 4 at the least; those that go on are set in."""
    found = []
    for line in text.splitlines() or [""]:
        rest, start = printable(line.expandtabs(4)), 0
        while cells(rest) > width - start:
            taken = max(_fitting(rest, width - start), 1)
            found.append(" " * start + rest[:taken])
            rest, start = rest[taken:], min(indent, width // 2)
        found.append(" " * start + rest)
    return found


def _cut_line(line: Line, width: int) -> Line:
    kept: list[Span] = []
    for span in line:
        room = width - sum(cells(one.text) for one in kept)
        if room <= 0:
            break
        kept.append(Span(cut(span.text, room), span.style))
    return tuple(kept)


def _fitting(text: str, width: int) -> int:
    """How many of the first characters take so many columns at most."""
    taken = 0
    for number, character in enumerate(text):
        taken += _cells_of(character)
        if taken > width:
            return number
    return len(text)


def _cells_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
