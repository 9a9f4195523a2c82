"""The mover: brings what applications have posted by themselves into the queues.

What is posted was accepted by the transaction that posted it. So it is never dropped in silence: where the rules refuse
it, it is a dead job that says why, and can be retried once that has been put right.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import msgspec

from zizq.budget import Budget
from zizq.clock import Clock
from zizq.engine import admit
from zizq.errors import Refusal, Unavailable, Unprocessable
from zizq.job import JobRecord
from zizq.server.batches import is_foldable
from zizq.server.broker import Broker
from zizq.server.duties import attempt
from zizq.server.http import bodies
from zizq.server.payloads import Payloads
from zizq.store.base import NO_BUDGETS
from zizq.store.inbox import NAMELESS, Inbox, Post, Posted
from zizq.wire.codec import Body, Format
from zizq.wire.messages import Enqueue

log = logging.getLogger("zizq.inbox")

POLL_S = 0.04
"""How long a post waits at most for somebody to look."""
MOST = 500
"""Posts that are moved together at most."""
_BODY = Body(Enqueue)


class _Wanted(NamedTuple):
    """A job that was posted, the budgets that it brings along, and what is wrong with it, if anything."""

    job: JobRecord
    create: Mapping[str, Budget] = NO_BUDGETS
    flaw: str | None = None


class Mover:
    """Moves posts to where they belong.

    Args:
        inbox: Where they are.
        broker: Enqueues them.
        payloads: Reads large payloads.
        clock: The time for what is stored.
    """

    def __init__(self, inbox: Inbox, broker: Broker, payloads: Payloads, clock: Clock) -> None:
        self._inbox = inbox
        self._broker = broker
        self._payloads = payloads
        self._clock = clock

    async def run(self) -> None:
        """Move for ever."""
        while True:
            if await attempt("mover", self.move) < MOST:
                await asyncio.sleep(POLL_S)

    async def move(self) -> int:
        """Move the first posts; returns how many those were.

        Raises:
            Unavailable: When the store cannot do it; they are still there.
        """
        async with self._inbox.posted(MOST) as posted:
            wanted = [await self._want(post) for post in posted.posts]
            for one in wanted:
                if one.flaw is not None:
                    await self._refuse(posted, one.job, one.flaw)
            whole = [one for one in wanted if one.flaw is None]
            await self._enqueue(posted, [one for one in whole if not is_foldable(one.job)])
            await self._enqueue(posted, [one for one in whole if is_foldable(one.job)])
        return len(posted.posts)

    async def _want(self, post: Post) -> _Wanted:
        now = self._clock.wall_ms()
        names = NAMELESS
        try:
            body = _BODY.read(post.body, Format.JSON)
            admit.check(body.type, body.queue)
            names = body.type, body.queue
            stored = await self._payloads.stored(body.payload, Format.JSON)
            job = bodies.new_job(post.id, now, body, Format.JSON, stored)
        except Unavailable:
            raise
        except Refusal as refusal:
            text = msgspec.Raw(msgspec.msgpack.encode(post.body.decode(errors="replace")))
            job = admit.new_job(post.id, now, type=names[0], queue=names[1], payload=text)
            return _Wanted(job, flaw=str(refusal))
        try:
            await self._broker.check_batch(job)
            return _Wanted(job, bodies.creations(body.budgets or (), now))
        except Unprocessable as refusal:
            return _Wanted(job, flaw=str(refusal))

    async def _enqueue(self, posted: Posted, wanted: Sequence[_Wanted]) -> None:
        """Enqueue jobs together; those that are refused are taken out one by one."""
        left = list(wanted)
        while left:
            create = {key: budget for one in reversed(left) for key, budget in one.create.items()}
            try:
                await self._broker.enqueue_by([one.job for one in left], partial(posted.enqueue, create=create))
                return
            except Unprocessable as refusal:
                if refusal.index is None and len(left) > 1:
                    # About one of them, and nobody says which: they are tried alone.
                    for one in left:
                        await self._enqueue(posted, [one])
                    return
                refused = left.pop(refusal.index or 0)
                await self._refuse(posted, refused.job, str(refusal))

    async def _refuse(self, posted: Posted, job: JobRecord, reason: str) -> None:
        await posted.refuse(job, reason, self._clock.wall_ms())
        fields = {"id": job.id, "type": job.type, "queue": job.queue, "reason": reason}
        log.warning("a job that was posted cannot be enqueued, it is dead", extra={"fields": fields})
