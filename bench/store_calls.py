"""What the calls of the store on PostgreSQL cost by themselves: `python -m bench.store_calls`.

No server and no worker: streams that enqueue, take and succeed in lots of a hundred, on a database of its own with
fsync on. Each figure is the processor time of a job, here and in the database with what it sweeps up; beside it are the
jobs a second, which whatever else runs on the machine makes fewer.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable
from pathlib import Path

import msgspec

from zizq.clock import SystemClock, SystemDice
from zizq.engine import admit
from zizq.ids import IdGenerator
from zizq.job import JobRecord
from zizq.policy import Defaults
from zizq.store.base import Silence
from zizq.store.postgres.store import PostgresStore
from zizq.testing.postgres import Cluster

JOBS = 40_000
LOT = 100
STREAMS = 4
PAYLOAD = msgspec.Raw(msgspec.msgpack.encode({"to": "somebody@example.com", "number": 123_456, "text": "x" * 100}))

_next_id = IdGenerator(SystemClock(), SystemDice()).next
_now = SystemClock().wall_ms


def _jobs(count: int) -> list[JobRecord]:
    return [admit.new_job(_next_id(), _now(), type="t", queue="q", payload=PAYLOAD) for _ in range(count)]


async def _enqueue(store: PostgresStore, jobs: int) -> None:
    for _ in range(jobs // LOT):
        await store.enqueue(_jobs(LOT), _now())


async def _take(store: PostgresStore, owner: int, taken: list[list[str]]) -> None:
    while jobs := await store.take(owner, frozenset(), LOT, _now()):
        taken.append([job.id for job in jobs])


async def _succeed(store: PostgresStore, taken: list[list[str]]) -> None:
    while taken:
        await store.succeed(taken.pop(), _now())


async def _drain(store: PostgresStore, owner: int, left: list[int], queues: frozenset[str]) -> None:
    while left[0] > 0:
        jobs = await store.take(owner, queues, LOT, _now())
        await store.succeed([job.id for job in jobs], _now())
        left[0] -= len(jobs)
        if not jobs:
            await asyncio.sleep(0.001)


def _database_s(cluster: Cluster) -> float:
    """The processor time that a cluster has used, in seconds."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == cluster.pid:
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


async def _measure(name: str, cluster: Cluster, jobs: int, *works: Awaitable[None]) -> None:
    began, here, there = time.perf_counter(), time.process_time(), _database_s(cluster)
    await asyncio.gather(*works)
    took, here, there = time.perf_counter() - began, time.process_time() - here, _database_s(cluster) - there
    print(f"| {name} | {here / jobs * 1e6:.1f} | {there / jobs * 1e6:.1f} | {jobs / took:,.0f} |", flush=True)


async def main(jobs: int) -> None:
    """Measure all calls, and print a table."""
    cluster = Cluster(fsync=True)
    cluster.start()
    store = PostgresStore(cluster.url(), Defaults(), SystemDice())
    try:
        await store.open(Silence())
        await _enqueue(store, 20 * LOT)
        await _drain(store, 0, [20 * LOT], frozenset())
        print("| | µs/job here | µs/job in the database | jobs/s |\n|---|---|---|---|")
        some = jobs // STREAMS
        enqueues = [_enqueue(store, some) for _ in range(STREAMS)]
        await _measure("enqueue", cluster, jobs, *enqueues)
        taken: list[list[str]] = []
        await _measure("take", cluster, jobs, *[_take(store, owner, taken) for owner in range(STREAMS)])
        await _measure("succeed", cluster, jobs, *[_succeed(store, taken) for _ in range(STREAMS)])
        left = [jobs]
        enqueues = [_enqueue(store, some) for _ in range(STREAMS)]
        drains = [_drain(store, owner, left, frozenset("q")) for owner in range(STREAMS)]
        await _measure("all at once, of one queue", cluster, jobs, *enqueues, *drains)
    finally:
        await store.close()
        cluster.remove()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else JOBS))
