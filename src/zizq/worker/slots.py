"""The places where handlers run: `concurrency` tasks that take jobs from one buffer.

A task for each job would cost more than many a handler does. So a slot is a task that lives on and runs one job
after the other. Three things follow from that, and are all in this file:

- A slot that runs out of jobs waits on a future of its own, and is woken when one comes. The one that is woken
  wakes the next if there is work for it, so that a burst of tiny jobs wakes one slot and not a hundred.
- Handlers that never wait would keep the loop to themselves, so a slot lets the others run every few milliseconds.
- A handler may leave context variables behind. The next job must not see them, so such a slot is retired and a
  fresh one takes its place; the same goes for a slot that was cancelled by a hand that we do not know.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextvars import copy_context
from typing import Any

from zizq.client.job import Job
from zizq.worker.failures import describe
from zizq.worker.hooks import JobStarted, JobStopped, Outcome, Surroundings, call
from zizq.worker.route import enter, leave
from zizq.worker.sender import Sender

logger = logging.getLogger("zizq")

Perform = Callable[[Job], Awaitable[Any]]
_LONGEST_TURN = 0.005
"""Seconds that a slot may keep the event loop: short enough that acknowledgements and heartbeats flow."""


class Slots:
    """Runs jobs, and puts a report of each in the outbox.

    Args:
        size: The most handlers at once.
        perform: Starts one job; what it returns is awaited.
        linger: Awaited after a failed job before its slot is free again.
        sender: Takes the reports.
        around: The summary that counts jobs, the clock that times them, the hooks that are told.
        on_exit: Called when a handler asks the whole process to end.
    """

    def __init__(
        self,
        size: int,
        perform: Perform,
        linger: Callable[[Job], Awaitable[None]],
        sender: Sender,
        around: Surroundings,
        on_exit: Callable[[], None],
    ) -> None:
        self._size = size
        self._perform = perform
        self._linger = linger
        self._sender = sender
        self._summary = around.summary
        self._clock = around.clock
        self._on_start = around.hooks.on_job_start
        self._on_stop = around.hooks.on_job_stop
        self._worker_id = around.worker_id
        self._on_exit = on_exit
        self._buffer: deque[Job] = deque()
        self._running: dict[str, Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: list[asyncio.Future[None]] = []
        self._waking = False
        self._open = True
        self._aborting = False
        self._cut_short: list[str] = []
        self._taken = asyncio.Event()

    @property
    def busy(self) -> bool:
        """Whether a slot is still at work; after `wait_done`, that is one that would not end in time."""
        return bool(self._tasks)

    @property
    def running(self) -> int:
        """How many handlers run."""
        return len(self._running)

    def accept(self, jobs: Iterable[Job]) -> None:
        """Run jobs as soon as there are slots for them.

        A lost connection may bring a job again whose first run is still under way here, or whose report is. It is
        not run a second time: the report of the first run settles both.
        """
        buffer, running, outbox = self._buffer, self._running, self._sender.outbox
        for job in jobs:
            job_id = job.id
            if job_id in running or (job_id in outbox and outbox.covers(job_id, job.attempts)):
                self._summary.redelivered += 1
            else:
                buffer.append(job)
        self._wake()

    async def wait_room(self, limit: int) -> None:
        """Wait until fewer than `limit` jobs wait for a slot."""
        while len(self._buffer) >= limit:
            self._taken.clear()
            await self._taken.wait()

    def discard(self) -> None:
        """Forget the jobs that were not started: the server has given, or will give, them to another worker."""
        self._buffer.clear()
        self._taken.set()

    @property
    def unfinished(self) -> list[str]:
        """The jobs of handlers that were cancelled, or that still run."""
        return [*self._cut_short, *self._running]

    def stop(self) -> list[str]:
        """Start nothing more; returns the jobs that were not started, which are forgotten."""
        self._open = False
        unstarted = [job.id for job in self._buffer]
        self.discard()
        for idle in self._idle:
            if not idle.done():
                idle.set_result(None)
        self._idle.clear()
        return unstarted

    async def wait_done(self, timeout: float | None) -> None:
        """Wait for the handlers under way, once nothing more is started.

        Args:
            timeout: Seconds to wait at most; None waits as long as it takes.
        """
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)

    async def abort(self, timeout: float) -> None:
        """Cancel the handlers under way, and wait a moment for them to end; nothing is reported of their jobs."""
        self._open = False
        self._aborting = True
        self.discard()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)

    def give_up(self) -> None:
        """Count as abandoned the handlers that would not be cancelled; nobody waits for them any more."""
        self._summary.abandoned += len(self._running)

    # ── slots ────────────────────────────────────────────────────────────────────────────────────────

    def _wake(self) -> None:
        if self._waking or not self._buffer or not self._open:
            return
        if self._idle:
            self._waking = True
            self._idle.pop().set_result(None)
        elif len(self._tasks) < self._size:
            self._waking = True
            task = asyncio.create_task(self._work(), name="zizq-slot")
            self._tasks.add(task)
            task.add_done_callback(self._retired)

    def _retired(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a slot of the worker failed", exc_info=error)
        self._wake()

    async def _work(self) -> None:
        self._waking = False
        task = asyncio.current_task()
        at_start = copy_context()
        turn_ends = self._clock.mono_s() + _LONGEST_TURN
        while self._open:
            if not self._buffer:
                await self._wait_for_job()
                turn_ends = self._clock.mono_s() + _LONGEST_TURN
                continue
            job = self._buffer.popleft()
            if not self._taken.is_set():
                self._taken.set()
            if not self._waking:
                self._wake()
            if job.id in self._running:
                # It came again while its first copy waited here for too long: the run under way will do for both.
                self._summary.redelivered += 1
                continue
            if self._on_start is not None:
                call(self._on_start, JobStarted(self._worker_id, job))
            await (self._run(job) if self._on_stop is None else self._run_timed(job))
            if self._sender.outbox.full:
                await self._sender.wait_room()
            if task is None or task.cancelling() or copy_context() != at_start:
                return
            if self._clock.mono_s() > turn_ends:
                await asyncio.sleep(0)
                turn_ends = self._clock.mono_s() + _LONGEST_TURN

    async def _wait_for_job(self) -> None:
        idle = asyncio.get_running_loop().create_future()
        self._idle.append(idle)
        try:
            await idle
        except asyncio.CancelledError:
            # Cancelled by a hand that we do not know: nobody must try to wake it.
            if idle in self._idle:
                self._idle.remove(idle)
            raise
        finally:
            self._waking = False

    # ── one job ──────────────────────────────────────────────────────────────────────────────────────

    async def _run(self, job: Job) -> BaseException | None:
        """Run a job and report it; what it failed with is returned."""
        self._running[job.id] = job
        token = enter(job)
        try:
            await self._perform(job)
        except BaseException as exc:
            self._running.pop(job.id, None)
            self._failed(job, exc)
            await self._linger(job)
            return exc
        finally:
            leave(token)
        self._running.pop(job.id, None)
        self._summary.processed += 1
        self._sender.ack(job.id, job.attempts)
        return None

    async def _run_timed(self, job: Job) -> None:
        began = self._clock.mono_s()
        outcome, error = Outcome.ABANDONED, None
        try:
            error = await self._run(job)
            outcome = Outcome.FAILURE if error else Outcome.SUCCESS
        finally:
            duration = self._clock.mono_s() - began
            call(self._on_stop, JobStopped(self._worker_id, job, outcome, duration, error))

    def _failed(self, job: Job, error: BaseException) -> None:
        """Report a failure, of whatever sort, but for the end that we have ordered ourselves."""
        if self._aborting or isinstance(error, GeneratorExit):
            self._summary.abandoned += 1
            self._cut_short.append(job.id)
            raise error
        self._summary.failed += 1
        failure = describe(error, self._clock)
        self._sender.nack(job.id, job.attempts, failure)
        # The message says it all by itself, for programs whose logging shows no extras.
        logger.warning(
            "job %s (%s) failed: %s",
            job.id,
            job.type,
            failure.message,
            extra={"fields": {"job_id": job.id, "type": job.type, "queue": job.queue, "error": failure.message}},
        )
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            logger.error("a handler asked the process to end: shutting down", extra={"fields": {"job_id": job.id}})
            self._on_exit()
