"""The whole application without sockets, fed with bytes: no request may be answered with 500 or not at all."""

from __future__ import annotations

import asyncio
from typing import Any

from trust.parsers import ID
from zizq.clock import SystemDice
from zizq.policy import Defaults
from zizq.server.app import App
from zizq.server.settings import Settings
from zizq.store.memory import MemoryStore
from zizq.testing.clock import ManualClock
from zizq.wire import operations as op
from zizq.wire.framing import StreamFormat

NOW = 1_790_000_000_000
TYPES = (b"application/json", b"application/msgpack", b"text/plain", None, b"application/json, application/msgpack")
ACCEPTS = (b"*/*", b"application/msgpack", b"application/json", None, StreamFormat.SSE.value.encode())
LONGEST_S = 10.0
SEEDS = tuple(
    bytes((at, 0, 0, 0)) + b'limit=5|{"type":"t","queue":"q","payload":1}' for at in range(len(op.OPERATIONS))
)


class Application:
    """A server in memory, and the loop that it runs on."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        clock, dice = ManualClock(NOW), SystemDice()
        self._app = App(Settings(), store=MemoryStore(Defaults(), dice), clock=clock, dice=dice)
        self._loop.run_until_complete(self._app.start())

    def ask(self, scope: dict[str, Any], body: bytes) -> int:
        """The status of the answer to a request."""
        return self._loop.run_until_complete(asyncio.wait_for(self._ask(scope, body), LONGEST_S))

    async def _ask(self, scope: dict[str, Any], body: bytes) -> int:
        half = len(body) // 2
        # The second half comes apart, and then the client leaves.
        messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": body[:half], "more_body": True},
            {"type": "http.request", "body": body[half:], "more_body": False},
        ]
        statuses: list[int] = []

        async def receive() -> dict[str, Any]:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        await self._app.asgi(scope, receive, send)
        [status] = statuses
        return status

    def close(self) -> None:
        """Stop it."""
        self._loop.run_until_complete(self._app.stop())
        self._loop.close()


def feed(application: Application, data: bytes) -> None:
    """Make a request of bytes: which call, which formats, which path; then query and body with a bar between."""
    data = data.ljust(4, b"\0")
    operation = op.OPERATIONS[data[0] % len(op.OPERATIONS)]
    content_type, accept = TYPES[data[1] % len(TYPES)], ACCEPTS[data[2] % len(ACCEPTS)]
    segment = (ID, "a b", "..", "%00", "ü", "1", "x" * 300)[data[3] % 7]
    query, _, body = data[4:].partition(b"|")
    path = operation.at(segment, segment) if "{" in operation.path else operation.path
    headers = [(b"content-type", content_type), (b"accept", accept), (b"content-length", b"%d" % len(body))]
    scope = {
        "type": "http", "http_version": "1.1", "method": operation.method, "path": path, "raw_path": path.encode(),
        "query_string": query, "headers": [pair for pair in headers if pair[1] is not None],
        "client": ("127.0.0.1", 1), "scheme": "http",
    }  # fmt: skip
    status = application.ask(scope, body)
    assert status < 500 or status in (501, 503), (scope, body, status)
