"""Bytes to a server and back over a socket: HTTP/1.1 by hand, so that a test sees exactly what was sent.

Start with `serving`, a server whose clock stands still and whose dice are loaded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from wire.stores import running_server
from zizq.testing.clock import LoadedDice, ManualClock

NOW = 1_790_000_000_000
FIRST_ID = "03gwrj487tb5hvwrkxt8ch88w"
"""The first identifier under a clock at NOW and dice that fall on 0."""
JSON = "application/json"
MSGPACK = "application/msgpack"
STREAM = "application/vnd.zizq.msgpack-stream"
PATIENCE_S = 5
"""How long a test waits for bytes before it fails; none waits so long when all is well."""

pack = msgspec.msgpack.encode
unpack = msgspec.msgpack.decode


@dataclass
class Reply:
    """A whole response."""

    status: int
    headers: dict[str, str]
    body: bytes = b""

    @property
    def value(self) -> Any:
        """The decoded body."""
        decode = unpack if self.headers.get("content-type") == MSGPACK else msgspec.json.decode
        return decode(self.body)

    @property
    def error(self) -> tuple[int, str]:
        """The status and the text of a refusal."""
        return self.status, self.value["error"]


def request(method: str, target: str, body: bytes | None = None, **headers: str) -> bytes:
    """A request as bytes; header names are written with underscores."""
    lines = [f"{method} {target} HTTP/1.1", "host: localhost"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body is not None:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


class Http1:
    """One HTTP/1.1 connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def ask(self, method: str, target: str, body: bytes | None = None, **headers: str) -> Reply:
        """One request and its response."""
        await self.send(request(method, target, body, **headers))
        return await self.reply(method)

    async def head(self) -> Reply:
        """The status line and the headers of a response."""
        async with asyncio.timeout(PATIENCE_S):
            text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = text[:-4].split("\r\n")
        pairs = [line.split(": ", 1) for line in lines]
        assert len({name for name, _ in pairs}) == len(pairs), f"a header came twice: {lines}"
        return Reply(int(first.split(" ", 2)[1]), dict(pairs))

    async def reply(self, method: str = "GET") -> Reply:
        """A whole response, whose length is given."""
        reply = await self.head()
        if reply.status != 204 and method != "HEAD":
            async with asyncio.timeout(PATIENCE_S):
                reply.body = await self.reader.readexactly(int(reply.headers["content-length"]))
        return reply

    async def stream(self, target: str, **headers: str) -> Stream:
        """Ask for a response without an end."""
        await self.send(request("GET", target, **headers))
        return Stream(self, await self.head())

    def hang_up(self) -> None:
        """End the connection with a FIN."""
        self.writer.close()


@dataclass
class Stream:
    """A chunked response that is still coming."""

    connection: Http1
    head: Reply
    data: bytes = b""
    ended: bool = False

    async def _chunk(self) -> None:
        reader = self.connection.reader
        async with asyncio.timeout(PATIENCE_S):
            size = int(await reader.readuntil(b"\r\n"), 16)
            data = await reader.readexactly(size + 2)
        self.data += data[:-2]
        self.ended = size == 0

    async def read(self, size: int) -> bytes:
        """So many bytes."""
        while len(self.data) < size:
            assert not self.ended, f"the stream ended after {self.data!r}"
            await self._chunk()
        data, self.data = self.data[:size], self.data[size:]
        return data

    async def until(self, mark: bytes) -> bytes:
        """All bytes up to a mark, which is among them."""
        while mark not in self.data:
            assert not self.ended, f"the stream ended after {self.data!r}"
            await self._chunk()
        return await self.read(self.data.index(mark) + len(mark))

    async def rest(self) -> bytes:
        """All bytes up to the end, which must be a proper one."""
        while not self.ended:
            await self._chunk()
        return self.data

    async def job(self) -> dict[str, Any]:
        """The next job of an NDJSON stream; heartbeats are passed over."""
        async with asyncio.timeout(PATIENCE_S):
            while (line := await self.until(b"\n")) == b"\n":
                pass
        found: dict[str, Any] = msgspec.json.decode(line)
        return found

    async def jobs(self, count: int) -> list[dict[str, Any]]:
        """So many jobs."""
        return [await self.job() for _ in range(count)]

    async def is_silent(self) -> bool:
        """Whether two heartbeats come with no job in between: then the server has nothing to send."""
        return await self.until(b"\n") == b"\n" and await self.until(b"\n") == b"\n"


@dataclass
class Talk:
    """A server, and connections to it."""

    url: str
    app: Any
    clock: ManualClock
    dice: LoadedDice
    _open: list[Http1] = field(default_factory=list)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.url.partition("//")[2].partition(":")
        return host, int(port)

    async def connect(self) -> Http1:
        """A new connection; it is closed with the server."""
        connection = Http1(*await asyncio.open_connection(*self.address))
        self._open.append(connection)
        return connection

    async def ask(self, method: str, target: str, body: bytes | None = None, **headers: str) -> Reply:
        """One request on a connection that is kept for the purpose."""
        if not self._open:
            await self.connect()
        return await self._open[0].ask(method, target, body, **headers)

    async def take(self, query: str = "", **headers: str) -> Stream:
        """A take stream on a connection of its own."""
        await self.ask("GET", "/health")
        return await (await self.connect()).stream(f"/jobs/take{query}", **headers)

    async def post(self, target: str, value: Any, **headers: str) -> Reply:
        """A POST of a value as JSON."""
        return await self.ask("POST", target, msgspec.json.encode(value), **headers)

    async def patch(self, target: str, value: Any, **headers: str) -> Reply:
        """A PATCH of a value as JSON."""
        return await self.ask("PATCH", target, msgspec.json.encode(value), **headers)

    async def put(self, target: str, value: Any, **headers: str) -> Reply:
        """A PUT of a value as JSON."""
        return await self.ask("PUT", target, msgspec.json.encode(value), **headers)

    async def enqueue(self, payload: Any = None, **fields: Any) -> str:
        """Enqueue a job; returns its id."""
        reply = await self.post("/jobs", {"type": "t", "queue": "q", "payload": payload} | fields)
        assert reply.status == 201, reply
        job_id: str = reply.value["id"]
        return job_id

    async def fail(self, job_id: str, **report: Any) -> Any:
        """Report a failure; returns the job after it."""
        reply = await self.post(f"/jobs/{job_id}/failure", {"message": "boom"} | report)
        assert reply.status == 200, reply
        return reply.value

    async def get(self, job_id: str) -> Any:
        """A job as GET shows it; None when there is none."""
        reply = await self.ask("GET", f"/jobs/{job_id}")
        return None if reply.status == 404 else reply.value

    async def taken(self, **fields: Any) -> tuple[str, Stream]:
        """A job in flight, and the stream that holds it."""
        job_id = await self.enqueue(**fields)
        stream = await self.take("?prefetch=100")
        assert (await stream.job())["id"] == job_id
        return job_id, stream

    def hang_up(self) -> None:
        """Close all connections."""
        for connection in self._open:
            connection.hang_up()


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[Talk]:
    """A server at a standing clock; its heartbeats come every 20 ms of real time."""
    clock, dice = ManualClock(NOW), LoadedDice()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            running_server(clock=clock, dice=dice, **({"heartbeat_interval": 20} | settings))
        )
        talk = Talk(server.url, server.app, clock, dice)
        stack.callback(talk.hang_up)
        yield talk
