"""The client for threads with the face of the one for coroutines, so that one test is a test of both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from zizq import Client, SyncClient
from zizq.testing.clock import ManualClock
from zizq.testing.server import running_server

_HANDLES = ("cron", "entry", "jobs", "where", "limit")
"""Methods that send nothing, and return something with methods that do."""


class Threaded:
    """A `SyncClient`, or something of it, each of whose calls runs in a thread.

    Args:
        inner: The client, or what one of its methods returned.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._inner, name)
        if name in _HANDLES:
            return lambda *args, **options: Threaded(member(*args, **options))
        return lambda *args, **options: asyncio.to_thread(member, *args, **options)

    async def __aiter__(self) -> AsyncIterator[Any]:
        for item in await asyncio.to_thread(list, self._inner):
            yield item

    @asynccontextmanager
    async def define_cron(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
        """The block, whose end sends something."""
        block = self._inner.define_cron(*args, **options)
        yield block.__enter__()
        await asyncio.to_thread(block.__exit__, None, None, None)


@asynccontextmanager
async def client_of(make: Callable[..., Any], form: str, clock: ManualClock) -> AsyncIterator[Any]:
    """A client of a server of its own, whose time is that of the clock."""
    async with running_server(clock=clock) as server:
        if make is Client:
            async with Client(server.url, format=form) as client:  # type: ignore[arg-type]
                yield client
        else:
            with SyncClient(server.url, format=form) as client:  # type: ignore[arg-type]
                yield Threaded(client)


each_client = pytest.mark.parametrize(
    ("make", "form"), [(make, form) for make in (Client, SyncClient) for form in ("msgpack", "json")]
)
