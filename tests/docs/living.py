"""A server for one example, in a thread of its own: it knows when nothing is left to do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any

from zizq.clock import SystemDice
from zizq.job import Status
from zizq.policy import Defaults
from zizq.server.app import App
from zizq.store.memory import MemoryStore
from zizq.testing.server import running_server

_OPEN = (Status.READY, Status.IN_FLIGHT)


class LivingServer:
    """Keeps its jobs in memory, and is gone with the block.

    Args:
        queue: The queue that counts for whether there is work; None for all of them.
    """

    def __init__(self, queue: str | None = None) -> None:
        self._queue = queue
        self._store = MemoryStore(Defaults(), SystemDice())
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._done = asyncio.Event()
        async with running_server(store=self._store) as server:
            self.url = server.url
            self._app: App = server.app
            self._up.set()
            await self._done.wait()

    def _has_work(self) -> bool:
        return any(job.status in _OPEN and self._queue in (None, job.queue) for job in self._store._jobs.values())

    async def _idle(self) -> None:
        while self._has_work():  # noqa: ASYNC110 - the store has no event for it
            await asyncio.sleep(0.005)

    async def _end_streams_when_idle(self) -> None:
        await self._idle()
        self._app.end_streams()

    def until_idle(self) -> Coroutine[Any, Any, None]:
        """Something to await: that no job is ready or in flight. A shutdown for workers."""

        async def wait() -> None:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._idle(), self._loop))

        return wait()

    def end_streams_when_idle(self) -> None:
        """End the take streams once no job is ready or in flight."""
        asyncio.run_coroutine_threadsafe(self._end_streams_when_idle(), self._loop)

    def __enter__(self) -> LivingServer:
        self._thread.start()
        assert self._up.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join()
