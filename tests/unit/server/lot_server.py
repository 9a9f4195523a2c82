"""A server without sockets, and clients whose enqueues come in one turn of the event loop."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from trust.line import Client

from unit.server.line import post
from zizq.engine.selection import Selection
from zizq.errors import Unprocessable
from zizq.job import JobRecord
from zizq.policy import Defaults
from zizq.server.app import App
from zizq.server.net.heads import Heads
from zizq.server.settings import Settings
from zizq.store.memory import MemoryStore
from zizq.testing.clock import LoadedDice, ManualClock

NOW = 1_790_000_000_000
JSON, MSGPACK = b"application/json", b"application/msgpack"
PLAIN = {"type": "t", "queue": "q", "payload": {"n": 1}}


class Counting(MemoryStore):
    """A store that notes how many jobs come with each enqueue, holds them back while it is told to, and may fail."""

    def __init__(self) -> None:
        super().__init__(Defaults(), LoadedDice())
        self.calls: list[int] = []
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.failure: BaseException | None = None
        self.defect: Exception | None = None
        self.refused = ""

    def enqueue(
        self, jobs: Sequence[JobRecord], *rest: Any, **options: Any
    ) -> Coroutine[Any, Any, Sequence[JobRecord]]:
        """Insert new jobs."""
        self.calls.append(len(jobs))
        if self.defect is not None:
            raise self.defect
        return self._later(jobs, *rest, **options)

    async def _later(self, jobs: Sequence[JobRecord], *rest: Any, **options: Any) -> Sequence[JobRecord]:
        await self.goes_on.wait()
        if self.failure is not None:
            raise self.failure
        if any(job.queue == self.refused for job in jobs):
            raise Unprocessable("not this queue")
        return await super().enqueue(jobs, *rest, **options)


class Server:
    """A server without sockets, and clients of it that know of one another's heads."""

    def __init__(self, store: Counting, app: App, clock: ManualClock, clients: list[Client]) -> None:
        self.store, self.app, self.clock, self.clients = store, app, clock, clients

    async def send(self, requests: Sequence[bytes]) -> list[bytes]:
        """What comes back for requests of so many clients that come in one turn."""
        before = [len(client.transport.written) for client in self.clients]
        for client, data in zip(self.clients, requests, strict=False):
            client.connection.data_received(data)
        return [await client.answer(at) for client, at in zip(self.clients[: len(requests)], before, strict=False)]

    async def send_each(self, requests: Sequence[bytes]) -> list[bytes]:
        """What comes back for requests that come one after the other, and whose heads nobody knows."""
        answers = []
        for data in requests:
            self.clients[0] = Client(self.app.asgi)
            answers += await self.send([data])
        return answers

    async def jobs(self) -> int:
        """How many jobs there are."""
        return await self.app.catalog.count(Selection(), None)


def enqueue(body: bytes, content_type: bytes = JSON, accept: bytes = JSON) -> bytes:
    """A request of an enqueue."""
    return post(body, b"content-type: %b\r\naccept: %b\r\n" % (content_type, accept))


def job(**options: Any) -> bytes:
    """A body."""
    return msgspec.json.encode(PLAIN | options)


@asynccontextmanager
async def serving(clients: int, **settings: Any) -> AsyncIterator[Server]:
    """A server with so many clients, none of whose requests has come."""
    store, clock, heads = Counting(), ManualClock(NOW), Heads()
    app = App(Settings(no_admin=True, **settings), store=store, clock=clock, dice=LoadedDice())
    await app.start()
    try:
        yield Server(store, app, clock, [Client(app.asgi, heads) for _ in range(clients)])
    finally:
        await app.stop()


@asynccontextmanager
async def familiar(clients: int, *requests: bytes, **settings: Any) -> AsyncIterator[Server]:
    """The same, where the heads of requests are known; the jobs of these are not counted."""
    async with serving(clients, **settings) as server:
        for request in requests or (enqueue(job()),):
            assert b" 201 " in await server.clients[0].send(request)
        server.store.calls.clear()
        server.app.asgi.requests.clear()
        yield server


def statuses(answers: bytes) -> list[int]:
    """The statuses of answers."""
    return [int(status) for status in re.findall(rb"HTTP/1.1 (\d+) ", answers)]
