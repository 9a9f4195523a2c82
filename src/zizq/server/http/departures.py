"""Notices at once that the client of an open stream has gone.

A worker that dies must give its jobs back within milliseconds (protocol.md#4.4). While a response is under way, the
HTTP server does not read from an HTTP/1.1 connection, and so learns of its end only from writes that fail: with the
second heartbeat. The kernel knows at once, so it is asked, by an epoll of our own. Where there is no epoll, heartbeats
must do. HTTP/2 connections are read all the time and need no help.

The HTTP server does not hand out its sockets, so a stream's is found among our own by the address of its peer. A
closed descriptor leaves the epoll by itself; its number may come back as another connection, so a watch is known by
its callback too.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import Callable

Gone = Callable[[], object]
Peer = tuple[str, int]


class Departures:
    """Calls back when a peer closes its end of a connection."""

    def __init__(self) -> None:
        self._poll: select.epoll | None = None
        self._watched: dict[int, Gone] = {}

    def open(self) -> None:
        """Begin to watch, on the event loop that is running now."""
        if hasattr(select, "epoll"):
            self._poll = select.epoll()
            asyncio.get_running_loop().add_reader(self._poll.fileno(), self._ready)

    def close(self) -> None:
        """Watch nothing any more."""
        if self._poll is not None:
            asyncio.get_running_loop().remove_reader(self._poll.fileno())
            self._poll.close()
            self._poll = None

    def watch(self, peer: Peer, gone: Gone) -> int | None:
        """Call `gone` when the peer leaves.

        Returns:
            What `forget` wants to know; None where the connection cannot be watched.
        """
        fd = self._find(peer) if self._poll is not None else None
        if fd is None or self._poll is None:
            return None
        mode = select.EPOLLRDHUP | select.EPOLLONESHOT
        try:
            self._poll.register(fd, mode)
        except FileExistsError:
            self._poll.modify(fd, mode)
        except OSError:
            return None
        self._watched[fd] = gone
        return fd

    def forget(self, fd: int | None, gone: Gone) -> None:
        """Stop a watch; one that has ended by itself is no matter."""
        if fd is None or self._watched.get(fd) is not gone or self._poll is None:
            return
        del self._watched[fd]
        try:
            self._poll.unregister(fd)
        except OSError:
            return  # closed already

    def _ready(self) -> None:
        if self._poll is None:
            return
        for fd, _ in self._poll.poll(0):
            gone = self._watched.get(fd)
            if gone is not None:
                gone()

    def _find(self, peer: Peer) -> int | None:
        """The descriptor of the connection to a peer; new connections are most likely, so watched ones come last."""
        fds = [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208 - a path for each would cost more
        fds.sort(key=self._watched.__contains__)
        return next((fd for fd in fds if _peer_of(fd) == peer), None)


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
