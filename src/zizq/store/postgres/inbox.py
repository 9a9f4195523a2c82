"""The inbox of the store on PostgreSQL: a table that `zizq.enqueue` fills in transactions of applications."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import msgspec

from zizq.budget import Budget
from zizq.engine import decide
from zizq.engine.decide import Settled
from zizq.engine.transitions import Cause
from zizq.errors import Refusal, Unprocessable
from zizq.ids import created_at, encode, is_id
from zizq.job import Failure, JobRecord, Status
from zizq.policy import Defaults
from zizq.store.base import NO_BUDGETS, NOTHING
from zizq.store.contents import JobPiece
from zizq.store.inbox import NAMELESS, Post, Posted, Waiting
from zizq.store.postgres import admitting, copies
from zizq.store.postgres.admitting import Admitted, Enqueue
from zizq.store.postgres.database import UNFIT, Transaction
from zizq.store.postgres.enqueues import EnqueueCalls

MOST_BYTES = 8 * 2**20
"""Payloads that are moved together, but for a single one that has more."""
BACK_MS = 10_000
"""How far behind the youngest post a look begins. Before that lie those that were moved, and nobody may have swept them
yet: where an old transaction is open, there are as many as were posted since."""
WHOLE_EVERY = 25
"""Of so many looks one begins at the very front, where a post is that was committed after so long: once a second."""
# Several servers look at once, and each gets rows that no other has.
_CLAIM = """
    WITH head AS (SELECT id, size FROM zizq.inbox WHERE id >= $3 ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED),
    fitting AS (SELECT id, sum(size) OVER (ORDER BY id) - size AS before FROM head)
    DELETE FROM zizq.inbox i USING fitting f WHERE i.id = f.id AND f.before < $2 RETURNING i.id, i.job::text"""


async def waiting(db: Transaction) -> Waiting:
    """What waits in the inbox of a database."""
    row: Any = await db.fetchrow("SELECT count(*), min(id) FROM zizq.inbox")
    number, first = row
    # It may have been written by hand.
    return Waiting(number, created_at(first) if first is not None and is_id(first) else None)


class InboxCalls(EnqueueCalls):
    """The calls that empty the inbox, and look into it."""

    _looks = 0
    _youngest_at = 0

    @asynccontextmanager
    async def posted(self, limit: int) -> AsyncIterator[Posted]:
        """Take the first posts that nobody else has taken."""
        # What a power cut takes back is in the inbox again.
        async with self._db.writing(durable=False, hot=True) as db:
            found = sorted(await db.fetch(_CLAIM, limit, MOST_BYTES, self._front()))
            posted = _Posted(db, [Post(job_id, body.encode()) for job_id, body in found], self._max_budgets,
                             self._defaults)  # fmt: skip
            yield posted
        if found and is_id(youngest := found[-1][0]):
            self._youngest_at = max(self._youngest_at, created_at(youngest))
        for call, admitted in posted.admitted:
            self._enqueued(call, admitted)
        for one in posted.refused:
            if one.kept and one.error is not None:
                self._moved(Cause.FAIL, [one.job], [one.error])

    async def waiting(self) -> Waiting:
        """What waits in the inbox."""
        async with self._db.reading() as db:
            return await waiting(db)

    def _front(self) -> str:
        """From which identifier on to look."""
        self._looks += 1
        if self._looks % WHOLE_EVERY == 1:
            return ""
        return encode(max(0, self._youngest_at - BACK_MS) << 80)


class _Posted:
    """Posts that are on their way, in a transaction."""

    def __init__(self, db: Transaction, posts: Sequence[Post], most_budgets: int, defaults: Defaults) -> None:
        self._db = db
        self._most_budgets = most_budgets
        self._defaults = defaults
        self.posts = posts
        self.admitted: list[tuple[Enqueue, Admitted]] = []
        self.refused: list[Settled] = []

    async def enqueue(
        self,
        jobs: Sequence[JobRecord],
        now: int,
        folds: Sequence[JobRecord] = (),
        pending: Mapping[str, str | None] = NOTHING,
        create: Mapping[str, Budget] = NO_BUDGETS,
    ) -> Sequence[JobRecord]:
        """Store new jobs."""
        call = Enqueue(jobs, now, folds, pending, create)
        async with self._undone_alone():
            if call.is_plain:
                await admitting.insert(self._db, jobs)
                admitted = Admitted(jobs)
            else:
                admitted = await admitting.admit(self._db, call, self._most_budgets)
        self.admitted.append((call, admitted))
        return admitted.jobs

    async def refuse(self, job: JobRecord, reason: str, now: int) -> None:
        """Store a job as a dead one."""
        flying = decide.on_take(job.with_(status=Status.READY), now)
        failure = Failure(message=reason, error_type="NotEnqueued", kill=True)
        settled = decide.on_failure(flying, failure, now, self._defaults, 0.0)
        if settled.kept and settled.error is not None:
            piece = JobPiece(settled.job, (settled.error,))
            try:
                async with self._undone_alone():
                    await copies.write_jobs(self._db, [piece])
            except Unprocessable:
                # What the database cannot hold are its names, or its budgets.
                type_, queue = NAMELESS
                settled = msgspec.structs.replace(settled, job=settled.job.with_(type=type_, queue=queue, budgets=None))
                await copies.write_jobs(self._db, [JobPiece(settled.job, piece.errors)])
        self.refused.append(settled)

    @asynccontextmanager
    async def _undone_alone(self) -> AsyncIterator[None]:
        """A part of the transaction that can fail by itself.

        Raises:
            Unprocessable: When the database cannot hold what is written.
        """
        await self._db.execute("SAVEPOINT post")
        try:
            yield
        except Refusal:
            await self._db.execute("ROLLBACK TO SAVEPOINT post")
            raise
        except (*UNFIT, asyncpg.IntegrityConstraintViolationError) as error:
            await self._db.execute("ROLLBACK TO SAVEPOINT post")
            raise Unprocessable(f"the database cannot hold it: {error}") from error
