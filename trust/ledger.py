"""Budgets kept a second time, in fractions and sums, to check what the store lets through."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from trust.verdict import Broken
from zizq.budget import Budget, Draw
from zizq.job import JobRecord

LATE_MS = 60
"""By how much a take may come after the time that it goes by: the longest that a store reads."""


class Account:
    """What is known of one budget.

    Args:
        budget: The budget, full.
        now: The wall clock.
    """

    def __init__(self, budget: Budget, now: int) -> None:
        self.budget = budget
        self.held = 0
        self._tokens = Fraction(budget.capacity)
        self._at = now
        self._taken: list[tuple[int, int]] = []

    def left(self, now: int) -> int:
        """How many tokens can be taken."""
        if self.budget.strategy.duration_ms is None:
            return self.budget.capacity - self.held
        return int(self._accrued(now) // 1)

    def see(self, now: int) -> None:
        """The store has looked at the clock: whoever comes with an earlier time finds what has come back by now."""
        self._accrue(now)

    def take(self, cost: int, now: int, at: int) -> None:
        """A job that draws so much was taken at an instant, by whoever took it to be an earlier one."""
        self.held += cost
        if self.budget.strategy.duration_ms is not None:
            self._accrue(now)
            self._tokens -= cost
        self._taken.append((at, cost))

    def change(self, budget: Budget, now: int) -> None:
        """The budget is another one from now on; its strategy is of the same type."""
        self._accrue(now)
        self._tokens += budget.capacity - self.budget.capacity
        self.budget = budget
        self._tokens = min(self._tokens, Fraction(budget.capacity))
        self._taken.clear()

    def check_windows(self) -> None:
        """Hold what was taken in every stretch of time to what may be taken in it.

        Raises:
            Broken: When it was more.
        """
        if self.budget.strategy.duration_ms is None:
            return
        rate = Fraction(self.budget.allocation, self.budget.strategy.duration_ms)
        for first, (begin, _) in enumerate(self._taken):
            total = 0
            for end, cost in self._taken[first:]:
                total += cost
                if total > self.budget.capacity + rate * (end - begin + LATE_MS):
                    raise Broken(f"{total} tokens of budget {self.budget.key!r} went within {end - begin} ms")

    def _accrued(self, now: int) -> Fraction:
        period = self.budget.strategy.duration_ms
        if period is None:
            return self._tokens
        more = Fraction(max(0, now - self._at) * self.budget.allocation, period)
        return min(self._tokens + more, Fraction(self.budget.capacity))

    def _accrue(self, now: int) -> None:
        self._tokens = self._accrued(now)
        self._at = max(self._at, now)


class Ledger:
    """All budgets."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}

    def adopt(self, budgets: Iterable[Budget], now: int) -> None:
        """Take note of what budgets there are now."""
        there = {budget.key: budget for budget in budgets}
        for key in [key for key in self.accounts if key not in there]:
            del self.accounts[key]
        for key, budget in there.items():
            account = self.accounts.get(key)
            if account is None:
                self.accounts[key] = Account(budget, now)
            elif account.budget != budget:
                account.change(budget, now)

    def affordable(self, ready: Iterable[JobRecord], limit: int, now: int, *, asked: bool) -> list[str]:
        """Which of the jobs, in their order, a take of so many must hand out (protocol.md#8.5).

        Args:
            ready: The jobs.
            limit: How many at most.
            now: The time by which budgets are asked.
            asked: Whether the store is asked too: that brings its budgets to this time.
        """
        left = {key: account.left(now) for key, account in self.accounts.items()}
        blocked: set[str] = set()
        found: list[str] = []
        for job in ready:
            if len(found) == limit:
                break
            draws = [draw for draw in job.budgets or () if draw.key in left]
            keys = {draw.key for draw in draws}
            if keys & blocked or not self._suffice(left, draws, now, asked=asked):
                blocked |= keys
                continue
            for draw in draws:
                left[draw.key] -= draw.cost
            found.append(job.id)
        return found

    def _suffice(self, left: dict[str, int], draws: Iterable[Draw], now: int, *, asked: bool) -> bool:
        for draw in draws:
            if asked:
                self.accounts[draw.key].see(now)
            if draw.cost > left[draw.key]:
                return False
        return True

    def take(self, draws: Iterable[Draw], now: int, at: int) -> tuple[Draw, ...]:
        """A job was taken; returns what it holds of budgets that there are.

        Raises:
            Broken: When more is held than there is.
        """
        held = tuple(draw for draw in draws if draw.key in self.accounts)
        for draw in held:
            account = self.accounts[draw.key]
            account.take(draw.cost, now, at)
            if account.left(now) < 0:
                raise Broken(f"budget {draw.key!r} is overdrawn: {account.left(now)} are left")
        return held

    def give_back(self, draws: Iterable[Draw]) -> None:
        """A job left in flight."""
        for draw in draws:
            if draw.key in self.accounts:
                self.accounts[draw.key].held -= draw.cost
