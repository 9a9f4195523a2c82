"""The methods of both clients that are about budgets.

The clients inherit them, for all that can be done with a client would not fit one file.
"""

from __future__ import annotations

from zizq.client.budgets import EVERY, Budget, Drawn, Draws, Every, Policy
from zizq.client.changes import KEEP, Keep
from zizq.client.job import Job
from zizq.client.methods import Methods, SyncMethods
from zizq.client.options import Duration
from zizq.client.steps import run, run_async


class BudgetMethods(Methods):
    """The methods of `Client` that are about budgets."""

    async def define_budget(self, key: str, policy: Policy, *, replace: bool = False) -> Budget:
        """See to it that there is a budget; one that is there already and is the same is left as it is.

        Args:
            key: The name that jobs draw on it by.
            policy: What it lets through: a `TimeBased` or a `WhileInFlight`.
            replace: Whether it takes the place of one that is there and is another.

        Raises:
            Conflict: When there is another, and `replace` is not said.
            ConfigError: When `policy` is none.
            InvalidRequest: When the key is malformed, there are too many budgets, or unfinished jobs draw more than
                it would hold.
        """
        return await run_async(self._send, self._calls.budgets.define(key, policy, replace))

    async def budgets(self) -> list[Budget]:
        """Read all budgets, sorted by their keys."""
        return await self._send(self._calls.budgets.list_budgets())

    async def budget(self, key: str) -> Budget:
        """Read a budget.

        Raises:
            NotFound: When there is none.
        """
        return await self._send(self._calls.budgets.get(key))

    async def update_budget(
        self,
        key: str,
        *,
        allocation: int | Keep = KEEP,
        per: Duration | Keep = KEEP,
        burst: int | Keep | None = KEEP,
    ) -> Budget:
        """Change a budget at once, also for jobs that wait for it; what is left out or `KEEP` stays as it is.

        Args:
            key: The budget.
            allocation: How many tokens it has, or gets back in a period.
            per: The period of a `TimeBased`, as a timedelta or in seconds.
            burst: The most tokens of a `TimeBased`; None is as many as are allocated.

        Raises:
            NotFound: When there is none.
            ConfigError: When a value is wrong.
            InvalidRequest: When it does not fit the strategy, or unfinished jobs draw more than it would hold.
        """
        return await self._send(self._calls.budgets.update(key, allocation, per, burst))

    async def delete_budget(self, key: str) -> None:
        """Delete a budget.

        Raises:
            NotFound: When there is none.
            Conflict: When unfinished jobs or cron entries draw on it.
        """
        await self._send(self._calls.budgets.delete(key))

    async def bind(self, id: str, budget: Drawn, *, replace: bool = False) -> Job:
        """Let a job that is scheduled or ready draw on a budget as well.

        Args:
            id: The job.
            budget: The budget's key, a pair of key and cost, or a `Draw`.
            replace: Whether it takes the place of what the job draws on this budget already.

        Returns:
            The job as it is now, without its payload.

        Raises:
            NotFound: When there is no such job.
            Conflict: When it draws on the budget already, and `replace` is not said.
            ConfigError: When `budget` is no budget.
            InvalidRequest: When the job is in flight or finished, there is no such budget, or it holds less than the
                cost.
        """
        return await self._send(self._calls.budgets.bind(id, budget, replace))

    async def rebind(self, id: str, budgets: Draws) -> Job:
        """Let a job that is scheduled or ready draw on these budgets, and on no others.

        Args:
            id: The job.
            budgets: One budget or several, each a key, a pair of key and cost, or a `Draw`.

        Returns:
            The job as it is now, without its payload.

        Raises:
            NotFound: When there is no such job.
            ConfigError: When one is no budget, or is named twice.
            InvalidRequest: As for `bind`.
        """
        return await self._send(self._calls.budgets.rebind(id, budgets))

    async def unbind(self, id: str, key: str | Every = EVERY) -> Job:
        """Let a job that is scheduled or ready draw no more on a budget, or on any.

        Args:
            id: The job.
            key: The budget, on which it need not draw; left out, all that it draws on.

        Returns:
            The job as it is now, without its payload.

        Raises:
            NotFound: When there is no such job.
            ConfigError: When `key` is no key.
            InvalidRequest: When the job is in flight or finished.
        """
        return await self._send(self._calls.budgets.unbind(id, key))


class SyncBudgetMethods(SyncMethods):
    """The methods of `SyncClient` that are about budgets."""

    def define_budget(self, key: str, policy: Policy, *, replace: bool = False) -> Budget:
        """See to it that there is a budget; one that is there already and is the same is left as it is.

        Args:
            key: The name that jobs draw on it by.
            policy: What it lets through: a `TimeBased` or a `WhileInFlight`.
            replace: Whether it takes the place of one that is there and is another.

        Raises:
            Conflict: When there is another, and `replace` is not said.
            ConfigError: When `policy` is none.
            InvalidRequest: When the key is malformed, there are too many budgets, or unfinished jobs draw more than
                it would hold.
        """
        return run(self._send, self._calls.budgets.define(key, policy, replace))

    def budgets(self) -> list[Budget]:
        """Read all budgets, sorted by their keys."""
        return self._send(self._calls.budgets.list_budgets())

    def budget(self, key: str) -> Budget:
        """Read a budget.

        Raises:
            NotFound: When there is none.
        """
        return self._send(self._calls.budgets.get(key))

    def update_budget(
        self,
        key: str,
        *,
        allocation: int | Keep = KEEP,
        per: Duration | Keep = KEEP,
        burst: int | Keep | None = KEEP,
    ) -> Budget:
        """Change a budget at once, also for jobs that wait for it; what is left out or `KEEP` stays as it is.

        Args:
            key: The budget.
            allocation: How many tokens it has, or gets back in a period.
            per: The period of a `TimeBased`, as a timedelta or in seconds.
            burst: The most tokens of a `TimeBased`; None is as many as are allocated.

        Raises:
            NotFound: When there is none.
            ConfigError: When a value is wrong.
            InvalidRequest: When it does not fit the strategy, or unfinished jobs draw more than it would hold.
        """
        return self._send(self._calls.budgets.update(key, allocation, per, burst))

    def delete_budget(self, key: str) -> None:
        """Delete a budget.

        Raises:
            NotFound: When there is none.
            Conflict: When unfinished jobs or cron entries draw on it.
        """
        self._send(self._calls.budgets.delete(key))

    def bind(self, id: str, budget: Drawn, *, replace: bool = False) -> Job:
        """Let a job that is scheduled or ready draw on a budget as well.

        Args:
            id: The job.
            budget: The budget's key, a pair of key and cost, or a `Draw`.
            replace: Whether it takes the place of what the job draws on this budget already.

        Returns:
            The job as it is now, without its payload.

        Raises:
            NotFound: When there is no such job.
            Conflict: When it draws on the budget already, and `replace` is not said.
            ConfigError: When `budget` is no budget.
            InvalidRequest: When the job is in flight or finished, there is no such budget, or it holds less than the
                cost.
        """
        return self._send(self._calls.budgets.bind(id, budget, replace))

    def rebind(self, id: str, budgets: Draws) -> Job:
        """Let a job that is scheduled or ready draw on these budgets, and on no others.

        Args:
            id: The job.
            budgets: One budget or several, each a key, a pair of key and cost, or a `Draw`.

        Returns:
            The job as it is now, without its payload.

        Raises:
            NotFound: When there is no such job.
            ConfigError: When one is no budget, or is named twice.
            InvalidRequest: As for `bind`.
        """
        return self._send(self._calls.budgets.rebind(id, budgets))

    def unbind(self, id: str, key: str | Every = EVERY) -> Job:
        """Let a job that is scheduled or ready draw no more on a budget, or on any.

        Args:
            id: The job.
            key: The budget, on which it need not draw; left out, all that it draws on.

        Returns:
            The job as it is now, without its payload.

        Raises:
            NotFound: When there is no such job.
            ConfigError: When `key` is no key.
            InvalidRequest: When the job is in flight or finished.
        """
        return self._send(self._calls.budgets.unbind(id, key))
