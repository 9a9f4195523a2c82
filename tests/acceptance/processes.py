"""Servers as processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import IO, Any

ZIZQ = [sys.executable, "-m", "zizq"]
PATIENCE_S = 45.0
"""How long something may take that must happen; on a quiet machine it is there at once."""


def wait(condition: Callable[[], Any], what: str = "it") -> None:
    """Wait until a condition is true."""
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until, f"{what} did not happen in time"
        time.sleep(0.01)


def whole_lines(path: Path) -> list[str]:
    """The lines of a file that others write to; one that lacks its end is still being written, and left out."""
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


class ServerProcess:
    """A `zizq serve` on ports of its own, which it keeps over restarts.

    Args:
        root: The folder of its store.
        flags: More flags.
        admin: Whether it serves the admin API too.
        program: What runs `zizq`.
    """

    def __init__(self, root: Path, *flags: str, admin: bool = False, program: Sequence[str] = ZIZQ) -> None:
        self._root = root
        self._flags = flags
        self._program = program
        self.said: list[dict[str, Any]] = []
        """Its log so far, over restarts: the fields of each line."""
        self._last = "admin" if admin else "primary"
        self._port = self._admin_port = "0"
        self._process: subprocess.Popen[str] | None = None
        self.url = ""
        self.admin_url = ""

    def start(self) -> None:
        """Start it, and wait until it listens."""
        command = [*self._program, "serve", "--root-dir", str(self._root), "--port", self._port]
        command += ["--admin-port", self._admin_port] if self._last == "admin" else ["--no-admin"]
        command += ["--log-format", "json", *self._flags]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        lines: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self._lines = lines
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout, lines.put), daemon=True)
        self._reader.start()
        for line in self.log():
            fields = line["fields"]
            if fields.get("api") == "primary":
                self.url = f"{fields['scheme']}://{fields['addr']}"
                self._port = fields["addr"].rpartition(":")[2]
            if fields.get("api") == "admin":
                self.admin_url = f"{fields['scheme']}://{fields['addr']}"
                self._admin_port = fields["addr"].rpartition(":")[2]
            if fields.get("api") == self._last:
                return
        raise RuntimeError(f"the server ended with {self._process.wait()} before it listened")

    def log(self) -> Iterator[dict[str, Any]]:
        """The lines of its log that have not been looked at yet, as they come, until it ends."""
        while (line := self._lines.get()) is not None:
            yield line

    def _read(self, log: IO[str], put: Callable[[dict[str, Any] | None], None]) -> None:
        """Read its log to the end, so that it never waits for a reader."""
        with log:
            for text in log:
                line = json.loads(text)
                self.said.append(line["fields"])
                put(line)
        put(None)

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End it in good order; returns its exit status."""
        return self._end(signal.SIGTERM)

    def memory(self) -> int:
        """Its resident memory, in bytes."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        status = self._process.wait(30)
        self._reader.join()
        self._process = None
        return status

    def __enter__(self) -> ServerProcess:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process is not None:
            self._end(signal.SIGKILL)
