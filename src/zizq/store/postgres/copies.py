"""Copies of a store on PostgreSQL that no server uses: all that it holds is read, or written, in one transaction."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Any

import msgspec

from zizq.budget import Budget
from zizq.engine.bucket import BucketState
from zizq.errors import ConfigError
from zizq.job import ErrorRecord
from zizq.store import cron_rows, rows
from zizq.store.contents import LOT_BYTES, LOT_JOBS, BudgetPiece, CronPiece, JobPiece, Lot, PausePiece, Piece
from zizq.store.postgres import budget_rows, crons, keys, schema
from zizq.store.postgres.database import Transaction
from zizq.store.postgres.flight import META
from zizq.store.postgres.parts import Parts

_TABLES = ("jobs", "errors", "budgets", "crons", "paused_queues", "inbox")
_SIZES = """
    SELECT j.id, octet_length(j.payload) + coalesce(e.size, 0) FROM zizq.jobs j
    LEFT JOIN LATERAL (
        SELECT sum(octet_length(error))::bigint AS size FROM zizq.errors e WHERE e.job_id = j.id AND j.attempts > 0
    ) e ON true
    WHERE j.id > $1 ORDER BY j.id LIMIT $2"""
_JOBS = f"SELECT {', '.join(META)}, payload, deaths, key FROM zizq.jobs WHERE id BETWEEN $1 AND $2 ORDER BY id"  # noqa: S608
_ERRORS = "SELECT job_id, error FROM zizq.errors WHERE job_id BETWEEN $1 AND $2 ORDER BY job_id, attempt"
_budget = msgspec.msgpack.Decoder(Budget).decode
_error = msgspec.msgpack.Decoder(ErrorRecord).decode
_encode = msgspec.msgpack.Encoder().encode


class CopyCalls(Parts):
    """The calls that carry all there is."""

    async def export(self) -> AsyncGenerator[Lot, None]:
        """All there is, as it is at one instant."""
        async with self._unused() as db:
            if await schema.format_of(db) == 0:
                raise ConfigError("there is no store in the database: its first server makes one")
            await schema.prepare(db)
            if waiting := await db.fetchval("SELECT count(*) FROM zizq.inbox"):
                raise ConfigError(f"jobs in the inbox that no server has moved yet: {waiting}. Run one for a moment")
            yield await _small_pieces(db)
            last = ""
            while lot := await _lot(db, last):
                yield lot
                last = lot[-1].job.id

    async def load(self, lots: AsyncIterable[Lot]) -> None:
        """Write what another store held."""
        async with self._unused() as db:
            await schema.prepare(db)
            text = " OR ".join(f"EXISTS (SELECT FROM zizq.{table})" for table in _TABLES)
            if await db.fetchval(f"SELECT {text}"):
                raise ConfigError("the store in the database is not empty: name an empty database")
            async for lot in lots:
                await write(db, lot)

    @asynccontextmanager
    async def _unused(self) -> AsyncIterator[Transaction]:
        """A transaction on a database that no server runs on, and in which none can begin meanwhile.

        Raises:
            ConfigError: When there is none, or a server uses it.
        """
        await self._db.open()
        try:
            async with self._db.writing(durable=True) as db:
                # Between two lots it waits for the other store.
                await db.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                if await schema.format_of(db):
                    await db.execute("LOCK TABLE zizq.servers IN SHARE MODE")
                    text = "SELECT name FROM zizq.servers WHERE lease_until > clock_timestamp() LIMIT 1"
                    if name := await db.fetchval(text):
                        raise ConfigError(f"the database is in use by the server {name}: stop it, and all others")
                yield db
        finally:
            await self._db.close()


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────


async def _small_pieces(db: Transaction) -> Lot:
    """All that is not a job: of these there are few."""
    budgets = await db.fetch("SELECT budget, tokens, remainder, at FROM zizq.budgets ORDER BY key")
    pauses = await db.fetch("SELECT queue, paused_at FROM zizq.paused_queues ORDER BY queue")
    pieces: list[Piece] = [BudgetPiece.of(_budget(row[0]), BucketState(*row[1:])) for row in budgets]
    pieces += [PausePiece(*row) for row in pauses]
    text = """SELECT c.name, settings, entry FROM zizq.crons c LEFT JOIN zizq.cron_entries e ON e.cron = c.name
              ORDER BY c.name, e.name"""
    groups = groupby(await db.fetch(text), lambda row: row[0])
    return [*pieces, *(CronPiece(cron_rows.to_group([row[1:] for row in found])) for _, found in groups)]


async def _lot(db: Transaction, after: str) -> list[JobPiece]:
    """The next jobs, as many as make a lot."""
    sizes: list[Any] = await db.fetch(_SIZES, after, LOT_JOBS)
    if not sizes:
        return []
    last, total = sizes[0][0], 0
    for job_id, size in sizes:
        total += size
        if total > LOT_BYTES:
            break
        last = job_id
    first = sizes[0][0]
    errors = {
        job_id: tuple(_error(row[1]) for row in of)
        for job_id, of in groupby(await db.fetch(_ERRORS, first, last), lambda row: row[0])
    }
    return [_piece(row, errors) for row in await db.fetch(_JOBS, first, last)]


def _piece(row: Any, errors: dict[str, tuple[ErrorRecord, ...]]) -> JobPiece:
    *job_row, deaths, key = row
    job = rows.to_job(tuple(job_row))
    is_pending = job.batch is not None and key == keys.digest(rows.batch_name(job.batch.key))
    return JobPiece(job, errors.get(job.id, ()), deaths, is_pending)


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────


async def write(db: Transaction, lot: Lot) -> None:
    """Add pieces that are not there."""
    await write_jobs(db, [piece for piece in lot if isinstance(piece, JobPiece)])
    for piece in lot:
        if isinstance(piece, BudgetPiece):
            await budget_rows.restore(db, piece.budget, piece.state)
        elif isinstance(piece, PausePiece):
            text = "INSERT INTO zizq.paused_queues (queue, paused_at) VALUES ($1, $2)"
            await db.execute(text, piece.queue, piece.paused_at)
        elif isinstance(piece, CronPiece):
            await crons.put(db, piece.group)


async def write_jobs(db: Transaction, pieces: Sequence[JobPiece]) -> None:
    """Add jobs as they are, in whatever status, with their errors and what they draw on."""
    errors = [(piece.job.id, error.attempt, _encode(error)) for piece in pieces for error in piece.errors]
    for table, columns, records in (
        ("jobs", rows.COPIED, [_row(piece) for piece in pieces]),
        ("errors", "job_id, attempt, error", errors),
        ("draws", rows.DRAW_COLUMNS, rows.to_draw_rows(piece.job for piece in pieces)),
    ):
        if records:
            await db.copy_records_to_table(table, schema_name="zizq", columns=columns.split(", "), records=records)


def _row(piece: JobPiece) -> rows.Row:
    name = rows.known_by(piece.job, is_pending=piece.is_pending)
    return rows.to_copied_row(piece.job, piece.deaths, None if name is None else keys.digest(name))
