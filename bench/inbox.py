"""`python -m bench.inbox`: what jobs come to in PostgreSQL that applications post in their own transactions.

A database of its own with fsync on, a store without the HTTP server, jobs of 200 bytes; everything on this machine.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Collection

import asyncpg
import msgspec

from bench import report
from zizq.clock import SharedClock, SystemClock, SystemDice
from zizq.engine import admit
from zizq.ids import IdGenerator
from zizq.policy import Defaults
from zizq.server.broker import Broker
from zizq.server.inbox import Mover
from zizq.server.jq import Jq
from zizq.server.payloads import Payloads
from zizq.store.postgres.store import PostgresStore
from zizq.testing.postgres import Cluster

TEXT = "y" * 150
PAYLOAD = msgspec.Raw(msgspec.msgpack.encode({"to": "someone@example.com", "text": TEXT}))
JOBS, POSTS, SINGLES = 100_000, 20_000, 200
POST = f"""
    SELECT count(id) FROM (
        SELECT zizq.enqueue('t', 'q', jsonb_build_object('to', 'someone@example.com', 'text', '{TEXT}')) AS id
        FROM generate_series(1, {POSTS})
    ) posts"""


class Ear(Broker):
    """A broker that says when jobs are ready."""

    def __init__(self, store: PostgresStore, clock: SharedClock) -> None:
        super().__init__(store, clock, SystemDice(), Jq(1000, 2**28))
        self.heard = asyncio.Event()

    def available(self, queues: Collection[str]) -> None:
        """Say it."""
        super().available(queues)
        self.heard.set()


async def measure(url: str) -> None:
    """Print a line for each thing."""
    clock = SharedClock(SystemClock())
    store = PostgresStore(url, Defaults(), SystemDice(), clock=clock)
    broker = Ear(store, clock)
    await broker.start()
    db = await asyncpg.connect(url)
    await _sizes(db, store, broker, clock)
    mover = Mover(store, broker, Payloads(), clock)
    began = time.perf_counter()
    await db.execute(POST)
    _tell("posted by one statement", POSTS, time.perf_counter() - began)
    began, cpu, moved = time.perf_counter(), time.process_time(), 0
    while found := await mover.move():
        moved += found
    _tell("moved", moved, time.perf_counter() - began)
    print(f"moved: {(time.process_time() - cpu) / moved * 1e6:.1f} us of the server a job")
    await _waits(db, broker, mover)
    await db.close()
    await broker.stop()


async def _sizes(db: asyncpg.Connection, store: PostgresStore, broker: Broker, clock: SharedClock) -> None:
    next_id, before = IdGenerator(clock, SystemDice()).next, await _logged(db)
    for _ in range(JOBS // 1000):
        now = clock.wall_ms()
        lot = [admit.new_job(next_id(), now, type="t", queue="q", payload=PAYLOAD) for _ in range(1000)]
        await broker.enqueue(lot)
    size = await db.fetchval("SELECT pg_total_relation_size('zizq.jobs')")
    print(f"a job that waits: {size / JOBS:.0f} bytes with its indexes")
    while jobs := await store.take(1, frozenset(), 500, clock.wall_ms()):
        await store.succeed([job.id for job in jobs], clock.wall_ms())
    print(f"a job from enqueue to end: {(await _logged(db) - before) / JOBS:.0f} bytes of write-ahead log")


async def _waits(db: asyncpg.Connection, broker: Ear, mover: Mover) -> None:
    moving = asyncio.create_task(mover.run())
    waits = []
    for number in range(SINGLES):
        broker.heard.clear()
        began = time.perf_counter()
        await db.execute("SELECT zizq.enqueue('t', 'q', '1')")
        await broker.heard.wait()
        waits.append((time.perf_counter() - began) * 1000)
        # At another place in the pause of the mover each time.
        await asyncio.sleep(0.013 + number % 7 / 1000)
    moving.cancel()
    waits.sort()
    print(f"from the call to ready: {waits[SINGLES // 2]:.0f} ms in the middle, {waits[-3]:.0f} ms at p99")


async def _logged(db: asyncpg.Connection) -> int:
    found: int = await db.fetchval("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint")
    return found


def _tell(what: str, count: int, seconds: float) -> None:
    print(f"{what}: {count / seconds:,.0f} a second")


def main() -> None:
    """Measure once."""
    print(report.machine(), file=sys.stderr)
    cluster = Cluster(fsync=True)
    try:
        cluster.start()
        asyncio.run(measure(cluster.url()))
    finally:
        cluster.remove()


if __name__ == "__main__":
    main()
