"""An admin API that says what it is told to, for what cannot be had of a real server: breaks, refusals and rubbish."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from unit.tui.recorded import INSIGHTS, snapshot


class FakeAdmin:
    """It answers every subscription with the same snapshot, and remembers what it was asked."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.headers: list[str | None] = []
        self.insights: dict[str, Any] = dict(INSIGHTS)
        self.refuses: HTTPStatus | None = None
        self.port = 0
        self._server: Server | None = None
        self._asking: list[ServerConnection] = []

    @property
    def url(self) -> str:
        """Where it is; it keeps its port over restarts."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen."""
        self._server = await serve(
            self._talk, "127.0.0.1", self.port, process_request=self._admit, compression=None, ping_interval=None
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Close all connections, and listen no more."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None
        for connection in self._asking:
            connection.transport.abort()
            await connection.wait_closed()
        self._asking.clear()

    async def say(self, text: str | bytes) -> None:
        """Send a message to everybody."""
        assert self._server is not None
        for connection in self._server.connections:
            await connection.send(text)

    async def next_heard(self, kind: str) -> dict[str, Any]:
        """The next message of a kind."""
        async with asyncio.timeout(20):
            while (message := await self.heard.get())["type"] != kind:
                pass
        return message

    async def _talk(self, connection: ServerConnection) -> None:
        try:
            await connection.send(msgspec.json.encode(snapshot()).decode())
            async for text in connection:
                message = json.loads(text)
                self.heard.put_nowait(message)
                if message["type"] == "subscribe":
                    await connection.send(msgspec.json.encode(snapshot()).decode())
        except ConnectionClosed:
            return

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        self.headers.append(request.headers.get("authorization"))
        if request.path != "/events" or self.refuses is not None:
            self._asking.append(connection)
        if self.refuses is not None:
            return connection.respond(self.refuses, "")
        if request.path == "/events":
            return None
        value = self.insights.get(request.path.removeprefix("/insight/"))
        if value is None:
            return connection.respond(HTTPStatus.NOT_FOUND, "")
        answer = connection.respond(HTTPStatus.OK, msgspec.json.encode(value).decode())
        del answer.headers["Content-Type"]
        answer.headers["Content-Type"] = "application/json"
        return answer


@asynccontextmanager
async def fake_admin() -> AsyncIterator[FakeAdmin]:
    """A fake that listens for as long as the block lasts."""
    fake = FakeAdmin()
    await fake.start()
    try:
        yield fake
    finally:
        await fake.stop()
