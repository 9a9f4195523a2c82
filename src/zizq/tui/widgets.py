"""The parts of the screen: each draws the lines that the model has for it, and hands on what the mouse does."""

from __future__ import annotations

from collections.abc import Callable

from textual import events
from textual.strip import Strip
from textual.widget import Widget

from zizq.clock import Clock
from zizq.tui import heading
from zizq.tui.grid import table
from zizq.tui.lines import Line, Span
from zizq.tui.looks import strip
from zizq.tui.model import Model
from zizq.tui.telling import detail_lines

WHEEL_ROWS = 3


class Lines(Widget):
    """A widget that is made of lines.

    Args:
        model: What is shown.
        clock: The time.
        draw: Called when the mouse has done something.
    """

    def __init__(self, model: Model, clock: Clock, draw: Callable[[], None]) -> None:
        super().__init__(id=type(self).__name__.lower())
        self.model = model
        self.clock = clock
        self._draw = draw
        self._lines: list[Line] = []

    def lines(self) -> list[Line]:
        """What is shown now."""
        raise NotImplementedError

    def update(self) -> None:
        """Draw what has changed since the last time: lines that are as before are not touched."""
        lines = self.lines()
        if lines != self._lines:
            self._lines = lines
            self.refresh()

    def on_resize(self) -> None:
        """Draw what fits now."""
        self.update()

    def render_line(self, y: int) -> Strip:
        """One line, for the terminal library."""
        width = self.size.width
        return strip(self._lines[y], width) if y < len(self._lines) else Strip.blank(width)


class Header(Lines):
    """Who is connected to what, totals, and the depth bar."""

    def lines(self) -> list[Line]:
        """Three lines."""
        return heading.header(self.model, self.size.width)


class TabBar(Lines):
    """The names of the tabs."""

    def lines(self) -> list[Line]:
        """One line."""
        return [heading.tab_bar(self.model, self.size.width)[0]]

    def on_click(self, event: events.Click) -> None:
        """Choose the tab under the mouse."""
        _, places = heading.tab_bar(self.model, self.size.width)
        for tab, start, end in places:
            if start <= event.x < end:
                self.model.choose_tab(tab)
                self._draw()


class Table(Lines):
    """The table of the tab."""

    def lines(self) -> list[Line]:
        """The titles and the rows that fit."""
        model, width = self.model, self.size.width
        model.resize(self.size.height - 1)
        rows = model.rows(self.clock.wall_ms())
        if not rows:
            return [*table(model.columns, [], None, width), (Span(heading.empty_text(model), "faint"),)]
        return table(model.columns, rows, model.cursor.key, width)

    def on_click(self, event: events.Click) -> None:
        """Select the row under the mouse."""
        if 1 <= event.y < len(self._lines):
            self.model.select(event.y - 1)
            self._draw()

    def on_mouse_scroll_down(self) -> None:
        """Go down."""
        self.model.move(WHEEL_ROWS)
        self._draw()

    def on_mouse_scroll_up(self) -> None:
        """Go up."""
        self.model.move(-WHEEL_ROWS)
        self._draw()


class Detail(Lines):
    """The panel that tells of the selected row in full."""

    def lines(self) -> list[Line]:
        """As many lines as fit, from where the user is."""
        lines = detail_lines(self.model, self.clock.wall_ms(), self.size.width)
        self.model.detail_top = min(self.model.detail_top, max(len(lines) - self.size.height, 0))
        return lines[self.model.detail_top : self.model.detail_top + self.size.height]

    def on_mouse_scroll_down(self) -> None:
        """Scroll down."""
        self.model.scroll_detail(WHEEL_ROWS)
        self._draw()

    def on_mouse_scroll_up(self) -> None:
        """Scroll up."""
        self.model.scroll_detail(-WHEEL_ROWS)
        self._draw()


class Status(Lines):
    """The last line."""

    def lines(self) -> list[Line]:
        """One line."""
        return [heading.status(self.model, self.clock.mono_s(), self.size.width)]
