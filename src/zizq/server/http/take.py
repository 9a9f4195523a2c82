"""The take stream: jobs and heartbeats for as long as the client stays (protocol.md#4.3)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from zizq.clock import Clock
from zizq.errors import BadRequest, Unavailable
from zizq.job import JobRecord
from zizq.policy import MAX_MILLIS
from zizq.server.access import Caller
from zizq.server.auth import Auth
from zizq.server.broker import Broker
from zizq.server.consumers import Consumer, Terms
from zizq.server.http.departures import Departures
from zizq.server.http.exchange import PIECE, Request, Send
from zizq.server.http.load import Load
from zizq.server.http.query import items, whole_number
from zizq.server.payloads import Payloads
from zizq.wire import framing
from zizq.wire.framing import StreamFormat
from zizq.wire.messages import MAX_U32, MAX_U64
from zizq.wire.operations import DEFAULT_PREFETCH, TAKE

log = logging.getLogger("zizq.take")

FIRST = 8
"""Jobs of the first take of a stream, whose size nobody knows yet."""
MOST = 512
"""Jobs of any take: they are encoded in one go, some 0.5 ms of the event loop."""
TAKE_BYTES = 2**20
"""Bytes that the jobs of a take shall have, to judge by those of the take before: they wait in memory for a client that
does not read."""
MAX_WORKER_ID = 256
"""Characters that are kept of what a worker calls itself."""
_GOLDEN = (5**0.5 - 1) / 2
"""Its multiples, less their whole parts, are spread as evenly as any numbers are."""


class TakeHandler:
    """Serves take streams.

    Args:
        broker: Where jobs come from.
        clock: Measures the silence.
        auth: Knows who may still take.
        departures: Says when a client has gone.
        load: Says when there are too many streams.
        payloads: Translates those that are large.
        heartbeat_ms: Silence after which a heartbeat is sent.
    """

    def __init__(
        self,
        broker: Broker,
        clock: Clock,
        auth: Auth,
        departures: Departures,
        load: Load,
        payloads: Payloads,
        heartbeat_ms: int,
    ) -> None:
        self._broker = broker
        self._auth = auth
        self._departures = departures
        self._load = load
        self._payloads = payloads
        self._clock = clock
        self._heartbeat_s = heartbeat_ms / 1000

    async def stream(self, request: Request, send: Send) -> None:
        """GET /jobs/take: runs until the client leaves or the server stops; what is unacknowledged is released."""
        with self._load.stream():
            await self._stream(request, send)

    async def _stream(self, request: Request, send: Send) -> None:
        form = framing.stream_format(request.head.header(b"accept"))
        query = request.query(TAKE)
        prefetch = _prefetch(query.get("prefetch", str(DEFAULT_PREFETCH)))
        queues = items(query.get("queue", ""))
        name = _name(query)
        terms = Terms(
            _positive(query, "timeout_ms", MAX_U64),
            _positive(query, "concurrency", MAX_U32),
            None if name is None else request.own(name),
            (request.head.header(b"worker-id") or "")[:MAX_WORKER_ID] or None,
            request.peer[0] or None,
        )
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
        consumer = self._broker.open_stream(queues, prefetch, terms)
        log.debug("stream opened", extra={"fields": {"worker_id": terms.worker_id, "owner": consumer.owner}})
        gone = consumer.close
        watch = asyncio.ensure_future(_watch(request, gone))
        if request.is_deaf:
            self._departures.watch(request.peer, gone)
        dismissed = False
        try:
            dismissed = await self._feed(consumer, form, send, request.caller)
        finally:
            watch.cancel()
            self._departures.forget(request.peer, gone)
            # Shielded: a cancelled stream must still give its jobs back.
            released = await asyncio.shield(self._broker.close_stream(consumer, dismissed=dismissed))
            log.debug("stream closed", extra={"fields": {"owner": consumer.owner, "released": released}})
        await send({"type": "http.response.body", "body": b""})

    async def _feed(self, consumer: Consumer, form: StreamFormat, send: Send, caller: Caller | None) -> bool:
        """Send jobs to the end of the stream; returns whether it is we who end it."""
        beat_at, most = self._clock.mono_s() + self._heartbeat_s * _early(consumer.owner), FIRST
        # Whose token is revoked gets no more jobs, and the next stream is refused with the reason.
        while not consumer.closed and (caller is None or self._auth.still_holds(caller)):
            try:
                jobs = await self._broker.take(consumer, most)
            except Unavailable as error:
                # The stream stays open, with heartbeats: the store may recover, and the worker need not notice.
                log.warning("take failed", extra={"fields": {"error": str(error)}})
                jobs = []
            if jobs:
                most = _next_most(most, len(jobs), await self._send_jobs(jobs, form, send))
            if consumer.is_done:
                return True
            if jobs:
                beat_at = self._clock.mono_s() + self._heartbeat_s
            elif not await consumer.wait(max(0.0, beat_at - self._clock.mono_s())):
                self._broker.rest(consumer)
                await send({"type": "http.response.body", "body": form.heartbeat, "more_body": True})
                beat_at = self._clock.mono_s() + self._heartbeat_s
        return not consumer.closed

    async def _send_jobs(self, jobs: Sequence[JobRecord], form: StreamFormat, send: Send) -> int:
        """Send the frames of jobs; returns how many bytes they have."""
        if form is not StreamFormat.MSGPACK:
            jobs = [await self._payloads.sent(job, form.body) for job in jobs]
        frames = framing.join(jobs, form)
        for at in range(0, len(frames), PIECE):
            await send({"type": "http.response.body", "body": frames[at : at + PIECE], "more_body": True})
        return len(frames)


def _early(owner: int) -> float:
    """Which part of an interval passes before the first heartbeat, from a half to the whole.

    Ten thousand streams that were opened at once, after a restart, must not send their heartbeats at once ever after.
    """
    return 1 - owner * _GOLDEN % 1 / 2


def _next_most(most: int, jobs: int, sent: int) -> int:
    """How many jobs to take next, after a take of some jobs of so many bytes."""
    return max(1, min(MOST, 4 * most, TAKE_BYTES * jobs // sent))


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


def _positive(query: Mapping[str, str], name: str, most: int) -> int | None:
    """A parameter that is a whole number of 1 or more; None where it is not given."""
    text = query.get(name)
    if text is None:
        return None
    number = whole_number(text, most)
    if not number:
        raise BadRequest(f"invalid query parameters: {name} {text!r} is not a whole number of 1 or more")
    return min(number, MAX_MILLIS)


def _name(query: Mapping[str, str]) -> str | None:
    name = query.get("stream")
    if name == "":
        raise BadRequest("invalid query parameters: stream is empty; leave it out for a stream without a name")
    return name
