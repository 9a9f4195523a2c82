"""Real servers on loopback, each with a folder of its own, and ended by their number.

Each kind says how it starts, once as it comes (`quick`) and once so that nothing is lost at a power cut (`synced`).
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import trees
from bench.peers import install
from bench.programs import SCRATCH, Program, serve_command

START_S = 60


class Started:
    """A server that runs, or a file in place of one.

    Args:
        command: What starts it; nothing where there is no server.
        url: Where it is.
        store: Where it keeps what it was given.
        user: Who runs it; None is us.
        at_once: The signal that ends it without saving anything. PostgreSQL has one of its own for that, with which it
            leaves no shared memory behind.
        below: A server that this one needs, which runs already.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        url: str,
        store: Path,
        user: str | None = None,
        at_once: signal.Signals = signal.SIGKILL,
        below: Started | None = None,
    ) -> None:
        self._below = below
        self._command, self.url, self._store, self._at_once = command, url, store, at_once
        if user is not None:
            self._command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *command]
        self._program: Program | None = None
        self._log = (store.parent / "server.log").open("ab")
        self._begin()

    def start(self) -> float:
        """Start it after a stop, and wait until it listens; when it was started."""
        began = time.monotonic()
        if self._below is not None:
            self._below.start()
        self._begin()
        return began

    def stop(self) -> None:
        """End it in good order."""
        if self._program is not None:
            self._program.stop()
        if self._below is not None:
            self._below.stop()

    def end(self) -> None:
        """End it at once."""
        if self._program is not None:
            self._program.stop(self._at_once)
        if self._below is not None:
            self._below.end()

    def cpu(self) -> float:
        """Seconds of processor time of all its processes."""
        own = trees.cpu(self._program.pid) if self._program else 0.0
        return own + (self._below.cpu() if self._below else 0.0)

    def memory(self) -> int:
        """Bytes that all its processes hold."""
        own = trees.memory(self._program.pid) if self._program else 0
        return own + (self._below.memory() if self._below else 0)

    def disk(self) -> int:
        """Bytes on disk."""
        found = self._below.disk() if self._below else 0
        for file in self._store.rglob("*"):
            if file.is_file():
                found += file.stat().st_blocks * 512
        return found

    def _begin(self) -> None:
        if self._command:
            self._program = Program(self._command, stderr=self._log)
            self._wait()

    def _wait(self) -> None:
        address, ends = _address(self.url), time.monotonic() + START_S
        while self._program is not None and not self._program.ended() and time.monotonic() < ends:
            try:
                socket.create_connection(address).close()
                return
            except ConnectionRefusedError:
                time.sleep(0.005)
        self.end()
        raise RuntimeError(f"{self._command[0]} would not start: see {self._log.name}")


@dataclass(frozen=True)
class Kind:
    """A kind of server.

    Args:
        name: As the page calls it.
        start: Starts one in a folder: as it comes, or (True) synced at each write.
        quick: What it promises as it comes; empty where it comes synced.
        synced: What it promises when it is set to sync; empty where it cannot.
        version: The command that prints its version, if it is a server.
    """

    name: str
    start: Callable[[Path, bool], Started]
    quick: str
    synced: str
    version: Sequence[str] = ()


def redis(folder: Path, synced: bool) -> Started:
    """Redis: snapshots, or a log."""
    port = free_port()
    store = _made(folder / "redis")
    options = ["--appendonly", "yes", "--appendfsync", "always"] if synced else []
    base = [install.server("redis-server"), "--bind", "127.0.0.1", "--port", str(port), "--dir", store]
    return Started([*base, "--loglevel", "warning", *options], f"redis://127.0.0.1:{port}/0", store)


def postgresql(folder: Path, synced: bool) -> Started:
    """PostgreSQL with nothing set but where it listens, and room for the connections of all callers."""
    postgres, port = install.server("postgres"), free_port()
    user = "postgres" if os.geteuid() == 0 else None
    store = folder / "postgresql"
    subprocess.run(["cp", "-a", _cluster(postgres, user), store], check=True)
    where = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=200"]
    command = [postgres, "-D", store, "-p", str(port), *where]
    return Started(command, f"postgresql://bench@127.0.0.1:{port}/postgres", store, user, signal.SIGQUIT)


def beanstalkd(folder: Path, synced: bool) -> Started:
    """beanstalkd: memory alone, or a log as well."""
    port, store = free_port(), _made(folder / "beanstalkd")
    options: list[str | Path] = ["-b", store, "-f", "0"] if synced else []
    command = [install.server("beanstalkd"), "-l", "127.0.0.1", "-p", str(port), *options]
    return Started(command, f"beanstalk://127.0.0.1:{port}", store)


def nats(folder: Path, synced: bool) -> Started:
    """NATS with JetStream on disk."""
    port, store = free_port(), _made(folder / "nats")
    config = folder / "nats.conf"
    always = "sync_interval: always" if synced else ""
    config.write_text(f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{store}"\n{always} }}\n')
    return Started([install.server("nats-server"), "-c", config], f"nats://127.0.0.1:{port}", store)


def sqlite(folder: Path, synced: bool) -> Started:
    """A file, which SQLite syncs at each commit unless it is told not to."""
    store = _made(folder / "sqlite")
    return Started([], f"sqlite://{store / 'huey.db'}", store)


def zizq(quick: str, synced: str) -> Callable[[Path, bool], Started]:
    """Our own server: its commit mode for each of the two."""

    def start(folder: Path, is_synced: bool) -> Started:
        port, store, mode = free_port(), folder / "zizq", synced if is_synced else quick
        return Started([*serve_command(store, mode, port), "--log-level", "warn"], f"http://127.0.0.1:{port}", store)

    return start


def zizq_on_postgresql(folder: Path, synced: bool) -> Started:
    """Our own server on PostgreSQL as it comes."""
    database, port = postgresql(folder, synced), free_port()
    command = [*serve_command(database.url, "fsync", port), "--log-level", "warn"]
    return Started(command, f"http://127.0.0.1:{port}", folder / "zizq", below=database)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _address(url: str) -> tuple[str, int]:
    host, _, port = url.partition("//")[2].partition("/")[0].rpartition("@")[2].partition(":")
    return host, int(port)


def _cluster(postgres: Path, user: str | None) -> Path:
    """An empty cluster to copy: making one takes seconds."""
    template = SCRATCH / f"cluster-{postgres.parents[1].name}"
    if (template / "PG_VERSION").exists():
        return template
    shutil.rmtree(template, ignore_errors=True)
    template.mkdir(parents=True)
    become = []
    if user is not None:
        account = pwd.getpwnam(user)
        os.chown(template, account.pw_uid, account.pw_gid)
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    command = [postgres.with_name("initdb"), "-D", template, "-U", "bench", "-A", "trust", "--no-instructions"]
    subprocess.run([*become, *command], check=True, stdout=subprocess.DEVNULL)
    return template
