"""Queries: which jobs, described step by step; nothing is sent before a query is asked for something.

A `Query` and a `SyncQuery` are the same but for `await`. What they send, and when, is decided here once: by a `Walk`
for pages, and for everything else by a generator that yields calls and is given what they bring.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Generic, Self, TypeVar, Unpack

import msgspec

from zizq.client.budgets import EVERY, Drawn, Every, Rebound, check_key, draw_of
from zizq.client.call import Call
from zizq.client.calls import Calls
from zizq.client.changes import Changes, to_wire
from zizq.client.conditions import Conditions, Where
from zizq.client.job import Job
from zizq.client.paging import PAGE_SIZE, Order, Walk, check_limit, check_order, check_page_size
from zizq.client.steps import Send, SendAsync, Steps, run, run_async
from zizq.errors import ConfigError
from zizq.job import TERMINAL, Status

S = TypeVar("S")
N = TypeVar("N", int, Rebound)

_MOST_IDS = 250
"""Identifiers in one request: 6.5 kB of its path, for many a proxy takes no more than 8."""
_UNFINISHED = [status for status in Status if status not in TERMINAL]


class Plan(msgspec.Struct, frozen=True):
    """What a query is about.

    Args:
        conditions: Which jobs.
        order: In which order: by time of creation.
        limit: How many at most, over all pages; None for all.
        page_size: How many are asked for at a time.
    """

    conditions: Conditions
    order: Order = "asc"
    limit: int | None = None
    page_size: int = PAGE_SIZE


class _Builder(Generic[S]):
    """What both kinds of query have in common: each method of it returns a new query and sends nothing."""

    def __init__(self, send: S, calls: Calls, plan: Plan) -> None:
        self._send = send
        self._calls = calls
        self._plan = plan

    def __repr__(self) -> str:
        plan = self._plan
        return f"<{type(self).__name__} of {plan.conditions} order={plan.order} limit={plan.limit}>"

    def where(self, **where: Unpack[Where]) -> Self:
        """The same query with more conditions, all of which must hold; one that is given again is replaced.

        Args:
            **where: See `Where`: `id`, `status`, `queue`, `type`, `priority`, `ready_at`, `attempts`, `budgets`,
                `payload`, `payload_contains`, `filter`.

        Raises:
            ConfigError: When a condition is unknown, or a value is none.
            EncodeError: When a payload cannot travel.
        """
        return self._with(conditions=self._plan.conditions.with_(**where))

    def order(self, order: Order) -> Self:
        """The same query in another order: `asc` is oldest first, `desc` youngest first.

        Raises:
            ConfigError: When it is neither.
        """
        return self._with(order=check_order(order))

    def limit(self, limit: int) -> Self:
        """The same query for so many jobs at most, over all pages.

        Raises:
            ConfigError: When it is no whole number from 0.
        """
        return self._with(limit=check_limit(limit))

    def page_size(self, size: int) -> Self:
        """The same query with so many jobs to a request; 500 unless said otherwise.

        Raises:
            ConfigError: When it is no whole number from 1 to 2000.
        """
        return self._with(page_size=check_page_size(size))

    def _with(self, **changes: Any) -> Self:
        return type(self)(self._send, self._calls, msgspec.structs.replace(self._plan, **changes))

    def _walk(self, plan: Plan) -> Walk[Job, Call[Any]]:
        def ask(after: str | None, count: int) -> Call[Any]:
            return self._calls.list_jobs(plan.conditions, after, plan.order, count)

        limit = 0 if plan.conditions.is_nothing else plan.limit
        return Walk(ask, lambda job: job.id, plan.order, limit, plan.page_size)

    # ── what is sent, and when ──

    def _counting(self) -> Steps[int]:
        plan = self._plan
        if plan.conditions.is_nothing or plan.limit == 0:
            return 0
        count: int = yield self._calls.count_jobs(plan.conditions)
        return count if plan.limit is None else min(count, plan.limit)

    def _seeking(self) -> Steps[Job | None]:
        limit = 1 if self._plan.limit is None else min(1, self._plan.limit)
        walk = self._walk(msgspec.structs.replace(self._plan, limit=limit))
        call = walk.next_call()
        jobs = [] if call is None else walk.feed((yield call))
        return jobs[0] if jobs else None

    def _updating(self, all: bool, changes: Changes) -> Steps[int]:
        body = to_wire(changes)
        candidates = self._plan.conditions.by_default(status=_UNFINISHED)
        return self._changing("update", all, candidates, lambda some: self._calls.patch_jobs(some, body), 0)

    def _retrying(self, all: bool) -> Steps[int]:
        candidates = self._plan.conditions.by_default(status=Status.DEAD)
        return self._changing("retry", all, candidates, self._calls.retry_jobs, 0)

    def _deleting(self, all: bool) -> Steps[int]:
        return self._changing("delete", all, self._plan.conditions, self._calls.delete_jobs, 0)

    def _binding(self, all: bool, budget: Drawn, replace: bool) -> Steps[Rebound]:
        draw = draw_of(budget)
        candidates = self._plan.conditions.by_default(status=_UNFINISHED)
        return self._changing(
            "bind", all, candidates, lambda some: self._calls.budgets.bind_jobs(some, draw, replace), Rebound(0, 0)
        )

    def _unbinding(self, all: bool, key: str | Every) -> Steps[Rebound]:
        if key is not EVERY:
            check_key(key)
        candidates = self._plan.conditions.by_default(status=_UNFINISHED)
        return self._changing(
            "unbind", all, candidates, lambda some: self._calls.budgets.unbind_jobs(some, key), Rebound(0, 0)
        )

    def _changing(
        self, verb: str, all: bool, candidates: Conditions, change: Callable[[Conditions], Call[N]], nothing: N
    ) -> Steps[N]:
        plan = self._plan
        if plan.conditions.is_nothing or plan.limit == 0:
            return nothing
        if plan.conditions.is_everything and not all:
            raise ConfigError(f"{verb}() without a condition is about every job: give one, or say all=True")
        if plan.limit is None:
            changed: N = yield change(plan.conditions)
            return changed
        return (yield from self._changing_pages(candidates, change, nothing))

    def _changing_pages(self, candidates: Conditions, change: Callable[[Conditions], Call[N]], changed: N) -> Steps[N]:
        """Change by page: no request of the protocol has a limit, but a list has."""
        size = min(self._plan.page_size, _MOST_IDS)
        walk = self._walk(msgspec.structs.replace(self._plan, conditions=candidates, page_size=size))
        while (call := walk.next_call()) is not None:
            if jobs := walk.feed((yield call)):
                # The conditions go along, for jobs that have changed in the meantime are none of ours any more.
                changed += yield change(candidates.only(job.id for job in jobs))
        return changed


class Query(_Builder[SendAsync]):
    """Which jobs, for coroutines: made by `Client.jobs`, refined by its methods, and then asked for something.

    Queries never change: `where`, `order`, `limit` and `page_size` return new ones. Nothing is sent before the first
    job is asked for, or one of the other methods is awaited; each use asks the server anew. Iterating gives jobs
    with payloads in the order of their creation, page by page: jobs that come to meet the conditions meanwhile may be
    among them or not, and none comes twice.
    """

    async def __aiter__(self) -> AsyncIterator[Job]:
        async for jobs in self.pages():
            for job in jobs:
                yield job

    async def pages(self) -> AsyncIterator[list[Job]]:
        """Iterate over the jobs by page; a page may be shorter than `page_size`, and is never empty."""
        walk = self._walk(self._plan)
        while (call := walk.next_call()) is not None:
            if jobs := walk.feed(await self._send(call)):
                yield jobs

    async def count(self) -> int:
        """Ask how many jobs there are, the query's limit being the most."""
        return await run_async(self._send, self._counting())

    async def first(self) -> Job | None:
        """Read the first job; None when there is none."""
        return await run_async(self._send, self._seeking())

    async def exists(self) -> bool:
        """Ask whether there is any job."""
        return await self.first() is not None

    async def update(self, *, all: bool = False, **changes: Unpack[Changes]) -> int:
        """Patch the jobs; those that are completed or dead are left alone.

        Without a limit they all change in one request and at one instant. With one, the jobs are read and changed page
        by page: that is not one change, and when it fails half-way the first pages stay changed.

        Args:
            all: Whether every job is meant, where the query has no condition.
            **changes: See `Changes`: `queue`, `priority`, `ready_at`, `retry_limit`, `backoff`, `retention`. None
                clears, and what is left out or `KEEP` stays as it is.

        Returns:
            How many jobs met the conditions and could be changed.

        Raises:
            ConfigError: When the query has no condition and `all` is not said, or a change is unknown or wrong.
            InvalidRequest: When a value is out of bounds, or the status asked for is `completed` or `dead`.
        """
        return await run_async(self._send, self._updating(all, changes))

    async def retry(self, *, all: bool = False) -> int:
        """Bring the jobs that are dead back to ready, with their attempts and errors forgotten; others are left alone.

        Servers other than ours may not have it. With a limit it goes page by page, as `update` does.

        Args:
            all: Whether every dead job is meant, where the query has no condition.

        Returns:
            How many jobs are ready again.

        Raises:
            ConfigError: When the query has no condition and `all` is not said.
            InvalidRequest: When a status other than `dead` is asked for.
        """
        return await run_async(self._send, self._retrying(all))

    async def delete(self, *, all: bool = False) -> int:
        """Delete the jobs, whatever their status; a worker that has one of them cannot report it any more.

        With a limit it goes page by page, as `update` does.

        Args:
            all: Whether every job is meant, where the query has no condition.

        Returns:
            How many jobs were deleted.

        Raises:
            ConfigError: When the query has no condition and `all` is not said.
        """
        return await run_async(self._send, self._deleting(all))

    async def bind(self, budget: Drawn, *, replace: bool = False, all: bool = False) -> Rebound:
        """Let the jobs draw on a budget as well, from the next time that they are taken.

        Jobs that draw on it already stay as they are. With a limit it goes page by page, as `update` does.

        Args:
            budget: The budget's key, a pair of key and cost, or a `Draw`.
            replace: Whether jobs that draw on it already are to draw this instead.
            all: Whether every job is meant, where the query has no condition.

        Returns:
            How many jobs were changed, and how many are in flight and were not.

        Raises:
            ConfigError: When the query has no condition and `all` is not said, or `budget` is no budget.
            InvalidRequest: When there is no such budget, or it holds less than the cost.
        """
        return await run_async(self._send, self._binding(all, budget, replace))

    async def unbind(self, key: str | Every = EVERY, *, all: bool = False) -> Rebound:
        """Let the jobs draw no more on a budget, or on any; with a limit it goes page by page, as `update` does.

        Args:
            key: The budget; left out, all that they draw on.
            all: Whether every job is meant, where the query has no condition.

        Returns:
            How many jobs were changed, and how many are in flight and were not.

        Raises:
            ConfigError: When the query has no condition and `all` is not said, or `key` is no key.
        """
        return await run_async(self._send, self._unbinding(all, key))


class SyncQuery(_Builder[Send]):
    """Which jobs, for threads: made by `SyncClient.jobs`, refined by its methods, and then asked for something.

    Queries never change: `where`, `order`, `limit` and `page_size` return new ones. Nothing is sent before the first
    job is asked for, or one of the other methods is called; each use asks the server anew. Iterating gives jobs
    with payloads in the order of their creation, page by page: jobs that come to meet the conditions meanwhile may be
    among them or not, and none comes twice.
    """

    def __iter__(self) -> Iterator[Job]:
        for jobs in self.pages():
            yield from jobs

    def pages(self) -> Iterator[list[Job]]:
        """Iterate over the jobs by page; a page may be shorter than `page_size`, and is never empty."""
        walk = self._walk(self._plan)
        while (call := walk.next_call()) is not None:
            if jobs := walk.feed(self._send(call)):
                yield jobs

    def count(self) -> int:
        """Ask how many jobs there are, the query's limit being the most."""
        return run(self._send, self._counting())

    def first(self) -> Job | None:
        """Read the first job; None when there is none."""
        return run(self._send, self._seeking())

    def exists(self) -> bool:
        """Ask whether there is any job."""
        return self.first() is not None

    def update(self, *, all: bool = False, **changes: Unpack[Changes]) -> int:
        """Patch the jobs; those that are completed or dead are left alone.

        Without a limit they all change in one request and at one instant. With one, the jobs are read and changed page
        by page: that is not one change, and when it fails half-way the first pages stay changed.

        Args:
            all: Whether every job is meant, where the query has no condition.
            **changes: See `Changes`: `queue`, `priority`, `ready_at`, `retry_limit`, `backoff`, `retention`. None
                clears, and what is left out or `KEEP` stays as it is.

        Returns:
            How many jobs met the conditions and could be changed.

        Raises:
            ConfigError: When the query has no condition and `all` is not said, or a change is unknown or wrong.
            InvalidRequest: When a value is out of bounds, or the status asked for is `completed` or `dead`.
        """
        return run(self._send, self._updating(all, changes))

    def retry(self, *, all: bool = False) -> int:
        """Bring the jobs that are dead back to ready, with their attempts and errors forgotten; others are left alone.

        Servers other than ours may not have it. With a limit it goes page by page, as `update` does.

        Args:
            all: Whether every dead job is meant, where the query has no condition.

        Returns:
            How many jobs are ready again.

        Raises:
            ConfigError: When the query has no condition and `all` is not said.
            InvalidRequest: When a status other than `dead` is asked for.
        """
        return run(self._send, self._retrying(all))

    def delete(self, *, all: bool = False) -> int:
        """Delete the jobs, whatever their status; a worker that has one of them cannot report it any more.

        With a limit it goes page by page, as `update` does.

        Args:
            all: Whether every job is meant, where the query has no condition.

        Returns:
            How many jobs were deleted.

        Raises:
            ConfigError: When the query has no condition and `all` is not said.
        """
        return run(self._send, self._deleting(all))

    def bind(self, budget: Drawn, *, replace: bool = False, all: bool = False) -> Rebound:
        """Let the jobs draw on a budget as well, from the next time that they are taken.

        Jobs that draw on it already stay as they are. With a limit it goes page by page, as `update` does.

        Args:
            budget: The budget's key, a pair of key and cost, or a `Draw`.
            replace: Whether jobs that draw on it already are to draw this instead.
            all: Whether every job is meant, where the query has no condition.

        Returns:
            How many jobs were changed, and how many are in flight and were not.

        Raises:
            ConfigError: When the query has no condition and `all` is not said, or `budget` is no budget.
            InvalidRequest: When there is no such budget, or it holds less than the cost.
        """
        return run(self._send, self._binding(all, budget, replace))

    def unbind(self, key: str | Every = EVERY, *, all: bool = False) -> Rebound:
        """Let the jobs draw no more on a budget, or on any; with a limit it goes page by page, as `update` does.

        Args:
            key: The budget; left out, all that they draw on.
            all: Whether every job is meant, where the query has no condition.

        Returns:
            How many jobs were changed, and how many are in flight and were not.

        Raises:
            ConfigError: When the query has no condition and `all` is not said, or `key` is no key.
        """
        return run(self._send, self._unbinding(all, key))
