"""zizq, with its own client and worker. A server on another store differs in nothing here."""

from __future__ import annotations

import asyncio
from typing import Any

import zizq
from bench.peers.inside.jobs import handle_async
from bench.peers.inside.produce import MANY
from bench.peers.inside.settings import CONCURRENCY, DEFAULTS, URL

PREFETCH = 2000
"""Room for the next jobs while the acknowledgement of the last is on its way; for jobs that do nothing, many."""
TYPE = "bench"
clients: list[zizq.Client] = []


async def open_client() -> None:
    """Have connections for all callers."""
    clients.append(await zizq.Client(URL).__aenter__())
    await asyncio.gather(*(clients[0].health() for _ in range(MANY)))


async def enqueue(payload: dict[str, Any]) -> None:
    """One request."""
    await clients[0].enqueue_raw(TYPE, payload)


async def enqueue_bulk(payloads: list[dict[str, Any]]) -> None:
    """One request for all."""
    await clients[0].enqueue_bulk([zizq.Enqueue(TYPE, payload) for payload in payloads])


def left() -> int:
    """Jobs that wait or are in flight."""
    with zizq.SyncClient(URL) as client:
        return client.jobs().count()


async def work() -> None:
    """A worker with one async handler."""
    router = zizq.Router()

    @router.route(TYPE)
    async def run(job: zizq.Job) -> None:
        await handle_async(job.payload)

    wide = {} if DEFAULTS else {"concurrency": CONCURRENCY, "prefetch": PREFETCH}
    async with zizq.Client(URL) as client:
        await zizq.Worker(client, router, **wide).run(asyncio.Event())
