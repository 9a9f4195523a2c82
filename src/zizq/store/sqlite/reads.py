"""What can be asked of the store without changing it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar

from apsw import Connection

from zizq.engine import decide
from zizq.engine.selection import Selection
from zizq.job import ErrorRecord, JobRecord
from zizq.store.base import Order, Page
from zizq.store.sqlite import key_statements, pages
from zizq.store.sqlite.change_statements import unless_pending
from zizq.store.sqlite.pages import Instant
from zizq.store.sqlite.parts import Parts
from zizq.store.sqlite.readers import whatever_happens
from zizq.store.sqlite.statements import Step

T = TypeVar("T")


class ReadCalls(Parts):
    """The calls that only read."""

    def trouble(self) -> str | None:
        """Why the last write was refused."""
        return self._writer.trouble

    async def _at_an_instant(
        self, question: Callable[[Instant], T], now: int, heard: Callable[[], None] = lambda: None
    ) -> T:
        """Ask a question of what is stored and what is in flight, both as they are at the same commit."""
        while True:
            await self._changes.whole()
            async with self._listers.lease() as db:
                instant = await self._pin(db, now, heard)
                if instant is not None:
                    return await self._listers.ask(lambda _, at=instant: question(at), db)

    async def _pin(self, db: Connection, now: int, heard: Callable[[], None]) -> Instant | None:
        """Hold a connection to the last commit; None where a change is half carried out by then."""
        instant: list[Instant] = []

        def pinned(_: object) -> None:
            # Heard of all commits up to this one, and of none after it: memory is at the same instant.
            if not self._changes.is_half_done:
                instant.append(Instant(db, self._flight.snapshot(), self._changes.leaving, now))
                heard()

        await whatever_happens(self._writer.call(Step.PIN, db, then=pinned))
        return instant[0] if instant else None

    async def page(self, selection: Selection, after: str | None, order: Order, limit: int, now: int) -> Page:
        """The first jobs of a selection by identifier."""
        return await self._at_an_instant(lambda at: pages.page(at, selection, after, order, limit), now)

    async def count(self, selection: Selection, now: int) -> int:
        """How many jobs a selection has."""
        return await self._at_an_instant(lambda at: pages.count(at, selection), now)

    async def queues(self, now: int) -> list[str]:
        """The queues that hold a job."""
        return await self._at_an_instant(lambda at: sorted({kind[0] for kind in pages.tally(at)}, key=str.encode), now)

    async def get(self, job_id: str, now: int) -> JobRecord | None:
        """One job with its payload and its true status."""
        while True:
            # Read between two looks at memory that agree, so that a job taken or settled meanwhile is not misread.
            holding = self._flight.get(job_id)
            job = await self._readers.read(lambda db: pages.one(db, job_id))
            if self._flight.get(job_id) is holding:
                break
        if job is None or holding is None:
            return None if job is None or decide.is_expired(job, now) else job
        return holding.with_(payload=job.payload)

    async def errors(self, job_id: str, after: int | None, order: Order, limit: int) -> list[ErrorRecord]:
        """Failures of a job by attempt."""
        return await self._readers.read(lambda db: pages.errors(db, job_id, after, order, limit))

    async def error(self, job_id: str, attempt: int) -> ErrorRecord | None:
        """One failure of a job."""
        found = await self.errors(job_id, attempt - 1, "asc", 1)
        return found[0] if found and found[0].attempt == attempt else None

    async def pending(self, keys: Collection[str]) -> dict[str, JobRecord]:
        """The jobs that wait under batch keys."""

        def question(at: Instant) -> dict[str, JobRecord]:
            return key_statements.pending(at.db, keys, at.flying, unless_pending(at.leaving is not None))

        return await self._at_an_instant(question, 0)

    async def next_due(self) -> int | None:
        """The earliest instant for which a job is scheduled, or at which a budget lets one go."""
        held_back = unless_pending(self._changes.in_bulk)
        text = f"SELECT ready_at FROM jobs INDEXED BY due WHERE status = 0 {held_back} ORDER BY ready_at LIMIT 1"  # noqa: S608
        due: int | None = await self._readers.read(lambda db: db.execute(text).get)
        return min((at for at in (due, self._purse.next_alarm()) if at is not None), default=None)

    async def _find(self, selection: Selection, after: str | None, limit: int, now: int) -> list[str]:
        return await self._at_an_instant(lambda at: pages.ids(at, selection, after, limit), now)
