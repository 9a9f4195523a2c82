"""A test bed: a new server of a system, and the processes around it, for one measurement."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench import trees
from bench.peers import install
from bench.peers.catalogue import System
from bench.peers.servers import Started
from bench.peers.tally import Tally
from bench.programs import ROOT, Program, scratch

WATCH_S = 0.01


class Bed:
    """A server with an empty store, and what is done to it.

    Args:
        system: Whose.
        synced: Whether nothing may be lost at a power cut.
        folder: All files of the measurement.
    """

    def __init__(self, system: System, synced: bool, folder: Path) -> None:
        self.system, self._folder = system, folder
        self._bin = install.environment(system.environment)
        self.server: Started = system.server.start(folder, synced)
        self._url = self.server.url
        if system.module == "huey_sqlite":
            self._url += "?fsync" if synced else ""
        self.tally = Tally(folder)
        self._log = (folder / "client.log").open("ab")
        self._control = self._inside("control", system.module)
        self._control.line()
        self._worker: Program | None = None

    def close(self) -> None:
        """End what runs."""
        self._control.stop()
        self.server.end()
        self._log.close()

    def produce(self, shape: str, *, settings: str = "best", **options: object) -> Program:
        """A process that enqueues; see inside/produce.py."""
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        return self._inside("produce", self.system.module, shape, *words, settings=settings)

    def enqueue(self, shape: str, *, settings: str = "best", **options: object) -> dict[str, float]:
        """What such a process says when it is done; all its jobs must be there."""
        with self.produce(shape, settings=settings, **options) as producer:
            told = producer.line()
        if (there := self.there(told["jobs"])) != told["jobs"]:
            raise RuntimeError(f"{self.system.name} has {there} of {told['jobs']} jobs")
        return told

    def left(self, most: int = 0) -> tuple[int, float]:
        """Wait until no more than so many jobs are left; how many are, and when that was so."""
        told = self._control.ask(f"left {most}")
        return told["left"], told["at"]

    def there(self, jobs: int) -> int:
        """Wait until so many jobs are there; how many are."""
        return self._control.ask(f"there {jobs}")["left"]

    @contextmanager
    def working(self, settings: str, *, warm: bool = False) -> Iterator[Program]:
        """A worker; it has run a job already if it is to be warm. It ends by SIGKILL with all its processes."""
        worker = self.system.workers[settings]
        command = [word.format(url=self.server.url) for word in worker.command]
        kind = "default" if settings == "default" else "best"
        env = self._env(kind) | {"BENCH_CONCURRENCY": str(worker.concurrency), **worker.variables}
        words = [self._bin / command[0], *command[1:]] if command else self._python("work", self.system.module)
        with Program(words, env=env, stderr=self._log) as program:
            self._worker = program
            try:
                if warm:
                    self.enqueue_one()
                yield program
            finally:
                trees.kill(program.pid)

    def enqueue_one(self) -> None:
        """Have one job run."""
        before = self.tally.read().jobs
        with self.produce("one", jobs=0) as producer:  # the one that opens the connection
            producer.line()
        self.wait_ran(before + 1, 60)

    def wait_ran(self, jobs: int, longest_s: float) -> int:
        """Wait until so many jobs have run, or for so long; how many have.

        Raises:
            RuntimeError: When the worker is no more.
        """
        ends = time.monotonic() + longest_s
        while (ran := self.tally.read().jobs) < jobs and time.monotonic() < ends:
            if self._worker is not None and self._worker.ended():
                raise RuntimeError(f"the worker of {self.system.name} ended by itself")
            time.sleep(WATCH_S)
        return ran

    def log(self) -> str:
        """The last lines of what clients and workers complained of."""
        return (self._folder / "client.log").read_text(errors="replace")[-2000:]

    def _inside(self, part: str, *words: str, settings: str = "best") -> Program:
        return Program(self._python(part, *words), env=self._env(settings), stderr=self._log)

    def _python(self, part: str, *words: str) -> list[str | Path]:
        return [self._bin / "python", "-m", f"bench.peers.inside.{part}", *words]

    def _env(self, settings: str) -> Mapping[str, str]:
        told = {"BENCH_URL": self._url, "BENCH_TALLY": str(self._folder), "BENCH_WORKER": settings}
        path = os.pathsep.join([str(self._bin), os.environ.get("PATH", os.defpath)])
        return {**os.environ, **told, "PYTHONPATH": str(ROOT), "PATH": path}


@contextmanager
def bed(system: System, *, synced: bool) -> Iterator[Bed]:
    """A test bed, for as long as the block lasts."""
    with scratch() as folder:
        folder.chmod(0o755)  # PostgreSQL runs as another user
        made = Bed(system, synced, folder)
        try:
            yield made
        except BaseException:
            print(made.log(), file=sys.stderr)
            raise
        finally:
            made.close()
