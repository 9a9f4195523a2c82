"""zizq beside Celery, Dramatiq and Huey on Redis: enqueue one by one, and drain with one worker, in the same run.

The systems take turns, round after round, each with a server that is new and empty. `install` fetches them; the other
files here run in their environment, which has no zizq, and import nothing from here.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import throughput
from bench.enqueuer import payload
from bench.peers import install
from bench.programs import Program, scratch, serving
from bench.report import Table, rate

HERE = Path(__file__).parent
Figures = tuple[float | None, float | None, float | None]
"""Jobs a second: enqueued one by one, enqueued in bulk, drained."""


@dataclass(frozen=True)
class Peer:
    """A system on Redis.

    Args:
        name: Of the system, with its version.
        app: The module with its no-op job.
        jobs: How many to measure with.
        workers: Commands that start its worker, by what sets them apart.
    """

    name: str
    app: str
    jobs: int
    workers: dict[str, Sequence[str]]


_CELERY = ["celery", "-A", "celery_app", "worker", "--loglevel", "ERROR"]
_CELERY_LEAN = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--prefetch-multiplier", "128"]
_HUEY = ["huey_consumer", "huey_app.huey", "--quiet"]
PEERS = [
    Peer("Celery", "celery_app", 10_000, {
        "2 processes, as it comes": [*_CELERY, "-c", "2"],
        "2 processes, tuned": [*_CELERY, *_CELERY_LEAN, "-c", "2"],
        "8 threads, tuned": [*_CELERY, *_CELERY_LEAN, "-P", "threads", "-c", "8"],
    }),
    Peer("Dramatiq", "dramatiq_app", 20_000, {
        "1 process, 8 threads": ["dramatiq", "dramatiq_app", "-p", "1", "-t", "8"],
        "2 processes, 8 threads each": ["dramatiq", "dramatiq_app", "-p", "2", "-t", "8"],
    }),
    Peer("Huey", "huey_app", 20_000, {
        "1 thread, as it comes": _HUEY,
        "8 threads": [*_HUEY, "-w", "8"],
        "2 processes": [*_HUEY, "-k", "process", "-w", "2"],
    }),
]  # fmt: skip
DURABILITY = {
    "Redis: snapshots, its default": [],
    "Redis: log synced every second": ["--appendonly", "yes", "--appendfsync", "everysec"],
    "Redis: log synced at each write": ["--appendonly", "yes", "--appendfsync", "always"],
}
"""How Redis keeps what it was given; the first loses minutes when it dies, the second a second at a power cut."""
OURS = {
    "buffered": "zizq: survives its death, not a power cut",
    "fsync": "zizq: enqueues survive a power cut",
    "fsync-all": "zizq: everything does",
}


def run(command: str, *, rounds: int, size: float, modes: object = None) -> Table:
    """Measure every system in every setting; `modes` is of no use: all are shown beside each other."""
    binaries, redis = install.environment(), install.redis_server()
    samples: dict[tuple[str, str, str], list[Figures]] = {}
    for number in range(rounds):
        for row, figures in _round(binaries, redis, size):
            samples.setdefault(row, []).append(figures)
            said = ", ".join("-" if figure is None else f"{figure:,.0f}" for figure in figures)
            print(f"round {number + 1}/{rounds}: {', '.join(row)}: {said}", file=sys.stderr)
    columns = ["system", "worker", "durability", "enqueue one by one, jobs/s", "enqueue in bulk", "drain"]
    rows = [[*row, *(_cell(column) for column in zip(*figures, strict=True))] for row, figures in samples.items()]
    told = {", ".join(row): figures for row, figures in samples.items()}
    return Table("peers", command, columns, rows, told, labels=3)


def _round(binaries: Path, redis: str, size: float) -> Iterator[tuple[tuple[str, str, str], Figures]]:
    for mode, durability in OURS.items():
        yield ("zizq", "1 process", durability), _measure_zizq(mode, size)
    for durability, options in DURABILITY.items():
        for peer in PEERS:
            for worker, command in peer.workers.items():
                with _redis(redis, options) as (folder, url):
                    figures = _measure(peer, [binaries / command[0], *command[1:]], folder, url, size)
                yield (peer.name, worker, durability), figures


def _measure_zizq(mode: str, size: float) -> Figures:
    figures = []
    for shape in ("single-sync", "bulk", "drain"):
        measure, jobs, _ = throughput.SHAPES[shape]
        with serving(mode) as server:
            figures.append(measure(server, max(100, int(jobs * size))))
    return figures[0], figures[1], figures[2]


def _measure(peer: Peer, worker: Sequence[str | Path], folder: Path, redis: str, size: float) -> Figures:
    """Enqueue, then drain; that all jobs ran, each once, is made sure of."""
    jobs, python = max(100, int(peer.jobs * size)), Path(worker[0]).with_name("python")
    env = {**os.environ, "BENCH_REDIS": redis}
    with (folder / "stderr").open("wb") as stderr:
        say = {"cwd": HERE, "env": env, "stderr": stderr}
        with Program([python, "enqueue.py", peer.app, str(jobs), json.dumps(payload())], **say) as enqueuer:
            enqueued = enqueuer.line()
        with Program(worker, **say), Program([python, "tally.py", str(jobs)], **say) as tally:
            ran = tally.line()
    if ran["jobs"] != jobs:
        raise RuntimeError(f"{peer.name} ran {ran['jobs']} of {jobs} jobs")
    return enqueued["jobs"] / enqueued["seconds"], None, jobs / ran["seconds"]


@contextmanager
def _redis(program: str, options: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """A Redis server with nothing in it, for as long as the block lasts: its folder and its address."""
    port = _free_port()
    with scratch() as folder:
        command = [program, "--bind", "127.0.0.1", "--port", str(port), "--dir", folder, *options]
        with Program(command) as server:
            _wait_for(server, port)
            yield folder, f"redis://127.0.0.1:{port}/0"
            server.stop(signal.SIGKILL)  # it would save first


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _wait_for(server: Program, port: int) -> None:
    while not server.ended():
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise RuntimeError("redis-server would not start")


def _cell(samples: Sequence[float | None]) -> str:
    figures = [sample for sample in samples if sample is not None]
    return rate(figures) if figures else ""
