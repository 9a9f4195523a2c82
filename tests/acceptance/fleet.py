"""Several servers on one PostgreSQL, workers at them, and what their handlers note."""

from __future__ import annotations

import os
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg

from acceptance.processes import ZIZQ, ServerProcess, wait, whole_lines
from postgres import require_postgres
from zizq import Enqueue, SyncClient
from zizq.errors import ZizqError
from zizq.testing.postgres import Cluster

APP = """
import asyncio, os, pathlib, zizq

router = zizq.Router()


def note(what, job):
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(f"{what} {job.id} {os.environ['WORKER']} {job.dequeued_at_ms}\\n")


@router.fallback
async def run(job):
    note("start", job)
    while "GATE" in os.environ and not pathlib.Path(os.environ["GATE"]).exists():
        await asyncio.sleep(0.02)
    note("end", job)
"""
STATE = """SELECT (SELECT count(*) FROM zizq.jobs), (SELECT count(*) FROM zizq.flight)"""


class WorkerProcess:
    """A `zizq work` that takes jobs; its handlers note what they run.

    Args:
        name: What it is called in the notes.
        process: The process.
        log: The file of what it says.
        gate: The file for which its handlers wait, in the midst of their jobs.
    """

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path, gate: Path) -> None:
        self.name = name
        self.process = process
        self._log = log
        self._gate = gate

    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_text()

    def let_go(self) -> None:
        """Let its handlers come to their ends."""
        self._gate.touch()


class Fleet:
    """Servers and workers around one database, in a folder.

    Args:
        folder: For what they write.
        url: Of the store, as servers are told.
        admin_url: Of the same database, as the test asks it.
        processes: Ends what is started.
    """

    def __init__(self, folder: Path, url: str, admin_url: str, processes: ExitStack) -> None:
        self.folder = folder
        self._url = url
        self._admin_url = admin_url
        self._processes = processes
        self._notes = folder / "notes"
        self._notes.touch()
        (folder / "app.py").write_text(APP)

    def serve(self, *flags: str, program: Sequence[str] = ZIZQ) -> ServerProcess:
        """Start a server."""
        server = ServerProcess(self.folder / "root", "--store", self._url, *flags, program=program)
        return self._processes.enter_context(server)

    def work(
        self, name: str, server: ServerProcess, *options: str, held: bool = False, program: Sequence[str] = ZIZQ
    ) -> WorkerProcess:
        """Start a worker, and wait until it takes jobs.

        Args:
            name: What it is called in the notes.
            server: The one that it takes from.
            options: More options.
            held: Whether its handlers wait to be let go.
            program: What runs `zizq`.
        """
        gate, log = self.folder / f"gate-{name}", self.folder / f"log-{name}"
        environment = {**os.environ, "NOTES": str(self._notes), "WORKER": name}
        if held:
            environment["GATE"] = str(gate)
        with log.open("wb") as said:
            process = subprocess.Popen(
                [*program, "work", "app:router", "--url", server.url, *options],
                cwd=self.folder, env=environment, stderr=said, start_new_session=True,
            )  # fmt: skip
        self._processes.callback(_end, process)
        worker = WorkerProcess(name, process, log, gate)
        wait(lambda: "takes jobs" in worker.log(), "the start of a worker")
        return worker

    def client(self, server: ServerProcess) -> SyncClient:
        """A client of a server."""
        return self._processes.enter_context(SyncClient(server.url, read_timeout=30))

    # ── what has happened ──

    def notes(self, what: str, worker: str | None = None) -> dict[str, int]:
        """The jobs of which handlers noted something, each with the instant at which it had been taken, the last."""
        lines = [line.split() for line in whole_lines(self._notes)]
        return {line[1]: int(line[3]) for line in lines if line[0] == what and worker in (None, line[2])}

    def runs(self) -> Counter[str]:
        """How often each job was begun."""
        lines = [line.split() for line in whole_lines(self._notes)]
        return Counter(line[1] for line in lines if line[0] == "start")

    # ── the truth ──

    def ask(self, statement: str, *values: Any) -> list[Any]:
        """Ask the database; one value for each row, or a tuple where it has several."""
        with psycopg.connect(self._admin_url) as connection:
            rows = connection.execute(statement, values).fetchall()
        return [row[0] if len(row) == 1 else row for row in rows]

    def now_ms(self) -> int:
        """The time by the clock of the database."""
        [now] = self.ask("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
        return int(now)

    def fences(self) -> list[int]:
        """Those of all servers."""
        return self.ask("SELECT fence FROM zizq.servers ORDER BY fence")

    def is_empty(self) -> bool:
        """Whether all jobs are done and gone."""
        return self.ask(STATE) == [(0, 0)]


class Enqueuer:
    """Enqueues without end, at one server after the other, for as long as the block lasts.

    Args:
        clients: One for each server.
        queue: Where to.
    """

    def __init__(self, clients: Sequence[SyncClient], queue: str) -> None:
        self._clients = clients
        self._queue = queue
        self._thread = threading.Thread(target=self._run)
        self._is_over = threading.Event()
        self.answered: list[str] = []
        """The jobs of which it was said that they are stored."""
        self.refused = 0
        """How many enqueues failed."""

    def _run(self) -> None:
        for number, client in enumerate(cycle(self._clients)):
            if self._is_over.is_set():
                return
            try:
                jobs = client.enqueue_bulk([Enqueue("t", number, queue=self._queue) for _ in range(5)])
                self.answered += [job.id for job in jobs]
            except ZizqError:
                self.refused += 1
            # Far below what they can do: each of these jobs runs, and that takes longer.
            self._is_over.wait(0.01)

    def goes_on(self, jobs: int = 200) -> None:
        """Wait until so many more have been answered."""
        before = len(self.answered)
        wait(lambda: len(self.answered) >= before + jobs, "the enqueue of jobs")

    def __enter__(self) -> Enqueuer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._is_over.set()
        self._thread.join()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


@contextmanager
def cluster(*, prepare: Callable[[Cluster], None] = lambda cluster: None, **options: Any) -> Iterator[Cluster]:
    """A PostgreSQL of the test's own that runs, with fsync on."""
    require_postgres()
    made = Cluster(fsync=True, **options)
    try:
        prepare(made)
        made.start()
        yield made
    finally:
        made.remove()


@contextmanager
def fleet(folder: Path, url: str, admin_url: str | None = None) -> Iterator[Fleet]:
    """Nothing around a database yet; what is started ends with the block."""
    with ExitStack() as processes:
        yield Fleet(folder, url, admin_url or url, processes)
