"""The jobs in flight: who holds what, in memory alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice
from typing import NamedTuple

import msgspec

from zizq.engine.deadlines import Deadlines
from zizq.engine.decide import Settled, overdue_at
from zizq.job import JobRecord

IN_TRANSIT = -1
"""The owner of a job that was taken and not handed out yet; nobody is told when such a job leaves."""
LOST = -2
"""The owner of a job whose stream failed to get it while somebody else was settling it."""


class Holding(msgspec.Struct, gc=False):
    """One job in flight, without its payload.

    `settling` is set from the moment that its end is put to the writer until that is answered: such a job can be
    neither settled nor released a second time. `stream_ms` is the time that its owner grants jobs that set none.
    """

    job: JobRecord
    owner: int
    stream_ms: int | None
    settling: bool = False

    @property
    def is_timed(self) -> bool:
        """Whether it may be held for so long only."""
        return self.stream_ms is not None or self.job.timeout_ms is not None


class Overdue(NamedTuple):
    """A job that was held for longer than it may be, and the time that its owner grants jobs that set none."""

    job: JobRecord
    stream_ms: int | None


class Flight:
    """All jobs in flight, by identifier and by owner."""

    def __init__(self) -> None:
        self._holdings: dict[str, Holding] = {}
        # Of each owner the jobs it holds, in the order in which it got them.
        self._owned: dict[int, dict[str, None]] = {}
        self._deadlines = Deadlines()
        self._keyed: dict[tuple[str, str], set[str]] = {}
        self.on_left: Callable[[list[JobRecord]], None] = lambda jobs: None
        """Hears of jobs that draw on budgets when they leave, for whatever reason."""

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._holdings

    def get(self, job_id: str) -> JobRecord | None:
        """The job in flight under an identifier, without its payload."""
        holding = self._holdings.get(job_id)
        return None if holding is None else holding.job

    def snapshot(self) -> dict[str, JobRecord]:
        """All jobs in flight, without their payloads."""
        return {job_id: holding.job for job_id, holding in self._holdings.items()}

    def others(self, jobs: Iterable[JobRecord]) -> list[JobRecord]:
        """Those of some jobs that are not in flight."""
        holdings = self._holdings
        return [job for job in jobs if job.id not in holdings]

    def among(self, ids: Collection[str]) -> dict[str, JobRecord]:
        """Those of the identifiers that are in flight, without their payloads."""
        return {job_id: self._holdings[job_id].job for job_id in ids if job_id in self._holdings}

    def held(self, owner: int, limit: int) -> list[JobRecord]:
        """The jobs that an owner has held longest, without their payloads."""
        return [self._holdings[job_id].job for job_id in islice(self._owned.get(owner, ()), limit)]

    def replace(self, job: JobRecord) -> None:
        """Change a job that is in flight."""
        holding = self._holdings[job.id]
        holding.job = job
        self._time(holding)

    def add(self, jobs: Sequence[JobRecord], owner: int, stream_ms: int | None = None) -> None:
        """Note that an owner holds jobs.

        Args:
            jobs: The jobs; their payloads are forgotten.
            owner: Who holds them, or `IN_TRANSIT`.
            stream_ms: How long it may, where a job does not say so itself; None for as long as it likes.
        """
        if owner >= 0:
            self._owned.setdefault(owner, {}).update(dict.fromkeys([job.id for job in jobs]))
        for job in jobs:
            holding = Holding(msgspec.structs.replace(job, payload=None), owner, stream_ms)
            self._holdings[job.id] = holding
            if job.unique_key is not None or job.batch is not None:
                self._keyed.setdefault(_key(job), set()).add(job.id)
            if stream_ms is not None or job.timeout_ms is not None:
                self._time(holding)

    def hand(self, ids: Iterable[str], owner: int) -> None:
        """Give jobs that were in transit to their owner."""
        for job_id in ids:
            holding = self._holdings[job_id]
            holding.owner = owner
            self._owned.setdefault(owner, {})[job_id] = None
            self._time(holding)

    def recall(self, ids: Iterable[str]) -> list[str]:
        """Forget jobs that were in transit and cannot be handed out; returns those that nobody is settling."""
        recalled = []
        for job_id in ids:
            holding = self._holdings.get(job_id)
            if holding is None:
                continue
            if holding.settling:
                holding.owner = LOST
            else:
                del self._holdings[job_id]
                self._unbind(holding.job)
                recalled.append(job_id)
        return recalled

    def claim(self, ids: Sequence[str], owners: Collection[int] | None = None) -> list[JobRecord | None]:
        """Mark jobs as settling; None for each that is not in flight or is settling already.

        Args:
            ids: Which jobs.
            owners: Only jobs that these hold; None for whoever holds them.
        """
        claimed: list[JobRecord | None] = []
        for holding in map(self._holdings.get, ids):
            if holding is None or holding.settling or (owners is not None and holding.owner not in owners):
                claimed.append(None)
            else:
                holding.settling = True
                claimed.append(holding.job)
        return claimed

    def unclaim(self, ids: Iterable[str]) -> list[JobRecord]:
        """Take back a claim that could not be carried out; returns the jobs whose owner has gone meanwhile."""
        orphans = []
        for job_id in ids:
            holding = self._holdings[job_id]
            holding.settling = False
            self._time(holding)
            if holding.owner != IN_TRANSIT and job_id not in self._owned.get(holding.owner, ()):
                orphans.append(holding.job)
        return orphans

    def claim_owned(self, owner: int) -> list[JobRecord]:
        """Forget an owner; marks as settling, and returns, the jobs it holds that are not settling yet.

        They come in the order in which it got them.
        """
        claimed = self.claim(list(self._owned.pop(owner, ())))
        return [job for job in claimed if job is not None]

    # ── time limits ──

    @property
    def next_overdue(self) -> int | None:
        """When the next job will have been held for too long; None where none will."""
        return self._deadlines.next()

    def claim_overdue(self, now: int, limit: int) -> list[Overdue]:
        """Mark jobs as settling, `limit` at most, that were held for too long and are not settling yet."""
        due = [self._holdings[job_id] for job_id in self._deadlines.pop(now, limit)]
        overdue = [Overdue(holding.job, holding.stream_ms) for holding in due if not holding.settling]
        self.claim([one.job.id for one in overdue])
        return overdue

    def _time(self, holding: Holding) -> None:
        """See that a job is found when it has been held for too long, but for one that is not handed out yet."""
        at = overdue_at(holding.job, holding.stream_ms) if holding.is_timed and holding.owner >= 0 else None
        if at is None:
            self._deadlines.drop(holding.job.id)
        else:
            self._deadlines.set(holding.job.id, at)

    # ── the end ──

    def land(self, ids: Iterable[str]) -> dict[int, int]:
        """Forget jobs that are settled, released or deleted; returns how many each owner is rid of."""
        freed: dict[int, int] = {}
        drew = []
        some_are_timed = len(self._deadlines) > 0
        for job_id in ids:
            holding = self._holdings.pop(job_id, None)
            if holding is None:
                continue
            job, owner = holding.job, holding.owner
            if some_are_timed:
                self._deadlines.drop(job_id)
            if self._keyed:
                self._unbind(job)
            if job.budgets is not None:
                drew.append(job)
            if owner < 0:
                continue
            freed[owner] = freed.get(owner, 0) + 1
            if owner in self._owned:
                self._owned[owner].pop(job_id, None)
        if drew:
            self.on_left(drew)
        return freed

    def with_keys(self, jobs: Iterable[JobRecord], batches: Iterable[str]) -> set[str]:
        """The jobs in flight that have a unique key of one of the jobs, or one of the batch keys."""
        keys = [("unique", job.unique_key) for job in jobs if job.unique_key is not None]
        keys += [("batch", key) for key in batches]
        return {job_id for key in keys for job_id in self._keyed.get(key, ())}

    def _unbind(self, job: JobRecord) -> None:
        """Forget the key of a job that leaves, if it has one."""
        key = _key(job)
        if bound := self._keyed.get(key):
            bound.discard(job.id)
            if not bound:
                del self._keyed[key]

    def clear(self) -> dict[int, int]:
        """Forget all jobs; returns how many each owner is rid of."""
        return self.land(list(self._holdings))


def settled_ids(settled: Iterable[Settled]) -> list[str]:
    """The identifiers of jobs that were decided upon."""
    return [one.job.id for one in settled]


def _key(job: JobRecord) -> tuple[str, str]:
    if job.unique_key is not None:
        return "unique", job.unique_key
    return "batch", job.batch.key if job.batch is not None else ""
