"""Processes that do work which the event loop must not: each answers one request at a time, within limits.

What runs in one is a program that reads requests from its standard input and writes answers to its standard output;
`jq_process.py` says what travels.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import struct
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

import msgspec

from zizq.errors import BadRequest, Unavailable, ZizqError
from zizq.words import duration, size

_LENGTH = struct.Struct(">I")
PORTION = 4 * 2**20
"""Bytes of payloads that are timed together. jq reads 20 to 100 MB of them a second."""
_SLICE = 128 * 2**10
"""Bytes that are written at once, so that the event loop goes on."""
_START_S = 30.0
"""The longest that a process may take to start. It takes 0.03 s on an idle machine."""

_encode = msgspec.msgpack.Encoder().encode


class Trade(NamedTuple):
    """What processes of a kind do, and how their limits are spoken of."""

    program: Path
    what: str
    """What cannot be done where no process starts."""
    memory: str
    """What gives a process its memory."""
    needs: str
    """What is missing where a process says so itself."""
    if_slow: str
    """What to do about something that takes too long."""
    if_large: str
    """What to do about something that takes too much memory."""


class Pool:
    """A few processes of a trade, that are started when they are needed.

    Who finds them all at work waits, first come, first served.

    Args:
        trade: What they do.
        timeout_ms: How long a request may take, up to 4 MiB of payloads; a larger payload has as much more time.
        memory_bytes: The address space of a process, its interpreter (20 MB) included.
        processes: How many there are at most.
        idle_s: How long one may be idle before it is ended.
    """

    def __init__(
        self, trade: Trade, timeout_ms: int, memory_bytes: int, processes: int = 2, *, idle_s: float = 60.0
    ) -> None:
        self._trade = trade
        self._timeout_ms = timeout_ms
        self._memory_bytes = memory_bytes
        self._processes = processes
        self._idle_s = idle_s
        self._room = asyncio.Semaphore(processes)
        self._idle: list[_Child] = []
        self._lives: dict[_Child, asyncio.Task[None]] = {}
        self._stopped = False

    async def stop(self) -> None:
        """Kill all processes and wait for their end; what is asked now or later is refused."""
        self._stopped = True
        for child in self._lives:
            child.kill()
        # Who holds room may be about to start a process: all of them must have left.
        for _ in range(self._processes):
            await self._room.acquire()
        await asyncio.gather(*self._lives.values())
        for _ in range(self._processes):
            self._room.release()

    async def _answer(self, task: str, arguments: tuple[object, ...], payloads: list[bytes], on: str) -> bytes:
        """The answer of a child to a request (`jq_process.py`).

        Args:
            task: What is asked for.
            arguments: The expressions, and whatever else there is.
            payloads: MessagePack, as stored.
            on: What the expressions work on, in words for who asked.

        Raises:
            Exceeded: When it takes too long or too much memory.
        """
        async with self._room:
            while True:
                child = await self._hire()
                worn = child.worn
                answer = await self._ask(child, _Request(task, arguments, payloads), on)
                if answer is not None:
                    return answer
                # One that has run other expressions may have died of what they left: a fresh one tells.
                if not worn and not self._stopped:
                    raise Exceeded(
                        f"it ran out of memory or crashed on {on}: {self._trade.if_large}"
                        f" ({size(self._memory_bytes)} now)"
                    )

    async def _ask(self, child: _Child, request: _Request, on: str) -> bytes | None:
        """The answer of a child, that is idle then; None when it died."""
        allowed_ms = self._timeout_ms * max(1, math.ceil(sum(map(len, request.payloads)) / PORTION))
        answer = None
        try:
            async with asyncio.timeout(allowed_ms / 1000):
                answer = await child.ask(request, math.ceil(allowed_ms / 1000))
        except TimeoutError:
            raise Exceeded(f"it took longer than {duration(allowed_ms)} on {on}: {self._trade.if_slow}") from None
        finally:
            if answer is None:
                child.kill()
            elif child in self._lives:
                child.rest(self._idle_s)
                self._idle.append(child)
        return answer

    # ── processes come and go ──

    async def _hire(self) -> _Child:
        if self._stopped:
            raise Unavailable(f"{self._trade.what}: the server is stopping")
        if not self._idle:
            return await self._start()
        child = self._idle.pop()
        child.wake()
        return child

    async def _start(self) -> _Child:
        try:
            child = _Child(await _process(self._trade.program, self._memory_bytes))
        except OSError as error:
            raise Unavailable(f"{self._trade.what}: their process does not start: {error}") from error
        self._lives[child] = asyncio.create_task(self._live(child))
        trouble = None
        try:
            async with asyncio.timeout(_START_S):
                trouble = await child.hello()
        except (EOFError, TimeoutError) as error:
            raise Unavailable(
                f"{self._trade.what}: their process does not start; has it enough {self._trade.memory}"
                f" ({size(self._memory_bytes)} now)?"
            ) from error
        finally:
            if trouble != "" or self._stopped:
                child.kill()
        if trouble:
            raise BadRequest(f"{self._trade.needs} ({trouble})")
        return child

    async def _live(self, child: _Child) -> None:
        await child.ended()
        del self._lives[child]
        if child in self._idle:
            self._idle.remove(child)


class Exceeded(ZizqError):
    """A request came to no answer: what it asks for takes too long, or too much memory, or is beyond all numbers."""


class _Request(NamedTuple):
    task: str
    arguments: tuple[object, ...]
    payloads: list[bytes]


class _Child:
    """One process, with one request at a time."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._requests = cast(asyncio.StreamWriter, process.stdin)
        self._answers = cast(asyncio.StreamReader, process.stdout)
        self._reading = asyncio.Lock()
        self._bedtime: asyncio.TimerHandle | None = None
        self.worn = False
        """Whether it has run an expression."""

    async def hello(self) -> str:
        """Wait until it is ready; returns why it will never be, or nothing.

        Raises:
            EOFError: When it died.
        """
        return (await self._read()).decode()

    async def ask(self, request: _Request, cpu_s: int) -> bytes | None:
        """The answer to a request, or None when the process died."""
        self.worn = True
        try:
            for piece in _pieces(request, cpu_s):
                if self._requests.is_closing():
                    return None
                self._requests.write(piece)
                await self._requests.drain()
            return await self._read()
        except (EOFError, ConnectionError):
            return None

    def rest(self, idle_s: float) -> None:
        """Be killed when it has been idle for so long."""
        self._bedtime = asyncio.get_running_loop().call_later(idle_s, self.kill)

    def wake(self) -> None:
        """Be idle no more."""
        if self._bedtime is not None:
            self._bedtime.cancel()

    def kill(self) -> None:
        """End the process now; whoever waits for an answer gets None."""
        self.wake()
        if self._process.returncode is None:
            # Not `Process.kill`, which reaps a process that is dead already, so that asyncio misses its end.
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def ended(self) -> None:
        """Wait until the process is gone and its pipes are closed."""
        await self._process.wait()
        async with self._reading:
            await self._answers.read()

    async def _read(self) -> bytes:
        async with self._reading:
            [length] = _LENGTH.unpack(await self._answers.readexactly(_LENGTH.size))
            return await self._answers.readexactly(length)


async def _process(program: Path, memory_bytes: int) -> Process:
    # -I and -S: nothing from the environment, the working folder or site hooks. Hence the paths as arguments.
    command = (sys.executable, "-I", "-S", str(program), str(memory_bytes), *filter(None, sys.path))
    return await asyncio.create_subprocess_exec(
        *command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env={}, start_new_session=True
    )


def _pieces(request: _Request, cpu_s: int) -> Iterator[bytes | memoryview]:
    """A request, in pieces that are written in a moment."""
    task, arguments, payloads = request
    head = _encode((task, arguments, cpu_s, [len(payload) for payload in payloads]))
    yield _LENGTH.pack(len(head)) + head
    body = memoryview(payloads[0] if len(payloads) == 1 else b"".join(payloads))
    for start in range(0, len(body), _SLICE):
        yield body[start : start + _SLICE]
