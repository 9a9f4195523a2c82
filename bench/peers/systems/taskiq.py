"""Taskiq on a Redis stream, which has acknowledgements; its lists have none."""

from __future__ import annotations

from typing import Any

from taskiq_redis import RedisStreamBroker

from bench.peers.inside.jobs import handle_async
from bench.peers.inside.settings import URL
from bench.peers.systems.redis_keys import connection

STREAM = "taskiq"
broker = RedisStreamBroker(URL)


@broker.task
async def job(payload: dict[str, Any]) -> None:
    """The job."""
    await handle_async(payload)


async def open_client() -> None:
    """Connect; this makes the stream, too."""
    await broker.startup()


prepare = open_client


async def enqueue(payload: dict[str, Any]) -> None:
    """An entry of the stream."""
    await job.kiq(payload)


def left() -> int:
    """Entries that no worker has acknowledged."""
    group = connection.xinfo_groups(STREAM)[0]
    return group["pending"] + (group["lag"] or 0)
