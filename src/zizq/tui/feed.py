"""What tells the model of the server: the events, and what is asked for again and again.

The WebSocket is that of the library `websockets` (docs/decisions/top.md). It is opened anew for as long as the program
runs; between two attempts it waits for longer each time, up to a limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from zizq.client.call import Request as Call
from zizq.client.connections import NetworkTransport
from zizq.client.settings import Settings
from zizq.clock import Clock, Dice
from zizq.errors import ConfigError, TransportError
from zizq.tui.messages import read_event, write_request
from zizq.tui.model import Model
from zizq.wire.events import Wish

FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 5.0
OPENING_S = 10.0
"""Seconds that an attempt to connect may take."""
SILENCE_S = 10.0
"""Seconds without a message, after which the connection is held for broken: heartbeats come every 2."""
LONGEST_MESSAGE = 64 * 1024 * 1024
"""Bytes of a message: four windows of jobs, with payloads."""
POLL_S = 1.0
"""Seconds between two requests for the same insight, at the least."""
_REFUSED = {401: "the server asks who calls: give it a --token", 403: "you may not see this: it needs the scope admin"}


class Feed:
    """The connection of a model to its server.

    Args:
        model: What is told.
        settings: Where the admin API is and how to reach it.
        clock: The time.
        dice: Spreads the attempts of many to connect again.
        poll_s: Seconds between two requests for the same insight.
    """

    def __init__(self, model: Model, settings: Settings, clock: Clock, dice: Dice, poll_s: float = POLL_S) -> None:
        self._model = model
        self._settings = settings
        self._clock = clock
        self._dice = dice
        self._poll_s = poll_s
        self._tls = tls_context(settings)
        self._outbox: asyncio.Queue[Wish] = asyncio.Queue()
        self._wanted: list[str] = []
        self._is_other = asyncio.Event()
        self.on_answer: Callable[[], None] = lambda: None
        """Called when what the user did is answered."""

    def send(self, requests: Sequence[Wish]) -> None:
        """Send messages, as soon as may be; those that wait when the connection breaks are dropped."""
        for request in requests:
            self._outbox.put_nowait(request)

    def want(self, names: list[str]) -> None:
        """Ask for these insights from now on; at once where they are others than before."""
        if names != self._wanted:
            self._wanted = names
            self._is_other.set()

    async def run(self) -> None:
        """Feed the model, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._poll())

    # ── events ───────────────────────────────────────────────────────────────────────────────────────

    async def _listen(self) -> None:
        wait_s = FIRST_WAIT_S
        while True:
            try:
                async with self._opened() as connection:
                    wait_s = FIRST_WAIT_S
                    await self._converse(connection)
            except (OSError, TimeoutError, WebSocketException, ConnectionClosed) as error:
                self._model.disconnected(reason_of(error), self._clock.mono_s())
            await asyncio.sleep(wait_s * (0.5 + self._dice.unit() / 2))
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    def _opened(self) -> connect:
        headers = {"authorization": f"Bearer {self._settings.token}"} if self._settings.token else {}
        address = self._settings.url.replace("http", "ws", 1) + "/events"
        return connect(
            address,
            additional_headers=headers,
            compression=None,  # the server is near, and has better things to do
            max_size=LONGEST_MESSAGE,
            open_timeout=OPENING_S,
            ping_interval=None,  # its heartbeats say as much
            proxy=None,
            ssl=self._tls,
            close_timeout=1,
        )

    async def _converse(self, connection: ClientConnection) -> None:
        self._model.connected(self._clock.mono_s())
        self._outbox = asyncio.Queue()
        self.send(self._model.take_requests())
        sending = asyncio.create_task(self._send_all(connection))
        try:
            while True:
                async with asyncio.timeout(SILENCE_S):
                    message = await connection.recv()
                event = read_event(message)
                if event is not None:
                    self._model.hear(event)
                    self._note_answer()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send_all(self, connection: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await connection.send(write_request(await self._outbox.get()))

    # ── insights ─────────────────────────────────────────────────────────────────────────────────────

    async def _poll(self) -> None:
        transport = NetworkTransport(self._settings)
        try:
            while True:
                self._is_other.clear()
                for name in self._wanted:
                    await self._ask(transport, name)
                    self._note_answer()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._is_other.wait(), self._poll_s)
        finally:
            await transport.close()

    def _note_answer(self) -> None:
        if self._model.has_answer:
            self._model.has_answer = False
            self.on_answer()

    async def _ask(self, transport: NetworkTransport, name: str) -> None:
        try:
            answer = await transport.send(Call("GET", f"/insight/{name}", {"accept": "application/json"}))
            if answer.status == 200:
                self._model.read(name, answer.body)
            elif answer.status == 404:
                self._model.refused(name, "This server does not tell of this.")
            else:
                self._model.refused(name, _REFUSED.get(answer.status, f"The server answered {answer.status}."))
        except TransportError:
            return  # the events say so already
        except msgspec.DecodeError as error:
            self._model.refused(name, f"The server's answer cannot be read: {error}")


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """What checks the server's certificate, and shows ours; None for a server without TLS.

    Raises:
        ConfigError: When a certificate cannot be used.
    """
    if urlsplit(settings.url).scheme == "http":
        return None
    context = ssl.create_default_context()
    try:
        if settings.tls and (roots := settings.tls.ca_pem()):
            context.load_verify_locations(cadata=roots.decode())
        if settings.tls and settings.tls.client_cert is not None:
            # On the command line they are always files.
            context.load_cert_chain(str(settings.tls.client_cert), str(settings.tls.client_key))
    except (ssl.SSLError, OSError, ValueError) as error:
        raise ConfigError(f"the certificates cannot be used: {error}") from error
    return context


def reason_of(error: Exception) -> str:
    """Why a connection broke or did not come about, in a line."""
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        return _REFUSED.get(status, f"the server answered {status}: is this its admin API?")
    if isinstance(error, TimeoutError):
        return "the server is silent"
    if isinstance(error, ConnectionClosed):
        return "the server closed the connection"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted: {error.verify_message}"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__
