"""Budgets as the application sees them: what one lets through, and what a job draws from it (protocol.md#8)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final

import msgspec

from zizq.budget import MAX_TOKENS, StrategyType
from zizq.client.changes import KEEP, Keep
from zizq.client.options import Duration, instant_of, to_ms
from zizq.errors import ConfigError
from zizq.wire.messages import MAX_U32, BudgetBody, BudgetPatchBody, DrawBody, StrategyBody, StrategyPatchBody


class Every(Enum):
    """The type of `EVERY`."""

    EVERY = "EVERY"

    def __repr__(self) -> str:
        return "EVERY"


EVERY: Final = Every.EVERY
"""Where a key is asked for: all budgets that a job draws on."""


# ── policies ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class TimeBased:
    """A limit on the rate: so many tokens come back in each period, whatever becomes of the jobs.

    Args:
        allocation: How many tokens come back in a period, 1 to 1,000,000.
        per: The period, as a timedelta or in seconds.
        burst: How many tokens there are at most, 1 to 1,000,000; None is as many as are allocated.

    Raises:
        ConfigError: When a number is out of range, or the period is none.
    """

    allocation: int
    per: Duration
    burst: int | None = None

    def __post_init__(self) -> None:
        self.to_wire()

    def to_wire(self) -> BudgetBody:
        """The policy as it is sent."""
        strategy = StrategyBody(
            StrategyType.TIME_BASED,
            _period_ms(self.per),
            None if self.burst is None else _tokens("burst", self.burst),
        )
        return BudgetBody(_tokens("allocation", self.allocation), strategy)


@dataclass(frozen=True)
class WhileInFlight:
    """A limit on how many run at once: a job has its tokens for as long as it is in flight.

    Args:
        allocation: How many tokens there are, 1 to 1,000,000.

    Raises:
        ConfigError: When the number is out of range.
    """

    allocation: int

    def __post_init__(self) -> None:
        self.to_wire()

    def to_wire(self) -> BudgetBody:
        """The policy as it is sent."""
        return BudgetBody(_tokens("allocation", self.allocation), StrategyBody(StrategyType.WHILE_IN_FLIGHT))


Policy = TimeBased | WhileInFlight
"""What a budget lets through."""


def check_policy(name: str, policy: object) -> BudgetBody:
    """A policy as it is sent.

    Args:
        name: What the policy is, for the error message.
        policy: What was given.

    Raises:
        ConfigError: When it is none.
    """
    if not isinstance(policy, TimeBased | WhileInFlight):
        raise ConfigError(f"{name}={policy!r} is no policy: give a zizq.TimeBased or zizq.WhileInFlight")
    return policy.to_wire()


def patch_to_wire(allocation: int | Keep, per: Duration | Keep, burst: int | Keep | None) -> BudgetPatchBody:
    """Changes to a budget as they are sent.

    Raises:
        ConfigError: When a number is out of range, or the period is none.
    """
    strategy = StrategyPatchBody()
    if per is not KEEP:
        strategy.duration_ms = _period_ms(per)
    if burst is not KEEP:
        strategy.burst = None if burst is None else _tokens("burst", burst)
    patch = BudgetPatchBody()
    if allocation is not KEEP:
        patch.allocation = _tokens("allocation", allocation)
    if strategy != StrategyPatchBody():
        patch.strategy = strategy
    return patch


def _tokens(name: str, number: int) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= MAX_TOKENS:
        raise ConfigError(f"{name}={number!r} is out of range: give a whole number from 1 to {MAX_TOKENS}")
    return number


def _period_ms(per: Duration) -> int:
    ms = to_ms("per", per)
    if ms == 0:
        raise ConfigError(f"per={per!r} is no period: give at least a millisecond")
    return ms


# ── budgets ──────────────────────────────────────────────────────────────────────────────────────────


class Strategy(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the tokens of a budget come back, as the server sent it; a newer server may have other types."""

    type: str
    duration_ms: int | None = None
    burst: int | None = None


class Budget(
    msgspec.Struct, frozen=True, kw_only=True, rename={"created_at_ms": "created_at", "updated_at_ms": "updated_at"}
):
    """A budget, as the server has it."""

    key: str
    allocation: int
    strategy: Strategy
    created_at_ms: int
    updated_at_ms: int

    @property
    def policy(self) -> Policy | None:
        """What it lets through; None where a newer server has a strategy that this version does not know."""
        if self.strategy.type == StrategyType.WHILE_IN_FLIGHT:
            return WhileInFlight(self.allocation)
        if self.strategy.type == StrategyType.TIME_BASED and self.strategy.duration_ms is not None:
            return TimeBased(self.allocation, timedelta(milliseconds=self.strategy.duration_ms), self.strategy.burst)
        return None

    @property
    def capacity(self) -> int:
        """How many tokens there are at most, which is the most that a job may draw."""
        return self.allocation if self.strategy.burst is None else self.strategy.burst

    @property
    def created_at(self) -> datetime:
        """When it was created."""
        return instant_of(self.created_at_ms)

    @property
    def updated_at(self) -> datetime:
        """When it was last changed."""
        return instant_of(self.updated_at_ms)


# ── draws ────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Draw:
    """What a job draws from one budget each time it is taken.

    Args:
        key: The budget.
        cost: How many tokens, from 1.
        create_with: What to create the budget with where there is none yet; None makes that an error. It says nothing
            of a budget that is there already.

    Raises:
        ConfigError: When one has no such value.
    """

    key: str
    cost: int = 1
    create_with: Policy | None = None

    def __post_init__(self) -> None:
        check_key(self.key)
        if not isinstance(self.cost, int) or isinstance(self.cost, bool) or not 1 <= self.cost <= MAX_U32:
            raise ConfigError(f"cost={self.cost!r} of budget {self.key!r} is no cost: give a whole number from 1")
        if self.create_with is not None:
            check_policy("create_with", self.create_with)

    def to_wire(self) -> DrawBody:
        """The draw as it is sent."""
        return DrawBody(
            self.key,
            None if self.cost == 1 else self.cost,
            None if self.create_with is None else self.create_with.to_wire(),
        )


Drawn = str | tuple[str, int] | Draw
"""One budget: its key, which costs 1; a pair of key and cost; or a `Draw`."""
Draws = Drawn | Collection[Drawn]
"""One budget or several."""


def check_key(key: object) -> str:
    """The key of a budget.

    Raises:
        ConfigError: When it is no text, or empty.
    """
    if not isinstance(key, str) or not key:
        raise ConfigError(f"key={key!r} is no budget's key: give text that is not empty")
    return key


def draw_of(drawn: Drawn) -> Draw:
    """One draw, in whichever form it was given.

    Raises:
        ConfigError: When it is none.
    """
    if isinstance(drawn, Draw):
        return drawn
    if isinstance(drawn, str):
        return Draw(drawn)
    if isinstance(drawn, tuple) and len(drawn) == 2:
        return Draw(*drawn)
    raise ConfigError(f"{drawn!r} is no budget: give a key, a pair of key and cost, or a zizq.Draw")


def draws_of(draws: Draws | None) -> tuple[Draw, ...]:
    """All draws, in whichever form they were given; None is none.

    Raises:
        ConfigError: When one is none, or a budget is named twice.
    """
    found = () if draws is None else tuple(map(draw_of, _each(draws)))
    keys = [draw.key for draw in found]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(f"budget {key!r} is named more than once: name it once, with the sum of the costs")
    return found


def _each(draws: Any) -> Collection[Any]:
    """What is one, or several, as several."""
    # Two keys may come as a tuple, and so may a key with its cost.
    is_pair = isinstance(draws, tuple) and len(draws) == 2 and not isinstance(draws[1], str | tuple | Draw)
    is_several = isinstance(draws, Collection) and not isinstance(draws, str | Mapping)
    return draws if is_several and not is_pair else (draws,)


class Rebound(msgspec.Struct, frozen=True):
    """What a change of the budgets of many jobs came to.

    Args:
        changed: How many jobs draw as was asked from now on.
        blocked: How many could not be changed: they are in flight, or draw already on a budget that was not to be
            replaced.
    """

    changed: int
    blocked: int

    def __add__(self, other: Rebound) -> Rebound:
        return Rebound(self.changed + other.changed, self.blocked + other.blocked)
