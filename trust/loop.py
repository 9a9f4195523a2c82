"""An event loop without time: where nothing is ready it jumps to the next timer, and everything happens in one order.

There are no sockets and no threads in it. Tasks have numbers, and sets of tasks are in the order of these: the
addresses that Python takes otherwise differ from run to run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from itertools import count
from typing import Any, TypeVar

from trust.verdict import Broken

T = TypeVar("T")
MOST_AT_ONE_INSTANT = 100_000
"""Turns of the loop while the clock stands; more of them are a circle that nothing leaves."""
EPOCH_MS = 1_790_000_000_000
"""What the wall clock says when a world begins."""


class Process:
    """What runs together and dies together: all tasks that were made in its name, and by those.

    Args:
        name: What it is called.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.tasks: dict[asyncio.Task[Any], None] = {}

    def spawn(self, work: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
        """Begin something in its name."""
        token = _process.set(self)
        try:
            return asyncio.get_running_loop().create_task(work, name=name)
        finally:
            _process.reset(token)

    def die(self) -> None:
        """End everything, without a goodbye: what its tasks still do on their way out must reach nobody."""
        self.alive = False
        for task in list(self.tasks):
            task.cancel()


_process: ContextVar[Process | None] = ContextVar("process", default=None)


def current_process() -> Process | None:
    """In whose name this runs."""
    return _process.get()


class _Task(asyncio.Task[Any]):
    _numbers = count()

    def __init__(self, *args: Any, **options: Any) -> None:
        self._number = next(_Task._numbers)
        super().__init__(*args, **options)
        process = _process.get()
        if process is not None:
            process.tasks[self] = None
            self.add_done_callback(process.tasks.pop)

    def __hash__(self) -> int:
        return self._number


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop whose clock goes only when nothing else is to do."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._turns = 0
        # What the base class asks for input and output: here it makes time pass.
        self._selector = self
        self.set_task_factory(lambda loop, coroutine, **options: _Task(coroutine, loop=loop, **options))

    def time(self) -> float:
        """The virtual time, in seconds from the beginning."""
        return self.now

    def select(self, timeout: float | None) -> list[Any]:
        """Let time pass to the next timer; there is never any input."""
        if timeout is None:
            raise Broken(f"nothing is left to happen after {self.now:.3f} s, and the world has not ended")
        if timeout > 0:
            self.now = max(self.now, self._scheduled[0].when())  # type: ignore[attr-defined]
            self._turns = 0
        self._turns += 1
        if self._turns > MOST_AT_ONE_INSTANT:
            raise Broken(f"the world turns in a circle at {self.now:.3f} s")
        return []

    def add_reader(self, descriptor: int, callback: Callable[..., Any], *args: Any) -> None:
        """Nothing is ever to be read."""

    def remove_reader(self, descriptor: int) -> bool:
        """Nothing was to be read."""
        return False

    def _process_events(self, events: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """There is no other thread that would have to wake this one."""


class VirtualClock:
    """The clocks of a loop.

    Args:
        loop: Whose time it is.
    """

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        # The little more is the error of sums: a timer that is set for a millisecond must find that it has come.
        return EPOCH_MS + int(self._loop.now * 1000 + 1e-4)

    def mono_s(self) -> float:
        """Seconds on a clock that never goes back."""
        return self._loop.now


def run(main: Callable[[VirtualLoop], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end on a loop of its own; what nobody caught, and who was left over, breaks the world."""
    complaints: list[str] = []
    loop = VirtualLoop()
    loop.set_exception_handler(lambda _, context: complaints.append(_told(context)))
    _Task._numbers = count()
    try:
        result = loop.run_until_complete(main(loop))
        left = sorted(task.get_name() for task in asyncio.all_tasks(loop))
    finally:
        _end(loop)
    if complaints:
        raise Broken(f"nobody caught an error: {complaints[0]}")
    if left:
        raise Broken(f"tasks were left over: {', '.join(left)}")
    return result


def _end(loop: VirtualLoop) -> None:
    """Leave no task behind, whatever has happened."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.close()


def _told(context: dict[str, Any]) -> str:
    error = context.get("exception")
    return context["message"] + (f": {error!r}" if error is not None else "")
