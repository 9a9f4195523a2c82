"""Budgets as values: what one lets through, and what a job draws from it (protocol.md#8.1)."""

from __future__ import annotations

from enum import StrEnum

import msgspec

MAX_TOKENS = 1_000_000
"""The largest allocation, and the largest burst."""


class StrategyType(StrEnum):
    """When the tokens that a job took come back."""

    TIME_BASED = "time_based"
    """With time, whatever becomes of the job: a limit on the rate."""
    WHILE_IN_FLIGHT = "while_in_flight"
    """When the job is no longer in flight: a limit on how many run at once."""


class Strategy(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the tokens of a budget come back.

    Args:
        type: When they do.
        duration_ms: In which time as many come back as are allocated; None for while_in_flight.
        burst: How many there are at most; None for as many as are allocated.
    """

    type: StrategyType
    duration_ms: int | None = None
    burst: int | None = None


class Budget(msgspec.Struct, frozen=True):
    """A budget as it rests in a store and as it travels. Instants are Unix milliseconds."""

    key: str
    allocation: int
    strategy: Strategy
    created_at: int
    updated_at: int

    @property
    def capacity(self) -> int:
        """How many tokens there are at most."""
        burst = self.strategy.burst
        return self.allocation if burst is None else burst


class Draw(msgspec.Struct, frozen=True, gc=False):
    """What a job draws from one budget: `cost` tokens each time it is taken."""

    key: str
    cost: int
