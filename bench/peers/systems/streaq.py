"""streaQ on Redis."""

from __future__ import annotations

from typing import Any

from streaq import Worker

from bench.peers.inside.jobs import handle_async
from bench.peers.inside.settings import CONCURRENCY, DEFAULTS, URL
from bench.peers.systems.redis_keys import connection

wide = {} if DEFAULTS else {"concurrency": CONCURRENCY}
worker = Worker(redis_url=URL, **wide)


@worker.task(**({} if DEFAULTS else {"ttl": 0, "silent": True}))
async def job(payload: dict[str, Any]) -> None:
    """The job."""
    await handle_async(payload)


async def open_client() -> None:
    """Connect."""
    await worker.__aenter__()


async def enqueue(payload: dict[str, Any]) -> None:
    """A few commands, in a pipeline."""
    await job.enqueue(payload)


async def enqueue_bulk(payloads: list[dict[str, Any]]) -> None:
    """A pipeline for all."""
    await worker.enqueue_many([job.enqueue(payload) for payload in payloads])


def left() -> int:
    """Jobs that wait or are in hand: they leave the stream when they are done."""
    return connection.xlen(worker.stream_key + worker.priorities[0])
