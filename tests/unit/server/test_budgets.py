"""The service of budgets, where several calls change one at the same moment."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from zizq.budget import Strategy, StrategyType
from zizq.engine.budgets import BudgetPatch, StrategyPatch
from zizq.errors import Conflicting, Missing
from zizq.policy import Defaults
from zizq.server.budgets import Budgets
from zizq.store.base import Silence
from zizq.store.sqlite.store import SqliteStore
from zizq.testing.clock import LoadedDice, ManualClock

FLIGHT = Strategy(StrategyType.WHILE_IN_FLIGHT)


async def test_changes_at_the_same_moment_are_all_made(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, Defaults(), LoadedDice())
    await store.open(Silence())
    budgets = Budgets(store, ManualClock())
    await budgets.create("k", 1, Strategy(StrategyType.TIME_BASED, 1000))
    # All read the budget before the first of them is written.
    await asyncio.gather(
        budgets.patch("k", BudgetPatch(allocation=9)),
        budgets.patch("k", BudgetPatch(strategy=StrategyPatch(burst=7))),
        budgets.patch("k", BudgetPatch(strategy=StrategyPatch(duration_ms=5))),
    )
    [budget] = await budgets.all()
    assert (budget.allocation, budget.strategy) == (9, Strategy(StrategyType.TIME_BASED, 5, 7))
    await store.close()


async def test_of_calls_at_the_same_moment_one_creates_and_one_deletes(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, Defaults(), LoadedDice())
    await store.open(Silence())
    budgets = Budgets(store, ManualClock())
    created = await asyncio.gather(*[budgets.create("k", 1, FLIGHT) for _ in range(3)], return_exceptions=True)
    assert sorted(type(one) is Conflicting for one in created) == [False, True, True]
    deleted = await asyncio.gather(*[budgets.delete("k") for _ in range(3)], return_exceptions=True)
    assert sorted(type(one) is Missing for one in deleted) == [False, True, True]
    with pytest.raises(Missing, match="'k' not found"):
        await budgets.get("k")
    await store.close()
