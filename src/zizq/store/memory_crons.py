"""The crons of the store in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from zizq.budget import Budget
from zizq.cron import CronEntry, CronGroup, CronJob
from zizq.engine.bucket import Bucket
from zizq.engine.cron import rules
from zizq.errors import Unprocessable
from zizq.job import JobRecord
from zizq.store.base import NO_BUDGETS, NOTHING, Due


class MemoryCrons(ABC):
    """The calls on crons; what they need of the store is named first."""

    _buckets: dict[str, Bucket]
    _crons: dict[str, CronGroup]

    @abstractmethod
    async def enqueue(
        self,
        jobs: Sequence[JobRecord],
        now: int,
        folds: Sequence[JobRecord] = (),
        pending: Mapping[str, str | None] = NOTHING,
        create: Mapping[str, Budget] = NO_BUDGETS,
    ) -> Sequence[JobRecord]:
        """Keep new jobs."""

    @abstractmethod
    def _check_draws(self, index: int, job: JobRecord | CronJob, now: int, create: Mapping[str, Budget]) -> None: ...

    async def crons(self) -> list[str]:
        """The names of all cron groups."""
        return sorted(self._crons, key=str.encode)

    async def cron(self, name: str) -> CronGroup | None:
        """A cron group with its entries."""
        return self._crons.get(name)

    async def save_cron(
        self,
        name: str,
        before: CronGroup | None,
        after: CronGroup | None,
        now: int,
        create: Mapping[str, Budget] = NO_BUDGETS,
    ) -> bool:
        """Create, change or delete a cron group."""
        if self._crons.get(name) != (before and before.in_order()):
            return False
        buckets = dict(self._buckets)
        try:
            for entry in after.entries if after else ():
                self._check_draws(0, entry.job, now, create)
        except Unprocessable:
            self._buckets = buckets
            raise
        if after is None:
            self._crons.pop(name, None)
        else:
            self._crons[name] = after.in_order()
        return True

    async def delete_crons(self) -> int:
        """Delete all cron groups."""
        count = len(self._crons)
        self._crons.clear()
        return count

    async def due_crons(self, now: int, limit: int) -> list[Due]:
        """Cron entries whose next time has come."""
        return [due for at, due in self._timed() if at <= now][:limit]

    async def next_cron(self) -> int | None:
        """The earliest next time of all cron entries."""
        return next((at for at, _ in self._timed()), None)

    async def fire(
        self,
        due: Due,
        after: CronEntry,
        jobs: Sequence[JobRecord],
        now: int,
        folds: Sequence[JobRecord] = (),
        pending: Mapping[str, str | None] = NOTHING,
    ) -> Sequence[JobRecord]:
        """Change a cron entry that is due, and enqueue its job."""
        group = self._crons.get(due.group.name)
        if group is None or group.with_(entries=()) != due.group or group.entry(due.entry.name) != due.entry:
            raise rules.has_changed(*due)
        outcome = await self.enqueue(jobs, now, folds, pending)
        entries = tuple(after if entry.name == after.name else entry for entry in group.entries)
        self._crons[group.name] = group.with_(entries=entries)
        return outcome

    def _timed(self) -> list[tuple[int, Due]]:
        """The cron entries that have a next time, and when."""
        dues = [Due(group.with_(entries=()), entry) for group in self._crons.values() for entry in group.entries]
        timed = [(due.entry.next_enqueue_at, due) for due in dues if due.entry.next_enqueue_at is not None]
        return sorted(timed, key=lambda one: (one[0], one[1].group.name, one[1].entry.name))
