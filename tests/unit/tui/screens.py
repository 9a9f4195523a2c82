"""The screen as text, and the screens that are kept beside the tests.

`ZIZQ_SCREENS=write` in the environment writes them anew: look at what git says of them before it is committed.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot

from unit.tui.recorded import NOW_AT, told
from zizq.testing.clock import ManualClock
from zizq.tui.app import Top
from zizq.tui.model import Model

FOLDER = Path(__file__).parent / "screens"
SIZES = ((80, 24), (120, 40), (200, 60))


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Instants are told in local time: let that be the same everywhere."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@asynccontextmanager
async def screen(size: tuple[int, int], model: Model | None = None) -> AsyncIterator[Pilot[None]]:
    """The application in a terminal of a size, which shows what a model knows."""
    app = Top(model or told(), None, ManualClock(NOW_AT), 0.5)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        yield pilot


def text_of(pilot: Pilot[None]) -> str:
    """What stands on the screen."""
    return "\n".join(strip.text.rstrip() for strip in pilot.app.screen._compositor.render_strips()) + "\n"


def compare(pilot: Pilot[None], name: str) -> None:
    """See that the screen is the one that is kept under a name."""
    text, path = text_of(pilot), FOLDER / f"{name}.txt"
    if os.environ.get("ZIZQ_SCREENS") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
