"""Requests to a dashboard, byte by byte, and forms as a browser sends them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from browser.fakes import FakeInsights, FakePauses, install
from wire.stores import running_server
from wire.talk import NOW, Http1, Reply, Stream, request
from zizq.engine import admit
from zizq.server.app import App
from zizq.testing.clock import LoadedDice, ManualClock

OWN = {"sec_fetch_site": "same-origin"}


@dataclass
class Board:
    """A dashboard in front of a store in memory, at a standing clock."""

    address: tuple[str, int]
    app: App
    clock: ManualClock
    insights: FakeInsights
    pauses: FakePauses
    cookie: str = ""
    open: list[Http1] = field(default_factory=list)

    async def connect(self) -> Http1:
        """A new connection; it is closed with the server."""
        connection = Http1(*await asyncio.open_connection(*self.address))
        self.open.append(connection)
        return connection

    async def ask(self, method: str, target: str, body: bytes | None = None, **headers: str) -> Reply:
        """One request and its response, with the host and the cookie that a browser would send."""
        data = request(method, target, body, **({"cookie": self.cookie} if self.cookie else {}) | headers)
        connection = await self.connect()
        await connection.send(data.replace(b"host: localhost", b"host: localhost:%d" % self.address[1], 1))
        return await connection.reply(method)

    async def get(self, target: str, **headers: str) -> Reply:
        """A page."""
        return await self.ask("GET", target, **headers)

    async def text(self, target: str) -> str:
        """What is on a page."""
        return (await self.get(target)).body.decode()

    async def post(self, target: str, fields: dict[str, str], **headers: str) -> Reply:
        """A form, as it is sent; it is said to come from a page of the server unless headers say else."""
        body = urlencode(fields).encode()
        return await self.ask("POST", target, body, **{"content_type": "application/x-www-form-urlencoded"} | headers)

    async def act(self, target: str, fields: dict[str, str], page: str = "/queues", **headers: str) -> Reply:
        """A form, with the token of the page that it is on."""
        found = re.search(r'name="form_token" value="(\w+)"', await self.text(page))
        return await self.post(target, {"form_token": found[1] if found else ""} | fields, **OWN | headers)

    async def watch(self) -> Stream:
        """The live feed."""
        connection = await self.connect()
        await connection.send(request("GET", "/live", **({"cookie": self.cookie} if self.cookie else {})))
        return Stream(connection, await connection.head())

    async def enqueue(self, **fields: Any) -> str:
        """Enqueue a job; returns its identifier."""
        given = {"type": "t", "queue": "mail", "payload": b"\xc0"} | fields
        job = admit.new_job(self.app.broker.next_id(), self.clock.wall_ms(), **given)
        await self.app.broker._store.enqueue([job], self.clock.wall_ms())
        return job.id


@asynccontextmanager
async def boarding(**settings: Any) -> AsyncIterator[Board]:
    """A dashboard."""
    clock, pauses = ManualClock(NOW), FakePauses()
    insights = FakeInsights(NOW, pauses=pauses)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            running_server(clock=clock, dice=LoadedDice(), no_admin=False, **settings)
        )
        install(server, insights, pauses, clock, **settings)
        host, _, port = (server.admin_url or "").partition("//")[2].rpartition(":")
        board = Board((host, int(port)), server.app, clock, insights, pauses)
        stack.callback(lambda: [connection.hang_up() for connection in board.open])
        yield board
