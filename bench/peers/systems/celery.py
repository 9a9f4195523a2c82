"""Celery on Redis."""

from __future__ import annotations

from typing import Any

from celery import Celery

from bench.peers.inside.jobs import handle
from bench.peers.inside.produce import MANY
from bench.peers.inside.settings import URL
from bench.peers.systems.redis_keys import connection

app = Celery("bench", broker=URL)
app.conf.task_ignore_result = True
app.conf.broker_pool_limit = MANY


@app.task
def job(payload: dict[str, Any]) -> None:
    """The job."""
    handle(payload)


def open_client() -> None:
    """Connect."""
    with app.connection_for_write() as link:
        link.ensure_connection()


def enqueue(payload: dict[str, Any]) -> None:
    """A message."""
    job.delay(payload)


def left() -> int:
    """Messages in the queue, and those that a worker has fetched but not acknowledged."""
    return connection.llen("celery") + connection.hlen("unacked")
