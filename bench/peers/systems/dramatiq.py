"""Dramatiq on Redis."""

from __future__ import annotations

from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from bench.peers.inside.jobs import handle
from bench.peers.inside.settings import URL
from bench.peers.systems.redis_keys import connection

dramatiq.set_broker(RedisBroker(url=URL))


@dramatiq.actor
def job(payload: dict[str, Any]) -> None:
    """The job."""
    handle(payload)


def open_client() -> None:
    """Connect."""
    connection.ping()


def enqueue(payload: dict[str, Any]) -> None:
    """A message."""
    job.send(payload)


def left() -> int:
    """Messages that wait or are in hand."""
    return connection.hlen("dramatiq:default.msgs")
