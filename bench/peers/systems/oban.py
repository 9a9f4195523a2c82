"""Oban for Python on PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Any

from oban import Oban, worker
from oban.schema import install
from psycopg_pool import AsyncConnectionPool

from bench.peers.inside.jobs import handle_async
from bench.peers.inside.produce import MANY
from bench.peers.inside.settings import CONCURRENCY, URL
from bench.peers.systems.tables import count

pools: list[Oban] = []


@worker(queue="default")
class Bench:
    """The job."""

    async def process(self, job: Any) -> None:
        """Run it."""
        await handle_async(job.args)


async def prepare() -> None:
    """Make the tables."""
    async with AsyncConnectionPool(URL) as pool:
        await install(pool)


async def open_client() -> None:
    """Connect."""
    pool = AsyncConnectionPool(URL, min_size=4, max_size=MANY, open=False)
    await pool.open(wait=True)
    pools.append(Oban(pool=pool))


async def enqueue(payload: dict[str, Any]) -> None:
    """A row."""
    await pools[0].enqueue(Bench.new(payload))


async def enqueue_bulk(payloads: list[dict[str, Any]]) -> None:
    """One statement for all."""
    await pools[0].enqueue_many([Bench.new(payload) for payload in payloads])


def left() -> int:
    """Jobs that wait or are in hand; those that are done stay in the table."""
    return count("SELECT count(*) FROM oban_jobs WHERE state IN ('available', 'scheduled', 'executing', 'retryable')")


async def work() -> None:
    """A worker with one queue."""
    async with (
        AsyncConnectionPool(URL, min_size=1, max_size=10) as pool,
        Oban(pool=pool, queues={"default": CONCURRENCY}),
    ):
        await asyncio.Event().wait()
