"""`zizq top` in a real terminal."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from acceptance.processes import ZIZQ
from acceptance.terminal import Terminal, needs_tmux
from integration.admin_fake import FakeAdmin, fake_admin
from unit.tui.recorded import ID

pytestmark = [pytest.mark.acceptance, needs_tmux]


async def test_a_server_is_watched_in_a_terminal(tmp_path: Path) -> None:
    async with fake_admin() as admin:
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(watch, admin, loop, tmp_path)


def watch(admin: FakeAdmin, loop: asyncio.AbstractEventLoop, folder: Path) -> None:
    """Sit at the terminal."""
    with Terminal(folder, [*ZIZQ, "top", "--url", admin.url, "--refresh-rate", "100"]) as terminal:
        terminal.until("connected for", "24 in flight", "1,204,332 ready", ID.format(0))
        terminal.type("4")
        terminal.until("QUEUE", "media", "paused", "1 of 4")
        terminal.type("2", "Down", "Down", "d")
        terminal.until("3 of 1,204,332", f"id        {ID.format(2)}")
        terminal.type("D")
        terminal.until("Delete this job?", ID.format(2))
        terminal.type("y")
        terminal.until(f"asked to delete {ID.format(2)}")
        asyncio.run_coroutine_threadsafe(admin.stop(), loop).result(20)
        terminal.until("reconnecting for", "connection refused", ID.format(2))
        asyncio.run_coroutine_threadsafe(admin.start(), loop).result(20)
        terminal.until("connected for 1s", "3 of 1,204,332")
        terminal.resize(160, 40)
        terminal.until("│ id", "2 Ready   3 Scheduled")
        terminal.type("q")
        assert terminal.status() == 0
