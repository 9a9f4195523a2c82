"""What a store holds, in pieces, for a copy to another store; what it comes to; and the calls of the store port for it.

A piece is the same whatever the store is made of, so that two stores hold the same exactly if their sums are equal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Protocol, TypeAlias

import msgspec

from zizq.budget import Budget
from zizq.cron import CronGroup
from zizq.engine.bucket import Bucket, BucketState
from zizq.job import ErrorRecord, JobRecord

LOT_BYTES = 4 * 2**20
"""Payloads and texts of errors in one lot at most, but for a single job that has more."""
LOT_JOBS = 1000


class JobPiece(msgspec.Struct, frozen=True, tag="job"):
    """A job.

    Args:
        job: It with its payload; one that was in flight is ready again.
        errors: Its failures, by attempt.
        deaths: How many workers died while they held it.
        is_pending: Whether others can be folded into it.
    """

    job: JobRecord
    errors: tuple[ErrorRecord, ...] = ()
    deaths: int = 0
    is_pending: bool = False

    @property
    def size(self) -> int:
        """The bytes that it takes, about."""
        texts = sum(len(error.message) + len(error.backtrace or "") for error in self.errors)
        return len(self.job.payload or b"") + texts


class BudgetPiece(msgspec.Struct, frozen=True, tag="budget"):
    """A budget, and its tokens where it is not full; nothing is in flight."""

    budget: Budget
    state: BucketState | None = None

    @classmethod
    def of(cls, budget: Budget, state: BucketState | None) -> BudgetPiece:
        """The piece of a budget that was written down so, or whose jobs in flight are ready again."""
        if state is None:
            return cls(budget)
        rested = Bucket.restored(budget, BucketState(state.tokens, state.remainder, state.at)).state(0)
        return cls(budget, None if rested.tokens >= budget.capacity else rested)


class PausePiece(msgspec.Struct, frozen=True, tag="pause"):
    """A queue that is paused, and since when, in Unix milliseconds."""

    queue: str
    paused_at: int


class CronPiece(msgspec.Struct, frozen=True, tag="cron"):
    """A cron group with its entries, in their order."""

    group: CronGroup


Piece: TypeAlias = JobPiece | BudgetPiece | PausePiece | CronPiece
Lot: TypeAlias = Sequence[Piece]

_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_MODULUS = 2**128


class Sum:
    """What pieces come to, in whatever order they come.

    Two sums are equal where the pieces are.
    """

    def __init__(self) -> None:
        self.jobs: Counter[tuple[str, str, str]] = Counter()
        """How many jobs there are by queue, type and status."""
        self.others: Counter[str] = Counter()
        """How many pieces there are of each other kind."""
        self._digest = 0

    def add(self, lot: Lot) -> None:
        """Take pieces into account."""
        for piece in lot:
            if isinstance(piece, JobPiece):
                self.jobs[piece.job.queue, piece.job.type, piece.job.status.value] += 1
            else:
                self.others[type(piece).__name__] += 1
            self._digest += int.from_bytes(blake2b(_encode(piece), digest_size=16).digest(), "big")

    @property
    def digest(self) -> str:
        """A number that differs where anything does."""
        return f"{self._digest % _MODULUS:032x}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sum) and (self.jobs, self.others, self.digest) == (
            other.jobs, other.others, other.digest
        )  # fmt: skip

    __hash__ = None  # type: ignore[assignment]

    def differences(self, other: Sum) -> Iterator[str]:
        """How another sum differs, a line each."""
        for queue, type_, status in sorted(self.jobs.keys() | other.jobs.keys()):
            ours, theirs = self.jobs[queue, type_, status], other.jobs[queue, type_, status]
            if ours != theirs:
                yield f"{status} jobs of type {type_} in queue {queue}: {ours} and {theirs}"
        for kind in sorted(self.others.keys() | other.others.keys()):
            if self.others[kind] != other.others[kind]:
                yield f"{kind}: {self.others[kind]} and {other.others[kind]}"
        if self.digest != other.digest:
            yield f"digest of all rows: {self.digest} and {other.digest}"


def lots(pieces: Iterable[Piece]) -> Iterator[Lot]:
    """Pieces in lots that are not too large."""
    lot: list[Piece] = []
    size = 0
    for piece in pieces:
        weight = piece.size if isinstance(piece, JobPiece) else 0
        if lot and (size + weight > LOT_BYTES or len(lot) >= LOT_JOBS):
            yield lot
            lot, size = [], 0
        lot.append(piece)
        size += weight
    if lot:
        yield lot


class Copies(Protocol):
    """The part of the store port that carries all there is; of stores that are not open."""

    def export(self) -> AsyncGenerator[Lot, None]:
        """All that a store holds which is not open, and which nobody else uses, in lots of bounded size.

        Raises:
            ConfigError: When there is no store, it is in use, or it is of another version.
        """

    async def load(self, lots: AsyncIterable[Lot]) -> None:
        """Fill a store that is empty, and not open, with what another one exported: all of it or nothing.

        Args:
            lots: What it shall hold; where this raises, nothing is there.

        Raises:
            ConfigError: When it is not empty, it is in use, or it cannot be used.
            Unavailable: When it cannot write; nothing is there.
        """
