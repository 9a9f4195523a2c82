"""Several worker processes under one parent: the way past the interpreter lock.

The parent and a child speak over a pipe, not by signals: a terminal and systemd signal the whole group, and a child
that counted those and its parent's would take the first request to stop for the second. When the parent dies the
pipe closes, and the child ends gracefully. A child that cannot work, for the server refuses it, says so on the pipe
before it ends: to start it again would change nothing, so all end, and the error is the parent's.

Where somebody looks after the health of the worker the parent asks each child how it is. It asks again only once it has
been answered, so that neither end of a pipe ever fills up.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing import connection
from typing import Any

import msgspec

from zizq.clock import SystemClock, SystemDice
from zizq.errors import ZizqError
from zizq.systemd import Manager
from zizq.worker.health import WorkerHealth, combined
from zizq.worker.options import Reconnect

logger = logging.getLogger("zizq")

STOP, KILL, ASK = b"stop", b"kill", b"ask"

_spawn = multiprocessing.get_context("spawn")
_RESTART = Reconnect(first=0.5, longest=30.0)
_LASTED = 60.0
"""Seconds after which a child that ends has not failed to start."""
_WAIT = 3600.0
"""Seconds of sleep where nothing is due; a signal or the end of a child ends it sooner."""

_ASK_S = 1.0
"""Seconds between two questions to a child."""
_SILENT_S = 15.0
"""Seconds without an answer after which a child, or the parent, counts as one that hangs."""
_BEGUN_S = 60.0
"""The same for the first answer: until then a child imports its handler."""
_ABSENT = WorkerHealth(
    connected=False, stopping=False, running=0, concurrency=0, processed=0, failed=0, processes=0
)  # fmt: skip

Main = Callable[[Any, connection.Connection], None]


class Note(msgspec.Struct, omit_defaults=True):
    """What a child says on its pipe: how it is, or why it can never work."""

    health: WorkerHealth | None = None
    error: str | None = None

    def encode(self) -> bytes:
        """The bytes that are sent."""
        return msgspec.json.encode(self)


_read_note = msgspec.json.Decoder(Note).decode


class Child:
    """One worker process, and when to start it again."""

    def __init__(self, number: int, main: Main, argument: Any) -> None:
        self.number = number
        self._main = main
        self._argument = argument
        self.failures = 0
        self.start_at: float | None = 0.0
        self.error: str | None = None
        self.health: WorkerHealth | None = None
        self.process: Any = None
        self._asked_at: float | None = None

    def start(self, now: float) -> None:
        """Start the process."""
        self._pipe, theirs = _spawn.Pipe()
        self.process = _spawn.Process(
            target=self._main, args=(self._argument, theirs), name=f"zizq-worker-{self.number}"
        )
        self.process.start()
        theirs.close()
        self.started_at, self.start_at = now, None
        self.pipe: connection.Connection | None = self._pipe

    def tell(self, word: bytes) -> None:
        """Send a word to the process, if it still listens."""
        try:
            self._pipe.send_bytes(word)
        except OSError:
            return

    def ask(self, now: float) -> None:
        """Ask the process how it is, unless it still owes an answer."""
        if self.process is not None and self._asked_at is None:
            self._asked_at = now
            self.tell(ASK)

    def hear(self) -> None:
        """Read what the process has said."""
        try:
            while self._pipe.poll():
                note = _read_note(self._pipe.recv_bytes())
                self.error = note.error or self.error
                if note.health is not None:
                    self.health, self._asked_at = note.health, None
        except (EOFError, OSError):
            # It is about to end; a closed pipe is always readable, and not worth waiting for.
            self.pipe = None

    def ailing(self, now: float) -> str | None:
        """Why the process does not live; None when it does."""
        if self.process is None:
            return "does not run: it is started again soon"
        silent = 0.0 if self._asked_at is None else now - self._asked_at
        if silent > (_BEGUN_S if self.health is None else _SILENT_S):
            return f"has not answered for {silent:.0f} s"
        return None

    def ended(self, now: float, unit: float) -> None:
        """Take note of the end of the process, and plan the next one."""
        self.process.join()
        code = self.process.exitcode
        self.process.close()
        self.process = None
        self.hear()
        self.health = self._asked_at = None
        self._pipe.close()
        self.failures = 1 if now - self.started_at >= _LASTED else self.failures + 1
        delay = _RESTART.delay(self.failures, unit)
        self.start_at = now + delay
        logger.info("a worker process ended", extra={"fields": {"number": self.number, "exit_code": code}})


class Supervisor:
    """Keeps worker processes running until SIGINT or SIGTERM; for the main thread of a process of its own.

    Args:
        main: What each process runs: called with `argument` and the pipe on which `STOP` and `KILL` come. What it
            sends there is a `Note`: how it is, in answer to `ASK`, or why it can never work.
        argument: Picklable.
        count: How many processes.
        asks: Whether processes are asked how they are, for `health` and `ailing`.
        manager: Is told what this process does.
    """

    def __init__(
        self, main: Main, argument: Any, count: int, *, asks: bool = False, manager: Manager | None = None
    ) -> None:
        self._children = [Child(number, main, argument) for number in range(count)]
        self._clock = SystemClock()
        self._dice = SystemDice()
        self._woken, self._wake = _spawn.Pipe(duplex=False)
        self._signals = 0
        self._stopping = False
        self._error: str | None = None
        self._manager = manager or Manager()
        self._ask_at = 0.0 if asks else math.inf
        self._alive_at = math.inf if self._manager.alive_every_s is None else 0.0
        self._turned_at = self._clock.mono_s()

    def health(self) -> WorkerHealth:
        """How the worker is, all processes together; from any thread."""
        health = combined([child.health or _ABSENT for child in self._children])
        return msgspec.structs.replace(health, stopping=self._stopping)

    def ailing(self) -> str | None:
        """Why the processes do not all live; None when they do, or end as they should; from any thread."""
        now = self._clock.mono_s()
        if now - self._turned_at > _SILENT_S:
            return f"the supervisor has done nothing for {now - self._turned_at:.0f} s"
        if self._stopping:
            return None
        reasons = ((child.number, child.ailing(now)) for child in self._children)
        return next((f"worker process {number} {reason}" for number, reason in reasons if reason is not None), None)

    def run(self) -> bool:
        """Run until told to stop, and every process has ended.

        Returns:
            Whether the end was graceful: False after a second signal.

        Raises:
            ZizqError: When a process said that it can never work; all have ended then.
        """
        before = {number: signal.signal(number, self._signalled) for number in (signal.SIGINT, signal.SIGTERM)}
        self._manager.ready(f"{len(self._children)} worker processes")
        try:
            while not self._stopping or any(child.process for child in self._children):
                self._start_due()
                self._look_after()
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
        self._manager.stopping("stopping: running handlers may finish")
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
        until = min([*due, self._ask_at, self._alive_at, now + _WAIT])
        running = [child for child in self._children if child.process is not None]
        heard = [child.pipe for child in running if child.pipe is not None]
        sentinels = [child.process.sentinel for child in running]
        connection.wait([*sentinels, *heard, self._woken], timeout=max(0.0, until - now))
        while self._woken.poll():
            self._woken.recv_bytes()
        for child in running:
            child.hear()

    def _look_after(self) -> None:
        now = self._turned_at = self._clock.mono_s()
        if self._ask_at <= now:
            self._ask_at = now + _ASK_S
            for child in self._children:
                child.ask(now)
        if self._alive_at <= now:
            self._alive_at = now + (self._manager.alive_every_s or math.inf)
            self._manager.alive()

    def _reap(self) -> None:
        for child in self._children:
            if child.process is not None and not child.process.is_alive():
                child.ended(self._clock.mono_s(), self._dice.unit())
                if child.error is not None and self._error is None:
                    self._error = child.error
                    self._tell(STOP)
