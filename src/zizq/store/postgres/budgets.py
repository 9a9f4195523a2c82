"""The budgets of the store port on PostgreSQL."""

from __future__ import annotations

from zizq.budget import Budget
from zizq.store.postgres import budget_rows
from zizq.store.postgres.parts import Parts


class BudgetCalls(Parts):
    """The calls on budgets."""

    async def budgets(self) -> list[Budget]:
        """All budgets."""
        async with self._db.reading() as db:
            return [bucket.budget for bucket in await budget_rows.every(db)]

    async def save_budget(self, key: str, before: Budget | None, after: Budget | None, now: int) -> bool:
        """Create, change or delete a budget."""
        async with self._write() as db:
            saved = await budget_rows.save(db, key, before, after, self._max_budgets, now)
        if saved:
            self._stirred([key])
        return saved

    async def tokens(self, now: int) -> dict[str, int]:
        """How many tokens each budget has."""
        async with self._db.reading() as db:
            return {bucket.budget.key: bucket.tokens(now) for bucket in await budget_rows.every(db)}
