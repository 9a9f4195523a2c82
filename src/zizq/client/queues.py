"""The methods of both clients that are about queues.

The clients inherit them, for all that can be done with a client would not fit one file.
"""

from __future__ import annotations

from zizq.client.methods import Methods, SyncMethods
from zizq.client.queue_calls import QueueState


class QueueMethods(Methods):
    """The methods of `Client` that are about queues."""

    async def queues(self) -> list[str]:
        """Ask for the names of the queues that hold jobs of any status."""
        return await self._send(self._calls.queues.names())

    async def queue(self, name: str) -> QueueState:
        """Ask whether a queue is paused, and how many jobs it has in each status; it need not hold any.

        Raises:
            InvalidRequest: When it is no name of a queue.
        """
        return await self._send(self._calls.queues.state(name))

    async def queue_states(self) -> list[QueueState]:
        """Ask for the state of every queue that holds a job or is paused, sorted by name."""
        return await self._send(self._calls.queues.states())

    async def pause_queue(self, name: str) -> QueueState:
        """Pause a queue: once this returns, no worker is handed a job of it, until it is resumed.

        Jobs in flight go on, and so do enqueues. The queue need not hold any jobs.

        Returns:
            The state of the queue after that. Where it was paused already, since when has not changed.

        Raises:
            InvalidRequest: When it is no name of a queue, or too many are paused.
        """
        return await self._send(self._calls.queues.pause(name))

    async def resume_queue(self, name: str) -> QueueState:
        """Let workers have jobs of a queue again; one that is not paused stays as it is.

        Returns:
            The state of the queue after that.

        Raises:
            InvalidRequest: When it is no name of a queue.
        """
        return await self._send(self._calls.queues.resume(name))


class SyncQueueMethods(SyncMethods):
    """The methods of `SyncClient` that are about queues."""

    def queues(self) -> list[str]:
        """Ask for the names of the queues that hold jobs of any status."""
        return self._send(self._calls.queues.names())

    def queue(self, name: str) -> QueueState:
        """Ask whether a queue is paused, and how many jobs it has in each status; it need not hold any.

        Raises:
            InvalidRequest: When it is no name of a queue.
        """
        return self._send(self._calls.queues.state(name))

    def queue_states(self) -> list[QueueState]:
        """Ask for the state of every queue that holds a job or is paused, sorted by name."""
        return self._send(self._calls.queues.states())

    def pause_queue(self, name: str) -> QueueState:
        """Pause a queue: once this returns, no worker is handed a job of it, until it is resumed.

        Jobs in flight go on, and so do enqueues. The queue need not hold any jobs.

        Returns:
            The state of the queue after that. Where it was paused already, since when has not changed.

        Raises:
            InvalidRequest: When it is no name of a queue, or too many are paused.
        """
        return self._send(self._calls.queues.pause(name))

    def resume_queue(self, name: str) -> QueueState:
        """Let workers have jobs of a queue again; one that is not paused stays as it is.

        Returns:
            The state of the queue after that.

        Raises:
            InvalidRequest: When it is no name of a queue.
        """
        return self._send(self._calls.queues.resume(name))
