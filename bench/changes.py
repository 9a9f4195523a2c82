"""What lists, counts and changes of many jobs cost at depth, and what others notice of them.

One store is filled. Each question is asked many times over HTTP; then all jobs are patched, moved and deleted, while
another thread enqueues one job after the other and keeps the time.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import zizq
from bench.programs import LONGEST_S, Server, scratch
from bench.report import Table, millis

JOBS = 1_000_000
ASKED = 200
QUEUES = 3
TYPES = 8
PAGE_GOAL = "< 20 ms"
COUNT_GOAL = "< 5 ms"
STALL_GOAL = "longest < 100 ms"

Filters = dict[str, str]
QUESTIONS: dict[str, Filters] = {
    "everything": {},
    "by status": {"status": "scheduled"},
    "by queue": {"queue": "q1"},
    "by type": {"type": "t3"},
    "by queue and status": {"queue": "q1", "status": "ready"},
}


def run(command: str, *, rounds: int, size: float, modes: object = None) -> Table:
    """Fill, ask, change; once, for it takes long. `rounds` and `modes` are of no use."""
    jobs = max(5000, int(JOBS * size))
    samples: dict[str, list[float]] = {}
    rows: list[list[str]] = []
    with (
        scratch() as folder,
        Server(folder / "store", "buffered") as server,
        zizq.SyncClient(server.url, read_timeout=LONGEST_S) as client,
    ):
        _fill(client, jobs)
        print(f"{jobs:,} jobs are queued", file=sys.stderr)
        for name, filters in QUESTIONS.items():
            samples[f"list {name}"] = _asked(lambda: list(client.jobs(**filters).limit(50)))  # noqa: B023 - called at once
            samples[f"count {name}"] = _asked(client.jobs(**filters).count)
        rows += [
            [name, _spread(times), COUNT_GOAL if "count" in name else PAGE_GOAL] for name, times in samples.items()
        ]
        # Above everything that the other thread enqueues, so that what is changed is what was there.
        ours = client.jobs(queue=[f"q{n}" for n in range(QUEUES)])
        changes: dict[str, Callable[[], int]] = {
            "patch all": lambda: ours.update(priority=7),
            "move all": lambda: ours.update(queue="q0"),
            "delete all": ours.delete,
        }
        for name, change in changes.items():
            with _bystander(server) as times:
                began = time.monotonic()
                changed = change()
                took = time.monotonic() - began
            if changed != jobs:
                raise RuntimeError(f"{name}: {changed:,} jobs were changed, and not {jobs:,}")
            samples[f"enqueue during: {name}"] = times
            rows.append([f"{name}, until the answer", f"{took:.1f} s", ""])
            rows.append([f"enqueue meanwhile ({name})", _spread(times), STALL_GOAL])
    return Table("changes", command, ["figure", f"with {jobs:,} queued jobs: median (longest)", "goal"], rows, samples)


def _fill(client: zizq.SyncClient, jobs: int) -> None:
    later = zizq.Enqueue("t0", {"n": 0}, queue="q0", ready_at=datetime.now(UTC) + timedelta(days=1))
    for start in range(0, jobs, 1000):
        made = [
            zizq.Enqueue(
                f"t{n % TYPES}", {"to": "someone@example.com", "text": "x" * 150, "n": n}, queue=f"q{n % QUEUES}"
            )
            for n in range(start + 1, min(start + 1000, jobs))
        ]
        client.enqueue_bulk([later, *made])


def _asked(question: Callable[[], object]) -> list[float]:
    times = []
    for _ in range(ASKED):
        began = time.perf_counter()
        question()
        times.append(time.perf_counter() - began)
    return times


@contextmanager
def _bystander(server: Server) -> Iterator[list[float]]:
    """A thread that enqueues one job after the other, and how long each took."""
    times: list[float] = []
    ended = threading.Event()

    def enqueue() -> None:
        with zizq.SyncClient(server.url) as client:
            while not ended.is_set():
                began = time.perf_counter()
                client.enqueue_raw("bystander", None, queue="bystander")
                times.append(time.perf_counter() - began)

    thread = threading.Thread(target=enqueue)
    thread.start()
    try:
        yield times
    finally:
        ended.set()
        thread.join()


def _spread(times: list[float]) -> str:
    return f"{millis(statistics.median(times))} ({millis(max(times))})"
