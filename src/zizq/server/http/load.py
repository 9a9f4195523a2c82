"""What the server has in hand, and whom it turns away when that is too much.

Three things are counted: take streams, requests that wait for their answer, and bytes of bodies on their way. Where
the server as a whole is full the answer is 503, where one client has more than its share it is 429; both say when to
come again. A body that keeps its place by coming a byte at a time is answered with 408.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from zizq.clock import Clock
from zizq.errors import TooMany, TooSlow, Unavailable
from zizq.words import size

SHARE = 2
"""One client may have one part in so many of all."""
GRACE_S = 30
"""How long a body may take at any pace."""
PACE = 16 * 2**10
"""Bytes a second that a body must come at when it takes longer."""


class Load:
    """Counts what is in hand.

    Args:
        clock: Times bodies.
        streams: How many take streams may be open; 0 for any number.
        requests: How many requests may wait for their answer; 0 for any number.
        memory: How many bytes of bodies may be on their way, in or out; 0 for any number.
    """

    def __init__(self, clock: Clock, *, streams: int = 0, requests: int = 0, memory: int = 0) -> None:
        self._clock = clock
        self._most_streams = streams or sys.maxsize
        self._streams = 0
        self._requests = _Shared(requests)
        self._memory = _Shared(memory)

    def now_s(self) -> float:
        """The time for `check_pace`, in seconds."""
        return self._clock.mono_s()

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Count a take stream for as long as the block lasts.

        Raises:
            Unavailable: When there are too many.
        """
        if self._streams >= self._most_streams:
            raise Unavailable(
                f"{self._streams} take streams are open, and this server allows no more: come again later, or start"
                " it with more --max-streams"
            )
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    def enter(self, client: str) -> None:
        """Count a request whose body is there.

        Raises:
            Unavailable: When too many wait.
            TooMany: When too many of one client wait.
        """
        requests = self._requests
        if requests.total >= requests.most:
            raise Unavailable(
                f"{requests.total} requests wait for their answer, and this server allows no more: come again later,"
                " or start it with more --max-requests"
            )
        of_client = requests.of.get(client, 0)
        if of_client >= requests.share:
            raise TooMany(
                f"{of_client} requests of this client wait for their answer, and its share of"
                f" --max-requests is {requests.share}: ask less at once"
            )
        requests.add(client, 1)

    def leave(self, client: str, entered: int, held: int) -> None:
        """A request is answered.

        Args:
            client: Whose it is.
            entered: 1 where it had entered, else 0.
            held: The bytes of its bodies that were counted.
        """
        if entered:
            self._requests.drop(client, entered)
        if held:
            self._memory.drop(client, held)

    def hold(self, client: str, count: int) -> None:
        """Count bytes of a body.

        Raises:
            Unavailable: When there is no room for them.
            TooMany: When the bodies of this client take too much.
        """
        memory = self._memory
        if memory.total + count > memory.most:
            raise Unavailable(
                f"bodies on their way take {size(memory.total)} of {size(memory.most)}: come again later, or start"
                " the server with more --max-body-memory"
            )
        of_client = memory.of.get(client, 0)
        if of_client + count > memory.share:
            raise TooMany(
                f"bodies from and to this client take {size(of_client)}, and its share of"
                f" --max-body-memory is {size(memory.share)}: send and ask less at once"
            )
        memory.add(client, count)

    def hold_anyway(self, client: str, count: int) -> None:
        """Count bytes of an answer that cannot be refused any more."""
        self._memory.add(client, count)

    def check_pace(self, began_s: float, count: int) -> None:
        """Hold a body to the pace at which it must come.

        Args:
            began_s: When its first bytes came.
            count: How many came since.

        Raises:
            TooSlow: When it takes too long.
        """
        late_s = self._clock.mono_s() - began_s - GRACE_S
        if late_s > 0 and late_s * PACE > count:
            raise TooSlow(f"the body comes too slowly: send at least {size(PACE)} a second")


class _Shared:
    """Something that there is only so much of, and only a share of it for each client."""

    def __init__(self, most: int) -> None:
        self.most = most or sys.maxsize
        self.share = max(1, self.most // SHARE)
        self.total = 0
        self.of: dict[str, int] = {}
        """How much each client has that has anything."""

    def add(self, client: str, count: int) -> None:
        """A client has more."""
        self.total += count
        self.of[client] = self.of.get(client, 0) + count

    def drop(self, client: str, count: int) -> None:
        """A client has less."""
        self.total -= count
        left = self.of[client] - count
        if left:
            self.of[client] = left
        else:
            del self.of[client]
