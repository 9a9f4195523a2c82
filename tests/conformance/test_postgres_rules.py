"""Budgets, crons and pauses where several servers share one database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from postgres import Databases
from zizq.budget import Budget, Draw, Strategy, StrategyType
from zizq.errors import Conflicting, Unprocessable
from zizq.policy import Defaults
from zizq.store.postgres.store import PostgresStore
from zizq.testing.bench import NOW, Bench, Recorder
from zizq.testing.clock import LoadedDice
from zizq.testing.cron_conformance import drawing, entry, group

FLIGHT = Strategy(StrategyType.WHILE_IN_FLIGHT)


@asynccontextmanager
async def servers(databases: Databases, count: int = 2, max_budgets: int = 100) -> AsyncIterator[list[Bench]]:
    """Some servers on one new database; their jobs come after one another whoever makes them."""
    url = databases.fresh()
    async with AsyncExitStack() as stack:
        benches: list[Bench] = []
        for _ in range(count):
            dice, heard = LoadedDice(), Recorder()
            store = PostgresStore(url, Defaults(retry_limit=2), dice, max_budgets=max_budgets)
            await store.open(heard)
            stack.push_async_callback(store.close)
            benches.append(Bench(store, heard, dice))
            benches[-1].next_id = benches[0].next_id
        yield benches


def budget(key: str = "a", allocation: int = 1, strategy: Strategy = FLIGHT) -> Budget:
    return Budget(key, allocation, strategy, NOW, NOW)


# ── what is changed at the same time ──


async def test_of_two_who_change_a_budget_one_does(databases: Databases) -> None:
    async with servers(databases) as both:
        before: Budget | None = None
        for size in range(2, 12, 2):
            after = [budget("a", size + at) for at in range(2)]
            calls = [bench.store.save_budget("a", before, after[at], NOW) for at, bench in enumerate(both)]
            done = await asyncio.gather(*calls)
            assert sorted(done) == [False, True]
            before = after[done.index(True)]
            assert [await bench.store.budgets() for bench in both] == [[before], [before]]


async def test_budgets_are_counted_over_all_servers(databases: Databases) -> None:
    async with servers(databases, 3, max_budgets=5) as three:
        calls = [three[at % 3].store.save_budget(f"b{at}", None, budget(f"b{at}"), NOW) for at in range(12)]
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert sorted(str(type(one).__name__) for one in done) == ["Unprocessable"] * 7 + ["bool"] * 5
        assert len(await three[0].store.budgets()) == 5


async def test_of_two_who_save_a_group_one_does(databases: Databases) -> None:
    async with servers(databases) as both:
        before = None
        for at in range(1, 11, 2):
            after = [group(entry(last_enqueue_at=at)), group(entry(last_enqueue_at=at + 1))]
            calls = [bench.store.save_cron("g", before, after[at], NOW) for at, bench in enumerate(both)]
            done = await asyncio.gather(*calls)
            assert sorted(done) == [False, True]
            before = after[done.index(True)]
            assert [await bench.store.cron("g") for bench in both] == [before, before]


async def test_a_budget_does_not_go_while_a_cron_comes_that_draws_on_it(databases: Databases) -> None:
    async with servers(databases) as (one, other):
        for at in range(10):
            there = budget(f"b{at}", 5)
            assert await one.store.save_budget(there.key, None, there, NOW)
            wanted = group(drawing(Draw(there.key, 5)), name=f"g{at}")
            saved, gone = await asyncio.gather(
                one.store.save_cron(wanted.name, None, wanted, NOW),
                other.store.save_budget(there.key, there, None, NOW),
                return_exceptions=True,
            )
            if saved is True:
                assert isinstance(gone, Conflicting)
            else:
                assert isinstance(saved, Unprocessable)
                assert gone is True


# ── pauses ──


async def test_a_pause_is_seen_by_all_servers(databases: Databases) -> None:
    async with servers(databases) as (one, other):
        assert await one.store.pause_queue("q", NOW) == NOW
        assert await other.store.pause_queue("q", NOW + 1) == NOW
        assert await other.store.paused_queues() == {"q": NOW}
        assert await other.store.resume_queue("q")
        assert not await one.store.resume_queue("q")


async def test_pauses_are_counted_over_all_servers(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zizq.engine.pauses.MAX_PAUSED", 3)
    async with servers(databases) as both:
        calls = [both[at % 2].store.pause_queue(f"q{at}", NOW) for at in range(8)]
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(one == NOW for one in done) == 3
        assert len(await both[0].store.paused_queues()) == 3
