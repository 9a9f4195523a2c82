"""What budgets, and the draws of jobs on them, must be like; what is said where they are not (protocol.md#8).

The tokens themselves are in `bucket`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from zizq.budget import MAX_TOKENS, Budget, Draw, Strategy, StrategyType
from zizq.errors import BadRequest, Conflicting, Missing, Refusal, Unprocessable
from zizq.job import check_name

MAX_BUDGETS = 8_192
"""How many budgets a server holds where it is not told otherwise (protocol.md#8.2)."""
_TYPES = " or ".join(f'"{one}"' for one in StrategyType)
_T = TypeVar("_T")


# ── budgets ──────────────────────────────────────────────────────────────────────────────────────────


def checked_strategy(type: str, duration_ms: int | None = None, burst: int | None = None) -> Strategy:
    """A strategy that keeps to the rules of protocol.md#8.1.

    Args:
        type: The name of a strategy type.
        duration_ms: The period of a time_based one; None where it is not given.
        burst: The capacity of a time_based one; None for as many tokens as are allocated.

    Raises:
        Unprocessable: When there is no such type, or a member is missing, out of range or not of this type.
    """
    try:
        kind = StrategyType(type)
    except ValueError:
        raise Unprocessable(f'unknown budget strategy: "{type}" (expected {_TYPES})') from None
    if kind is StrategyType.WHILE_IN_FLIGHT:
        _check_absent("strategy.duration_ms", duration_ms)
        _check_absent("strategy.burst", burst)
    elif duration_ms is None:
        raise Unprocessable("time_based budget requires strategy.duration_ms")
    elif duration_ms < 1:
        raise Unprocessable(f"strategy.duration_ms must be at least 1, not {duration_ms}")
    elif burst is not None:
        _check_tokens("strategy.burst", burst)
    return Strategy(kind, duration_ms, burst)


def check_budget(key: str, allocation: int) -> None:
    """Hold what a budget has beside its strategy to its rules.

    Raises:
        Unprocessable: When the key is malformed, or the allocation is out of range.
    """
    _check_key(key)
    _check_tokens("allocation", allocation)


def new_budget(key: str, allocation: int, strategy: Strategy, now: int) -> Budget:
    """A budget that was not there before.

    Args:
        key: Its key.
        allocation: How many tokens it has, or gets back in a period.
        strategy: What `checked_strategy` returned.
        now: The wall clock, in milliseconds.

    Raises:
        Unprocessable: When it breaks a rule of protocol.md#8.1.
    """
    check_budget(key, allocation)
    return Budget(key, allocation, strategy, created_at=now, updated_at=now)


def replaced(before: Budget | None, key: str, allocation: int, strategy: Strategy, now: int) -> Budget:
    """A budget put in the place of the one before it, if there is one: only `created_at` is kept.

    Raises:
        Unprocessable: As for `new_budget`.
    """
    budget = new_budget(key, allocation, strategy, now)
    return budget if before is None else msgspec.structs.replace(budget, created_at=before.created_at)


class StrategyPatch(msgspec.Struct, frozen=True, kw_only=True):
    """Changes to a strategy, member by member; None clears a member."""

    type: str | UnsetType | None = UNSET
    duration_ms: int | UnsetType | None = UNSET
    burst: int | UnsetType | None = UNSET

    def apply(self, before: Strategy) -> Strategy:
        """The strategy after it, checked once all members are merged.

        Raises:
            Unprocessable: As for `checked_strategy`, or when the type is None.
        """
        return checked_strategy(
            _kept("strategy.type", self.type, str(before.type)),
            before.duration_ms if self.duration_ms is UNSET else self.duration_ms,
            before.burst if self.burst is UNSET else self.burst,
        )


class BudgetPatch(msgspec.Struct, frozen=True, kw_only=True):
    """Changes to a budget; what is unset stays as it is."""

    allocation: int | UnsetType | None = UNSET
    strategy: StrategyPatch | UnsetType | None = UNSET


def patched(before: Budget, patch: BudgetPatch, now: int) -> Budget:
    """A budget after a patch, checked once all members are merged.

    Raises:
        Unprocessable: As for `new_budget`, or when a member is None that cannot be cleared.
    """
    allocation = _kept("allocation", patch.allocation, before.allocation)
    strategy = _kept("strategy", patch.strategy, StrategyPatch()).apply(before.strategy)
    return replaced(before, before.key, allocation, strategy, now)


def _kept(name: str, value: _T | UnsetType | None, before: _T) -> _T:
    """A member that cannot be cleared, after a patch."""
    if value is None:
        raise Unprocessable(f"{name} cannot be null")
    return before if value is UNSET else value


def _check_key(key: str) -> None:
    try:
        check_name("budget key", key)
    except BadRequest as error:
        raise Unprocessable(str(error)) from error


def _check_absent(name: str, value: int | None) -> None:
    if value is not None:
        raise Unprocessable(
            f"while_in_flight budget does not take {name}, given as {value}: leave it out, or set it to null"
        )


def _check_tokens(name: str, value: int) -> None:
    if not 1 <= value <= MAX_TOKENS:
        raise Unprocessable(f"{name} must be from 1 to {MAX_TOKENS}, not {value}")


# ── draws ────────────────────────────────────────────────────────────────────────────────────────────


class CreateWith(msgspec.Struct, frozen=True):
    """What a missing budget is to be created with, by `new_budget`.

    Args:
        allocation: Its allocation.
        strategy: What `checked_strategy` returned.
    """

    allocation: int
    strategy: Strategy


class DrawRequest(msgspec.Struct, frozen=True):
    """A draw as it is asked for (protocol.md#8.3).

    Args:
        key: The key of the budget.
        cost: How many tokens the job takes; None is one.
        create_with: What to create the budget with where it is missing.
        bucket: Reserved: anything but None is refused.
    """

    key: str
    cost: int | None = None
    create_with: CreateWith | None = None
    bucket: object = None


def check_draws(asked: Iterable[DrawRequest]) -> tuple[Draw, ...]:
    """The draws of a job as they are stored, in the order in which they are asked for.

    Whether the budgets are there, and hold as much, only a store can say: `no_such_budget`, `costs_too_much`.

    Raises:
        Unprocessable: When a draw breaks a rule of protocol.md#8.3, or a budget is named twice.
    """
    draws: dict[str, Draw] = {}
    for one in asked:
        _check_key(one.key)
        cost = 1 if one.cost is None else one.cost
        if one.bucket is not None:
            raise Unprocessable(f"budget '{one.key}' sets bucket, which is reserved and not yet supported")
        if one.key in draws:
            raise Unprocessable(f"budget '{one.key}' named more than once")
        if cost < 1:
            raise Unprocessable(f"budget '{one.key}' cost must be at least 1")
        if one.create_with is not None:
            check_budget(one.key, one.create_with.allocation)
        draws[one.key] = Draw(one.key, cost)
    return tuple(draws.values())


# ── refusals that only a store can tell ──────────────────────────────────────────────────────────────


def not_found(key: str) -> Missing:
    """No budget has this key."""
    return Missing(f"budget '{key}' not found")


def already_exists(key: str) -> Conflicting:
    """A budget that is to be created is there already."""
    return Conflicting(f"budget '{key}' already exists")


def draw_refusal(draw: Draw, budget: Budget | None) -> Unprocessable | None:
    """Why a job cannot draw on a budget, which is None where it is missing; None when it can."""
    if budget is None:
        return no_such_budget(draw)
    return costs_too_much(draw, budget) if draw.cost > budget.capacity else None


def no_such_budget(draw: Draw) -> Unprocessable:
    """A job draws on a budget that is not there, and does not say what to create it with."""
    return Unprocessable(f"budget '{draw.key}' does not exist and no create_with policy was supplied to create it with")


def costs_too_much(draw: Draw, budget: Budget) -> Unprocessable:
    """A job draws more than its budget ever holds."""
    return Unprocessable(f"cost {draw.cost} exceeds budget '{budget.key}', which holds at most {budget.capacity}")


def too_many_budgets(key: str, most: int) -> Unprocessable:
    """One more budget would be over the maximum."""
    return Unprocessable(
        f"cannot create budget '{key}': the server already holds its maximum of {most} budgets "
        "(--max-budgets / ZIZQ_MAX_BUDGETS). Delete one that nothing draws on, or raise the maximum."
    )


def too_small_for_jobs(budget: Budget, jobs: int, most: int) -> Unprocessable:
    """A budget is to hold less than jobs draw from it that are scheduled, ready or in flight.

    Args:
        budget: The budget as it was to be.
        jobs: How many unfinished jobs draw more than its capacity.
        most: The highest cost among them.
    """
    return Unprocessable(
        f"budget '{budget.key}' cannot allocate {budget.capacity}: {_jobs(jobs)} draw up to {most} from it. "
        f"Raise the {_limit(budget)}, delete them, or wait for them to drain."
    )


def too_small_for_crons(budget: Budget, entries: int, most: int, one: str) -> Unprocessable:
    """A budget is to hold less than jobs draw from it that cron entries are to enqueue.

    Args:
        budget: The budget as it was to be.
        entries: How many cron entries have a job that draws more than its capacity.
        most: The highest cost among them.
        one: One of them, as `group/entry`.
    """
    return Unprocessable(
        f"budget '{budget.key}' cannot allocate {budget.capacity}: {_entries(entries)} draw up to {most} from it, "
        f"including '{one}'. Raise the {_limit(budget)}, or change or remove them."
    )


def in_use_by_jobs(key: str, jobs: int) -> Conflicting:
    """A budget is to be deleted on which jobs draw that are scheduled, ready or in flight."""
    return Conflicting(
        f"budget '{key}' is referenced by {_jobs(jobs)}. Delete them or wait for them to finish before deleting it."
    )


def in_use_by_crons(key: str, entries: int, one: str) -> Conflicting:
    """A budget is to be deleted on which the jobs of cron entries draw; `one` of them, as `group/entry`."""
    return Conflicting(
        f"budget '{key}' is referenced by {_entries(entries)}, including '{one}'. Remove them before deleting it."
    )


def objection_of_jobs(key: str, after: Budget | None, jobs: int, most: int) -> Refusal | None:
    """Why a budget cannot be deleted, or become what it is to be, for the sake of jobs; None when it can.

    Args:
        key: Its key.
        after: The budget as it is to be; None for deleted.
        jobs: How many unfinished jobs draw more than it is to hold then.
        most: The highest cost among them.
    """
    if not jobs:
        return None
    return in_use_by_jobs(key, jobs) if after is None else too_small_for_jobs(after, jobs, most)


def objection_of_crons(key: str, after: Budget | None, entries: int, most: int, one: str) -> Refusal | None:
    """The same for the sake of cron entries, of which `one` is named as `group/entry`."""
    if not entries:
        return None
    return in_use_by_crons(key, entries, one) if after is None else too_small_for_crons(after, entries, most, one)


def _limit(budget: Budget) -> str:
    """What sets the capacity of a budget."""
    return "allocation" if budget.strategy.burst is None else "burst"


def _jobs(number: int) -> str:
    return f"{number} unfinished {'job' if number == 1 else 'jobs'}"


def _entries(number: int) -> str:
    return f"{number} cron {'entry' if number == 1 else 'entries'}"
