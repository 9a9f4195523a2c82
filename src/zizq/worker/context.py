"""What a running handler may ask about itself."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any

from zizq.client.job import Job

_current: ContextVar[Job] = ContextVar("zizq_current_job")

enter: Callable[[Job], Token[Job]] = _current.set
leave: Callable[[Token[Job]], None] = _current.reset


def current_job() -> Job:
    """The job whose handler is running here: in a coroutine, a thread or a process of a worker.

    Raises:
        LookupError: Outside a handler.
    """
    try:
        return _current.get()
    except LookupError:
        raise LookupError("current_job() has an answer only inside the handler of a job") from None


class Context:
    """The second argument of a handler that asks for one.

    Args:
        job: The job as it came.
        state: What the router was made with. A handler in a process sees an empty one: state does not travel.
    """

    __slots__ = ("job", "state")

    def __init__(self, job: Job, state: Any) -> None:
        self.job = job
        self.state = state

    @property
    def attempt(self) -> int:
        """Which run of the job this is: 1 for the first."""
        return self.job.attempts + 1
