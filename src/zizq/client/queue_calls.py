"""The API calls on queues, and the state of one as the application sees it."""

from __future__ import annotations

from datetime import datetime

import msgspec

from zizq.client.call import Call, CallMaker, reading
from zizq.client.options import maybe_instant_of
from zizq.wire import messages, operations
from zizq.wire.insight import Counts


class QueueState(msgspec.Struct, frozen=True, kw_only=True, rename={"paused_at_ms": "paused_at"}):
    """What state a queue is in.

    Args:
        queue: Its name.
        paused: Whether it hands out nothing.
        paused_at_ms: Since when, in Unix milliseconds; None where it is not paused.
        counts: How many jobs it has in each status.
    """

    queue: str
    paused: bool
    paused_at_ms: int | None = None
    counts: Counts

    @property
    def paused_at(self) -> datetime | None:
        """Since when it is paused; None where it is not."""
        return maybe_instant_of(self.paused_at_ms)


class QueueCalls(CallMaker):
    """The calls on queues in one format."""

    def names(self) -> Call[list[str]]:
        """Ask for the names of the queues that hold jobs."""
        return self._call(operations.QUEUES, lambda answer: _read_queues(answer).queues)

    def state(self, name: str) -> Call[QueueState]:
        """Ask for the state of a queue."""
        return self._call(operations.GET_QUEUE, _read_state, name)

    def states(self) -> Call[list[QueueState]]:
        """Ask for the states of all queues that hold jobs or are paused."""
        return self._call(operations.QUEUES, lambda answer: _read_states(answer).states, query="states=true")

    def pause(self, name: str) -> Call[QueueState]:
        """Pause a queue; the value is its state after that."""
        return self._call(operations.PAUSE_QUEUE, _read_state, name)

    def resume(self, name: str) -> Call[QueueState]:
        """Resume a queue; the value is its state after that."""
        return self._call(operations.RESUME_QUEUE, _read_state, name)


class _States(msgspec.Struct):
    states: list[QueueState]


_read_queues = reading(messages.Queues)
_read_state = reading(QueueState)
_read_states = reading(_States)
