"""Worker: joins the client, the session, the slots and the sender, and owns the order of their end.

The order is the contract. A server gives the jobs of a closed stream to other workers, so the stream is closed last:
stop taking, give back what was not begun, wait for the handlers, send the reports, then close.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import warnings
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from zizq.client.job import Job
from zizq.client.options import Duration, seconds
from zizq.clock import Clock, Dice, SystemClock, SystemDice
from zizq.errors import ConfigError
from zizq.worker.executors import Executors
from zizq.worker.health import WorkerHealth
from zizq.worker.hooks import Hooks, Surroundings
from zizq.worker.options import Limits, Reconnect, Summary, Wanted
from zizq.worker.outbox import Outbox
from zizq.worker.route import JobHandler, route
from zizq.worker.router import Router
from zizq.worker.sender import Reports, Sender
from zizq.worker.session import Session, Takes
from zizq.worker.shutdown import Shutdown, Signals, check, wait_for
from zizq.worker.slots import Perform, Slots

if TYPE_CHECKING:
    from zizq.client.spans import Spans
    from zizq.worker.spans import Runs

logger = logging.getLogger("zizq")

CallNext = Callable[[Job], Awaitable[Any]]
Middleware = Callable[[Job, CallNext], Awaitable[Any]]


class WorkerClient(Takes, Reports, Protocol):
    """What a worker needs of a client; `zizq.Client` has it."""

    spans: Spans | None
    """Makes the spans of a client that traces."""


class Worker:
    """Streams jobs from the server, runs each in a handler, and reports how it went.

    Delivery is at-least-once: a handler should be idempotent. A handler that returns completes its job; one that
    raises fails it, and the server retries it by its policy; `Cancel` and `RetryLater` say otherwise. It traces what it
    does if its client does.

    Args:
        client: An open `Client`; the worker does not close it.
        handler: A `Router`, an object with `async handle(job)`, or a callable that takes a `Job`.
        concurrency: The most handlers at once.
        prefetch: The most jobs that are here unreported; None is `concurrency`. More than that keeps a buffer
            filled, so that a slot never waits for the network. Less starves the slots, and is warned of.
        queues: The queues to take from, one name or several; empty is all.
        shutdown_timeout: How long a graceful shutdown may take, a timedelta or seconds; None is no limit. Handlers
            that still run then are cancelled and not reported: the server gives their jobs to other workers, counting
            no attempt.
        job_timeout: How long the server lets this worker hold a job that sets no `timeout` itself, a timedelta or
            seconds, from when it is handed out until it is reported, so the wait for a slot included. It counts a
            failure then, and a later report is refused. None is no limit. The `timeout` of a route limits the run of
            a handler instead, and is kept here.
        reconnect: How long to wait before a lost server is tried again; False raises instead.
        ack_max_batch: The most acknowledgements in one request. None ever waits for more; as many as that go beside a
            request that is under way.
        worker_id: A name for logs, ours and the server's.
        middleware: Wraps every job, the first one outermost: `async def one(job, call_next): await call_next(job)`.
        hooks: Functions to call as things happen.
        clock: Measures timeouts and durations.
        dice: Draws the jitter.

    Raises:
        ConfigError: When an option is out of range.
    """

    def __init__(  # noqa: PLR0913 - a worker has many options, each with a good default
        self,
        client: WorkerClient,
        handler: JobHandler | Callable[[Job], Any],
        *,
        concurrency: int = 1,
        prefetch: int | None = None,
        queues: str | Sequence[str] = (),
        shutdown_timeout: Duration | None = 30.0,
        job_timeout: Duration | None = None,
        reconnect: Reconnect | bool = True,
        ack_max_batch: int = 1000,
        worker_id: str | None = None,
        middleware: Sequence[Middleware] = (),
        hooks: Hooks | None = None,
        clock: Clock | None = None,
        dice: Dice | None = None,
    ) -> None:
        room = concurrency if prefetch is None else prefetch
        if room < concurrency:
            text = f"prefetch={room} is below concurrency={concurrency}: some slots will never have a job"
            warnings.warn(text, UserWarning, stacklevel=2)
        names = [queues] if isinstance(queues, str) else list(queues)
        shutdown, held = seconds("shutdown_timeout", shutdown_timeout), seconds("job_timeout", job_timeout)
        self._limits = Limits(concurrency, room, shutdown, ack_max_batch, held)
        self._summary = Summary()
        self._clock = clock or SystemClock()
        around = Surroundings(self._summary, self._clock, dice or SystemDice(), hooks or Hooks(), worker_id)
        self._runs = None if client.spans is None else _runs(client.spans)
        if self._runs is not None:
            middleware = (self._runs.run, *middleware)
        self._executors = Executors(concurrency, self._runs)
        self._sender = Sender(client, Outbox(2 * room, ack_max_batch), around)
        perform = _compose(middleware, _performer(handler, self._executors), self._executors.wait_overrun)
        self._slots = Slots(concurrency, perform, self._executors.wait_overrun, self._sender, around, self.stop)
        wanted = Wanted(names, room, concurrency, held)
        self._session = Session(client, self._slots, self._sender, wanted, _reconnect(reconnect), around)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._kill = asyncio.Event()
        self._background: asyncio.Task[Summary] | None = None

    @property
    def summary(self) -> Summary:
        """What was done so far."""
        return self._summary

    def health(self) -> WorkerHealth:
        """How it is just now."""
        return WorkerHealth(
            connected=self._session.is_open,
            stopping=self._session.is_stopped,
            running=self._slots.running,
            concurrency=self._limits.concurrency,
            processed=self._summary.processed,
            failed=self._summary.failed,
            last_error=self._session.last_error,
        )

    @property
    def killed(self) -> bool:
        """Whether `kill` was asked for."""
        return self._kill.is_set()

    async def run(self, shutdown: Shutdown = None) -> Summary:
        """Work until told to stop, then shut down gracefully. A worker runs once.

        Args:
            shutdown: `on_signals()`, an event of asyncio or threading, or anything to await; None works until
                `stop` or `kill`, or the cancellation of this call, which is a kill.

        Returns:
            What was done.

        Raises:
            ClientError: When the server refuses the take stream. Handlers under way are finished and reported first.
            TransportError: When the server is lost and `reconnect` is False.
            ConfigError: When `shutdown` is nothing that can be waited for.
        """
        if self._loop is not None:
            raise RuntimeError("a worker runs once: make another")
        check(shutdown)
        self._loop = asyncio.get_running_loop()
        if isinstance(shutdown, Signals):
            shutdown.bind(self.kill)
        try:
            with contextlib.nullcontext() if self._runs is None else self._runs.alone():
                return await self._live(shutdown)
        finally:
            if isinstance(shutdown, Signals):
                shutdown.unbind()

    def stop(self) -> None:
        """Ask for a graceful shutdown; from any thread, any number of times."""
        self._post(self._stop)

    def kill(self) -> None:
        """End now: cancel handlers, drop reports, close the stream. From any thread."""
        self._post(self._kill)

    async def __aenter__(self) -> Worker:
        self._background = asyncio.create_task(self.run(), name="zizq-worker")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop()
        if self._background is not None:
            await self._background

    def _post(self, event: asyncio.Event) -> None:
        if self._loop is None:
            event.set()
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: there is nothing left to stop
            self._loop.call_soon_threadsafe(event.set)

    # ── a life ───────────────────────────────────────────────────────────────────────────────────────

    async def _live(self, shutdown: Shutdown) -> Summary:
        self._sender.start()
        stream = asyncio.create_task(self._session.run(), name="zizq-session")
        life = asyncio.create_task(self._work_and_drain(stream, shutdown), name="zizq-life")
        killed = asyncio.create_task(self._kill.wait())
        try:
            await asyncio.wait({life, killed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._end(stream, life, killed)
        for task in (life, stream):
            if not task.cancelled():
                task.result()
        return self._summary

    async def _work_and_drain(self, stream: asyncio.Task[None], shutdown: Shutdown) -> None:
        asked = asyncio.create_task(wait_for(shutdown))
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({stream, asked, stop}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
            stop.cancel()
        await self._drain(stream)

    async def _drain(self, stream: asyncio.Task[None]) -> None:
        timeout, reserve = self._limits.shutdown_timeout, self._limits.reserve
        deadline = None if timeout is None else self._clock.mono_s() + timeout
        self._session.stop()
        if not self._session.is_open:
            stream.cancel()
        # At once, so that other workers need not wait for the handlers here.
        unstarted = self._slots.stop()
        giving = asyncio.create_task(self._session.give_back(unstarted, self._left(deadline, reserve)))
        try:
            await self._slots.wait_done(self._left(deadline, reserve))
            if self._slots.busy:
                await self._slots.abort(reserve / 2)
            await giving
        finally:
            giving.cancel()
        await self._sender.flush(self._left(deadline, 0.0))
        if unfinished := self._slots.unfinished:
            await self._session.give_back(unfinished, self._left(deadline, 0.0))
        await self._session.wait_end(self._left(deadline, 0.0))
        self._session.close()
        await asyncio.wait({stream})

    def _left(self, deadline: float | None, reserve: float) -> float | None:
        return None if deadline is None else max(0.0, deadline - reserve - self._clock.mono_s())

    async def _end(self, stream: asyncio.Task[None], *others: asyncio.Task[Any]) -> None:
        """Leave nothing behind, whatever has happened; after a graceful end there is nothing left to do."""
        tasks = {stream, *others}
        self._session.close()
        for task in tasks:
            task.cancel()
        await self._slots.abort(self._limits.reserve / 2)
        self._slots.give_up()
        await self._sender.close()
        await asyncio.wait(tasks)
        self._executors.close()


def _runs(spans: Spans) -> Runs:
    from zizq.worker.spans import Runs

    return Runs(spans)


def _performer(handler: JobHandler | Callable[[Job], Any], executors: Executors) -> Perform:
    """How one job is started: by its type where there is a router, else always the same way."""
    run = executors.run
    if isinstance(handler, Router):
        find = handler.find
        return lambda job: run(find(job.type), job)
    call = handler.handle if isinstance(handler, JobHandler) else handler
    if not callable(call):
        raise ConfigError(f"{handler!r} is no handler: give a Router, a callable, or an object with handle(job)")
    if inspect.isclass(call):
        raise ConfigError(f"{call.__name__} is a class: give an instance of it")
    only = route(call, kind=None)
    return lambda job: run(only, job)


def _compose(middleware: Sequence[Middleware], perform: Perform, linger: Callable[[Job], Awaitable[None]]) -> Perform:
    if not middleware:
        return perform
    for one in reversed(middleware):
        perform = _around(one, perform)

    async def wrapped(job: Job) -> None:
        await perform(job)
        # Middleware may have made a success of a timeout: the thread that ran over it keeps its slot all the same.
        await linger(job)

    return wrapped


def _around(one: Middleware, inner: Perform) -> Perform:
    return lambda job: one(job, inner)


def _reconnect(option: Reconnect | bool) -> Reconnect | None:
    if isinstance(option, Reconnect):
        return option
    return Reconnect() if option else None
