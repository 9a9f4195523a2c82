"""Huey on SQLite: no server, but a file that all processes open."""

from __future__ import annotations

from huey import SqliteHuey

from bench.peers.inside.settings import URL
from bench.peers.systems.huey_app import with_job

path, _, fsync = URL.removeprefix("sqlite://").partition("?")
huey = SqliteHuey("bench", filename=path, fsync=bool(fsync))
enqueue = with_job(huey)
left = huey.pending_count


def open_client() -> None:
    """Open the file."""
    huey.pending_count()
