"""arq on Redis."""

from __future__ import annotations

from typing import Any

from arq import ArqRedis, create_pool
from arq.connections import RedisSettings
from arq.constants import default_queue_name

from bench.peers.inside.jobs import handle_async
from bench.peers.inside.settings import CONCURRENCY, DEFAULTS, URL
from bench.peers.systems.redis_keys import connection

quiet = {"version": 1}
"""A logging configuration that says nothing of each job."""
pools: list[ArqRedis] = []
settings = RedisSettings.from_dsn(URL)


async def job(context: dict[str, Any], payload: dict[str, Any]) -> None:
    """The job."""
    await handle_async(payload)


class WorkerSettings:
    """How the worker is set: `arq bench.peers.systems.arq.WorkerSettings`."""

    functions = (job,)
    redis_settings = settings
    if not DEFAULTS:
        import uvloop

        uvloop.install()
        max_jobs, poll_delay, keep_result = CONCURRENCY, 0.005, 0
        log_results = False


async def open_client() -> None:
    """Connect."""
    pools.append(await create_pool(settings))


async def enqueue(payload: dict[str, Any]) -> None:
    """A transaction of a few commands."""
    await pools[0].enqueue_job("job", payload)


def left() -> int:
    """Jobs that wait or are in hand: they leave the queue when they are done."""
    return connection.zcard(default_queue_name)
