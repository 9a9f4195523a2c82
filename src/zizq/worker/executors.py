"""Where handlers run: on the loop, in threads of our own, or in processes."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from zizq.client.job import Job
from zizq.errors import HandlerTimeout
from zizq.worker.processes import Processes
from zizq.worker.route import Place, Route, name_of
from zizq.worker.threads import Threads

if TYPE_CHECKING:
    from zizq.worker.spans import Runs

logger = logging.getLogger("zizq")

_LOOP = Place.LOOP  # looked up in its class once, and not for every job

Ended = tuple[Any, BaseException | None]
"""What a handler returned, and what it raised."""


class Executors:
    """Runs routes. The pools are made when a route first needs them.

    asyncio's own thread pool is not used: it is smaller than `concurrency`, and others share it.

    Args:
        concurrency: The most handlers at once, hence the most threads. There are as many processes, but no more
            than the machine has processors.
        runs: Makes the spans of runs, in a worker that traces.
    """

    def __init__(self, concurrency: int, runs: Runs | None = None) -> None:
        self._concurrency = concurrency
        self._runs = runs
        self._threads: Threads | None = None
        self._processes: Processes | None = None
        self._overrun: dict[str, set[asyncio.Future[Any]]] = {}

    def run(self, route: Route, job: Job) -> Awaitable[Any]:
        """Start a job; what is returned must be awaited, and raises what the handler raises."""
        if route.place is _LOOP:
            result: Awaitable[Any] = route.begin(job)
            return result if route.timeout is None else _limited(result, route.timeout)
        if route.place is Place.THREAD:
            return self._in_thread(route, job)
        return self._in_process(route, job)

    async def wait_overrun(self, job: Job) -> None:
        """Wait for the threads of handlers that ran over their timeout; returns at once where there are none."""
        threads = self._overrun.pop(job.id, None)
        if threads:
            await asyncio.wait(threads)

    def close(self) -> None:
        """Let go of the pools without waiting: processes are killed, threads end when their handlers or we do."""
        if self._threads is not None:
            self._threads.close()
        if self._processes is not None:
            self._processes.close()

    async def _in_thread(self, route: Route, job: Job) -> None:
        if self._threads is None:
            self._threads = Threads(self._concurrency, "zizq-handler")
        thread = self._threads.run(partial(copy_context().run, _caught, route, job))
        # A plain await is much the cheaper, and most routes have no timeout.
        result, error = await (thread if route.timeout is None else self._within(thread, route, job))
        if error is not None:
            raise error
        if isinstance(result, Awaitable):
            await result

    async def _within(self, thread: asyncio.Future[Ended], route: Route, job: Job) -> Ended:
        done, _ = await asyncio.wait({thread}, timeout=route.timeout)
        if done:
            return thread.result()
        logger.warning(
            "a handler in a thread ran over its timeout and keeps its slot until it ends",
            extra={"fields": {"handler": name_of(route.call), "job_id": job.id, "timeout": route.timeout}},
        )
        self._overrun.setdefault(job.id, set()).add(thread)
        raise HandlerTimeout(f"the handler ran longer than {route.timeout} s; its thread still runs")

    def _in_process(self, route: Route, job: Job) -> Awaitable[None]:
        if self._processes is None:
            self._processes = Processes(min(self._concurrency, os.cpu_count() or 1))
        return self._processes.run(route, job, None if self._runs is None else self._runs.carrier())


def _caught(route: Route, job: Job) -> Ended:
    # A future cannot carry every exception (StopIteration, SystemExit), so it is returned, not raised.
    try:
        return route.begin(job), None
    except BaseException as exc:
        return None, exc


async def _limited(result: Awaitable[Any], seconds: float) -> None:
    # Only the timer's own end is the handler's timeout: a handler may raise TimeoutError for its own reasons.
    try:
        async with asyncio.timeout(seconds) as timer:
            await result
    except TimeoutError as exc:
        if timer.expired():
            raise HandlerTimeout(f"the handler ran longer than {seconds} s") from exc
        raise
