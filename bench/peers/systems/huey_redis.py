"""Huey on Redis."""

from __future__ import annotations

from huey import RedisHuey

from bench.peers.inside.settings import URL
from bench.peers.systems.huey_app import with_job

huey = RedisHuey("bench", url=URL)
enqueue = with_job(huey)
left = huey.pending_count


def open_client() -> None:
    """Connect."""
    huey.storage.conn.ping()
