"""A real terminal, by tmux: what is typed into it, and what stands on its screen."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import pytest

MOST_SECONDS = 30
needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed: apt-get install tmux")


class Terminal:
    """A program in a terminal of its own, which ends with the block.

    Args:
        folder: Where its socket is.
        command: The program and its arguments.
        size: Columns and lines.
    """

    def __init__(self, folder: Path, command: Sequence[str], size: tuple[int, int] = (80, 24)) -> None:
        self._socket = folder / "tmux"
        # These variables, where somebody has set them, would tell the program of another size.
        run = shlex.join(["env", "-u", "COLUMNS", "-u", "LINES", *command])
        # tmux at times knows that a program has ended, and not how.
        self._status = folder / "status"
        self._command = f"{run}; echo $? > {shlex.quote(str(self._status))}"
        self._size = size

    def type(self, *keys: str) -> None:
        """Press keys, by tmux's names for them."""
        self._tmux("send-keys", *keys)

    def resize(self, columns: int, lines: int) -> None:
        """Give it another size."""
        self._tmux("resize-window", "-x", str(columns), "-y", str(lines))

    def screen(self) -> str:
        """What stands on the screen."""
        return self._tmux("capture-pane", "-p")

    def until(self, *texts: str) -> str:
        """The screen, once all of these texts stand on it."""
        return self.until_so(lambda screen: all(text in screen for text in texts), repr(texts))

    def until_so(self, is_so: Callable[[str], bool], wanted: str) -> str:
        """The screen, once something is so of it."""
        end = time.monotonic() + MOST_SECONDS
        while not is_so(screen := self.screen()):
            assert time.monotonic() < end, f"not seen: {wanted}\n{screen}"
            time.sleep(0.05)
        return screen

    def status(self) -> int:
        """The exit status of the program, once it has ended."""
        end = time.monotonic() + MOST_SECONDS
        while not (self._status.exists() and (status := self._status.read_text().strip())):
            assert time.monotonic() < end, self.screen()
            time.sleep(0.05)
        return int(status)

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-S", str(self._socket), "-f", "/dev/null", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=MOST_SECONDS).stdout

    def __enter__(self) -> Terminal:
        columns, lines = self._size
        self._tmux("new-session", "-d", "-x", str(columns), "-y", str(lines), f"{self._command}; sleep 60")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._tmux("kill-server")
