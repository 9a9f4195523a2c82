"""Calls that come while a transaction runs wait, and share the next one. Nothing here knows what they do."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from zizq.errors import Unavailable

C = TypeVar("C")
R = TypeVar("R")


def _one(call: object) -> int:
    return 1


def _nothing(call: object, outcome: object) -> None:
    """Whoever has gone does not mind."""


class Gather(Generic[C, R]):
    """Calls of one kind, of which one lot is carried out at a time.

    A caller who goes away before its lot has begun takes its call along. One who goes later leaves it to be done.

    Args:
        run: Carries out a lot; returns an outcome for each, in their order, which is raised where it is an exception.
            What it raises itself, all of them raise.
        most: How much a lot may weigh; one call may weigh more.
        weigh: What a call weighs.
        unwanted: Hears of outcomes whose callers have gone.
    """

    def __init__(
        self,
        run: Callable[[Sequence[C]], Awaitable[Sequence[R | Exception]]],
        most: int,
        weigh: Callable[[C], int] = _one,
        unwanted: Callable[[C, R], None] = _nothing,
    ) -> None:
        self._run = run
        self._most = most
        self._weigh = weigh
        self._unwanted = unwanted
        self._waiting: deque[tuple[C, asyncio.Future[R]]] = deque()
        self._last: asyncio.Future[R] | None = None
        self._task: asyncio.Task[None] | None = None

    def call(self, call: C) -> asyncio.Future[R]:
        """Have a call carried out with the next lot."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((call, future))
        self._last = future
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        return future

    async def caught_up(self) -> None:
        """Wait until all is done that was called for by now."""
        if self._last is not None and not self._last.done():
            await asyncio.wait([self._last])

    async def idle(self) -> None:
        """Wait until everything that was called for is done."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _work(self) -> None:
        try:
            while lot := self._lot():
                await self._do(lot)
        finally:
            self._task = None
            # Only where the loop itself ends: nobody is left waiting for what will not come.
            while self._waiting:
                _, future = self._waiting.popleft()
                if not future.done():
                    future.set_exception(Unavailable("the store is closed"))

    def _lot(self) -> list[tuple[C, asyncio.Future[R]]]:
        lot: list[tuple[C, asyncio.Future[R]]] = []
        weight = 0
        while self._waiting:
            call, future = self._waiting[0]
            if not future.done():
                weight += self._weigh(call)
                if lot and weight > self._most:
                    break
                lot.append((call, future))
            self._waiting.popleft()
        return lot

    async def _do(self, lot: list[tuple[C, asyncio.Future[R]]]) -> None:
        outcomes: Sequence[R | Exception]
        try:
            outcomes = await self._run([call for call, _ in lot])
        except Exception as error:
            outcomes = [error] * len(lot)
        for (call, future), outcome in zip(lot, outcomes, strict=True):
            if isinstance(outcome, Exception):
                if not future.done():
                    future.set_exception(outcome)
            elif future.done():
                self._unwanted(call, outcome)
            else:
                future.set_result(outcome)
