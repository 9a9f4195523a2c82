"""jq expressions, run in processes of their own: none can hold up, fill up or look into the server.

Filters judge payloads (protocol.md#2.6.2), batches fold them into one (protocol.md#6).

What runs in them is `jq_process.py`, which also says what travels; both files change together.
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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import msgspec

from zizq.errors import BadRequest, Unavailable, Unprocessable, ZizqError
from zizq.wire import codec
from zizq.words import duration, size

_PROGRAM = Path(__file__).with_name("jq_process.py")
_LENGTH = struct.Struct(">I")
_PORTION = 4 * 2**20
"""Bytes of payloads that are sent and timed together. jq reads 20 to 100 MB of them a second."""
_SLICE = 128 * 2**10
"""Bytes that are written at once, so that the event loop goes on."""
_START_S = 30.0
"""The longest that a process may take to start. It takes 0.03 s on an idle machine."""
_MOST_FOLDED = 16 * 2**20
"""The largest payload that folding may make, in bytes of JSON: as much as a request may bring by default."""

_encode = msgspec.msgpack.Encoder().encode
_verdicts: msgspec.msgpack.Decoder[list[bool] | str] = msgspec.msgpack.Decoder(list[bool] | str)
_trouble = msgspec.msgpack.Decoder(str)
_chain: msgspec.msgpack.Decoder[tuple[bytes, int, str | None]] = msgspec.msgpack.Decoder(tuple[bytes, int, str | None])


class Folded(NamedTuple):
    """How far new payloads could be folded into an existing one.

    Without an error, `when` did not let the next one in, or there was none.
    """

    payload: bytes
    """What they made of the existing one: MessagePack, as stored."""
    count: int  # type: ignore[assignment]  # in place of the method of tuples
    """How many were folded in."""
    error: str | None
    """What is wrong with the fold of the next one, which `when` had let in."""


class Jq:
    """Runs jq expressions over payloads, in a few processes that are started when they are needed.

    Each has one request at a time. Who finds them all at work waits, first come, first served.

    Args:
        timeout_ms: How long a request may take, up to 4 MiB of payloads; a larger payload has as much more time.
        memory_bytes: The address space of a process, its interpreter (20 MB) included.
        processes: How many there are at most.
        idle_s: How long one may be idle before it is ended.
    """

    def __init__(self, timeout_ms: int, memory_bytes: int, processes: int = 2, *, idle_s: float = 60.0) -> None:
        self._timeout_ms = timeout_ms
        self._memory_bytes = memory_bytes
        self._processes = processes
        self._idle_s = idle_s
        self._room = asyncio.Semaphore(processes)
        self._idle: list[_Child] = []
        self._lives: dict[_Child, asyncio.Task[None]] = {}
        self._stopped = False

    async def matches(self, expression: str, payloads: Sequence[bytes]) -> list[bool]:
        """Whether each of the payloads meets an expression: any of its outputs is neither false nor null.

        An error at run time ends the outputs for a payload. With no payloads, the expression alone is checked.

        Args:
            expression: A jq program.
            payloads: MessagePack, as stored; an empty one means null.

        Raises:
            BadRequest: When the expression is malformed, or takes too long or too much memory.
            Unavailable: When no process can be started.
        """
        verdicts: list[bool] = []
        for portion in _portions(payloads):
            jobs = "1 job" if len(portion) == 1 else f"{len(portion)} jobs"
            try:
                answer = _verdicts.decode(await self._answer("filter", (expression,), portion, f"a batch of {jobs}"))
            except _Exceeded as error:
                raise BadRequest(f"invalid filter: {error}") from None
            if isinstance(answer, str):
                raise BadRequest(f"invalid filter: {answer}")
            verdicts += answer
        return verdicts

    async def check_batch(self, when: str, fold: str, payload: bytes) -> None:
        """Compile the expressions of a batch, and run both with one payload as `$existing` and as `$new`.

        `when` may say what it likes; `fold` must have one output, of a kind that JSON has.

        Args:
            when: A jq expression that says whether one more payload may be folded in.
            fold: A jq expression that makes one payload of two.
            payload: MessagePack, as stored; an empty one means null.

        Raises:
            Unprocessable: When one of them is malformed, fails, or takes too long or too much memory.
            BadRequest: When the server lacks jq.
            Unavailable: When no process can be started.
        """
        try:
            trouble = await self._check(when, fold, payload)
        except _Exceeded:
            trouble = await self._check_apart(when, fold, payload)
        if trouble:
            raise Unprocessable(trouble)

    async def fold(self, existing: bytes, when: str, fold: str, news: Sequence[bytes]) -> Folded:
        """Fold new payloads into an existing one, one after the other, as long as `when` lets the next one in.

        `when` says no by false, null, an error, no output at all, and by taking too long or too much memory.

        Args:
            existing: MessagePack, as stored; an empty one means null.
            when: A jq expression that says whether one more payload may be folded in; its first output counts.
            fold: A jq expression that makes one payload of two.
            news: MessagePack, as stored.

        Raises:
            BadRequest: When the server lacks jq.
            Unavailable: When no process can be started.
        """
        payload, total = existing, 0
        while total < len(news):
            links = _links(payload, news, total)
            try:
                payload, count, error = await self._fold(payload, when, fold, links)
            except _Exceeded:
                payload, count, error = await self._fold_apart(payload, when, fold, links)
            total += count
            if count < len(links):
                return Folded(payload, total, error)
        return Folded(payload, total, None)

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

    # ── batches ──

    async def _check(self, when: str, fold: str, payload: bytes) -> str:
        """What is wrong with the expressions of a batch, or nothing."""
        return _trouble.decode(await self._answer("check", (when, fold), [payload], f"a payload of {_size(payload)}"))

    async def _check_apart(self, when: str, fold: str, payload: bytes) -> str:
        """The same with a request for each of them, so that a limit is held against the right one."""
        for name, pair in (("when", (when, "0")), ("fold", ("true", fold))):
            try:
                trouble = await self._check(*pair, payload)
            except _Exceeded as error:
                trouble = f"batch dry-run: {name}: {error}"
            if trouble:
                return trouble
        return ""

    async def _fold(self, existing: bytes, when: str, fold: str, news: Sequence[bytes]) -> Folded:
        limits = (_MOST_FOLDED, codec.MAX_DEPTH)
        on = f"payloads of {_size(existing, *news)}"
        answer = await self._answer("fold", (when, fold, *limits), [existing, *news], on)
        text, count, error = _chain.decode(answer)
        if not count:
            return Folded(existing, 0, error)
        try:
            return Folded(bytes(codec.payload_to_store(msgspec.Raw(text), codec.Format.JSON)), count, error)
        except BadRequest as unfit:
            raise _Exceeded(f"its result cannot be stored: {unfit}") from None

    async def _fold_apart(self, existing: bytes, when: str, fold: str, news: Sequence[bytes]) -> Folded:
        """The same with a request for each expression and payload, so that a limit is held against the right one."""
        payload = existing
        for count, new in enumerate(news):
            try:
                if not (await self._fold(payload, when, "0", [new])).count:
                    return Folded(payload, count, None)
            except _Exceeded:
                return Folded(payload, count, None)
            try:
                payload, folded, error = await self._fold(payload, "true", fold, [new])
            except _Exceeded as limit:
                return Folded(payload, count, str(limit))
            if not folded:
                return Folded(payload, count, error)
        return Folded(payload, len(news), None)

    # ── requests ──

    async def _answer(self, task: str, arguments: tuple[object, ...], payloads: list[bytes], on: str) -> bytes:
        """The answer of a child to a request (`jq_process.py`).

        Args:
            task: What is asked for.
            arguments: The expressions, and whatever else there is.
            payloads: MessagePack, as stored.
            on: What the expressions work on, in words for who asked.

        Raises:
            _Exceeded: When it takes too long or too much memory.
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
                    raise _Exceeded(
                        f"it ran out of memory or crashed on {on}: make it simpler, or start the server with more"
                        f" --filter-memory ({size(self._memory_bytes)} now)"
                    )

    async def _ask(self, child: _Child, request: _Request, on: str) -> bytes | None:
        """The answer of a child, that is idle then; None when it died."""
        allowed_ms = self._timeout_ms * max(1, math.ceil(sum(map(len, request.payloads)) / _PORTION))
        answer = None
        try:
            async with asyncio.timeout(allowed_ms / 1000):
                answer = await child.ask(request, math.ceil(allowed_ms / 1000))
        except TimeoutError:
            raise _Exceeded(
                f"it took longer than {duration(allowed_ms)} on {on}: make it simpler, or start the server with a"
                " longer --filter-timeout"
            ) from None
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
            raise Unavailable("no jq expression can run: the server is stopping")
        if not self._idle:
            return await self._start()
        child = self._idle.pop()
        child.wake()
        return child

    async def _start(self) -> _Child:
        try:
            child = _Child(await _process(self._memory_bytes))
        except OSError as error:
            raise Unavailable(f"no jq expression can run: their process does not start: {error}") from error
        self._lives[child] = asyncio.create_task(self._live(child))
        trouble = None
        try:
            async with asyncio.timeout(_START_S):
                trouble = await child.hello()
        except (EOFError, TimeoutError) as error:
            raise Unavailable(
                "no jq expression can run: their process does not start; has it enough --filter-memory"
                f" ({size(self._memory_bytes)} now)?"
            ) from error
        finally:
            if trouble != "" or self._stopped:
                child.kill()
        if trouble:
            raise BadRequest(f"filters and batches need jq: pip install 'zizq[server]' on the server ({trouble})")
        return child

    async def _live(self, child: _Child) -> None:
        await child.ended()
        del self._lives[child]
        if child in self._idle:
            self._idle.remove(child)


class _Exceeded(ZizqError):
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


async def _process(memory_bytes: int) -> Process:
    # -I and -S: nothing from the environment, the working folder or site hooks. Hence the paths as arguments.
    command = (sys.executable, "-I", "-S", str(_PROGRAM), str(memory_bytes), *filter(None, sys.path))
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


def _portions(payloads: Sequence[bytes]) -> Iterator[list[bytes]]:
    """The payloads in their order, in lists of 4 MiB at most or one payload; an empty list where there are none."""
    portion: list[bytes] = []
    room = _PORTION
    for payload in payloads:
        if portion and len(payload) > room:
            yield portion
            portion, room = [], _PORTION
        portion.append(payload)
        room -= len(payload)
    yield portion


def _links(existing: bytes, news: Sequence[bytes], start: int) -> Sequence[bytes]:
    """The next of the new payloads to fold together: as many as make 4 MiB to read and write at most, or one."""
    total = work = 0
    for end, new in enumerate(news[start:], start):
        total += len(new)
        work += len(existing) + total
        if work > _PORTION and end > start:
            return news[start:end]
    return news[start:]


def _size(*payloads: bytes) -> str:
    return size(sum(map(len, payloads)))
