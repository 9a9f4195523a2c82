"""Copies of the store in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterator

from zizq.cron import CronGroup
from zizq.engine import decide
from zizq.engine.bucket import Bucket
from zizq.errors import ConfigError
from zizq.job import ErrorRecord, JobRecord, Status
from zizq.store.contents import BudgetPiece, CronPiece, JobPiece, Lot, PausePiece, Piece, lots


class MemoryCopies:
    """The calls that carry all there is; what they need of the store is named first."""

    _jobs: dict[str, JobRecord]
    _errors: dict[str, list[ErrorRecord]]
    _deaths: dict[str, int]
    _batched: dict[str, str]
    _buckets: dict[str, Bucket]
    _crons: dict[str, CronGroup]
    _paused: dict[str, int]

    async def export(self) -> AsyncGenerator[Lot, None]:
        """All there is."""
        for lot in lots(self._pieces()):
            yield lot

    def _pieces(self) -> Iterator[Piece]:
        for bucket in self._buckets.values():
            yield BudgetPiece.of(bucket.budget, bucket.state(0))
        for queue, paused_at in self._paused.items():
            yield PausePiece(queue, paused_at)
        for group in self._crons.values():
            yield CronPiece(group.in_order())
        for job in self._jobs.values():
            ready = decide.on_release(job) if job.status is Status.IN_FLIGHT else job
            is_pending = job.batch is not None and self._batched.get(job.batch.key) == job.id
            yield JobPiece(ready, tuple(self._errors.get(job.id, ())), self._deaths.get(job.id, 0), is_pending)

    async def load(self, lots: AsyncIterable[Lot]) -> None:
        """Keep what another store held."""
        if self._jobs or self._buckets or self._crons or self._paused:
            raise ConfigError("the store in memory is not empty: name an empty one")
        try:
            async for lot in lots:
                for piece in lot:
                    self._keep(piece)
        except BaseException:
            for kept in (
                self._jobs, self._errors, self._deaths, self._batched, self._buckets, self._crons, self._paused,
            ):  # fmt: skip
                kept.clear()
            raise

    def _keep(self, piece: Piece) -> None:
        if isinstance(piece, JobPiece):
            self._keep_job(piece)
        elif isinstance(piece, BudgetPiece):
            budget, state = piece.budget, piece.state
            self._buckets[budget.key] = (
                Bucket(budget, budget.updated_at) if state is None else Bucket.restored(budget, state)
            )
        elif isinstance(piece, PausePiece):
            self._paused[piece.queue] = piece.paused_at
        else:
            self._crons[piece.group.name] = piece.group

    def _keep_job(self, piece: JobPiece) -> None:
        job = piece.job
        self._jobs[job.id] = job
        if piece.errors:
            self._errors[job.id] = list(piece.errors)
        if piece.deaths:
            self._deaths[job.id] = piece.deaths
        if piece.is_pending and job.batch is not None:
            self._batched[job.batch.key] = job.id
