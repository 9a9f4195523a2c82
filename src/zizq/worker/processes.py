"""Handlers in processes of their own: one job at a time in each, so that a death takes down one job and no other.

A child is told where to import its handler from, and is sent the job as bytes; nothing is pickled but text and
bytes. What the handler raises is written down in the child, for an exception may not survive the journey.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import multiprocessing
import os
import signal
import threading
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from typing import Any

from zizq.client.job import Job, JobReader
from zizq.client.kinds import kind_of
from zizq.clock import SystemClock
from zizq.errors import HandlerDied, HandlerTimeout
from zizq.wire.codec import Format
from zizq.wire.messages import FailureBody
from zizq.worker.failures import HandlerFailed, describe
from zizq.worker.route import ELSEWHERE, Place, Route, enter, import_path, leave
from zizq.worker.threads import Threads

_spawn = multiprocessing.get_context("spawn")
Carrier = dict[str, str] | None
"""The context of a trace, as text; None where there is none."""


class Child:
    """One process, started when it is first needed. Its methods block; they run in threads."""

    def __init__(self) -> None:
        self._ours, theirs = _spawn.Pipe()
        self._process = _spawn.Process(target=_serve, args=(theirs,), daemon=True, name="zizq-handler")
        self._process.start()
        theirs.close()

    def perform(self, message: tuple[Any, ...]) -> FailureBody | None:
        """Run one job; None is success.

        Raises:
            HandlerDied: When the process ended before it answered; it is closed then.
        """
        try:
            self._ours.send(message)
            answer: FailureBody | None = self._ours.recv()
        except (EOFError, OSError):
            self._process.join()
            ending = self._ending()
            self.close()
            raise HandlerDied(f"the process of the handler died ({ending})") from None
        return answer

    def kill(self) -> None:
        """End the process now; a `perform` under way raises."""
        with contextlib.suppress(ValueError):  # closed already
            self._process.kill()

    def close(self) -> None:
        """Kill the process and free what it held; only where no `perform` is under way."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self._ours.close()

    def _ending(self) -> str:
        code = self._process.exitcode or 0
        return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


class Processes:
    """A few processes for handlers, rebuilt as they die.

    Args:
        size: The most processes at once; jobs beyond it wait.
    """

    def __init__(self, size: int) -> None:
        self._room = asyncio.Semaphore(size)
        self._idle: list[Child] = []
        self._busy: set[Child] = set()
        self._threads = Threads(size, "zizq-process")

    async def run(self, route: Route, job: Job, carrier: Carrier = None) -> None:
        """Run one job in a process.

        Args:
            route: Its handler.
            job: The job.
            carrier: The span of the run, where it is traced.

        Raises:
            HandlerFailed: When the handler raised.
            HandlerTimeout: When it ran over the timeout of its route; the process is killed.
            HandlerDied: When the process died.
        """
        async with self._room:
            child = self._idle.pop() if self._idle else await self._threads.run(Child)
            self._busy.add(child)
            try:
                failure = await self._exchange(child, _message(route, job, carrier), route.timeout)
            except BaseException:
                child.kill()
                raise
            finally:
                self._busy.discard(child)
            self._idle.append(child)
        if failure is not None:
            raise HandlerFailed(failure)

    async def _exchange(self, child: Child, message: tuple[Any, ...], timeout: float | None) -> FailureBody | None:
        answer = self._threads.run(lambda: child.perform(message))
        # A death that we cause ourselves is not news.
        answer.add_done_callback(lambda future: future.cancelled() or future.exception())
        done, _ = await asyncio.wait({answer}, timeout=timeout)
        if done:
            failure: FailureBody | None = answer.result()
            return failure
        child.kill()
        await asyncio.wait({answer})
        raise HandlerTimeout(f"the handler ran longer than {timeout} s; its process was killed")

    def close(self) -> None:
        """Kill the processes, those at work included."""
        for child in self._busy:
            child.kill()
        for child in self._idle:
            child.close()
        self._idle.clear()
        self._threads.close()


def _message(route: Route, job: Job, carrier: Carrier) -> tuple[Any, ...]:
    kind = import_path(route.kind.cls) if route.kind is not None else None
    return import_path(route.call), kind, route.wants_context, job.frame, job.format.value, carrier


# ── in the child ─────────────────────────────────────────────────────────────────────────────────────


def _serve(pipe: Connection) -> None:
    """Answer one message after the other, until the other end closes."""
    # The worker decides when a handler ends: a signal to the whole process group must not end it first.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            message = pipe.recv()
        except EOFError:
            return
        answer = _perform(*message)
        try:
            pipe.send(answer)
        except OSError:
            os._exit(1)


def _end_with_parent() -> None:
    # The server gives the job of a dead worker to another one: it must not go on here as well.
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _perform(
    handler: str, kind: str | None, wants_context: bool, frame: bytes, form: str, carrier: Carrier
) -> FailureBody | None:
    try:
        job = JobReader(Format(form)).one(frame)
        found = kind_of(_imported(kind)) if kind is not None else None
        token = enter(job)
        try:
            with _resumed(carrier):
                Route(_imported(handler), found, wants_context, Place.PROCESS, None, ELSEWHERE).begin(job)
        finally:
            leave(token)
    except BaseException as exc:
        return describe(exc, SystemClock())
    return None


def _resumed(carrier: Carrier) -> AbstractContextManager[None]:
    if carrier is None:
        return contextlib.nullcontext()
    from zizq.worker.spans import resumed

    return resumed(carrier)


def _imported(path: str) -> Any:
    module, _, name = path.partition(":")
    target: Any = importlib.import_module(module)
    for part in name.split("."):
        target = getattr(target, part)
    return target
