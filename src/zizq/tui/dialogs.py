"""What stands over the screen for a moment: questions, and help."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from zizq.tui.heading import HELP
from zizq.words import printable


class Question(ModalScreen[bool]):
    """A question that only `y` answers with yes.

    Args:
        text: The question.
        about: What it is about, line by line.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)"),
        Binding("n,escape,q,enter", "answer(False)"),
    ]
    DEFAULT_CSS = """
    Question { align: center middle; }
    Question > Vertical { width: 60; max-width: 90%; height: auto; border: round ansi_default; padding: 0 1; }
    """

    def __init__(self, text: str, about: list[str]) -> None:
        super().__init__()
        self._texts = [text, "", *map(printable, about), "", "y yes   n no"]

    def compose(self) -> ComposeResult:
        """A box with the question in it."""
        with Vertical():
            for text in self._texts:
                # As content, not as markup: names of jobs may have brackets.
                yield Static(Content(text))

    def action_answer(self, is_yes: bool) -> None:
        """Close it."""
        self.dismiss(is_yes)


class Help(ModalScreen[None]):
    """The keys."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,enter,space", "dismiss")]
    DEFAULT_CSS = """
    Help { align: center middle; }
    Help > Vertical { width: 70; max-width: 95%; height: auto; border: round ansi_default; padding: 0 1; }
    """

    def compose(self) -> ComposeResult:
        """A box with the keys in it."""
        width = max(len(keys) for keys, _ in HELP) + 2
        with Vertical():
            for keys, text in HELP:
                yield Static(Content.assemble((keys.ljust(width), "bold"), text))
