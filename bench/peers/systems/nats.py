"""NATS JetStream: a work queue on disk, and a pull consumer."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from nats import connect
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NothingCame
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, RetentionPolicy, StorageType

from bench.peers.inside.jobs import handle_async
from bench.peers.inside.settings import CONCURRENCY, URL

STREAM = SUBJECT = "jobs"
opened: list[JetStreamContext] = []


async def prepare() -> None:
    """Make the stream: a message is gone when it is acknowledged."""
    client = await connect(URL)
    await client.jetstream().add_stream(
        name=STREAM, subjects=[SUBJECT], retention=RetentionPolicy.WORK_QUEUE, storage=StorageType.FILE
    )
    await client.close()


async def open_client() -> None:
    """Connect."""
    client: Client = await connect(URL)
    opened.append(client.jetstream(publish_async_max_pending=4000))


async def enqueue(payload: dict[str, Any]) -> None:
    """A message, and its acknowledgement."""
    await opened[0].publish(SUBJECT, json.dumps(payload).encode())


async def enqueue_bulk(payloads: list[dict[str, Any]]) -> None:
    """Messages under way together, and all their acknowledgements: there is no request for many."""
    sent = [await opened[0].publish_async(SUBJECT, json.dumps(payload).encode()) for payload in payloads]
    await asyncio.gather(*sent)


async def left() -> int:
    """Messages that are not acknowledged."""
    client = await connect(URL)
    info = await client.jetstream().stream_info(STREAM)
    await client.close()
    return info.state.messages


async def work() -> None:
    """Fetch and run; as it comes one message at a time, else many."""
    client = await connect(URL)
    wide = CONCURRENCY or 1
    context = client.jetstream()
    consumer = await context.pull_subscribe(SUBJECT, durable="workers", config=ConsumerConfig(max_ack_pending=20_000))

    async def run(message: Msg) -> None:
        await handle_async(json.loads(message.data))
        await message.ack()

    while True:
        try:
            messages = await consumer.fetch(wide, timeout=5)
        except NothingCame:
            continue
        await asyncio.gather(*(run(message) for message in messages))
