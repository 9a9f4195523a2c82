"""What can be asked of the store without changing it."""

from __future__ import annotations

import msgspec

from zizq.engine.selection import Selection
from zizq.job import ErrorRecord, JobRecord
from zizq.store.base import Order, Page
from zizq.store.postgres import asking, pages
from zizq.store.postgres.parts import Parts

_MOST_ATTEMPTS = 2**31 - 1
_error = msgspec.msgpack.Decoder(ErrorRecord).decode


class ReadCalls(Parts):
    """The calls that only read."""

    async def page(self, selection: Selection, after: str | None, order: Order, limit: int, now: int) -> Page:
        """The first jobs of a selection by identifier."""
        async with self._db.reading() as db:
            return await pages.page(db, selection, after, order, limit, now)

    async def count(self, selection: Selection, now: int) -> int:
        """How many jobs a selection has."""
        async with self._db.reading() as db:
            return await pages.count(db, selection, now)

    async def queues(self, now: int) -> list[str]:
        """The queues that hold a job."""
        async with self._db.reading() as db:
            return await pages.queues(db, now)

    async def get(self, job_id: str, now: int) -> JobRecord | None:
        """One job with its payload and its true status."""
        async with self._db.reading() as db:
            return await pages.one(db, job_id, now)

    async def errors(self, job_id: str, after: int | None, order: Order, limit: int) -> list[ErrorRecord]:
        """Failures of a job by attempt."""
        sign, start = (">", 0) if order == "asc" else ("<", _MOST_ATTEMPTS)
        text = f"""SELECT error FROM zizq.errors WHERE job_id = $1 AND attempt {sign} $2
                   ORDER BY attempt {order} LIMIT $3"""  # noqa: S608 - constants
        edge = start if after is None else max(0, min(after, _MOST_ATTEMPTS))
        async with self._db.reading() as db:
            return [_error(row[0]) for row in await db.fetch(text, asking.beyond(job_id), edge, limit)]

    async def error(self, job_id: str, attempt: int) -> ErrorRecord | None:
        """One failure of a job."""
        found = await self.errors(job_id, attempt - 1, "asc", 1)
        return found[0] if found and found[0].attempt == attempt else None
