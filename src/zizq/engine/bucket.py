"""The tokens of one budget, in memory: who can pay, and from when on (protocol.md#8.5).

A bucket counts two things. *Tokens* are what can be taken; fewer than none are a debt. *Held* is what the jobs in
flight took.

    while_in_flight:  tokens = capacity - held, at any time
    time_based:       tokens come back with time, `allocation` of them in each `duration_ms`, up to the capacity

Tokens that come back with time are whole; the fraction that is left over is kept as a *remainder*, in parts of which
`duration_ms` make one token. So it does not matter how often a bucket is asked. A full bucket has no remainder.

What is held is counted under either strategy, so that a budget that becomes while_in_flight knows what is in flight.
"""

from __future__ import annotations

import msgspec

from zizq.budget import Budget, StrategyType
from zizq.policy import later


class BucketState(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """All that a bucket knows, to be kept beside its budget.

    Args:
        tokens: How many could be taken at `at`; fewer than none are a debt.
        remainder: The fraction of a token left over, in parts of which `duration_ms` make one.
        at: Up to when tokens came back, in Unix milliseconds.
        held: What the jobs in flight took. Nothing is in flight after a restart: keep 0 for that.
    """

    tokens: int
    remainder: int
    at: int
    held: int = 0


class Bucket:
    """The tokens of one budget; a new bucket is full.

    Where the clock went back, no tokens come back until it is again where it was. All methods take constant time.

    Args:
        budget: The budget, which has passed `check_budget`.
        now: The wall clock, in milliseconds.
    """

    __slots__ = ("_at", "_held", "_remainder", "_tokens", "budget")

    def __init__(self, budget: Budget, now: int) -> None:
        self.budget = budget
        self._tokens = budget.capacity
        self._remainder = 0
        self._at = now
        self._held = 0

    @classmethod
    def restored(cls, budget: Budget, state: BucketState) -> Bucket:
        """The bucket that had this state; the budget may have been changed since."""
        bucket = cls(budget, state.at)
        bucket._tokens, bucket._held = state.tokens, state.held
        # In a shorter period the same remainder may be worth many tokens.
        bucket._remainder = state.remainder if state.remainder < (budget.strategy.duration_ms or 0) else 0
        bucket._settle()
        return bucket

    def state(self, now: int) -> BucketState:
        """All that the bucket knows."""
        return BucketState(self.tokens(now), self._remainder, self._at, self._held)

    def tokens(self, now: int) -> int:
        """How many tokens can be taken now; fewer than none are a debt."""
        self._accrue(now)
        return self._tokens

    def affords(self, cost: int, now: int) -> bool:
        """Whether a cost can be paid now: one that is above the capacity, when the bucket is full.

        A dead job comes back whatever has become of its budget meanwhile; it would wait for ever, and all behind it.
        """
        return min(cost, self.budget.capacity) <= self.tokens(now)

    def times(self, cost: int, now: int) -> int:
        """How often a cost can be paid now, as if one asked `affords` each time."""
        return max(0, self.tokens(now) // cost) if cost <= self.budget.capacity else int(self.affords(cost, now))

    def affordable_at(self, cost: int, now: int) -> int | None:
        """From when on a cost can be paid if nothing else is taken; None where time alone does not bring that about.

        That is where jobs in flight must leave it first.
        """
        short = min(cost, self.budget.capacity) - self.tokens(now)
        duration_ms = self.budget.strategy.duration_ms
        if short <= 0:
            return now
        if duration_ms is None:
            return None
        return later(self._at, -((self._remainder - short * duration_ms) // self.budget.allocation))

    def take(self, cost: int, now: int) -> None:
        """Take tokens for a job that goes in flight; what `affords` denies becomes a debt."""
        self._accrue(now)
        self._tokens -= cost
        self._held += cost

    def give_back(self, cost: int) -> None:
        """Say that a job left in flight, for whatever reason; only while_in_flight has its tokens back."""
        # A budget may be younger than the claim of a job that draws on it: a dead job may name one that was deleted.
        self._held = max(0, self._held - cost)
        self._settle()

    def refund(self, cost: int) -> None:
        """Undo a `take`: the job did not go in flight after all."""
        self._tokens += cost
        self.give_back(cost)

    def change(self, budget: Budget, now: int) -> None:
        """Go on under a changed budget.

        What was used stays used: a wider budget has more tokens at once, and one that is narrower than what was used
        is in debt. A new period discards the remainder. Under a new strategy type there are as many tokens as before,
        up to the capacity; but what the jobs in flight took is what counts for while_in_flight.

        Args:
            budget: The budget as it is from now on.
            now: The wall clock, in milliseconds.
        """
        self._accrue(now)
        before, self.budget = self.budget, budget
        if budget.strategy.type is before.strategy.type:
            self._tokens += budget.capacity - before.capacity
        if budget.strategy.duration_ms != before.strategy.duration_ms:
            self._remainder = 0
        self._settle()

    def _accrue(self, now: int) -> None:
        """Bring back what time brings, up to now."""
        elapsed_ms, duration_ms = now - self._at, self.budget.strategy.duration_ms
        if elapsed_ms <= 0:
            return
        self._at = now
        if duration_ms is not None:
            parts = self._remainder + elapsed_ms * self.budget.allocation
            self._tokens += parts // duration_ms
            self._remainder = parts % duration_ms
            self._settle()

    def _settle(self) -> None:
        """Hold the tokens to what the budget allows."""
        capacity = self.budget.capacity
        if self.budget.strategy.type is StrategyType.WHILE_IN_FLIGHT:
            self._tokens = capacity - self._held
        elif self._tokens >= capacity:
            self._tokens, self._remainder = capacity, 0
