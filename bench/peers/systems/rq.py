"""RQ on Redis."""

from __future__ import annotations

from typing import Any

from redis import Redis
from rq import Queue
from rq.registry import StartedJobRegistry

from bench.peers.inside.jobs import handle
from bench.peers.inside.settings import DEFAULTS, URL

wanted = {} if DEFAULTS else {"result_ttl": 0}
"""RQ keeps the result of a job for some minutes, unless it is told not to."""
queue = Queue(connection=Redis.from_url(URL))


def open_client() -> None:
    """Connect."""
    queue.connection.ping()


def enqueue(payload: dict[str, Any]) -> None:
    """A pipeline of commands."""
    queue.enqueue(handle, payload, **wanted)


def enqueue_bulk(payloads: list[dict[str, Any]]) -> None:
    """A pipeline for all."""
    queue.enqueue_many([Queue.prepare_data(handle, (payload,), **wanted) for payload in payloads])


def left() -> int:
    """Jobs in the queue, on their way out of it, and in hand."""
    return len(queue) + queue.connection.llen(queue.intermediate_queue_key) + len(StartedJobRegistry(queue=queue))
