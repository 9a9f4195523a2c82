"""Several worker processes under one parent: the way past the interpreter lock.

The parent and a child speak over a pipe, not by signals: a terminal and systemd signal the whole group, and a child
that counted those and its parent's would take the first request to stop for the second. When the parent dies the
pipe closes, and the child ends gracefully. A child that cannot work, for the server refuses it, says so on the pipe
before it ends: to start it again would change nothing, so all end, and the error is the parent's.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing import connection
from typing import Any

from zizq.clock import SystemClock, SystemDice
from zizq.errors import ZizqError
from zizq.worker.options import Reconnect

logger = logging.getLogger("zizq")

STOP, KILL = b"stop", b"kill"

_spawn = multiprocessing.get_context("spawn")
_RESTART = Reconnect(first=0.5, longest=30.0)
_LASTED = 60.0
"""Seconds after which a child that ends has not failed to start."""
_WAIT = 3600.0
"""Seconds of sleep where nothing is due; a signal or the end of a child ends it sooner."""

Main = Callable[[Any, connection.Connection], None]


class Child:
    """One worker process, and when to start it again."""

    def __init__(self, number: int, main: Main, argument: Any) -> None:
        self.number = number
        self._main = main
        self._argument = argument
        self.failures = 0
        self.start_at: float | None = 0.0
        self.error: str | None = None
        self.process: Any = None

    def start(self, now: float) -> None:
        """Start the process."""
        self._pipe, theirs = _spawn.Pipe()
        self.process = _spawn.Process(
            target=self._main, args=(self._argument, theirs), name=f"zizq-worker-{self.number}"
        )
        self.process.start()
        theirs.close()
        self.started_at, self.start_at = now, None

    def tell(self, word: bytes) -> None:
        """Send a word to the process, if it still listens."""
        try:
            self._pipe.send_bytes(word)
        except OSError:
            return

    def ended(self, now: float, unit: float) -> None:
        """Take note of the end of the process, and plan the next one."""
        self.process.join()
        code = self.process.exitcode
        self.process.close()
        self.process = None
        with contextlib.suppress(EOFError, OSError):
            self.error = self._pipe.recv_bytes().decode() if self._pipe.poll() else None
        self._pipe.close()
        self.failures = 1 if now - self.started_at >= _LASTED else self.failures + 1
        delay = _RESTART.delay(self.failures, unit)
        self.start_at = now + delay
        logger.info("a worker process ended", extra={"fields": {"number": self.number, "exit_code": code}})


class Supervisor:
    """Keeps worker processes running until SIGINT or SIGTERM; for the main thread of a process of its own.

    Args:
        main: What each process runs: called with `argument` and the pipe on which `STOP` and `KILL` come. What it
            sends there before it ends is why it can never work.
        argument: Picklable.
        count: How many processes.
    """

    def __init__(self, main: Main, argument: Any, count: int) -> None:
        self._children = [Child(number, main, argument) for number in range(count)]
        self._clock = SystemClock()
        self._dice = SystemDice()
        self._woken, self._wake = _spawn.Pipe(duplex=False)
        self._signals = 0
        self._stopping = False
        self._error: str | None = None

    def run(self) -> bool:
        """Run until told to stop, and every process has ended.

        Returns:
            Whether the end was graceful: False after a second signal.

        Raises:
            ZizqError: When a process said that it can never work; all have ended then.
        """
        before = {number: signal.signal(number, self._signalled) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            while not self._stopping or any(child.process for child in self._children):
                self._start_due()
                self._wait()
                self._reap()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._error is not None:
            raise ZizqError(self._error)
        return self._signals < 2

    def _signalled(self, number: int, _frame: object) -> None:
        self._signals += 1
        logger.info("shutting down the worker processes", extra={"fields": {"signal": signal.Signals(number).name}})
        self._tell(STOP if self._signals == 1 else KILL)
        self._wake.send_bytes(b"!")

    def _tell(self, word: bytes) -> None:
        self._stopping = True
        for child in self._children:
            if child.process is not None:
                child.tell(word)

    def _start_due(self) -> None:
        if self._stopping:
            return
        now = self._clock.mono_s()
        for child in self._children:
            if child.start_at is not None and child.start_at <= now:
                if child.failures:
                    logger.warning("starting a worker process again", extra={"fields": {"number": child.number}})
                child.start(now)

    def _wait(self) -> None:
        now = self._clock.mono_s()
        due = [child.start_at for child in self._children if child.start_at is not None and not self._stopping]
        sentinels = [child.process.sentinel for child in self._children if child.process is not None]
        connection.wait([*sentinels, self._woken], timeout=max(0.0, min(due, default=now + _WAIT) - now))
        while self._woken.poll():
            self._woken.recv_bytes()

    def _reap(self) -> None:
        for child in self._children:
            if child.process is not None and not child.process.is_alive():
                child.ended(self._clock.mono_s(), self._dice.unit())
                if child.error is not None and self._error is None:
                    self._error = child.error
                    self._tell(STOP)
