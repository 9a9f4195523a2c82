"""Procrastinate on PostgreSQL."""

from __future__ import annotations

from typing import Any

from procrastinate import App, PsycopgConnector

from bench.peers.inside.jobs import handle_async
from bench.peers.inside.produce import MANY
from bench.peers.inside.settings import URL
from bench.peers.systems.tables import count

app = App(connector=PsycopgConnector(conninfo=URL, min_size=4, max_size=MANY))


@app.task(name="job", pass_context=False)
async def job(payload: dict[str, Any]) -> None:
    """The job."""
    await handle_async(payload)


async def prepare() -> None:
    """Make the tables."""
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


async def open_client() -> None:
    """Connect."""
    await app.open_async()


async def enqueue(payload: dict[str, Any]) -> None:
    """A row."""
    await job.defer_async(payload=payload)


async def enqueue_bulk(payloads: list[dict[str, Any]]) -> None:
    """One statement for all."""
    await job.batch_defer_async(*({"payload": payload} for payload in payloads))


def left() -> int:
    """Jobs that wait or are in hand; those that are done stay in the table."""
    return count("SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')")
