"""Budgets: listed, read, created, replaced, patched and deleted. The engine has the rules, the store keeps them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from zizq.budget import Budget, Strategy
from zizq.clock import Clock
from zizq.engine import budgets
from zizq.engine.budgets import BudgetPatch
from zizq.store.base import Store

_After = TypeVar("_After", bound=Budget | None)


class Budgets:
    """What the server does with budgets (protocol.md#8.2).

    Args:
        store: Where they rest.
        clock: The time of their creation and of their changes.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def all(self) -> list[Budget]:
        """All budgets, sorted by their keys."""
        return await self._store.budgets()

    async def get(self, key: str) -> Budget:
        """One budget.

        Raises:
            Missing: When there is none.
        """
        return _there(key, await self._find(key))

    async def create(self, key: str, allocation: int, strategy: Strategy) -> Budget:
        """Add a budget that is not there yet.

        Raises:
            Conflicting: When it is there already.
            Unprocessable: When it breaks a rule of protocol.md#8.1, or is one too many.
            Unavailable: When the store cannot write.
        """

        def change(before: Budget | None, now: int) -> Budget:
            if before is not None:
                raise budgets.already_exists(key)
            return budgets.new_budget(key, allocation, strategy, now)

        return await self._save(key, change)

    async def replace(self, key: str, allocation: int, strategy: Strategy) -> Budget:
        """Put a budget in the place of the one with its key, whether or not there is one.

        Raises:
            Unprocessable: As for `create`, or when unfinished jobs draw more than it is to hold.
            Unavailable: When the store cannot write.
        """
        return await self._save(key, lambda before, now: budgets.replaced(before, key, allocation, strategy, now))

    async def ensure(self, wanted: Iterable[Budget]) -> None:
        """Add budgets where they are missing; those that are there stay as they are.

        Raises:
            Unprocessable: When one is one too many.
            Unavailable: When the store cannot write.
        """
        there = {budget.key for budget in await self._store.budgets()}
        for budget in wanted:
            if budget.key not in there:
                # Where another call was faster, its budget stays.
                await self._store.save_budget(budget.key, None, budget, self._clock.wall_ms())

    async def patch(self, key: str, patch: BudgetPatch) -> Budget:
        """Change a budget.

        Raises:
            Missing: When there is none.
            Unprocessable: As for `replace`, once all members are merged.
            Unavailable: When the store cannot write.
        """
        return await self._save(key, lambda before, now: budgets.patched(_there(key, before), patch, now))

    async def delete(self, key: str) -> None:
        """Remove a budget.

        Raises:
            Missing: When there is none.
            Conflicting: When unfinished jobs draw on it.
            Unavailable: When the store cannot write.
        """

        def change(before: Budget | None, now: int) -> None:
            _there(key, before)

        await self._save(key, change)

    async def _find(self, key: str) -> Budget | None:
        return next((budget for budget in await self._store.budgets() if budget.key == key), None)

    async def _save(self, key: str, change: Callable[[Budget | None, int], _After]) -> _After:
        """Store what a budget becomes; asked again where another call has changed it meanwhile."""
        while True:
            now = self._clock.wall_ms()
            before = await self._find(key)
            after = change(before, now)
            if await self._store.save_budget(key, before, after, now):
                return after


def _there(key: str, budget: Budget | None) -> Budget:
    if budget is None:
        raise budgets.not_found(key)
    return budget
