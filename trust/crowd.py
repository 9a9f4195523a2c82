"""A crowd of clients in a process of its own: thousands of sockets that behave, are slow, stop halfway or flood.

`python -m trust.crowd HOST PORT` reads orders from its standard input, a JSON array a line: a verb and its numbers.
Each is answered with a line of JSON. Sockets come from several addresses of 127.0.0.0/8, for each has 28,000 ports.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

PORTS = 10_000
"""Sockets that have one source address."""
RATE = 1000
"""Connections that are opened in a second."""
STREAM = b"GET /jobs/take?%s HTTP/1.1\r\nhost: crowd\r\naccept: application/vnd.zizq.msgpack-stream\r\n\r\n"
POST = b"POST /jobs HTTP/1.1\r\nhost: crowd\r\ncontent-type: application/json\r\n%scontent-length: %d\r\n\r\n"
JOB = b'{"type":"crowd","queue":"crowd","payload":"%s"}' % (b"x" * 200)
ENQUEUE = POST % (b"", len(JOB)) + JOB


class Talker(asyncio.Protocol):
    """A socket that counts the statuses of what it is answered.

    Args:
        statuses: Where they are counted; a connection that is cut off counts as 0.
    """

    def __init__(self, statuses: Counter[int]) -> None:
        self.statuses = statuses
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it, and begin."""
        self.transport = cast(asyncio.Transport, transport)
        self.begin()

    def begin(self) -> None:
        """Say the first word."""

    def data_received(self, data: bytes) -> None:
        """Count what begins here."""
        if data.startswith(b"HTTP/1.1 "):
            self.statuses[int(data[9:12])] += 1
            self.answered(data)

    def answered(self, data: bytes) -> None:
        """A response has begun."""

    def connection_lost(self, error: Exception | None) -> None:
        """Count one that was not ours to end."""
        if not self.closing:
            self.statuses[0] += 1

    def close(self) -> None:
        """End it."""
        self.closing = True
        self.transport.abort()


class Taker(Talker):
    """A take stream that reads what it is sent."""

    def __init__(self, statuses: Counter[int], query: bytes) -> None:
        super().__init__(statuses)
        self._query = query

    def begin(self) -> None:
        """Ask for the stream."""
        self.transport.write(STREAM % self._query)


class Sloth(Taker):
    """A take stream that reads its head and no more."""

    def answered(self, data: bytes) -> None:
        """Read no more."""
        self.transport.pause_reading()


class Enqueuer(Talker):
    """One request after the other, with so many seconds between; with none between, a flood."""

    def __init__(self, statuses: Counter[int], pause_s: float, delays: list[float]) -> None:
        super().__init__(statuses)
        self._pause_s = pause_s
        self._delays = delays
        self._asked_at = 0.0

    def begin(self) -> None:
        """Wait for the first request."""
        loop = asyncio.get_running_loop()
        # Spread over the pause, so that they do not come in step.
        loop.call_later(self._pause_s * (id(self) % 997) / 997, self.ask)

    def ask(self) -> None:
        """Send one."""
        if not self.transport.is_closing():
            self._asked_at = time.monotonic()
            self.transport.write(ENQUEUE)

    def answered(self, data: bytes) -> None:
        """Note how long it took, and go on."""
        self._delays.append(time.monotonic() - self._asked_at)
        if self._pause_s:
            asyncio.get_running_loop().call_later(self._pause_s, self.ask)
        else:
            self.ask()


class Half(Talker):
    """Half a request: a part of a head, or a head and a part of a body, or a byte of one every second."""

    def __init__(self, statuses: Counter[int], kind: int) -> None:
        super().__init__(statuses)
        self._kind = kind

    def begin(self) -> None:
        """Send the half."""
        head, large = ENQUEUE[:60], POST % (b"", 2**20)
        self.transport.write((head, large, large + bytes(2**19), large)[self._kind])
        if self._kind == 3:
            self.trickle()

    def trickle(self) -> None:
        """One byte more."""
        if not self.transport.is_closing():
            self.transport.write(b" ")
            asyncio.get_running_loop().call_later(1, self.trickle)


class Crowd:
    """All sockets, by the name of their kind.

    Args:
        address: Where the server is.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._talkers: dict[str, list[Talker]] = {}
        self._statuses: dict[str, Counter[int]] = {}
        self._delays: dict[str, list[float]] = {}
        self._opened = 0

    async def do(self, verb: str, *numbers: float) -> Any:
        """Carry out an order."""
        return await getattr(self, f"_{verb}")(*numbers)

    async def _take(self, count: int) -> int:
        numbers = itertools.count()
        return await self._open("take", count, lambda s: Taker(s, b"queue=q%d" % (next(numbers) % 100)))

    async def _sloth(self, count: int) -> int:
        numbers = itertools.count()
        return await self._open(
            "sloth", count, lambda s: Sloth(s, b"queue=sloth%d&prefetch=0" % next(numbers)), receive=4096
        )

    async def _enqueue(self, count: int, pause_s: float) -> int:
        delays = self._delays.setdefault("enqueue", [])
        return await self._open("enqueue", count, lambda s: Enqueuer(s, pause_s, delays))

    async def _flood(self, count: int) -> int:
        delays = self._delays.setdefault("flood", [])
        return await self._open("flood", count, lambda s: Enqueuer(s, 0, delays))

    async def _half(self, count: int) -> int:
        numbers = itertools.count()
        return await self._open("half", count, lambda s: Half(s, next(numbers) % 4))

    async def _report(self) -> dict[str, Any]:
        """What was answered since the last report: statuses by kind, and the delays that were seen."""
        found = {
            name: {"statuses": dict(statuses), "delays": _quantiles(self._delays.get(name, []))}
            for name, statuses in self._statuses.items()
        }
        for counted in (*self._statuses.values(), *self._delays.values()):
            counted.clear()
        return found

    async def _close(self) -> int:
        """End all sockets."""
        count = 0
        for talkers in self._talkers.values():
            count += len(talkers)
            for talker in talkers:
                talker.close()
            talkers.clear()
        return count

    async def _open(self, kind: str, count: int, make: Callable[[Counter[int]], Talker], receive: int = 0) -> int:
        statuses = self._statuses.setdefault(kind, Counter())
        talkers = self._talkers.setdefault(kind, [])
        loop = asyncio.get_running_loop()

        async def one(number: int) -> None:
            await asyncio.sleep(number / RATE)
            opened = _socket(self._opened // PORTS, receive)
            self._opened += 1
            await loop.sock_connect(opened, self._address)
            _, talker = await loop.create_connection(lambda: make(statuses), sock=opened)
            talkers.append(talker)

        done = await asyncio.gather(*map(one, range(count)), return_exceptions=True)
        return sum(1 for one in done if one is None)


def _socket(block: int, receive: int) -> socket.socket:
    opened = socket.socket()
    if receive:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    opened.bind((f"127.0.1.{1 + block}", 0))
    opened.setblocking(False)
    return opened


def _quantiles(delays: list[float]) -> list[float]:
    """The median, the 99th of a hundred and the worst, in milliseconds."""
    ordered = sorted(delays)
    return [round(1000 * ordered[int(part * (len(ordered) - 1))], 1) for part in (0.5, 0.99, 1)] if ordered else []


async def main(host: str, port: int) -> None:
    """Carry out orders until there are no more."""
    crowd, loop = Crowd((host, port)), asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await crowd.do(*json.loads(line))), flush=True)


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
