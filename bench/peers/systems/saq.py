"""SAQ on Redis."""

from __future__ import annotations

from typing import Any

from saq import Queue

from bench.peers.inside.jobs import handle_async
from bench.peers.inside.produce import MANY
from bench.peers.inside.settings import CONCURRENCY, DEFAULTS, URL
from bench.peers.systems.redis_keys import connection

wanted = {} if DEFAULTS else {"ttl": -1}
"""SAQ keeps a job for some minutes after it is done, unless it is told not to."""
queue = Queue.from_url(URL, max_concurrent_ops=20 if DEFAULTS else MANY)


async def job(context: dict[str, Any], *, payload: dict[str, Any]) -> None:
    """The job."""
    await handle_async(payload)


settings: dict[str, Any] = {"queue": queue, "functions": [job]}
if not DEFAULTS:
    import uvloop

    uvloop.install()
    settings["concurrency"] = CONCURRENCY


async def open_client() -> None:
    """Connect."""
    await queue.connect()


async def enqueue(payload: dict[str, Any]) -> None:
    """A script in the server."""
    await queue.enqueue("job", payload=payload, **wanted)


def left() -> int:
    """Jobs that wait or are in hand."""
    return connection.zcard(queue.namespace("incomplete"))
