"""What the suites that every store must pass have in common: a store that is open, and short words for its calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from zizq.clock import Dice
from zizq.engine import admit
from zizq.engine.changes import Change, Delete
from zizq.engine.selection import Selection
from zizq.engine.transitions import Cause
from zizq.ids import IdGenerator
from zizq.job import ErrorRecord, Failure, JobRecord, Status
from zizq.policy import Backoff, Defaults
from zizq.store.base import Changed, Order, Store
from zizq.testing.clock import LoadedDice, ManualClock

NOW = 1_790_000_000_000
DAY = 86_400_000
PAYLOAD = msgspec.msgpack.encode({"to": "a@b"})


def selection(**conditions: Any) -> Selection:
    """A selection whose sets may be given as any collection, of plain text."""
    kinds = {"ids": str, "statuses": Status, "queues": str, "types": str, "budgets": str}
    sets: dict[str, Any] = {
        name: frozenset(map(kinds[name], conditions.pop(name))) for name in kinds & conditions.keys()
    }
    return Selection(**sets, **conditions)


class Recorder:
    """A listener that remembers what it heard."""

    def __init__(self) -> None:
        self.queues: list[str] = []
        self.due: list[int] = []
        self.freed_by: dict[int, int] = {}
        self.overdue_at: list[int] = []
        self.moves: list[tuple[Cause, Sequence[JobRecord] | None]] = []
        self.errors: list[ErrorRecord] = []

    def available(self, queues: Collection[str]) -> None:
        """Remember queues with ready jobs."""
        self.queues += sorted(queues)

    def scheduled(self, at: int) -> None:
        """Remember when a job is due."""
        self.due.append(at)

    def freed(self, owner: int, count: int) -> None:
        """Count what an owner is rid of."""
        self.freed_by[owner] = self.freed_by.get(owner, 0) + count

    def overdue(self, at: int) -> None:
        """Remember when a job is overdue."""
        self.overdue_at.append(at)

    def moved(self, cause: Cause, jobs: Sequence[JobRecord] | None, errors: Sequence[ErrorRecord] = ()) -> None:
        """Remember who moved."""
        self.moves.append((cause, None if jobs is None else list(jobs)))
        self.errors += errors


class Bench:
    """A store with what a test of it needs at hand."""

    def __init__(self, store: Store, listener: Recorder, dice: LoadedDice) -> None:
        self.store = store
        self.heard = listener
        self.dice = dice
        self.next_id = IdGenerator(ManualClock(NOW), LoadedDice()).next
        """Makes an identifier that comes after all before it."""

    def job(self, queue: str = "q", *, type: str = "t", payload: bytes = PAYLOAD, **more: Any) -> JobRecord:
        """A new job, younger than all before it."""
        raw = msgspec.Raw(payload)
        return admit.new_job(self.next_id(), NOW, type=type, queue=queue, payload=raw, **more)

    async def enqueue(self, *jobs: JobRecord) -> list[str]:
        """Store jobs; returns their identifiers."""
        return [job.id for job in await self.store.enqueue(jobs, NOW)]

    async def take(
        self,
        limit: int = 100,
        *,
        owner: int = 1,
        queues: Iterable[str] = (),
        now: int = NOW,
        timeout_ms: int | None = None,
    ) -> list[JobRecord]:
        """Take jobs."""
        return await self.store.take(owner, frozenset(queues), limit, now, timeout_ms)

    async def take_ids(self, limit: int = 100, *, owner: int = 1, queues: Iterable[str] = ()) -> list[str]:
        """Take jobs; returns their identifiers."""
        return [job.id for job in await self.take(limit, owner=owner, queues=queues)]

    async def fail(self, job_id: str, *, now: int = NOW, **failure: Any) -> JobRecord | None:
        """Fail a job."""
        return await self.store.fail(job_id, Failure(**{"message": "boom", **failure}), now)

    async def change(self, change: Change, now: int = NOW, **conditions: Any) -> Changed:
        """Change the jobs that meet conditions (`Selection`)."""
        return await self.store.change(selection(**conditions), change, now)

    async def delete(self, *ids: str, now: int = NOW) -> int:
        """Delete jobs; returns how many."""
        return (await self.change(Delete(), now, ids=ids)).jobs

    async def page_ids(
        self, *, after: str | None = None, order: Order = "asc", limit: int = 2000, now: int = NOW, **conditions: Any
    ) -> list[str]:
        """The identifiers of a page."""
        return [job.id for job in (await self.store.page(selection(**conditions), after, order, limit, now)).jobs]

    async def count(self, *, now: int = NOW, **conditions: Any) -> int:
        """How many jobs meet conditions."""
        return await self.store.count(selection(**conditions), now)

    async def status(self, job_id: str, now: int = NOW) -> Status | None:
        """The status that a reader sees."""
        job = await self.store.get(job_id, now)
        return None if job is None else job.status


class Suite:
    """Tests of a store; a subclass overrides `make`."""

    defaults = Defaults(retry_limit=2, backoff=Backoff(exponent=1.0, base_ms=500, jitter_ms=100), dead_ms=DAY)

    def make(self, place: Path, defaults: Defaults, dice: Dice) -> Store:
        """A store that is not open, in the given folder if it wants one."""
        raise NotImplementedError

    @asynccontextmanager
    async def bench(self, place: Path, defaults: Defaults | None = None) -> AsyncIterator[Bench]:
        """An open store for the length of a block."""
        dice, listener = LoadedDice(), Recorder()
        store = self.make(place, defaults or self.defaults, dice)
        await store.open(listener)
        try:
            yield Bench(store, listener, dice)
        finally:
            await store.close()
