"""Servers as processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

ZIZQ = [sys.executable, "-m", "zizq"]


class ServerProcess:
    """A `zizq serve` on ports of its own, which it keeps over restarts.

    Args:
        root: The folder of its store.
        flags: More flags.
        admin: Whether it serves the admin API too.
    """

    def __init__(self, root: Path, *flags: str, admin: bool = False) -> None:
        self._root = root
        self._flags = flags
        self._last = "admin" if admin else "primary"
        self._port = self._admin_port = "0"
        self._process: subprocess.Popen[str] | None = None
        self.url = ""
        self.admin_url = ""

    def start(self) -> None:
        """Start it, and wait until it listens."""
        command = [*ZIZQ, "serve", "--root-dir", str(self._root), "--port", self._port, "--log-format", "json"]
        command += ["--admin-port", self._admin_port] if self._last == "admin" else ["--no-admin"]
        self._process = subprocess.Popen([*command, *self._flags], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        for line in self._process.stdout:
            fields = json.loads(line)["fields"]
            if fields.get("api") == "primary":
                self.url = f"{fields['scheme']}://{fields['addr']}"
                self._port = fields["addr"].rpartition(":")[2]
            if fields.get("api") == "admin":
                self.admin_url = f"{fields['scheme']}://{fields['addr']}"
                self._admin_port = fields["addr"].rpartition(":")[2]
            if fields.get("api") == self._last:
                return
        raise RuntimeError(f"the server ended with {self._process.wait()} before it listened")

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
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None
        return status

    def __enter__(self) -> ServerProcess:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process is not None:
            self._end(signal.SIGKILL)
