"""The processes of a measurement: the server, those that load it, and those that work for it.

Each runs by itself and says what it has to say as lines of JSON on its standard output.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import IO, Any

from bench import trees

ROOT = Path(__file__).parent.parent
SCRATCH = ROOT / ".bench"
"""Stores, and the peers' environment. Beside the sources, and not in /tmp, which may be memory: fsync must be real."""
LONGEST_S = 600
"""A program that is silent for so long is taken for dead."""

MODES: Mapping[str, Sequence[str]] = {
    "buffered": ["--default-commit-mode", "buffered"],
    "fsync": [],  # the server's default: enqueues are synced, acknowledgements are not
    "fsync-all": ["--default-commit-mode", "fsync"],
}


class Program:
    """A process, from the moment it is made to the end of the `with` block.

    Args:
        command: What to run, in the folder of the repository unless `cwd` says otherwise.
        cwd: The folder to run it in.
        env: Its whole environment; None is ours.
        stderr: Where its complaints go; None is our standard error.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        cwd: Path = ROOT,
        env: Mapping[str, str] | None = None,
        stderr: IO[bytes] | None = None,
    ) -> None:
        self._command = [str(word) for word in command]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._command, cwd=cwd, env=env, stdin=pipe, stdout=pipe, stderr=stderr)
        self.pid = self._process.pid
        self._lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def line(self, timeout: float = LONGEST_S) -> dict[str, Any]:
        """The next line of JSON; lines of other text are passed over.

        Raises:
            RuntimeError: When the program has ended, or says nothing.
        """
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            raise RuntimeError(f"{timeout:.0f} s without a word from {' '.join(self._command)}") from None
        if line is None:
            raise RuntimeError(f"ended early with status {self._process.wait()}: {' '.join(self._command)}")
        return line

    def ask(self, text: str, timeout: float = LONGEST_S) -> dict[str, Any]:
        """Write a line to its standard input; the next line of JSON."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{text}\n".encode())
        self._process.stdin.flush()
        return self.line(timeout)

    def memory(self, field: str = "VmRSS") -> int:
        """Resident bytes now, or at their highest (`VmHWM`)."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(field))

    def cpu(self) -> float:
        """Seconds of processor time that it has used so far, all its threads together."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def family_cpu(self) -> float:
        """The same with all processes that it started."""
        return trees.cpu(self.pid)

    def ended(self) -> bool:
        """Whether it is no more."""
        return self._process.poll() is not None

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it with a signal, and with SIGKILL when that does not help; stopping twice is no error."""
        self._process.send_signal(how)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdin is not None
        with suppress(OSError):  # what it has not read is lost
            self._process.stdin.close()
        self._reader.join(1)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                if line.startswith(b"{"):
                    self._lines.put(json.loads(line))
        self._lines.put(None)


class Server(Program):
    """`zizq serve` on a port of its own; it listens when it has been made.

    Args:
        store: The folder of its store, or the URL of a database.
        mode: What a commit waits for, a key of `MODES`.
    """

    def __init__(self, store: Path | str, mode: str) -> None:
        self.mode = mode
        self.began = time.monotonic()
        super().__init__(serve_command(store, mode))
        try:
            while (fields := self.line()["fields"]).get("api") != "primary":
                pass
        except BaseException:
            self.stop()
            raise
        self.url = f"http://{fields['addr']}"


def serve_command(store: Path | str, mode: str, port: int = 0) -> list[str | Path]:
    """What runs a server; on a port of its own when none is said."""
    zizq = Path(sys.executable).with_name("zizq")
    place = ["--root-dir", store] if isinstance(store, Path) else ["--store", store]
    command = [zizq, "serve", *place, "--port", str(port), "--no-admin", "--log-format", "json"]
    # The default limit of 1,024 jobs in flight is for fleets of real jobs, which take their time.
    return [*command, "-l", "0", *MODES[mode]]


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder on the disk of the repository, for as long as the block lasts."""
    SCRATCH.mkdir(exist_ok=True)
    (SCRATCH / ".gitignore").write_text("*\n")
    with TemporaryDirectory(dir=SCRATCH) as folder:
        yield Path(folder)


@contextmanager
def serving(mode: str) -> Iterator[Server]:
    """A server with an empty store, for as long as the block lasts."""
    with scratch() as folder, Server(folder / "store", mode) as server:
        yield server


def enqueuing(server: Server, shape: str, jobs: int, rate: int = 0) -> Program:
    """A process that enqueues; see enqueuer.py."""
    options = ["--url", server.url, "--jobs", str(jobs), "--rate", str(rate)]
    return Program([sys.executable, "-m", "bench.enqueuer", shape, *options])


def working(server: Server, jobs: int, *, latency: bool = False) -> Program:
    """A process that works; see worker.py. It is connected when this returns."""
    options = ["--url", server.url, "--jobs", str(jobs), *(["--latency"] if latency else [])]
    program = Program([sys.executable, "-m", "bench.worker", *options])
    try:
        program.line()
    except BaseException:
        program.stop()
        raise
    return program
