"""What the styles look like: the terminal's own sixteen colours, so that they suit light and dark ones alike.

Yellow is left out, which is hard to read on white, and plain blue, which is hard to read on black.
"""

from __future__ import annotations

from rich.segment import Segment
from rich.style import Style as Look
from textual.strip import Strip

from zizq.tui.lines import Line, Style, cells, plain

LOOKS: dict[Style, Look] = {
    "": Look(),
    "strong": Look(bold=True),
    "faint": Look(dim=True),
    "good": Look(color="green"),
    "bad": Look(color="red", bold=True),
    "in_flight": Look(color="green"),
    "ready": Look(color="cyan"),
    "scheduled": Look(color="magenta"),
    "dead": Look(color="red"),
    "selected": Look(reverse=True),
}


def strip(line: Line, width: int) -> Strip:
    """A line as the terminal library draws it, exactly so wide."""
    segments = [Segment(span.text, LOOKS[span.style]) for span in line]
    return Strip(segments, cells(plain(line))).adjust_cell_length(width)
