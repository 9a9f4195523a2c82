"""jq expressions, run in processes of their own: none can hold up, fill up or look into the server.

Filters judge payloads (protocol.md#2.6.2), batches fold them into one (protocol.md#6).

What runs in them is `jq_process.py`, which also says what travels; both files change together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from zizq.errors import BadRequest, Unprocessable
from zizq.server.pool import PORTION, Exceeded, Pool, Trade
from zizq.wire import codec
from zizq.words import size

_TRADE = Trade(
    program=Path(__file__).with_name("jq_process.py"),
    what="no jq expression can run",
    memory="--filter-memory",
    needs="filters and batches need jq: pip install 'zizq[server]' on the server",
    if_slow="make it simpler, or start the server with a longer --filter-timeout",
    if_large="make it simpler, or start the server with more --filter-memory",
)
_MOST_FOLDED = 16 * 2**20
"""The largest payload that folding may make, in bytes of JSON: as much as a request may bring by default."""

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


class Jq(Pool):
    """Runs jq expressions over payloads, in a few processes that are started when they are needed.

    Args:
        timeout_ms: How long a request may take, up to 4 MiB of payloads; a larger payload has as much more time.
        memory_bytes: The address space of a process, its interpreter (20 MB) included.
        processes: How many there are at most.
        idle_s: How long one may be idle before it is ended.
    """

    def __init__(self, timeout_ms: int, memory_bytes: int, processes: int = 2, *, idle_s: float = 60.0) -> None:
        super().__init__(_TRADE, timeout_ms, memory_bytes, processes, idle_s=idle_s)

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
            except Exceeded as error:
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
        except Exceeded:
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
            except Exceeded:
                payload, count, error = await self._fold_apart(payload, when, fold, links)
            total += count
            if count < len(links):
                return Folded(payload, total, error)
        return Folded(payload, total, None)

    # ── batches ──

    async def _check(self, when: str, fold: str, payload: bytes) -> str:
        """What is wrong with the expressions of a batch, or nothing."""
        return _trouble.decode(await self._answer("check", (when, fold), [payload], f"a payload of {_size(payload)}"))

    async def _check_apart(self, when: str, fold: str, payload: bytes) -> str:
        """The same with a request for each of them, so that a limit is held against the right one."""
        for name, pair in (("when", (when, "0")), ("fold", ("true", fold))):
            try:
                trouble = await self._check(*pair, payload)
            except Exceeded as error:
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
            raise Exceeded(f"its result cannot be stored: {unfit}") from None

    async def _fold_apart(self, existing: bytes, when: str, fold: str, news: Sequence[bytes]) -> Folded:
        """The same with a request for each expression and payload, so that a limit is held against the right one."""
        payload = existing
        for count, new in enumerate(news):
            try:
                if not (await self._fold(payload, when, "0", [new])).count:
                    return Folded(payload, count, None)
            except Exceeded:
                return Folded(payload, count, None)
            try:
                payload, folded, error = await self._fold(payload, "true", fold, [new])
            except Exceeded as limit:
                return Folded(payload, count, str(limit))
            if not folded:
                return Folded(payload, count, error)
        return Folded(payload, len(news), None)


def _portions(payloads: Sequence[bytes]) -> Iterator[list[bytes]]:
    """The payloads in their order, in lists of 4 MiB at most or one payload; an empty list where there are none."""
    portion: list[bytes] = []
    room = PORTION
    for payload in payloads:
        if portion and len(payload) > room:
            yield portion
            portion, room = [], PORTION
        portion.append(payload)
        room -= len(payload)
    yield portion


def _links(existing: bytes, news: Sequence[bytes], start: int) -> Sequence[bytes]:
    """The next of the new payloads to fold together: as many as make 4 MiB to read and write at most, or one."""
    total = work = 0
    for end, new in enumerate(news[start:], start):
        total += len(new)
        work += len(existing) + total
        if work > PORTION and end > start:
            return news[start:end]
    return news[start:]


def _size(*payloads: bytes) -> str:
    return size(sum(map(len, payloads)))
