"""Jobs that are enqueued at the same time share a request.

A request costs client and server several times what a job in it does. So while enqueues are under way, others wait, and
go out together as soon as one of those is answered, or fills a request, or has waited for long: no timer holds anything
back, and who is alone waits for nobody. What is joined is what would have been sent, byte for byte; and where the
server refuses all for the sake of one, each is sent by itself, and hears what concerns it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from copy import copy
from itertools import repeat
from typing import Any, NamedTuple

import msgspec

from zizq.client.call import Request, Response, reading
from zizq.client.connections import forget_closed
from zizq.client.transport import Stream, Transport
from zizq.errors import DecodeError
from zizq.wire import operations
from zizq.wire.codec import Format

UNDER_WAY = 2
"""Requests with enqueues that are under way at a time: while the server has one, the next is made."""
MOST = 100
"""Jobs in a request."""
MOST_BYTES = 256 * 1024
"""Bytes of a request; a job that has more waits for nobody, and nobody for it."""
PATIENCE_S = 0.25
"""How long one waits for those under way before it goes beside them: their connections may be dead."""
_ABOUT_ONE = frozenset((400, 403, 413, 422))
"""Refusals that may be about one of the jobs; then nothing was done."""


class _Answers(msgspec.Struct):
    jobs: list[msgspec.Raw]


_read_answers = reading(_Answers)


def joined(requests: Sequence[Request]) -> Request:
    """One request that enqueues what several would, in their order; they are of the same client."""
    first, bodies = requests[0], [request.body or b"" for request in requests]
    if first.headers["content-type"] == Format.MSGPACK.value:
        count = len(bodies)
        # The head of an array of fewer than 16 values, or of any number of two bytes (MessagePack, "array format").
        head = bytes((0x90 | count,)) if count < 16 else b"\xdc" + count.to_bytes(2)
        body = b"".join((b"\x81\xa4jobs", head, *bodies))
    else:
        body = b'{"jobs":[%b]}' % b",".join(bodies)
    bulk = operations.ENQUEUE_BULK
    return Request(bulk.method, bulk.path, first.headers, body)


def split(answer: Response, count: int) -> list[Response]:
    """What each of so many would have been answered.

    Raises:
        DecodeError: When the answer cannot be read.
    """
    jobs = _read_answers(answer).jobs
    if len(jobs) != count:
        raise DecodeError(f"the answer has {len(jobs)} jobs for {count} that were enqueued")
    return [Response(answer.status, answer.content_type, bytes(job)) for job in jobs]


class Joining:
    """A `Transport` that joins enqueues.

    Args:
        transport: Sends the requests.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._lines: dict[asyncio.AbstractEventLoop, _Line] = {}

    def send(self, request: Request) -> Coroutine[Any, Any, Response]:
        """The answer to a request, whatever its status."""
        if not request.joins or len(request.body or b"") > MOST_BYTES:
            return self._transport.send(request)
        loop = asyncio.get_running_loop()
        line = self._lines.get(loop)
        if line is None:
            forget_closed(self._lines)
            line = self._lines[loop] = _Line(self._transport.send, loop)
        return line.send(request)

    async def open_stream(self, request: Request) -> Stream:
        """The answer to a request, as soon as its head is there."""
        return await self._transport.open_stream(request)

    async def close(self) -> None:
        """Send what waits, and close the idle connections."""
        line = self._lines.get(asyncio.get_running_loop())
        if line is not None and line.send_all():
            # Those requests begin before the network is closed.
            await asyncio.sleep(0)
        await self._transport.close()


class _Caller(NamedTuple):
    request: Request
    answer: asyncio.Future[Response]


class _Line:
    """The enqueues of one event loop."""

    def __init__(
        self, send: Callable[[Request], Coroutine[Any, Any, Response]], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._send = send
        self._loop = loop
        self._under_way = 0
        # How many are answered with those requests.
        self._asked = 0
        self._waiting: deque[_Caller] = deque()
        # Set while any wait.
        self._alarm: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def send(self, request: Request) -> Response:
        """Send now, or with others when it is their turn."""
        if self._under_way >= UNDER_WAY:
            caller = _Caller(request, self._loop.create_future())
            self._waiting.append(caller)
            if len(self._waiting) >= MOST:
                self._hurry()
            elif self._alarm is None:
                self._alarm = self._loop.call_later(PATIENCE_S, self._hurry)
            return await caller.answer
        self._under_way += 1
        self._asked += 1
        try:
            return await self._send(request)
        finally:
            self._asked -= 1
            self._go_on()

    def send_all(self) -> bool:
        """Send what waits, however much is under way; whether anything did."""
        is_any = bool(self._waiting)
        while self._waiting:
            self._hurry()
        return is_any

    def _hurry(self) -> None:
        """Send what waits, though none is answered."""
        self._under_way += 1
        self._go_on(MOST)

    def _go_on(self, most: int = 0) -> None:
        """One is answered: send what waits, `most` at a time; by default its share of all."""
        if self._loop.is_closed():
            return
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        # Were it all that waits, one request would have all callers and the others one each, for ever.
        callers = self._gather(most or -(-(self._asked + len(self._waiting)) // UNDER_WAY))
        if self._waiting:
            self._alarm = self._loop.call_later(PATIENCE_S, self._hurry)
        if not callers:
            self._under_way -= 1
            return
        self._asked += len(callers)
        task = self._loop.create_task(self._serve(callers))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _gather(self, most: int) -> list[_Caller]:
        """Those that waited for longest and did not give up, as many as go into a request."""
        callers: list[_Caller] = []
        size = 0
        while self._waiting and len(callers) < most:
            caller = self._waiting[0]
            if not caller.answer.done():
                size += len(caller.request.body or b"")
                if size > MOST_BYTES:
                    break
                callers.append(caller)
            self._waiting.popleft()
        return callers

    async def _serve(self, callers: Sequence[_Caller]) -> None:
        """Answer each caller, come what may."""
        try:
            await self._answer(callers)
        except BaseException as error:
            for caller in callers:
                _fail(caller.answer, error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._asked -= len(callers)
            self._go_on()

    async def _answer(self, callers: Sequence[_Caller]) -> None:
        answer = await self._send(joined([caller.request for caller in callers]) if callers[1:] else callers[0].request)
        if not callers[1:]:
            _tell(callers[0], answer)
        elif answer.status in _ABOUT_ONE:
            for caller in callers:
                if not caller.answer.done():
                    _tell(caller, await self._send(caller.request))
        else:
            done = answer.status in operations.ENQUEUE_BULK.answers
            for caller, part in zip(callers, split(answer, len(callers)) if done else repeat(answer), strict=False):
                _tell(caller, part)


def _tell(caller: _Caller, answer: Response) -> None:
    # Who gave up meanwhile is told nothing.
    if not caller.answer.done():
        caller.answer.set_result(answer)


def _fail(answer: asyncio.Future[Response], error: BaseException) -> None:
    if answer.done():
        return
    if isinstance(error, asyncio.CancelledError):
        answer.cancel()
    else:
        # Each has a traceback of its own.
        own = copy(error)
        own.__cause__ = error.__cause__
        answer.set_exception(own)
