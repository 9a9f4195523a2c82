"""A worker in one call, for a program that is nothing else."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypedDict, TypeVar, Unpack

from zizq.client.aio import Client
from zizq.client.job import Job
from zizq.client.options import Duration
from zizq.client.tracing import Tracing
from zizq.worker.hooks import Hooks
from zizq.worker.options import Reconnect, Summary
from zizq.worker.route import JobHandler
from zizq.worker.shutdown import on_signals
from zizq.worker.worker import Middleware, Worker

T = TypeVar("T")


class WorkerOptions(TypedDict, total=False):
    """The options of `Worker`."""

    concurrency: int
    prefetch: int | None
    queues: list[str] | tuple[str, ...]
    shutdown_timeout: float | None
    job_timeout: Duration | None
    reconnect: Reconnect | bool
    ack_max_batch: int
    worker_id: str | None
    middleware: list[Middleware] | tuple[Middleware, ...]
    hooks: Hooks | None


def run_worker(
    handler: JobHandler | Callable[[Job], Any],
    url: str | None = None,
    *,
    tracing: Tracing | bool = False,
    **options: Unpack[WorkerOptions],
) -> Summary:
    """Run a worker until SIGINT or SIGTERM; blocks. From the main thread only.

    The first signal shuts down gracefully, the second ends at once. The event loop is uvloop where it is installed.

    Args:
        handler: As for `Worker`.
        url: Of the server; None takes `ZIZQ_URL`, or the default.
        tracing: As for `Client`.
        **options: As for `Worker`.

    Returns:
        What was done.

    Raises:
        ClientError: When the server refuses the take stream.
        ConfigError: When an option is wrong.
    """

    async def work() -> Summary:
        async with Client(url, tracing=tracing) as client:
            return await Worker(client, handler, **options).run(on_signals())

    return run_loop(work())


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on the fastest event loop there is."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(main)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes a uvloop; None, for asyncio's own, where that is not installed."""
    if sys.platform == "win32":
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
