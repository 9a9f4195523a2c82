"""HTTP/2 with prior knowledge, over the frames of the `h2` package."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset
from hyperframe.frame import Frame, GoAwayFrame

from wire.talk import PATIENCE_S, Reply, Talk


class _Lasting(H2Connection):
    """Lets open streams go on after a GOAWAY (RFC 9113, 6.8), which `h2` takes for the end of them all."""

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        return [], []


class Http2:
    """One connection that carries many requests at once."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._h2 = _Lasting(H2Configuration(header_encoding="utf-8"))
        self.replies: dict[int, Reply] = {}
        self.ended: set[int] = set()
        self.reset_by_server: set[int] = set()

    def start(self) -> None:
        """Send the preface."""
        self._h2.initiate_connection()
        self._flush()

    def _flush(self) -> None:
        self._writer.write(self._h2.data_to_send())

    def open(self, method: str, target: str, body: bytes | None = None, **headers: str) -> int:
        """Send a request; returns the number of its stream."""
        number = self._h2.get_next_available_stream_id()
        pairs = [(":method", method), (":path", target), (":scheme", "http"), (":authority", "test")]
        pairs += [(name.replace("_", "-"), value) for name, value in headers.items()]
        self._h2.send_headers(number, pairs, end_stream=body is None)
        if body is not None:
            self._h2.send_data(number, body, end_stream=True)
        self._flush()
        return number

    def reset(self, number: int) -> None:
        """Cancel a stream with RST_STREAM."""
        self._h2.reset_stream(number, error_code=8)
        self._flush()

    async def _receive(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            data = await self._reader.read(65536)
        assert data, "the server hung up"
        for event in self._h2.receive_data(data):
            if isinstance(event, ResponseReceived):
                headers = dict(event.headers)
                self.replies[event.stream_id] = Reply(int(headers.pop(":status")), headers)
            elif isinstance(event, DataReceived):
                self.replies[event.stream_id].body += event.data
                if event.flow_controlled_length:
                    self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded):
                self.ended.add(event.stream_id)
            elif isinstance(event, StreamReset):
                self.reset_by_server.add(event.stream_id)
        self._flush()

    async def head(self, number: int) -> Reply:
        """The response of a stream once its headers are there; its body may still grow."""
        while number not in self.replies:
            await self._receive()
        return self.replies[number]

    async def body(self, number: int, mark: bytes) -> bytes:
        """What a stream has sent, once a mark is in it."""
        while mark not in (await self.head(number)).body:
            await self._receive()
        return self.replies[number].body

    async def end(self, number: int) -> Reply:
        """The response of a stream once it has ended with END_STREAM."""
        while number not in self.ended:
            assert number not in self.reset_by_server, "the server reset the stream"
            await self._receive()
        return self.replies[number]

    async def ask(self, method: str, target: str, body: bytes | None = None, **headers: str) -> Reply:
        """One request and its response."""
        return await self.end(self.open(method, target, body, **headers))


@asynccontextmanager
async def http2(talk: Talk) -> AsyncIterator[Http2]:
    """An HTTP/2 connection to a server."""
    reader, writer = await asyncio.open_connection(*talk.address)
    connection = Http2(reader, writer)
    connection.start()
    try:
        yield connection
    finally:
        writer.close()
