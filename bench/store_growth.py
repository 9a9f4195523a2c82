"""What the calls of the embedded store cost as the backlog grows: `python -m bench.store_growth`.

No server and no worker: enqueues in lots of a hundred from four callers, then takes and successes at the head, in a
store of its own, buffered. Each figure is of one job: processor time of the event loop's thread and of the writer's,
and pages of the database that were found in its cache (`visited`), read from the file (`missed`), and written. At the
end it prints how deep the trees are.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import apsw
import msgspec

from bench.payload import payload
from bench.programs import scratch
from zizq.clock import SystemClock, SystemDice
from zizq.engine import admit
from zizq.ids import IdGenerator
from zizq.job import JobRecord
from zizq.policy import Defaults
from zizq.store.base import CommitMode, Silence
from zizq.store.sqlite.schema import open_for_reading
from zizq.store.sqlite.store import SqliteStore

BACKLOGS = (1_000, 100_000, 1_000_000, 2_000_000)
PROBE = 40_000
LOT = 100
CALLERS = 4
PAYLOAD = msgspec.Raw(msgspec.msgpack.encode(payload(1.5)))
THREADS = {"MainThread": "loop µs", "zizq-writer": "writer µs"}
PAGES = {
    "visited": apsw.SQLITE_DBSTATUS_CACHE_HIT,
    "missed": apsw.SQLITE_DBSTATUS_CACHE_MISS,
    "written": apsw.SQLITE_DBSTATUS_CACHE_WRITE,
}

_next_id = IdGenerator(SystemClock(), SystemDice()).next
_now = SystemClock().wall_ms


def _jobs(count: int) -> list[JobRecord]:
    return [admit.new_job(_next_id(), _now(), type="bench", queue="default", payload=PAYLOAD) for _ in range(count)]


async def _enqueue(store: SqliteStore, jobs: int) -> None:
    async def caller() -> None:
        for _ in range(jobs // (LOT * CALLERS)):
            await store.enqueue(_jobs(LOT), _now())

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


async def _drain(store: SqliteStore, jobs: int) -> None:
    for _ in range(jobs // LOT):
        taken = await store.take(1, frozenset(), LOT, _now())
        await store.succeed([job.id for job in taken], _now())


def _counters(db: apsw.Connection) -> dict[str, float]:
    """Of all that happened so far, processor time in microseconds and pages."""
    counters: dict[str, float] = {name: db.status(counter)[0] for name, counter in PAGES.items()}
    for thread in threading.enumerate():
        if thread.name in THREADS:
            spent = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text().split()[0]
            counters[THREADS[thread.name]] = int(spent) / 1000
    return counters


async def _measure(store: SqliteStore, what: Callable[[SqliteStore, int], Awaitable[None]]) -> str:
    db = store._writer._db
    before = _counters(db)
    await what(store, PROBE)
    return ", ".join(f"{name} {(value - before[name]) / PROBE:.2f}" for name, value in _counters(db).items())


def _depths(path: Path) -> str:
    text = """SELECT name, max(length(path) - length(replace(path, '/', ''))) FROM dbstat
              WHERE name IN ('jobs', 'ready', 'place') AND pagetype <> 'overflow' GROUP BY name"""
    db = open_for_reading(path, 2**20)
    try:
        return ", ".join(f"{name} {depth}" for name, depth in db.execute(text))
    finally:
        db.close()


async def run(backlogs: list[int]) -> None:
    """Fill a store step by step, and measure at each."""
    with scratch() as folder:
        store = SqliteStore(folder, Defaults(), SystemDice(), enqueue_mode=CommitMode.BUFFERED)
        await store.open(Silence())
        try:
            held = 0
            for backlog in backlogs:
                await _enqueue(store, backlog - held)
                held = backlog
                for _ in range(2):
                    print(f"{backlog:,} queued: enqueue: {await _measure(store, _enqueue)}", flush=True)
                    print(f"{backlog:,} queued: drain:   {await _measure(store, _drain)}", flush=True)
            print(f"levels of trees: {_depths(folder / 'data' / 'jobs.db')}")
        finally:
            await store.close()


if __name__ == "__main__":
    asyncio.run(run([int(word) for word in sys.argv[1:]] or list(BACKLOGS)))
