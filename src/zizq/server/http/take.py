"""The take stream: jobs and heartbeats for as long as the client stays (protocol.md#4.3)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from zizq.clock import Clock
from zizq.errors import BadRequest, Unavailable
from zizq.server.broker import Broker
from zizq.server.consumers import Consumer
from zizq.server.http.departures import Departures
from zizq.server.http.exchange import Request, Send
from zizq.server.http.query import items, whole_number
from zizq.wire import framing
from zizq.wire.framing import StreamFormat
from zizq.wire.messages import MAX_U32
from zizq.wire.operations import DEFAULT_PREFETCH, TAKE

log = logging.getLogger("zizq.take")

FRAMES_MOST = 512
"""Jobs that are encoded in one go, some 0.5 ms of the event loop."""


class TakeHandler:
    """Serves take streams.

    Args:
        broker: Where jobs come from.
        clock: Measures the silence.
        departures: Says when a client has gone.
        heartbeat_ms: Silence after which a heartbeat is sent.
    """

    def __init__(self, broker: Broker, clock: Clock, departures: Departures, heartbeat_ms: int) -> None:
        self._broker = broker
        self._departures = departures
        self._clock = clock
        self._heartbeat_s = heartbeat_ms / 1000

    async def stream(self, request: Request, send: Send) -> None:
        """GET /jobs/take: runs until the client leaves or the server stops; what is unacknowledged is released."""
        form = framing.stream_format(request.header(b"accept"))
        query = request.query(TAKE)
        prefetch = _prefetch(query.get("prefetch", str(DEFAULT_PREFETCH)))
        queues = items(query.get("queue", ""))
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", form.value.encode()), (b"cache-control", b"no-store")],
            }
        )
        # An empty piece of body makes the server send the headers at once, before there is a job.
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        if request.scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        consumer = self._broker.open_stream(queues, prefetch)
        log.debug(
            "stream opened", extra={"fields": {"worker_id": request.header(b"worker-id"), "owner": consumer.owner}}
        )
        gone = consumer.close
        watch = asyncio.ensure_future(_watch(request, gone))
        fd = self._departures.watch(request.peer, gone) if request.is_http1 else None
        try:
            await self._feed(consumer, form, send)
        finally:
            watch.cancel()
            self._departures.forget(fd, gone)
            # Shielded: a cancelled stream must still give its jobs back.
            released = await asyncio.shield(self._broker.close_stream(consumer))
            log.debug("stream closed", extra={"fields": {"owner": consumer.owner, "released": released}})
        await send({"type": "http.response.body", "body": b""})

    async def _feed(self, consumer: Consumer, form: StreamFormat, send: Send) -> None:
        beat_at = self._clock.mono_s() + self._heartbeat_s
        while not consumer.closed:
            try:
                jobs = await self._broker.take(consumer)
            except Unavailable as error:
                # The stream stays open, with heartbeats: the store may recover, and the worker need not notice.
                log.warning("take failed", extra={"fields": {"error": str(error)}})
                jobs = []
            for start in range(0, len(jobs), FRAMES_MOST):
                frames = framing.join(jobs[start : start + FRAMES_MOST], form)
                await send({"type": "http.response.body", "body": frames, "more_body": True})
            if jobs:
                beat_at = self._clock.mono_s() + self._heartbeat_s
            elif not await consumer.wait(max(0.0, beat_at - self._clock.mono_s())):
                await send({"type": "http.response.body", "body": form.heartbeat, "more_body": True})
                beat_at = self._clock.mono_s() + self._heartbeat_s


async def _watch(request: Request, gone: Callable[[], None]) -> None:
    """Hear from the HTTP server that the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    gone()


def _prefetch(text: str) -> int:
    prefetch = whole_number(text, MAX_U32)
    if prefetch is None:
        raise BadRequest(f"invalid query parameters: prefetch {text!r} is not a whole number of 0 or more")
    return prefetch
