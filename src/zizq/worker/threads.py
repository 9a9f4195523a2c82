"""Threads for calls that block.

Those of `concurrent.futures` keep the interpreter alive until the last call has returned, so a handler that is stuck
would outlast every shutdown timeout. These are daemons: they end with the program.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any


class Threads:
    """A few daemon threads; one is added when a call finds all of them at work.

    Args:
        size: The most threads at once; calls beyond it wait.
        name: What the threads are called.
    """

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._count = 0
        self._idle = threading.Semaphore(0)
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()

    def run(self, call: Callable[[], Any]) -> asyncio.Future[Any]:
        """Start a call. The future has what it returns or raises; to cancel it stops no call that has begun."""
        answer: Future[Any] = Future()
        self._calls.put((answer, call))
        if not self._idle.acquire(blocking=False) and self._count < self._size:
            self._count += 1
            threading.Thread(target=self._work, name=f"{self._name}-{self._count}", daemon=True).start()
        return asyncio.wrap_future(answer)

    def close(self) -> None:
        """Let the threads end when their calls do. Does not wait; calls that have not begun are made still."""
        for _ in range(self._count):
            self._calls.put(None)

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            answer, call = item
            self._make(answer, call)
            # An idle thread must not keep alive what it last had.
            del item, answer, call

    def _make(self, answer: Future[Any], call: Callable[[], Any]) -> None:
        begun = answer.set_running_or_notify_cancel()
        result, error = None, None
        try:
            result = call() if begun else None
        except BaseException as raised:
            error = raised
        # Before the answer: whoever hears it finds this thread idle.
        self._idle.release()
        if begun and error is None:
            answer.set_result(result)
        elif begun:
            answer.set_exception(error)
