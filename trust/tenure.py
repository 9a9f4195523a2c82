"""The store as one process of a server has it: slow, at times full, and out of reach when the process is dead.

The jobs rest in a `MemoryStore` that outlives the process. What is called for waits as for a disk, and is then done at
one instant, before and after which the journal looks on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from random import Random
from typing import Any

from trust.journal import Journal
from trust.loop import Process
from zizq.engine.transitions import Cause
from zizq.errors import Unavailable
from zizq.job import ErrorRecord, JobRecord
from zizq.store.base import Listener, Silence
from zizq.store.memory import MemoryStore

READS = frozenset(("page", "count", "get", "errors", "error", "queues", "budgets", "crons", "cron", "due_crons",
                   "next_cron", "next_due", "next_overdue", "in_flight", "pending", "tally", "oldest_ready", "held",
                   "tokens", "paused_queues", "window", "find", "storage"))  # fmt: skip
NEVER_FAIL = frozenset(("release", "release_jobs"))


class Disk:
    """How the disk behaves.

    Args:
        dice: Draws delays.
        slowest_s: The longest that a call waits; 0 for none.
    """

    def __init__(self, dice: Random, slowest_s: float) -> None:
        self._dice = dice
        self._slowest_s = slowest_s
        self.full = False

    def delay(self) -> float:
        """How long the next call waits; most wait for nothing."""
        return self._slowest_s * self._dice.random() if self._slowest_s and self._dice.random() < 0.5 else 0.0


class Tenure:
    """A store for the life of a process.

    Args:
        store: Where jobs rest.
        process: Whose store it is.
        journal: Looks on.
        disk: What it stands on.
    """

    def __init__(self, store: MemoryStore, process: Process, journal: Journal, disk: Disk) -> None:
        self._store = store
        self._process = process
        self._journal = journal
        self._disk = disk
        self._listener: Listener = Silence()
        self._pending: dict[asyncio.Task[Any], None] = {}

    # ── what the store tells ──

    def available(self, queues: Collection[str]) -> None:
        """Jobs became ready."""
        self._listener.available(queues)

    def scheduled(self, at: int) -> None:
        """A job was scheduled."""
        self._listener.scheduled(at)

    def freed(self, owner: int, count: int) -> None:
        """Jobs left an owner."""
        self._listener.freed(owner, count)

    def overdue(self, at: int) -> None:
        """A job in flight will be overdue."""
        self._listener.overdue(at)

    def moved(self, cause: Cause, jobs: Sequence[JobRecord] | None, errors: Sequence[ErrorRecord] = ()) -> None:
        """Jobs went through a move."""
        self._listener.moved(cause, jobs, errors)

    # ── what the server calls ──

    async def open(self, listener: Listener) -> None:
        """Begin, with everything ready that was in flight."""
        self._listener = listener
        await self._store.open(self)

    async def close(self) -> None:
        """End in good order: what was called for is done first."""
        if self._pending:
            await asyncio.wait(self._pending)
        self._journal.closed()
        await self._store.open(Silence())

    def trouble(self) -> str | None:
        """Why writes are refused."""
        return "the disk is full" if self._disk.full else None

    async def take(
        self, owner: int, queues: Collection[str], limit: int, now: int, timeout_ms: int | None = None
    ) -> Any:
        """Hand out jobs: at once, or after the disk was read; whoever is cancelled meanwhile has taken nothing."""
        delay = self._disk.delay()
        if delay:
            await asyncio.sleep(delay)
        self._check()
        if self._disk.full:
            raise Unavailable("the disk is full")
        expected = self._journal.next_of(queues, limit, now, asked=True)
        jobs = await self._store.take(owner, queues, limit, now, timeout_ms)
        self._journal.took(owner, expected, jobs, now, timeout_ms)
        if not jobs:
            # That there are none may be known only later, and meanwhile there may be some.
            await asyncio.sleep(self._disk.delay())
        return jobs

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        if not hasattr(self._store, name):
            raise AttributeError(name)

        async def call(*args: Any, **options: Any) -> Any:
            delay = self._disk.delay()
            if name in READS:
                await asyncio.sleep(delay)
                return await self._do(name, *args, **options)
            if not delay:
                result = await self._do(name, *args, **options)
                await asyncio.sleep(0)
                return result
            # What was handed to the disk is written, whether or not anybody still waits for it.
            task = self._process.spawn(self._later(delay, name, *args, **options), name)
            self._pending[task] = None
            task.add_done_callback(self._done)
            return await asyncio.shield(task)

        call.__name__ = name
        setattr(self, name, call)
        return call

    def _done(self, task: asyncio.Task[Any]) -> None:
        del self._pending[task]
        if not task.cancelled():
            task.exception()  # whoever asked may have left

    async def _later(self, delay: float, name: str, *args: Any, **options: Any) -> Any:
        await asyncio.sleep(delay)
        return await self._do(name, *args, **options)

    async def _do(self, name: str, *args: Any, **options: Any) -> Any:
        self._check()
        if self._disk.full and name not in NEVER_FAIL and name not in READS:
            raise Unavailable("the disk is full")
        with self._journal.looking_on(name, args, options) as outcome:
            outcome.append(await getattr(self._store, name)(*args, **options))
        return outcome[0]

    def _check(self) -> None:
        if not self._process.alive:
            raise asyncio.CancelledError


async def crash(store: MemoryStore, owners: Collection[int]) -> None:
    """Do to a store what the end of its process does: all that was in flight is ready."""
    await store.open(Silence())
    for owner in owners:
        await store.release(owner)
