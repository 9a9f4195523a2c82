"""PgQueuer on PostgreSQL."""

from __future__ import annotations

import json
from typing import Any

import asyncpg
from pgqueuer import PgQueuer, Queries
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.models import Job

from bench.peers.inside.jobs import handle_async
from bench.peers.inside.settings import CONCURRENCY, URL
from bench.peers.systems.tables import count

JOB = "job"
queries: list[Queries] = []


async def prepare() -> None:
    """Make the tables."""
    connection = await asyncpg.connect(URL)
    await Queries(AsyncpgDriver(connection)).install()
    await connection.close()


async def open_client() -> None:
    """Connect."""
    queries.append(Queries(AsyncpgPoolDriver(await asyncpg.create_pool(URL, min_size=4, max_size=64))))


async def enqueue(payload: dict[str, Any]) -> None:
    """A row."""
    await queries[0].enqueue(JOB, json.dumps(payload).encode())


async def enqueue_bulk(payloads: list[dict[str, Any]]) -> None:
    """One statement for all."""
    bodies = [json.dumps(payload).encode() for payload in payloads]
    await queries[0].enqueue([JOB] * len(bodies), bodies, [0] * len(bodies))


def left() -> int:
    """Jobs that wait or are in hand."""
    return count("SELECT count(*) FROM pgqueuer")


async def work() -> None:
    """What `pgq run` does; that command does not start with the Typer of today."""
    async with asyncpg.create_pool(URL, min_size=2) as pool:
        queuer = PgQueuer.from_asyncpg_pool(pool)

        @queuer.entrypoint(JOB)
        async def run(job: Job) -> None:
            await handle_async(json.loads(job.payload or b"{}"))

        await queuer.run(batch_size=CONCURRENCY or 10)
