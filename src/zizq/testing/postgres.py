"""A real PostgreSQL of its own on a free port of 127.0.0.1, made in a temporary folder and gone with it.

It needs the server's programs and nothing else: `apt-get install postgresql`. They refuse to run as root; started by
root, they run as the user that the package has made.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zizq.errors import ConfigError

SUPERUSER = "zizq"
SYSTEM_USER = "postgres"
START_S = 60.0
"""How long a cluster may take to start or to stop; a second where nothing else runs."""
_PATHS = "/usr/lib/postgresql/*/bin"
"""Where Debian keeps the programs, beside PATH."""


def programs() -> Path | None:
    """The folder of the newest PostgreSQL server of this machine; None where there is none."""
    on_path = shutil.which("initdb")
    found = sorted(Path("/").glob(_PATHS.lstrip("/") + "/initdb"), key=lambda path: -int(path.parts[-3]))
    paths = [path.parent for path in found] + ([Path(on_path).resolve().parent] if on_path else [])
    return paths[0] if paths else None


class Cluster:
    """One PostgreSQL server. It is made at once, runs after `start`, and is removed by `remove`.

    Args:
        fsync: Whether commits survive a power cut; without, tests are faster.
        settings: More of postgresql.conf, such as `{"max_connections": "20"}`.
        copy_of: A running cluster that this one follows, as a streaming standby.
        place: The folder to make its own one in; None for the system's, which may be memory, where fsync is nothing.

    Raises:
        ConfigError: When PostgreSQL is not installed or its files cannot be made.
    """

    def __init__(
        self,
        *,
        fsync: bool = False,
        settings: Mapping[str, str] | None = None,
        copy_of: Cluster | None = None,
        place: Path | None = None,
    ) -> None:
        found = programs()
        if found is None:
            raise ConfigError("there is no PostgreSQL server: apt-get install postgresql")
        self._programs = found
        self.run_as: dict[str, Any] = {}
        self.folder = Path(tempfile.mkdtemp(prefix="zizq-pg-", dir=place))
        if os.geteuid() == 0:
            shutil.chown(self.folder, SYSTEM_USER, SYSTEM_USER)
            self.run_as = {"user": SYSTEM_USER, "group": SYSTEM_USER, "extra_groups": []}
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            "fsync": "on" if fsync else "off",
            "full_page_writes": "on" if fsync else "off",
            "timezone": "UTC",
            **(settings or {}),
        }
        try:
            self._make(copy_of)
        except ConfigError:
            self.remove()
            raise

    def _make(self, copy_of: Cluster | None) -> None:
        if copy_of is None:
            self._run("initdb", "--no-sync", "--auth=trust", "--encoding=UTF8", "--no-locale", "-U", SUPERUSER,
                      "-D", str(self._data))  # fmt: skip
        else:
            self._run("pg_basebackup", "--no-sync", "--checkpoint=fast", "--write-recovery-conf", "-U", SUPERUSER,
                      "-h", "127.0.0.1", "-p", str(copy_of.port), "-D", str(self._data))  # fmt: skip

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """What the server writes of itself."""
        return self.folder / "log"

    @property
    def pid(self) -> int | None:
        """The process that all others of the server belong to; None where it does not run."""
        return None if self._process is None else self._process.pid

    def url(self, database: str = "postgres") -> str:
        """How a database of this cluster is reached."""
        return f"postgresql://{SUPERUSER}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server and wait until it answers; it ends with the thread that called this.

        Raises:
            ConfigError: When it ends instead, or takes longer than a minute; the message has the end of its log.
        """
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own words
                [*guard(), str(self._programs / "postgres"), "-D", str(self._data), *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, **self.run_as,
            )  # fmt: skip
        deadline = time.monotonic() + START_S  # noqa: TID251 - a real process
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:  # noqa: TID251
                self.stop()
                raise ConfigError(f"PostgreSQL did not start: {self.log.read_text()[-2000:]}")
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server; nothing where it does not run.

        Args:
            how: SIGINT cuts connections off and ends in order; SIGQUIT ends as in a crash.
        """
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(how)
        self._process.wait(START_S)
        self._process = None

    def promote(self) -> None:
        """Make a standby the primary, and wait until it is."""
        self._run("pg_ctl", "promote", "--wait", "-D", str(self._data))

    def psql(self, statement: str, database: str = "postgres") -> str:
        """Do one statement, outside of a transaction, and return what it shows, unaligned."""
        return self._run("psql", "--no-psqlrc", "-qtA", "-v", "ON_ERROR_STOP=1", "-c", statement, self.url(database))

    def remove(self) -> None:
        """Stop the server and remove its files."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> str:
        command: Sequence[str] = [str(self._programs / program), *arguments]
        done: subprocess.CompletedProcess[str] = subprocess.run(  # noqa: S603 - our own words
            command, capture_output=True, text=True, cwd=self.folder, check=False, **self.run_as
        )
        if done.returncode != 0:
            raise ConfigError(f"{program} failed: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout.strip()


class Pooler:
    """PgBouncer in transaction mode in front of a cluster; it starts at once, and ends with `remove`.

    Args:
        cluster: A cluster that runs.
        connections: How many sessions of the cluster all clients share, for each database.

    Raises:
        ConfigError: When PgBouncer is not installed or does not start.
    """

    def __init__(self, cluster: Cluster, connections: int = 5) -> None:
        program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
        if program is None:
            raise ConfigError("there is no PgBouncer: apt-get install pgbouncer")
        self._cluster, self.port = cluster, _free_port()
        place = cluster.folder / f"pooler-{self.port}.ini"
        place.write_text(
            f"[databases]\n* = host=127.0.0.1 port={cluster.port} user={SUPERUSER}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = any\nadmin_users = {SUPERUSER}\npool_mode = transaction\n"
            f"default_pool_size = {connections}\nmax_client_conn = 500\n"
            "ignore_startup_parameters = extra_float_digits\n"
        )
        log = cluster.folder / f"pooler-{self.port}.log"
        with log.open("ab") as file:
            self._process = subprocess.Popen(  # noqa: S603 - our own words
                [*guard(), program, str(place)], stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                cwd=cluster.folder, **cluster.run_as,
            )  # fmt: skip
        deadline = time.monotonic() + START_S  # noqa: TID251 - a real process
        while not _answers(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:  # noqa: TID251
                self.remove()
                raise ConfigError(f"PgBouncer did not start: {log.read_text()[-2000:]}")
            time.sleep(0.02)

    def url(self, database: str = "postgres") -> str:
        """How a database is reached through the pooler, without prepared statements."""
        return f"postgresql://{SUPERUSER}@127.0.0.1:{self.port}/{database}?prepared=off"

    def remove(self) -> None:
        """End it."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        self._process.wait(START_S)


def guard() -> list[str]:
    """Words before a command that end it with the thread that starts it."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "INT"] if setpriv else []


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
