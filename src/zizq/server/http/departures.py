"""Notices at once that the client of an open stream has gone.

A worker that dies must give its jobs back within milliseconds (protocol.md#4.4). While a response is under way, h2corn,
which serves TLS and the admin API, does not read from an HTTP/1.1 connection, and so learns of its end only from writes
that fail: with the second heartbeat. The kernel knows at once, so it is asked, by an epoll of our own. Where there is
no epoll, heartbeats must do. HTTP/2 connections are read all the time and need no help, nor do those that we read.

h2corn does not hand out its sockets, so a stream's is found among our own by the address of its peer. With
ten thousand connections a search takes 20 ms, so one search looks for all streams that were opened since the last,
searches have a small share of the event loop, and each is done slice by slice.

A closed descriptor leaves the epoll by itself; its number may come back as another connection.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import Callable, Sequence

Gone = Callable[[], object]
Peer = tuple[str, int]

SHARE = 20
"""Searches take one part in so many of the event loop's time."""
SLICE = 256
"""Descriptors that are looked at in one go: half a millisecond."""


class Departures:
    """Calls back when a peer closes its end of a connection."""

    def __init__(self) -> None:
        self._poll: select.epoll | None = None
        self._watched: dict[Peer, Gone] = {}
        self._sought: set[Peer] = set()
        self._search: asyncio.Task[None] | None = None
        # Both ways, since the kernel tells of descriptors and streams know their peers.
        self._peers: dict[int, Peer] = {}
        self._fds: dict[Peer, int] = {}

    def open(self) -> None:
        """Begin to watch, on the event loop that is running now."""
        if hasattr(select, "epoll"):
            self._poll = select.epoll()
            asyncio.get_running_loop().add_reader(self._poll.fileno(), self._ready)

    def close(self) -> None:
        """Watch nothing any more."""
        if self._search is not None:
            self._search.cancel()
        if self._poll is not None:
            asyncio.get_running_loop().remove_reader(self._poll.fileno())
            self._poll.close()
            self._poll = None

    def watch(self, peer: Peer, gone: Gone) -> None:
        """Call `gone` when the peer leaves. Where its connection cannot be found, nothing happens."""
        if self._poll is None:
            return
        self._watched[peer] = gone
        self._sought.add(peer)
        if self._search is None:
            self._search = asyncio.ensure_future(self._seek())

    def forget(self, peer: Peer, gone: Gone) -> None:
        """Stop a watch; one that has ended by itself is no matter."""
        # By its callback too, for the same peer may have a stream after this one.
        if self._watched.get(peer) is not gone:
            return
        del self._watched[peer]
        self._sought.discard(peer)
        fd = self._fds.pop(peer, None)
        if fd is None or self._poll is None:
            return
        del self._peers[fd]
        try:
            self._poll.unregister(fd)
        except OSError:
            return  # closed already

    def _ready(self) -> None:
        if self._poll is None:
            return
        for fd, _ in self._poll.poll(0):
            gone = self._watched.get(self._peers.get(fd, ("", 0)))
            if gone is not None:
                gone()

    # ── finding descriptors ──

    async def _seek(self) -> None:
        """Find the connections of all that are sought, until there are none."""
        clock = asyncio.get_running_loop().time
        while self._sought:
            sought, self._sought = self._sought, set()
            began = clock()
            fds = self._descriptors()
            # What others do meanwhile does not count.
            spent = clock() - began
            for start in range(0, len(fds), SLICE):
                began = clock()
                self._look(fds[start : start + SLICE], sought)
                spent += clock() - began
                if not sought:
                    break
                await asyncio.sleep(0)
            await asyncio.sleep(spent * SHARE)
        self._search = None

    def _descriptors(self) -> list[int]:
        """All descriptors of the process; new connections are most likely, so those that are watched come last."""
        try:
            fds = [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208 - a path for each would cost more
        except OSError:
            return []  # none is left to read that folder with
        return sorted(fds, key=self._peers.__contains__)

    def _look(self, fds: Sequence[int], sought: set[Peer]) -> None:
        """Register those of the descriptors that lead to a peer that is sought."""
        for fd in fds:
            peer = _peer_of(fd)
            if peer in sought:
                sought.discard(peer)
                if peer in self._watched:
                    self._register(fd, peer)

    def _register(self, fd: int, peer: Peer) -> None:
        if self._poll is None:
            return
        mode = select.EPOLLRDHUP | select.EPOLLONESHOT
        try:
            self._poll.register(fd, mode)
        except FileExistsError:
            self._poll.modify(fd, mode)
        except OSError:
            return
        # The descriptor may have been that of a peer whose stream has yet to notice that it has gone.
        self._fds.pop(self._peers.get(fd, peer), None)
        self._peers[fd], self._fds[peer] = peer, fd


def _peer_of(fd: int) -> Peer | None:
    try:
        connection = socket.socket(fileno=fd)
    except OSError:
        return None
    try:
        host, port = connection.getpeername()[:2]
        return (host, port)
    except (OSError, ValueError):
        return None
    finally:
        # The descriptor is not ours to close.
        connection.detach()
