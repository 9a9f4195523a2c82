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

from zizq.errors import Refusal, Unavailable
from zizq.server.broker import Broker
from zizq.server.http import bodies
from zizq.server.http.exchange import CONTENT_TYPE, Response, broken, refused
from zizq.server.http.gate import Gate, check_new
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


class EnqueueLots:
    """Answers POST /jobs (protocol.md#2.2) by the lot: all that are in one format and are to be answered in one.

    Args:
        broker: What is called to enqueue.
        gate: Says who may; None where everybody may.
        load: Says when there is too much to do.
        requests: How many requests were answered, by method and class of status.
        body_form: The format of the bodies.
        form: The format of the answers.
    """

    def __init__(
        self,
        broker: Broker,
        gate: Gate | None,
        load: Load,
        requests: Counter[tuple[str, int]],
        body_form: Format,
        form: Format,
    ) -> None:
        self._broker = broker
        self._gate = gate
        self._load = load
        self._requests = requests
        self._body_form = body_form
        self._form = form
        self._came: list[Whole] = []
        self._running: set[asyncio.Task[None]] = set()

    def add(self, request: Whole) -> None:
        """Take a request whose head leaves nothing to be refused but its caller."""
        if len(request.body) > LARGEST:
            request.begin()
            return
        if not self._came:
            self._run_soon()
        self._came.append(request)

    def _run_soon(self) -> None:
        task = asyncio.get_running_loop().create_task(self._run())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self) -> None:
        """Answer those that came. One that came alone is answered in this turn, where its store is done in it."""
        came, self._came = self._came[:MOST], self._came[MOST:]
        if self._came:
            self._run_soon()
        lot, asked = [], []
        for one in came:
            wanted = self._plain(one)
            if wanted is None:
                # Its own call does what is asked for, or says what is wrong.
                one.begin()
            else:
                lot.append(one)
                asked.append(wanted)
        if lot:
            answers = await self._enqueue(asked)
            for one in lot:
                self._load.leave(one.address, 1, 0)
            self._answer(lot, answers)

    def _plain(self, one: Whole) -> Enqueue | None:
        """What a request asks for, where it has no options and there is nothing to refuse; from now on it waits."""
        try:
            caller = None if self._gate is None else self._gate.enqueuer(one.scope)
            wanted = _ENQUEUE.read(one.body, self._body_form)
            if bodies.has_options(wanted):
                return None
            if caller is not None and caller.is_limited:
                check_new(caller, [wanted])
            self._load.enter(one.address)
        except Exception:
            # Its own call meets a defect again, and tells of it.
            return None
        return wanted

    async def _enqueue(self, asked: Sequence[Enqueue]) -> Sequence[bytes] | Response | None:
        """Store the jobs that are asked for, all or none.

        Returns:
            The answer to each, or the one to all, or None where nothing is stored for what one of them asks: which one
            that is shows when each goes alone.
        """
        broker, form = self._broker, self._form
        try:
            jobs = bodies.plain_jobs(broker.next_ids, broker.now(), asked, self._body_form, MOST * LARGEST)
            if jobs is None:
                return None
            await broker.enqueue(jobs)
            return [codec.encode(bodies.enqueued_plain(job), form) for job in jobs]
        except Unavailable as refusal:
            return refused(refusal, form)
        except Refusal:
            return None
        except (Exception, asyncio.CancelledError):
            log.exception("request failed", extra={"fields": {"path": op.ENQUEUE.path}})
            return broken(form)

    def _answer(self, lot: Sequence[Whole], answers: Sequence[bytes] | Response | None) -> None:
        if answers is None:
            for one in lot:
                one.begin()
            return
        status, fields = 201, [(b"content-type", CONTENT_TYPE[self._form])]
        if isinstance(answers, Response):
            status, fields, answers = answers.status, answers.fields, [answers.body] * len(lot)
        self._requests["POST", status // 100] += len(lot)
        opening = lot[0].opening(status, fields)
        for one, answer in zip(lot, answers, strict=True):
            one.answer(opening, answer)
