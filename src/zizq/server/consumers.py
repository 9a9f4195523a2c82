"""Open take streams: what room each has, and which of them is woken when jobs become ready.

A consumer is in one of three waits:

* *full*: it holds as many jobs as its prefetch allows, and waits for one of them to leave;
* *hungry*: it has room, and waits for its queues to have a job;
* *blocked*: it has room, and the server as a whole has not (the global in-flight limit).

One whose client is about to leave is *retired*: it has no room any more, and ends once it holds nothing.

One event wakes one consumer, which then takes as many jobs as it has room for, and passes the wake on when there may
be more. So a thousand idle streams cost nothing when a job arrives. A wake is never lost: a consumer that goes away
with it, or finds nothing, passes it on as well.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from itertools import islice
from typing import NamedTuple

log = logging.getLogger("zizq.take")


class Terms(NamedTuple):
    """What is known of a worker when it opens a take stream, mostly from itself (protocol.md#14).

    Args:
        timeout_ms: How long it may hold a job that does not say so itself; None for as long as it likes.
        concurrency: How many jobs it runs at once: those it has held longest. None for all that it holds.
        name: What it calls the stream when it asks for its end.
        worker_id: What it calls itself.
        peer: The address that it comes from.
    """

    timeout_ms: int | None = None
    concurrency: int | None = None
    name: str | None = None
    worker_id: str | None = None
    peer: str | None = None


NO_TERMS = Terms()


class Consumer:
    """One take stream.

    Args:
        owner: What the store knows it by.
        queues: The queues it takes from; empty for all.
        prefetch: How many unacknowledged jobs it may hold; 0 for any number.
        terms: What is known of its worker.
        opened_at: When it began, in Unix milliseconds.
    """

    def __init__(
        self, owner: int, queues: Collection[str], prefetch: int, terms: Terms = NO_TERMS, opened_at: int = 0
    ) -> None:
        self.owner = owner
        # In their order, for whoever waits is woken in it.
        self.queues: Collection[str] = dict.fromkeys(queues)
        self.prefetch = prefetch
        self.terms = terms
        self.opened_at = opened_at
        self.held = 0
        self.closed = False
        self.retired = False
        self._woken = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def room(self) -> int:
        """How many more jobs it may be handed at once."""
        if self.retired:
            return 0
        # Without a limit the socket sets the pace: one job at a time (protocol.md#4.3).
        return self.prefetch - self.held if self.prefetch else 1

    @property
    def is_done(self) -> bool:
        """Whether it is retired, and all that it held has left it."""
        return self.retired and self.held <= 0

    def wake(self) -> None:
        """Let `wait` return; a wake that comes before the wait is kept for it."""
        self._woken = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """Say that the stream is to end."""
        self.closed = True
        self.wake()

    async def wait(self, timeout_s: float) -> bool:
        """Wait to be woken; returns False when `timeout_s` seconds passed instead."""
        if not self._woken:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(timeout_s, _finish, self._waiter)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        woken, self._woken = self._woken, False
        return woken


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class Consumers:
    """All consumers of a server, and who waits for what.

    Args:
        limit: How many jobs may be in flight over all; 0 for any number.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._in_flight = 0
        self._all: dict[int, Consumer] = {}
        self._named: dict[str, dict[int, Consumer]] = {}
        # By queue, or "" for those that take from all. Insertion order is the order of waiting: whoever waits
        # longest is woken first.
        self._hungry: dict[str, dict[int, Consumer]] = {}
        self._blocked: dict[int, Consumer] = {}
        self._closed = False
        self._told = False

    def __len__(self) -> int:
        return len(self._all)

    def add(self, consumer: Consumer) -> None:
        """A stream opened; it ends at once when the server is about to stop."""
        self._all[consumer.owner] = consumer
        if consumer.terms.name is not None:
            self._named.setdefault(consumer.terms.name, {})[consumer.owner] = consumer
        if self._closed:
            consumer.close()

    def remove(self, consumer: Consumer) -> None:
        """A stream closed; a wake that it may have had goes to the next."""
        self._all.pop(consumer.owner, None)
        namesakes = self._named.get(consumer.terms.name or "", {})
        namesakes.pop(consumer.owner, None)
        if not namesakes:
            self._named.pop(consumer.terms.name or "", None)
        self._pass_on(consumer)

    def oldest(self, limit: int) -> list[Consumer]:
        """Those that have been open for longest."""
        return list(islice(self._all.values(), limit))

    def retire(self, name: str) -> list[int]:
        """Hand nothing more to the streams of a name, which end once they hold nothing; returns their owners."""
        retired = list(self._named.get(name, {}).values())
        for consumer in retired:
            consumer.retired = True
            self._pass_on(consumer)
            consumer.wake()
        return [consumer.owner for consumer in retired]

    def room(self, consumer: Consumer) -> int:
        """How many jobs a consumer may be handed now, within its own room and the server's."""
        if not self._limit:
            return consumer.room
        return min(consumer.room, self._limit - self._in_flight)

    def reserve(self, consumer: Consumer, count: int) -> None:
        """Count jobs as handed to a consumer, before they are taken; it waits no longer, however it came here."""
        self._unlist(consumer)
        consumer.held += count
        self._in_flight += count

    def handed(self, consumer: Consumer, reserved: int, taken: int) -> None:
        """A take is over: give back what was reserved in vain, and pass the wake on."""
        self._count(consumer.owner, reserved - taken)
        if taken == reserved:
            self._wake_next(consumer)
        self._wake_blocked()

    def starve(self, consumer: Consumer) -> None:
        """A consumer found nothing, or no room: it waits."""
        if consumer.room <= 0:
            return
        if self.room(consumer) <= 0:
            self._blocked[consumer.owner] = consumer
            self._tell_limit()
            return
        for queue in consumer.queues or ("",):
            self._hungry.setdefault(queue, {})[consumer.owner] = consumer

    def rest(self, consumer: Consumer) -> None:
        """A consumer that found nothing turns to its client: until it asks again, wakes go to others.

        A client that does not read may keep it there for long.
        """
        self._unlist(consumer)

    def available(self, queues: Collection[str]) -> None:
        """These queues have ready jobs: wake one consumer for each."""
        for queue in queues:
            if not self._wake_first(queue):
                self._wake_first("")

    def freed(self, owner: int, count: int) -> None:
        """This many jobs left an owner: it has room again, and so has the server."""
        consumer = self._all.get(owner)
        if consumer is not None and consumer.room <= 0:
            consumer.wake()
        self._count(owner, count)
        self._wake_blocked()

    @property
    def closed(self) -> bool:
        """Whether all streams are to end."""
        return self._closed

    def close(self) -> None:
        """End all streams, and all that are still to come."""
        self._closed = True
        for consumer in self._all.values():
            consumer.close()

    def _tell_limit(self) -> None:
        """Say once that the limit holds workers back: it looks like a stall to those who do not know of it."""
        if not self._told:
            self._told = True
            log.warning(
                "in-flight limit reached: workers wait though jobs may be ready; raise --global-in-flight-limit",
                extra={"fields": {"limit": self._limit}},
            )

    def _count(self, owner: int, count: int) -> None:
        self._in_flight -= count
        consumer = self._all.get(owner)
        if consumer is not None:
            consumer.held -= count

    def _pass_on(self, consumer: Consumer) -> None:
        """A consumer waits no longer; a wake that it may have had goes to the next."""
        self._unlist(consumer)
        self._wake_next(consumer)
        self._wake_blocked()

    def _wake_next(self, consumer: Consumer) -> None:
        """Wake those that may take what this consumer left, or did not come to take.

        Whatever it left is in one of its queues. Of the consumers that wait for that queue, by name or with all
        others, one of each kind is enough: it either empties the queue or passes on in turn.
        """
        for queue in [*(consumer.queues or self._hungry), ""]:
            self._wake_first(queue)

    def _wake_first(self, queue: str) -> bool:
        """Wake the consumer that has waited longest under a queue's name, or "" for all; False when none has."""
        waiting = self._hungry.get(queue)
        if not waiting:
            return False
        consumer = next(iter(waiting.values()))
        self._unlist(consumer)
        consumer.wake()
        return True

    def _wake_blocked(self) -> None:
        if self._blocked and self._in_flight < self._limit:
            consumer = next(iter(self._blocked.values()))
            self._unlist(consumer)
            consumer.wake()

    def _unlist(self, consumer: Consumer) -> None:
        self._blocked.pop(consumer.owner, None)
        for queue in consumer.queues or ("",):
            waiting = self._hungry.get(queue)
            if waiting is not None:
                waiting.pop(consumer.owner, None)
                if not waiting:
                    del self._hungry[queue]
