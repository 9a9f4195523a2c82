"""Calls that follow from one another: written once as a generator, and driven by a coroutine or by a thread."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from typing import Any, Protocol, TypeVar

from zizq.client.call import Call

T = TypeVar("T")
Steps = Generator[Call[Any], Any, T]
"""Calls, one after the other; each is answered with its value."""


class SendAsync(Protocol):
    """Makes a call from a coroutine."""

    def __call__(self, call: Call[T]) -> Awaitable[T]:
        """The value of a call."""


class Send(Protocol):
    """Makes a call from a thread."""

    def __call__(self, call: Call[T]) -> T:
        """The value of a call."""


async def run_async(send: SendAsync, steps: Steps[T]) -> T:
    """Make the calls, and return what they come to."""
    try:
        call = next(steps)
        while True:
            call = steps.send(await send(call))
    except StopIteration as end:
        value: T = end.value
        return value


def run(send: Send, steps: Steps[T]) -> T:
    """Make the calls, and return what they come to."""
    try:
        call = next(steps)
        while True:
            call = steps.send(send(call))
    except StopIteration as end:
        value: T = end.value
        return value
