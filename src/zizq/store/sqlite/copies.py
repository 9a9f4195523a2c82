"""Copies of a store on SQLite that is not open: all that it holds is read, or written, in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import apsw
import msgspec

from zizq.budget import Budget
from zizq.engine.bucket import BucketState
from zizq.errors import ConfigError, Unavailable
from zizq.job import ErrorRecord
from zizq.store import rows
from zizq.store.contents import BudgetPiece, CronPiece, JobPiece, Lot, PausePiece, Piece, lots
from zizq.store.sqlite import cron_statements, sql
from zizq.store.sqlite.parts import Parts
from zizq.store.sqlite.schema import FolderLock, open_database, open_for_reading

CACHE_BYTES = 16 * 2**20
"""What does not fit is spilled to the log, before the commit too."""
READ_TOGETHER = 256
"""Jobs whose errors are read together."""
_JOBS = f"{rows.WHOLE}, deaths, key"
_NOT_EMPTY = " OR ".join(
    f"EXISTS (SELECT 1 FROM {table})"  # noqa: S608 - constants
    for table in ("jobs", "errors", "budgets", "crons", "paused_queues", "bulk")
)

T = TypeVar("T")
_encode = msgspec.msgpack.Encoder().encode
_budget = msgspec.msgpack.Decoder(Budget).decode
_state = msgspec.msgpack.Decoder(BucketState).decode


class CopyCalls(Parts):
    """The calls that carry all there is."""

    _path: Path

    async def export(self) -> AsyncGenerator[Lot, None]:
        """All there is, as it was when this began."""
        if not self._path.is_file():
            raise ConfigError(f"there is no store in {self._path.parents[1]}: name its folder")
        lock = FolderLock(self._path.parent)
        try:
            db = await asyncio.to_thread(open_for_reading, self._path, CACHE_BYTES)
            try:
                iterator = lots(_pieces(db, self._path))
                while (lot := await asyncio.to_thread(_next, iterator)) is not None:
                    yield lot
            finally:
                db.close()
        except apsw.Error as error:
            raise ConfigError(f"cannot read the store {self._path}: {error}: see `zizq check`") from error
        finally:
            lock.release()

    async def load(self, lots: AsyncIterable[Lot]) -> None:
        """Write what another store held."""
        lock = FolderLock(self._path.parent)
        try:
            db = await asyncio.to_thread(open_database, self._path, CACHE_BYTES)
            try:
                with _writing(db):
                    if db.execute(f"SELECT {_NOT_EMPTY}").get:
                        raise ConfigError(f"the store in {self._path.parents[1]} is not empty: name an empty folder")
                    db.execute("PRAGMA synchronous = FULL")
                    db.execute("BEGIN IMMEDIATE")
                    async for lot in lots:
                        await asyncio.to_thread(_write, db, lot)
                    await asyncio.to_thread(_commit, db)
            finally:
                # What was not committed is undone.
                db.close()
        finally:
            lock.release()


def _next(iterator: Iterator[T]) -> T | None:
    """The next of what an iterator has; None at its end. An exception of that kind cannot leave a thread."""
    return next(iterator, None)


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────


def _pieces(db: apsw.Connection, path: Path) -> Iterator[Piece]:
    db.execute("BEGIN")
    if db.execute("SELECT EXISTS (SELECT 1 FROM bulk)").get:
        raise ConfigError(f"a change of many jobs in {path.parents[1]} is half carried out: start its server once")
    rows_: Any = db.execute("SELECT budget, state FROM budgets")
    for budget, state in rows_:
        yield BudgetPiece.of(_budget(budget), None if state is None else _state(state))
    rows_ = db.execute("SELECT queue, paused_at FROM paused_queues")
    for queue, paused_at in rows_:
        yield PausePiece(queue, paused_at)
    for name in cron_statements.names(db):
        group = cron_statements.group(db, name)
        if group is not None:
            yield CronPiece(group)
    yield from _jobs(db)


def _jobs(db: apsw.Connection) -> Iterator[Piece]:
    found: Any = db.execute(f"SELECT {_JOBS} FROM jobs ORDER BY id")  # noqa: S608 - constants
    while True:
        # Few at a time: their payloads may be large.
        some = [row for _, row in zip(range(READ_TOGETHER), found, strict=False)]
        if not some:
            return
        errors = _errors(db, some[0][0], some[-1][0]) if any(row[6] for row in some) else {}
        for row in some:
            job = rows.to_job(row[:-2])
            is_pending = job.batch is not None and row[-1] == rows.batch_name(job.batch.key)
            yield JobPiece(job, errors.get(job.id, ()), row[-2], is_pending)


def _errors(db: apsw.Connection, first: str, last: str) -> dict[str, tuple[ErrorRecord, ...]]:
    text = f"SELECT {rows.ERROR_COLUMNS} FROM errors WHERE job_id BETWEEN ? AND ? ORDER BY job_id, attempt"  # noqa: S608
    found: Any = db.execute(text, (first, last))
    return {job_id: tuple(rows.to_error(row[1:]) for row in of) for job_id, of in groupby(found, lambda row: row[0])}


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _writing(db: apsw.Connection) -> Iterator[None]:
    """Say in our own words what the database refuses."""
    try:
        yield
    except apsw.Error as error:
        raise Unavailable(f"the copy cannot be written: {error}") from error


def _write(db: apsw.Connection, lot: Lot) -> None:
    jobs = [piece for piece in lot if isinstance(piece, JobPiece)]
    _write_jobs(db, jobs)
    for piece in lot:
        if isinstance(piece, BudgetPiece):
            state = None if piece.state is None else _encode(piece.state)
            row = (piece.budget.key, _encode(piece.budget), state)
            db.execute("INSERT INTO budgets (key, budget, state) VALUES (?, ?, ?)", row)
        elif isinstance(piece, PausePiece):
            db.execute("INSERT INTO paused_queues VALUES (?, ?)", (piece.queue, piece.paused_at))
        elif isinstance(piece, CronPiece):
            cron_statements.put(db, piece.group)


def _write_jobs(db: apsw.Connection, pieces: Sequence[JobPiece]) -> None:
    sql.insert(db, "jobs", rows.COPIED, [_row(piece) for piece in pieces])
    errors = [(piece.job.id, *rows.to_error_row(error)) for piece in pieces for error in piece.errors]
    sql.insert(db, "errors", rows.ERROR_COLUMNS, errors)
    sql.insert(db, "draws", rows.DRAW_COLUMNS, rows.to_draw_rows(piece.job for piece in pieces))


def _row(piece: JobPiece) -> rows.Row:
    return rows.to_copied_row(piece.job, piece.deaths, rows.known_by(piece.job, is_pending=piece.is_pending))


def _commit(db: apsw.Connection) -> None:
    """Make all of it certain, and copy the log, which is by now as large as the store, into the database."""
    db.execute("COMMIT")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
