"""The crons of the store port on SQLite."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from zizq.budget import Budget
from zizq.cron import CronEntry, CronGroup
from zizq.job import JobRecord
from zizq.store.base import NO_BUDGETS, NOTHING, Due
from zizq.store.sqlite import cron_statements
from zizq.store.sqlite.cron_statements import Firing, SaveCron
from zizq.store.sqlite.key_statements import AdmitCall
from zizq.store.sqlite.parts import Parts
from zizq.store.sqlite.statements import Step


class CronCalls(Parts, ABC):
    """The calls on crons."""

    @abstractmethod
    async def _admit(self, call: AdmitCall) -> Sequence[JobRecord]: ...

    async def crons(self) -> list[str]:
        """The names of all cron groups."""
        return await self._readers.read(cron_statements.names)

    async def cron(self, name: str) -> CronGroup | None:
        """A cron group with its entries."""
        return await self._readers.read(lambda db: cron_statements.group(db, name))

    async def save_cron(
        self,
        name: str,
        before: CronGroup | None,
        after: CronGroup | None,
        now: int,
        create: Mapping[str, Budget] = NO_BUDGETS,
    ) -> bool:
        """Create, change or delete a cron group."""

        def then(created: Sequence[Budget] | None) -> None:
            for budget in created or ():
                self._purse.put(budget, now)

        call = SaveCron(name, before, after, create, self._max_budgets)
        return await self._write(Step.CRON, call, then=then) is not None

    async def delete_crons(self) -> int:
        """Delete all cron groups."""
        count: int = await self._write(Step.CLEAR_CRONS, None)
        return count

    async def due_crons(self, now: int, limit: int) -> list[Due]:
        """Cron entries whose next time has come."""
        return await self._readers.read(lambda db: cron_statements.due(db, now, limit))

    async def next_cron(self) -> int | None:
        """The earliest next time of all cron entries."""
        return await self._readers.read(cron_statements.next_at)

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
        firing = Firing(due, after)
        return await self._admit(AdmitCall(jobs, folds, pending, now, NO_BUDGETS, self._max_budgets, firing))
