"""Enqueues that come in the same turn of the event loop, answered together.

A request that goes alone runs through some hundred functions, each of which costs three times what it does in a loop
that does nothing else (docs/decisions/speed.md, 24). So those that come together take each step together, where they
are like most: whole, small, and for a plain job. All others go alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

from zizq.errors import BadRequest, Refusal, Unavailable
from zizq.job import JobRecord
from zizq.server.broker import Broker
from zizq.server.http import bodies
from zizq.server.http.exchange import CONTENT_TYPE, broken, refused
from zizq.server.http.head import Whole
from zizq.server.http.load import Load
from zizq.wire import codec
from zizq.wire import operations as op
from zizq.wire.codec import Body, Format
from zizq.wire.messages import Enqueue

log = logging.getLogger("zizq.api.primary")

LARGEST = 4096
"""Bytes of a body that goes with others; most of what a larger one costs is spent on its payload."""
MOST = 64
"""Enqueues that are one lot, until others get their turn."""
_ENQUEUE = Body(Enqueue)


class EnqueueLot:
    """Answers POST /jobs (protocol.md#2.2) by the lot: all that are in one format and are to be answered in one.

    Args:
        broker: What is called to enqueue.
        load: Says when there is too much to do.
        requests: How many requests were answered, by method and class of status.
        body_form: The format of the bodies.
        form: The format of the answers.
    """

    def __init__(
        self, broker: Broker, load: Load, requests: Counter[tuple[str, int]], body_form: Format, form: Format
    ) -> None:
        self._broker = broker
        self._load = load
        self._requests = requests
        self._body_form = body_form
        self._form = form
        self._came: list[Whole] = []

    def add(self, request: Whole) -> None:
        """Take a request whose head leaves nothing to be refused, as `http.head.Together` says."""
        if len(request.body) > LARGEST:
            request.begin()
            return
        if not self._came:
            asyncio.get_running_loop().call_soon(self._end_turn)
        self._came.append(request)

    def _end_turn(self) -> None:
        came, self._came = self._came[:MOST], self._came[MOST:]
        if self._came:
            asyncio.get_running_loop().call_soon(self._end_turn)
        lot, asked = [], []
        for one in came:
            wanted = self._plain(one.body)
            if wanted is not None and self._enters(one):
                lot.append(one)
                asked.append(wanted)
            else:
                # Its own call does what is asked for, or says what is wrong.
                one.begin()
        if lot:
            self._enqueue(lot, asked)

    def _plain(self, body: bytes) -> Enqueue | None:
        """What a body asks for, where it can be read and has no options."""
        try:
            wanted = _ENQUEUE.read(body, self._body_form)
        except BadRequest:
            return None
        return None if bodies.has_options(wanted) else wanted

    def _enters(self, one: Whole) -> bool:
        try:
            self._load.enter(one.host)
        except Refusal:
            return False
        return True

    def _enqueue(self, lot: Sequence[Whole], asked: Sequence[Enqueue]) -> None:
        broker = self._broker
        try:
            jobs = bodies.plain_jobs(broker.next_ids, broker.now(), asked, self._body_form, MOST * LARGEST)
            if jobs is None:
                self._begin(lot)
                return
            stored = asyncio.ensure_future(broker.enqueue(jobs))
        except Exception as error:
            self._fail(lot, error)
            return
        if stored.done():
            # In this turn, which is what one that came alone waits for.
            self._finish(lot, jobs, _error(stored))
        else:
            stored.add_done_callback(lambda stored: self._finish(lot, jobs, _error(stored)))

    def _finish(self, lot: Sequence[Whole], jobs: Sequence[JobRecord], error: BaseException | None) -> None:
        if error is not None:
            self._fail(lot, error)
            return
        answers = [codec.encode(bodies.enqueued_plain(job), self._form) for job in jobs]
        self._answer(lot, 201, [(b"content-type", CONTENT_TYPE[self._form])], answers)

    def _fail(self, lot: Sequence[Whole], error: BaseException) -> None:
        """Say why nothing was stored; where that is for one of them, nobody knows which before each has been tried."""
        if isinstance(error, Refusal) and not isinstance(error, Unavailable):
            self._begin(lot)
            return
        if isinstance(error, Refusal):
            response = refused(error, self._form)
        else:
            log.error("request failed", exc_info=error, extra={"fields": {"path": op.ENQUEUE.path}})
            response = broken(self._form)
        self._answer(lot, response.status, response.fields, [response.body] * len(lot))

    def _begin(self, lot: Sequence[Whole]) -> None:
        """Have each go alone after all: nothing was stored."""
        for one in lot:
            self._load.leave(one.host, 1, 0)
            one.begin()

    def _answer(
        self, lot: Sequence[Whole], status: int, fields: Sequence[tuple[bytes, bytes]], answers: Sequence[bytes]
    ) -> None:
        self._requests["POST", status // 100] += len(lot)
        opening = lot[0].opening(status, fields)
        for one, answer in zip(lot, answers, strict=True):
            self._load.leave(one.host, 1, 0)
            one.answer(opening, answer)


def _error(stored: asyncio.Future[Any]) -> BaseException | None:
    return asyncio.CancelledError() if stored.cancelled() else stored.exception()
