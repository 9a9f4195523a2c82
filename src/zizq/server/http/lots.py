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
from functools import partial
from typing import Any

from zizq.errors import BadRequest, Refusal
from zizq.job import JobRecord
from zizq.server.broker import Broker
from zizq.server.http import bodies
from zizq.server.http.exchange import CONTENT_TYPE, Response, broken, refused
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
"""Enqueues that are one lot: half a millisecond, until others get their turn."""
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
        came, self._came = self._came, []
        for at in range(0, len(came), MOST):
            self._enqueue(came[at : at + MOST])

    def _enqueue(self, came: Sequence[Whole]) -> None:
        """Store the jobs of those that go together; the others go alone, and hear what is wrong with them."""
        read, asked = [], []
        for one in came:
            try:
                asked.append(_ENQUEUE.read(one.body, self._body_form))
                read.append(one)
            except BadRequest:
                one.begin()
        lot, jobs = [], []
        for one, job in zip(read, self._plain_jobs(asked), strict=True):
            if job is not None and self._enters(one):
                lot.append(one)
                jobs.append(job)
            else:
                one.begin()
        if jobs:
            self._store(lot, jobs)

    def _store(self, lot: Sequence[Whole], jobs: Sequence[JobRecord]) -> None:
        try:
            stored = asyncio.ensure_future(self._broker.enqueue(jobs))
        except Exception as error:
            self._answer(lot, jobs, error)
            return
        if stored.done():
            # In this turn, which is what one that came alone waits for.
            self._answer(lot, jobs, _error(stored))
        else:
            stored.add_done_callback(lambda stored: self._answer(lot, jobs, _error(stored)))

    def _plain_jobs(self, asked: Sequence[Enqueue]) -> Sequence[JobRecord | None]:
        """The jobs that are asked for; None in the place of each that has options, or breaks a rule."""
        broker = self._broker
        make = partial(bodies.plain_jobs, broker.next_ids, broker.now(), form=self._body_form, most=MOST * LARGEST)
        jobs = make(asked)
        return jobs if jobs is not None else [plain[0] if (plain := make([one])) else None for one in asked]

    def _enters(self, one: Whole) -> bool:
        try:
            self._load.enter(one.host)
        except Refusal:
            return False
        return True

    def _answer(self, lot: Sequence[Whole], jobs: Sequence[JobRecord], error: BaseException | None) -> None:
        for one in lot:
            self._load.leave(one.host, 1, 0)
        if error is None:
            status, fields = 201, [(b"content-type", CONTENT_TYPE[self._form])]
            answers = [codec.encode(bodies.enqueued_plain(job), self._form) for job in jobs]
        else:
            failure = _failure(error, self._form)
            status, fields, answers = failure.status, failure.fields, [failure.body] * len(lot)
        self._requests["POST", status // 100] += len(lot)
        opening = lot[0].opening(status, fields)
        for one, answer in zip(lot, answers, strict=True):
            one.answer(opening, answer)


def _error(stored: asyncio.Future[Any]) -> BaseException | None:
    return asyncio.CancelledError() if stored.cancelled() else stored.exception()


def _failure(error: BaseException, form: Format) -> Response:
    if isinstance(error, Refusal):
        return refused(error, form)
    log.error("request failed", exc_info=error, extra={"fields": {"path": op.ENQUEUE.path}})
    return broken(form)
