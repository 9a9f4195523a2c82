"""Calls that share a transaction, without one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from zizq.store.postgres.gather import Gather


class Runs:
    """Runs lots when it is let, and remembers them."""

    def __init__(self) -> None:
        self.lots: list[list[int]] = []
        self.gate = asyncio.Event()
        self.unwanted: list[tuple[int, int]] = []

    async def run(self, calls: Sequence[int]) -> Sequence[int | Exception]:
        self.lots.append(list(calls))
        await self.gate.wait()
        if 13 in calls:
            raise RuntimeError("all of it")
        return [ValueError(str(call)) if call < 0 else call * 10 for call in calls]

    def gather(self, most: int = 100) -> Gather[int, int]:
        return Gather(self.run, most, abs, lambda call, outcome: self.unwanted.append((call, outcome)))


async def test_what_comes_while_a_lot_runs_shares_the_next_one() -> None:
    runs = Runs()
    gather = runs.gather()
    calls = [gather.call(1)]
    await asyncio.sleep(0)
    calls += [gather.call(2), gather.call(3)]
    runs.gate.set()
    assert await asyncio.gather(*calls) == [10, 20, 30]
    assert runs.lots == [[1], [2, 3]]


async def test_a_lot_weighs_so_much_at_most_and_one_call_may_weigh_more() -> None:
    runs = Runs()
    runs.gate.set()
    gather = runs.gather(most=5)
    await asyncio.gather(*[gather.call(weight) for weight in (2, 3, 1, 9, 4)])
    assert runs.lots == [[2, 3], [1], [9], [4]]


async def test_an_outcome_that_is_an_exception_is_raised_for_its_caller_alone() -> None:
    runs = Runs()
    runs.gate.set()
    gather = runs.gather()
    good, bad = gather.call(1), gather.call(-2)
    with pytest.raises(ValueError, match="-2"):
        await bad
    assert await good == 10


async def test_a_lot_that_fails_fails_for_all_and_the_next_goes_on() -> None:
    runs = Runs()
    runs.gate.set()
    gather = runs.gather(most=15)
    calls = [gather.call(13), gather.call(1), gather.call(2)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(one, RuntimeError) for one in outcomes] == [True, True, False]


async def test_who_goes_before_a_lot_begins_takes_the_call_along() -> None:
    runs = Runs()
    gather = runs.gather()
    first = gather.call(1)
    await asyncio.sleep(0)
    gather.call(2).cancel()
    third = gather.call(3)
    runs.gate.set()
    assert await asyncio.gather(first, third) == [10, 30]
    assert runs.lots == [[1], [3]]


async def test_what_was_done_for_somebody_who_has_gone_is_told() -> None:
    runs = Runs()
    gather = runs.gather()
    call = gather.call(7)
    await asyncio.sleep(0)
    call.cancel()
    runs.gate.set()
    await gather.idle()
    assert runs.unwanted == [(7, 70)]
