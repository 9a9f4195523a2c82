"""A process that enqueues: `python -m bench.enqueuer SHAPE --url URL --jobs N`.

It connects, enqueues, and prints a line: how many, when it began and ended on the machine's monotonic clock, which
all processes share, and how much processor time it took for that.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import zizq
from bench.payload import payload
from zizq.worker.running import run_loop

TYPE = "bench"
SINGLES = 64
"""Callers, each with one enqueue under way."""
BULKS = 16
"""The same for requests of many jobs."""
BULK_SIZE = 100
APPENDED = 1000
"""Elements that `append` lets one job have."""
APPEND = zizq.Batch(".items", limit=APPENDED, key="append")
COUNT = zizq.RawBatch(when="true", fold="$existing | .count += $new.count", key="count")


async def single(clients: Sequence[zizq.Client], jobs: int, rate: int) -> None:
    """Enqueue one by one from many callers at once, each with a client and so a connection of its own."""
    await asyncio.gather(*map(one_by_one, clients, shares(jobs, SINGLES)))


async def shared(clients: Sequence[zizq.Client], jobs: int, rate: int) -> None:
    """Enqueue one by one from many callers of one client at once, which joins what waits."""
    await asyncio.gather(*(one_by_one(clients[0], share) for share in shares(jobs, SINGLES)))


async def one_by_one(client: zizq.Client, jobs: int) -> None:
    """Enqueue jobs, each once the one before is answered."""
    for _ in range(jobs):
        await client.enqueue_raw(TYPE, payload())


async def bulk(clients: Sequence[zizq.Client], jobs: int, rate: int) -> None:
    """Enqueue many jobs a request, from several callers at once."""

    async def caller(share: int) -> None:
        for done in range(0, share, BULK_SIZE):
            requests = [zizq.Enqueue(TYPE, payload()) for _ in range(min(BULK_SIZE, share - done))]
            await clients[0].enqueue_bulk(requests)

    await asyncio.gather(*(caller(share) for share in shares(jobs, BULKS)))


async def paced(clients: Sequence[zizq.Client], jobs: int, rate: int) -> None:
    """Enqueue so many a second, whether or not those before were answered; each job carries its instant."""
    began, under_way = time.monotonic(), set()
    for number in range(jobs):
        ahead = began + number / rate - time.monotonic()
        if ahead > 0:
            await asyncio.sleep(ahead)
        task = asyncio.create_task(stamped(clients[0]))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)


async def append(clients: Sequence[zizq.Client], jobs: int, rate: int) -> None:
    """Enqueue one by one from many callers at once, each an element for the list of a job that waits."""
    await folded(clients[0], jobs, {"items": [123456789]}, APPEND)


async def objects(clients: Sequence[zizq.Client], jobs: int, rate: int) -> None:
    """The same with an object of 36 bytes for the list."""
    await folded(clients[0], jobs, {"items": [{"id": 123456789, "name": "abcdefgh"}]}, APPEND)


async def count(clients: Sequence[zizq.Client], jobs: int, rate: int) -> None:
    """The same with a number for the sum of a job that waits."""
    await folded(clients[0], jobs, payload() | {"count": 1}, COUNT)


async def folded(client: zizq.Client, jobs: int, brought: dict[str, Any], batch: zizq.Batch | zizq.RawBatch) -> None:
    """Enqueue jobs of one batch, from many callers at once."""

    async def caller(share: int) -> None:
        for _ in range(share):
            await client.enqueue_raw(TYPE, brought, batch=batch)

    await asyncio.gather(*(caller(share) for share in shares(jobs, SINGLES)))


async def stamped(client: zizq.Client) -> None:
    """Enqueue a job that carries the instant."""
    await client.enqueue_raw(TYPE, payload(time.monotonic()))


def single_sync(client: zizq.SyncClient, jobs: int) -> None:
    """Enqueue one by one from one thread."""
    for _ in range(jobs):
        client.enqueue_raw(TYPE, payload())


def shares(jobs: int, callers: int) -> list[int]:
    """How many jobs each caller enqueues."""
    return [jobs // callers + (number < jobs % callers) for number in range(callers)]


async def connected(url: str, shape: Callable[..., Awaitable[None]], jobs: int, rate: int) -> dict[str, float]:
    """Run a shape on connections that are open already; when it began and ended, and what it took."""
    async with AsyncExitStack() as stack:
        count = SINGLES if shape is single else 1
        clients = [await stack.enter_async_context(zizq.Client(url)) for _ in range(count)]
        await asyncio.gather(*(client.health() for client in clients for _ in range(SINGLES // count)))
        began, spent = time.monotonic(), time.process_time()
        await shape(clients, jobs, rate)
        return {"began": began, "ended": time.monotonic(), "cpu": time.process_time() - spent}


def connected_sync(url: str, jobs: int) -> dict[str, float]:
    """The same with a SyncClient."""
    with zizq.SyncClient(url) as client:
        client.health()
        began, spent = time.monotonic(), time.process_time()
        single_sync(client, jobs)
        return {"began": began, "ended": time.monotonic(), "cpu": time.process_time() - spent}


def main() -> None:
    """Enqueue as the command line says."""
    each = (single, shared, bulk, paced, append, objects, count)
    shapes = {shape.__name__: shape for shape in each}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shape", choices=[*shapes, "single-sync"])
    parser.add_argument("--url", required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--rate", type=int, default=0, help="enqueues a second, for `paced`")
    order = parser.parse_args()
    if order.shape == "single-sync":
        done = connected_sync(order.url, order.jobs)
    else:
        done = run_loop(connected(order.url, shapes[order.shape], order.jobs, order.rate))
    print(json.dumps({"jobs": order.jobs, **done}), flush=True)


if __name__ == "__main__":
    main()
