"""What tells a worker to stop: signals, events of either kind, or anything that can be awaited."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import signal
import threading
from collections.abc import Awaitable, Callable, Generator
from types import FrameType
from typing import Any, Protocol

from zizq.errors import ConfigError

logger = logging.getLogger("zizq")

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_POLL = 0.2
"""Seconds between two looks at whether anyone still waits for a threading event."""


class ThreadEvent(Protocol):
    """The part of `threading.Event` that is used."""

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the event is set."""


class AsyncEvent(Protocol):
    """The part of `asyncio.Event` that is used."""

    async def wait(self) -> Any:
        """Wait until the event is set."""


Shutdown = AsyncEvent | ThreadEvent | Awaitable[Any] | None


class Signals:
    """SIGINT and SIGTERM, as something to await: the first asks for a graceful end, the second kills.

    Args:
        second_kills: False takes every signal for the first one; for a process whose parent decides when to kill.
    """

    def __init__(self, *, second_kills: bool = True) -> None:
        self._second_kills = second_kills
        self._first = asyncio.Event()
        self._kill: Callable[[], object] | None = None
        self._before: dict[int, Any] = {}

    def bind(self, kill: Callable[[], object]) -> None:
        """Listen to the signals from now on, and call `kill` at the second; from the main thread only."""
        self._kill = kill
        loop = asyncio.get_running_loop()
        for number in _STOP_SIGNALS:
            self._before[number] = signal.getsignal(number)
            try:
                loop.add_signal_handler(number, self._came, number)
            except NotImplementedError:  # Windows

                def call(number: int, _frame: FrameType | None) -> None:
                    loop.call_soon_threadsafe(self._came, number)

                signal.signal(number, call)

    def unbind(self) -> None:
        """Give the signals back to whoever had them."""
        loop = asyncio.get_running_loop()
        for number, before in self._before.items():
            with contextlib.suppress(NotImplementedError):
                loop.remove_signal_handler(number)
            if before is not None:  # one that was not set from Python cannot be set from it
                signal.signal(number, before)
        self._before.clear()

    def _came(self, number: int) -> None:
        name = signal.Signals(number).name
        if not self._first.is_set():
            logger.info("shutting down", extra={"fields": {"signal": name}})
            self._first.set()
        elif self._second_kills and self._kill is not None:
            logger.warning("ending now, without waiting for handlers", extra={"fields": {"signal": name}})
            self._kill()

    def __await__(self) -> Generator[Any, None, None]:
        yield from self._first.wait().__await__()


def on_signals() -> Signals:
    """What to give to `Worker.run`: the first SIGINT or SIGTERM shuts down gracefully, the second kills."""
    return Signals()


def check(shutdown: object) -> None:
    """Hold a shutdown to what `wait_for` can wait for.

    Raises:
        ConfigError: When it is something else.
    """
    if not (shutdown is None or isinstance(shutdown, Awaitable) or callable(getattr(shutdown, "wait", None))):
        raise ConfigError(f"shutdown={shutdown!r} must be an event, something to await, or None")


async def wait_for(shutdown: Shutdown) -> None:
    """Wait until a shutdown is asked for; for ever where it is None.

    What an awaitable returns or raises does not matter, only that it is done.
    """
    if shutdown is None:
        await asyncio.Event().wait()
    elif isinstance(shutdown, Awaitable):
        await _done(shutdown)
    elif inspect.iscoroutinefunction(shutdown.wait):
        await shutdown.wait()
    else:
        await _in_thread(shutdown)


async def _done(shutdown: Awaitable[Any]) -> None:
    future = asyncio.ensure_future(shutdown)
    try:
        await asyncio.wait({future})
    except asyncio.CancelledError:
        # The worker ended for another reason: what it waited with must not be left running.
        future.cancel()
        raise
    if not future.cancelled() and (error := future.exception()) is not None:
        logger.warning("what was to ask for the shutdown failed: shutting down", exc_info=error)


async def _in_thread(event: Any) -> None:
    loop = asyncio.get_running_loop()
    came = asyncio.Event()
    given_up = threading.Event()

    def watch() -> None:
        while not given_up.is_set():
            if event.wait(_POLL):
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    loop.call_soon_threadsafe(came.set)
                return

    threading.Thread(target=watch, name="zizq-shutdown", daemon=True).start()
    try:
        await came.wait()
    finally:
        given_up.set()
