"""A network that is simulated: the client's transport at one end, the ASGI application of a server at the other.

A connection carries one exchange. What is sent one way arrives in order, each piece after a delay of its own; between
connections there is no order. What may befall a connection is drawn when it is opened, from a `Weather`:

* it is refused, or breaks before the request has arrived, or inside it;
* the answer is lost: the server has done it, and the client hears that the connection broke;
* it falls silent: nothing arrives any more either way, and each end finds out by its own timeout;
* a whole host is cut off for a while: what is sent arrives when that is over, if no timeout ends it before.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Any, Protocol

from trust.loop import Process, VirtualLoop
from zizq.client.call import Request, Response
from zizq.errors import StreamIdleTimeout, TransportError
from zizq.server.http.exchange import Message, Receive, Scope, Send

READ_TIMEOUT_S = 30.0
"""What a client waits for bytes, of answers and of streams, as `zizq.Client` does."""
USER_TIMEOUT_S = 30.0
"""When a peer that acknowledges nothing is cut off, as `--tcp-user-timeout` says."""
WINDOW = 12
"""Pieces of an answer that fit between a server that sends and a client that does not read."""

serving: ContextVar[Connection] = ContextVar("serving")
"""The connection whose request is being served here."""


@dataclass(frozen=True)
class Weather:
    """What the network does; rates are chances for each connection.

    Args:
        delay_s: The most that a piece usually takes.
        slow: The chance that a piece takes up to twenty times as long.
        refused: Connections that cannot be opened.
        lost: Requests that never arrive, and the client is told so.
        cut: Requests of which only a part arrives.
        unanswered: Answers that are lost, and the client is told so.
        silent: Exchanges that fall silent.
        stream_life_s: How long a take stream lives in the mean; 0 for as long as both ends want.
        stream_silent: The share of these that end in silence.
    """

    delay_s: float = 0.002
    slow: float = 0.0
    refused: float = 0.0
    lost: float = 0.0
    cut: float = 0.0
    unanswered: float = 0.0
    silent: float = 0.0
    stream_life_s: float = 0.0
    stream_silent: float = 0.0


class Disconnected(OSError):
    """What a server may meet that sends to a client which has gone."""


class Fate(Enum):
    """What befalls an exchange."""

    FAIR = "fair"
    REFUSED = "refused"
    LOST = "lost"
    CUT = "cut"
    UNANSWERED = "unanswered"
    SILENT = "silent"


class Server(Protocol):
    """What a network needs of a server."""

    def serve(self, connection: Connection, scope: Scope, receive: Receive, send: Send) -> asyncio.Task[None]:
        """Serve a request, in a task that ends with the process of the server."""


class Host:
    """A machine with a client's process on it.

    Args:
        process: The process.
    """

    def __init__(self, process: Process) -> None:
        self.process = process
        self.cut_until = 0.0
        self.connections: dict[Connection, None] = {}

    def __repr__(self) -> str:
        return self.process.name


class Pipe:
    """One direction of a connection: what is put in comes out later, in the same order; or not at all.

    Args:
        network: Says how long it takes.
        host: The machine at the end that is not the server.
        out: Gets what comes out.
    """

    def __init__(self, network: Network, host: Host, out: Callable[[Any], None]) -> None:
        self._network = network
        self._host = host
        self._out = out
        self._last = 0.0
        self.silent = False

    def put(self, piece: Any) -> float:
        """Send a piece; returns how long it takes."""
        loop = self._network.loop
        # A little later than the one before: timers of one instant have no order.
        at = max(self._last + 1e-6, loop.now + self._network.delay(), self._host.cut_until)
        self._last = at
        if not self.silent:
            loop.call_at(at, self._arrive, piece)
        return at - loop.now

    def _arrive(self, piece: Any) -> None:
        if not self.silent:
            self._out(piece)


_RESET = object()
"""What the other end gets when a connection breaks."""


class Connection:
    """One exchange: a request one way, an answer in pieces the other.

    Args:
        network: Over which it goes.
        host: Where the client is.
        request: What the client sends.
        fate: What befalls it.
    """

    def __init__(self, network: Network, host: Host, request: Request, fate: Fate) -> None:
        self.network = network
        self.host = host
        self.number = network.count_connection()
        self.request = request
        self.gone_at: float | None = None
        """When the server learned that the client had left; None while it thinks that it is there."""
        self.left_at: float | None = None
        """When the client closed it, or learned that it was broken."""
        self.task: asyncio.Task[None] | None = None
        self._fate = fate
        self._up = Pipe(network, host, self._server_gets)
        self._down = Pipe(network, host, self._client_gets)
        self._asked: deque[Message] = deque()
        self._answered: deque[Any] = deque()
        self._in_transit = 0
        self._change = asyncio.Event()
        self._reading = asyncio.Event()
        self._raises = network.dice.random() < 0.5
        self._cancels = network.dice.random() < 0.5

    def __repr__(self) -> str:
        return f"#{self.number} of {self.host}"

    # ── the client ──

    async def open(self) -> None:
        """Send the request.

        Raises:
            TransportError: When the connection cannot be opened.
        """
        await asyncio.sleep(max(self.network.delay(), self.host.cut_until - self.network.loop.now))
        if self._fate is Fate.REFUSED or self.network.server is None:
            raise TransportError("cannot connect: refused")
        early = self.network.dice.random() < 0.5
        if self._fate is Fate.LOST or (self._fate is Fate.SILENT and early):
            # What never arrives begins nothing.
            if self._fate is Fate.LOST:
                self._down.put(_RESET)
            return
        self._begin(self.network.server)
        body = self.request.body or b""
        if self._fate is Fate.CUT:
            body = body[: len(body) // 2]
        self._up.put({"type": "http.request", "body": body, "more_body": self._fate is Fate.CUT})
        if self._fate is Fate.CUT or (self._fate is Fate.UNANSWERED and early):
            self.reset()

    async def read(self) -> Any:
        """The next message of the answer.

        Raises:
            TransportError: When the connection broke.
            TimeoutError: When nothing came for too long.
        """
        while not self._answered:
            self._reading.clear()
            try:
                async with asyncio.timeout(READ_TIMEOUT_S):
                    await self._reading.wait()
            except TimeoutError:
                self._note_left()
                raise
        piece = self._answered.popleft()
        if piece is _RESET:
            self._answered.append(piece)
            self._note_left()
            raise TransportError("the connection broke: reset by peer")
        self._in_transit -= 1
        self._change.set()
        return piece

    def leave(self) -> None:
        """Close it from the client's end."""
        self._note_left()
        self.host.connections.pop(self, None)
        if self.task is not None and not self.task.done():
            self._up.put({"type": "http.disconnect"})

    def _note_left(self) -> None:
        if self.left_at is None:
            self.left_at = self.network.loop.now

    def _client_gets(self, piece: Any) -> None:
        self._answered.append(piece)
        self._reading.set()

    # ── the server ──

    def _begin(self, server: Server) -> None:
        asked = self.request
        bare, _, query = asked.path.partition("?")
        scope = {
            "type": "http",
            "http_version": "2",
            "method": asked.method,
            "path": bare,
            "raw_path": bare.encode(),
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in asked.headers.items()],
            "client": (self.host.process.name, self.number),
        }
        self.task = server.serve(self, scope, self._receive, self._send)
        self.host.connections[self] = None
        self.network.connections[self] = None
        self.task.add_done_callback(self._ended)

    async def _receive(self) -> Message:
        while not self._asked:
            self._change.clear()
            await self._change.wait()
        message = self._asked[0]
        # Whoever has left stays away, however often that is asked.
        return message if message["type"] == "http.disconnect" else self._asked.popleft()

    async def _send(self, message: Message) -> None:
        while self._in_transit >= WINDOW and self.gone_at is None:
            self._change.clear()
            await self._change.wait()
        if self.gone_at is not None:
            if self._raises:
                raise Disconnected("the client has left")
            return
        self._in_transit += 1
        if self._fate is Fate.UNANSWERED:
            self.reset()
        if self._down.put(message) > USER_TIMEOUT_S or self._fate is Fate.SILENT:
            self.fall_silent()
        elif self._down.silent:
            self._time_out()

    def _time_out(self) -> None:
        """What the server sends is acknowledged by nobody: it waits so long, and no longer."""
        self.network.loop.call_later(USER_TIMEOUT_S, self._server_gets, {"type": "http.disconnect"})

    def _server_gets(self, message: Message) -> None:
        if self.gone_at is not None:
            return
        self._asked.append(message)
        self._change.set()
        if message["type"] == "http.disconnect":
            self.gone_at = self.network.loop.now
            if self._cancels and self.task is not None:
                self.task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.network.connections.pop(self, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.network.server_failed(self, error)

    # ── what befalls it ──

    def reset(self) -> None:
        """Break it: each end hears of it in its own time, and of nothing that is sent after."""
        self._up.put({"type": "http.disconnect"})
        self._down.put(_RESET)

    def cut_off(self, *, heard: bool) -> None:
        """The server's process is gone; the client hears of it, or nothing any more."""
        self._up.silent = True
        if self.gone_at is None:
            self.gone_at = self.network.loop.now
        if heard:
            self._down.put(_RESET)
        else:
            self._down.silent = True

    def fall_silent(self) -> None:
        """Let nothing through any more, either way."""
        self._up.silent = self._down.silent = True
        if self._in_transit:
            self._time_out()


class Network:
    """Hosts, connections, and the weather between them.

    Args:
        loop: Whose time passes.
        dice: Draws delays and fates.
        weather: What befalls connections that are opened from now on.
        server_failed: Told of errors that no part of a server caught.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        dice: Random,
        weather: Weather,
        server_failed: Callable[[Connection, BaseException], None],
    ) -> None:
        self.loop = loop
        self.dice = dice
        self.weather = weather
        self.server: Server | None = None
        self.server_failed = server_failed
        self.connections: dict[Connection, None] = {}
        self._opened = 0

    def count_connection(self) -> int:
        """The number of a new connection."""
        self._opened += 1
        return self._opened

    def delay(self) -> float:
        """How long the next piece takes."""
        most = self.weather.delay_s
        if self.weather.slow and self.dice.random() < self.weather.slow:
            most *= 20
        return most * self.dice.random()

    def fate(self) -> Fate:
        """What befalls the next exchange."""
        draw, weather = self.dice.random(), self.weather
        chances = (weather.refused, weather.lost, weather.cut, weather.unanswered, weather.silent)
        for fate, chance in zip((*Fate,)[1:], chances, strict=True):
            if draw < chance:
                return fate
            draw -= chance
        return Fate.FAIR

    def kill(self, host: Host, *, heard: bool) -> None:
        """End the process of a host; its connections are closed by its kernel, or fall silent with the machine."""
        host.process.alive = False
        for connection in list(host.connections):
            if heard:
                connection.leave()
            else:
                connection.fall_silent()
        host.connections.clear()
        host.process.die()

    def fate_of_stream(self, connection: Connection) -> None:
        """Plan the end of a take stream, if the weather brings one."""
        mean = self.weather.stream_life_s
        if mean:
            silent = self.dice.random() < self.weather.stream_silent
            end = connection.fall_silent if silent else connection.reset
            self.loop.call_later(self.dice.expovariate(1 / mean), end)


class SimulatedTransport:
    """The transport of a client on a host of the network.

    Args:
        network: Where it sends to.
        host: Where it is.
    """

    def __init__(self, network: Network, host: Host) -> None:
        self._network = network
        self._host = host

    async def send(self, request: Request) -> Response:
        """The answer to a request, whatever its status."""
        connection = self._connect(request, self._network.fate())
        try:
            await connection.open()
            head = await connection.read()
            pieces = []
            while (message := await connection.read())["body"] or message.get("more_body"):
                pieces.append(message["body"])
                if not message.get("more_body"):
                    break
        except TimeoutError as error:
            raise TransportError("no answer in time: it may have been done all the same") from error
        finally:
            connection.leave()
        return Response(head["status"], _content_type(head), b"".join(pieces))

    async def open_stream(self, request: Request) -> SimulatedStream:
        """The answer to a request, as soon as its head is there."""
        connection = self._connect(request, Fate.FAIR)
        try:
            await connection.open()
            self._network.fate_of_stream(connection)
            head = await connection.read()
        except TimeoutError as error:
            connection.leave()
            raise TransportError("no answer in time") from error
        except BaseException:
            connection.leave()
            raise
        return SimulatedStream(connection, head["status"], _content_type(head))

    async def close(self) -> None:
        """Nothing is kept open."""

    def _connect(self, request: Request, fate: Fate) -> Connection:
        if not self._host.process.alive:
            raise TransportError("this process is dead")
        return Connection(self._network, self._host, request, fate)


class SimulatedStream:
    """The answer of a connection, piece by piece."""

    def __init__(self, connection: Connection, status: int, content_type: str | None) -> None:
        self.status = status
        self.content_type = content_type
        self._connection = connection
        self._ended = False

    async def read(self) -> bytes:
        """The next bytes; empty at the end."""
        while not self._ended:
            try:
                message = await self._connection.read()
            except TimeoutError as error:
                raise StreamIdleTimeout("the take stream was silent for too long") from error
            self._ended = not message.get("more_body")
            if message["body"]:
                body: bytes = message["body"]
                return body
        return b""

    async def close(self) -> None:
        """Leave."""
        self._connection.leave()


def _content_type(head: Message) -> str | None:
    return next((value.decode() for name, value in head["headers"] if name == b"content-type"), None)
