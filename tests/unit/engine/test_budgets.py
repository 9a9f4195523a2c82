"""Budgets and draws: what they must be like, and what is said where they are not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from zizq.budget import Budget, Draw, Strategy, StrategyType
from zizq.engine import budgets
from zizq.engine.budgets import BudgetPatch, CreateWith, DrawRequest, StrategyPatch
from zizq.errors import Missing, Refusal, Unprocessable

NOW = 1000
MINUTE = 60_000
RATE = Strategy(StrategyType.TIME_BASED, MINUTE)
AT_ONCE = Strategy(StrategyType.WHILE_IN_FLIGHT)


# ── as they travel ───────────────────────────────────────────────────────────────────────────────────


def test_a_budget_is_its_own_response_body() -> None:
    budget = budgets.new_budget("k", 5, budgets.checked_strategy("time_based", MINUTE, 9), NOW)
    assert msgspec.json.encode(budget) == (
        b'{"key":"k","allocation":5,"strategy":{"type":"time_based","duration_ms":60000,"burst":9},'
        b'"created_at":1000,"updated_at":1000}'
    )
    assert msgspec.json.decode(msgspec.json.encode(budget), type=Budget) == budget


def test_what_a_strategy_does_not_have_is_left_out() -> None:
    assert msgspec.json.encode([AT_ONCE, RATE]) == (
        b'[{"type":"while_in_flight"},{"type":"time_based","duration_ms":60000}]'
    )


def test_the_cost_of_a_draw_is_always_sent() -> None:
    assert msgspec.json.encode(Draw("k", 1)) == b'{"key":"k","cost":1}'


@pytest.mark.parametrize(("burst", "capacity"), [(None, 5), (2, 2), (9, 9)])
def test_the_capacity_is_the_burst_where_there_is_one(burst: int | None, capacity: int) -> None:
    assert Budget("k", 5, Strategy(StrategyType.TIME_BASED, 1, burst), 0, 0).capacity == capacity


# ── new, replaced, patched ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (("x",), 'unknown budget strategy: "x" (expected "time_based" or "while_in_flight")'),
        (("",), 'unknown budget strategy: "" (expected "time_based" or "while_in_flight")'),
        (("time_based",), "time_based budget requires strategy.duration_ms"),
        (("time_based", None, 3), "time_based budget requires strategy.duration_ms"),
        (("time_based", 0), "strategy.duration_ms must be at least 1, not 0"),
        (("time_based", 1, 0), "strategy.burst must be from 1 to 1000000, not 0"),
        (("time_based", 1, 1_000_001), "strategy.burst must be from 1 to 1000000, not 1000001"),
        (
            ("while_in_flight", 7),
            "while_in_flight budget does not take strategy.duration_ms, given as 7: leave it out, or set it to null",
        ),
        (
            ("while_in_flight", None, 7),
            "while_in_flight budget does not take strategy.burst, given as 7: leave it out, or set it to null",
        ),
    ],
)
def test_a_strategy_is_held_to_its_rules(members: tuple[Any, ...], message: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        budgets.checked_strategy(*members)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("members", "strategy"),
    [
        (("while_in_flight",), AT_ONCE),
        (("time_based", 1), Strategy(StrategyType.TIME_BASED, 1)),
        (("time_based", 2**64 - 1, 1), Strategy(StrategyType.TIME_BASED, 2**64 - 1, 1)),
        (("time_based", 1, 1_000_000), Strategy(StrategyType.TIME_BASED, 1, 1_000_000)),
    ],
)
def test_a_strategy_within_its_rules_is_kept_as_it_is(members: tuple[Any, ...], strategy: Strategy) -> None:
    assert budgets.checked_strategy(*members) == strategy


@pytest.mark.parametrize(
    ("key", "allocation", "message"),
    [
        ("", 1, "budget key must not be empty"),
        ("a,b", 1, "budget key must not contain ','"),
        ("a\0", 1, "budget key must not contain null bytes"),
        *[(f"a{c}", 1, f"budget key must not contain '{c}' (reserved)") for c in "*?[]{}\\"],
        ("k", 0, "allocation must be from 1 to 1000000, not 0"),
        ("k", -1, "allocation must be from 1 to 1000000, not -1"),
        ("k", 1_000_001, "allocation must be from 1 to 1000000, not 1000001"),
    ],
)
def test_a_budget_is_held_to_its_rules(key: str, allocation: int, message: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        budgets.new_budget(key, allocation, RATE, NOW)
    assert str(refused.value) == message
    with pytest.raises(Unprocessable) as refused:
        budgets.replaced(None, key, allocation, RATE, NOW)
    assert str(refused.value) == message


@pytest.mark.parametrize("allocation", [1, 1_000_000])
def test_a_new_budget_begins_now(allocation: int) -> None:
    assert budgets.new_budget("a b/é", allocation, RATE, NOW) == Budget("a b/é", allocation, RATE, NOW, NOW)


def test_a_budget_that_replaces_none_is_a_new_one() -> None:
    assert budgets.replaced(None, "k", 5, RATE, NOW) == Budget("k", 5, RATE, NOW, NOW)


def test_a_budget_that_replaces_another_keeps_only_when_it_began() -> None:
    before = Budget("k", 5, Strategy(StrategyType.TIME_BASED, 1, 2), 3, 4)
    assert budgets.replaced(before, "k", 6, AT_ONCE, NOW) == Budget("k", 6, AT_ONCE, 3, NOW)


BURST = Budget("k", 5, Strategy(StrategyType.TIME_BASED, MINUTE, 9), 3, 4)
TO_IN_FLIGHT = StrategyPatch(type="while_in_flight", duration_ms=None, burst=None)


@pytest.mark.parametrize(
    ("before", "patch", "allocation", "strategy"),
    [
        (BURST, BudgetPatch(), 5, BURST.strategy),
        (BURST, BudgetPatch(allocation=6), 6, BURST.strategy),
        (BURST, BudgetPatch(strategy=StrategyPatch()), 5, BURST.strategy),
        (BURST, BudgetPatch(strategy=StrategyPatch(burst=None)), 5, RATE),
        (BURST, BudgetPatch(strategy=StrategyPatch(burst=1)), 5, Strategy(StrategyType.TIME_BASED, MINUTE, 1)),
        (BURST, BudgetPatch(strategy=StrategyPatch(duration_ms=2)), 5, Strategy(StrategyType.TIME_BASED, 2, 9)),
        (BURST, BudgetPatch(strategy=StrategyPatch(type="time_based")), 5, BURST.strategy),
        (BURST, BudgetPatch(strategy=TO_IN_FLIGHT), 5, AT_ONCE),
        (
            Budget("k", 5, AT_ONCE, 3, 4),
            BudgetPatch(allocation=7, strategy=StrategyPatch(type="time_based", duration_ms=MINUTE)),
            7,
            RATE,
        ),
    ],
)
def test_a_patch_is_merged_member_by_member(
    before: Budget, patch: BudgetPatch, allocation: int, strategy: Strategy
) -> None:
    assert budgets.patched(before, patch, NOW) == Budget("k", allocation, strategy, 3, NOW)


@pytest.mark.parametrize(
    ("before", "patch", "message"),
    [
        (BURST, BudgetPatch(allocation=None), "allocation cannot be null"),
        (BURST, BudgetPatch(strategy=None), "strategy cannot be null"),
        (BURST, BudgetPatch(strategy=StrategyPatch(type=None)), "strategy.type cannot be null"),
        (BURST, BudgetPatch(allocation=0), "allocation must be from 1 to 1000000, not 0"),
        (BURST, BudgetPatch(strategy=StrategyPatch(type="x")), 'unknown budget strategy: "x"'),
        (
            BURST,
            BudgetPatch(strategy=StrategyPatch(duration_ms=None)),
            "time_based budget requires strategy.duration_ms",
        ),
        (
            BURST,
            BudgetPatch(strategy=StrategyPatch(type="while_in_flight")),
            "while_in_flight budget does not take strategy.duration_ms, given as 60000",
        ),
        (
            BURST,
            BudgetPatch(strategy=StrategyPatch(type="while_in_flight", duration_ms=None)),
            "while_in_flight budget does not take strategy.burst, given as 9",
        ),
        (
            Budget("k", 5, AT_ONCE, 3, 4),
            BudgetPatch(strategy=StrategyPatch(type="time_based")),
            "time_based budget requires strategy.duration_ms",
        ),
    ],
)
def test_a_patch_is_checked_once_it_is_merged(before: Budget, patch: BudgetPatch, message: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        budgets.patched(before, patch, NOW)
    assert str(refused.value).startswith(message)


# ── draws ────────────────────────────────────────────────────────────────────────────────────────────


def test_draws_keep_their_order_and_cost_one_where_nothing_is_said() -> None:
    asked = [DrawRequest("b"), DrawRequest("a", 2**32 - 1, CreateWith(3, RATE)), DrawRequest("c", 1)]
    assert budgets.check_draws(asked) == (Draw("b", 1), Draw("a", 2**32 - 1), Draw("c", 1))
    assert budgets.check_draws([]) == ()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([DrawRequest("k"), DrawRequest("j"), DrawRequest("k", 2)], "budget 'k' named more than once"),
        ([DrawRequest("k", 0)], "budget 'k' cost must be at least 1"),
        ([DrawRequest("k", bucket="b")], "budget 'k' sets bucket, which is reserved and not yet supported"),
        ([DrawRequest("k", bucket=False)], "budget 'k' sets bucket, which is reserved and not yet supported"),
        ([DrawRequest("")], "budget key must not be empty"),
        ([DrawRequest("a?")], "budget key must not contain '?' (reserved)"),
        ([DrawRequest("k", 1, CreateWith(0, RATE))], "allocation must be from 1 to 1000000, not 0"),
    ],
)
def test_draws_are_held_to_their_rules(asked: list[DrawRequest], message: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        budgets.check_draws(asked)
    assert str(refused.value) == message


# ── what only a store can tell ───────────────────────────────────────────────────────────────────────

SMALL = Budget("k", 3, AT_ONCE, 0, 0)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (budgets.not_found("k"), Missing, "budget 'k' not found"),
        (budgets.already_exists("k"), Refusal, "budget 'k' already exists"),
        (
            budgets.no_such_budget(Draw("k", 1)),
            Unprocessable,
            "budget 'k' does not exist and no create_with policy was supplied to create it with",
        ),
        (
            budgets.costs_too_much(Draw("k", 4), SMALL),
            Unprocessable,
            "cost 4 exceeds budget 'k', which holds at most 3",
        ),
        (
            budgets.costs_too_much(Draw("k", 10), BURST),
            Unprocessable,
            "cost 10 exceeds budget 'k', which holds at most 9",
        ),
        (
            budgets.too_many_budgets("k", budgets.MAX_BUDGETS),
            Unprocessable,
            "cannot create budget 'k': the server already holds its maximum of 8192 budgets "
            "(--max-budgets / ZIZQ_MAX_BUDGETS). Delete one that nothing draws on, or raise the maximum.",
        ),
        (
            budgets.too_small_for_jobs(SMALL, 1, 7),
            Unprocessable,
            "budget 'k' cannot allocate 3: 1 unfinished job draw up to 7 from it. "
            "Raise the allocation, delete them, or wait for them to drain.",
        ),
        (
            budgets.too_small_for_jobs(BURST, 2, 10),
            Unprocessable,
            "budget 'k' cannot allocate 9: 2 unfinished jobs draw up to 10 from it. "
            "Raise the burst, delete them, or wait for them to drain.",
        ),
        (
            budgets.too_small_for_crons(SMALL, 1, 7, "g/e"),
            Unprocessable,
            "budget 'k' cannot allocate 3: 1 cron entry draw up to 7 from it, including 'g/e'. "
            "Raise the allocation, or change or remove them.",
        ),
        (
            budgets.too_small_for_crons(BURST, 2, 10, "g/e"),
            Unprocessable,
            "budget 'k' cannot allocate 9: 2 cron entries draw up to 10 from it, including 'g/e'. "
            "Raise the burst, or change or remove them.",
        ),
        (
            budgets.in_use_by_jobs("k", 1),
            Refusal,
            "budget 'k' is referenced by 1 unfinished job. Delete them or wait for them to finish before deleting it.",
        ),
        (
            budgets.in_use_by_jobs("k", 2000),
            Refusal,
            "budget 'k' is referenced by 2000 unfinished jobs. "
            "Delete them or wait for them to finish before deleting it.",
        ),
        (
            budgets.in_use_by_crons("k", 1, "g/e"),
            Refusal,
            "budget 'k' is referenced by 1 cron entry, including 'g/e'. Remove them before deleting it.",
        ),
        (
            budgets.in_use_by_crons("k", 2, "g/e"),
            Refusal,
            "budget 'k' is referenced by 2 cron entries, including 'g/e'. Remove them before deleting it.",
        ),
    ],
)
def test_refusals_say_what_is_in_the_way(error: Refusal, kind: type[Refusal], message: str) -> None:
    assert isinstance(error, kind)
    assert str(error) == message
