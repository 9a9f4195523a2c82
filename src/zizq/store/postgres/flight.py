"""The rows of jobs in flight: how they are found, what becomes of them, and how they go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from zizq.engine.decide import Settled
from zizq.job import JobRecord
from zizq.store import rows
from zizq.store.postgres.database import Transaction

META = rows.BARE.split(", ")[:-1]
"""The columns of a job but for its payload, in the order of `rows`."""
JOB = ", ".join(f"j.{name}" for name in META)
"""The same, of a row of `jobs` that is called `j`."""
_SETTLED = ("status", "ready_at", "attempts", "dequeued_at", "failed_at", "completed_at", "purge_at")
_TYPES = ("text", "smallint", "bigint", "integer", "bigint", "bigint", "bigint", "bigint")
_encode = msgspec.msgpack.Encoder().encode


class Flying(NamedTuple):
    """A job in flight.

    Args:
        job: The job, without its payload.
        fence: Under which number its server holds it.
        owner: The stream, as that server calls it.
        stream_ms: The time that the stream grants jobs that set none.
        turn: The order in which its server took it.
        deaths: How many workers died that held it.
    """

    job: JobRecord
    fence: int
    owner: int
    stream_ms: int | None
    turn: int
    deaths: int


def to_flying(row: Sequence[Any]) -> Flying:
    """The job in a row of `dequeued_at, fence, owner, stream_ms, turn, deaths` and `JOB`."""
    return Flying(rows.to_job((*row[6:], None), row[0]), *row[1:6])


async def hold(db: Transaction, condition: str, *values: Any) -> list[Flying]:
    """The jobs in flight that meet a condition on `f`; nobody else changes them until the transaction is over."""
    text = f"""SELECT f.dequeued_at, f.fence, f.owner, f.stream_ms, f.turn, j.deaths, {JOB}
               FROM (SELECT * FROM zizq.flight f WHERE {condition} ORDER BY f.id FOR UPDATE) f
               JOIN zizq.jobs j ON j.id = f.id FOR UPDATE OF j"""  # noqa: S608 - constants
    return [to_flying(row) for row in await db.fetch(text, *values)]


async def drop(db: Transaction, gone: Sequence[Flying]) -> None:
    """Take jobs out of flight that are held by the transaction."""
    if gone:
        await db.execute("DELETE FROM zizq.flight WHERE id = ANY($1)", [one.job.id for one in gone])


async def free(db: Transaction, left: Sequence[tuple[str, int]], fence: int) -> None:
    """Leave word for the servers that held jobs which are not in flight any more.

    Args:
        db: The transaction that takes them out of flight.
        left: The identifiers of the jobs, and under which fences they were held.
        fence: Our own.
    """
    others = [one for one in left if one[1] != fence]
    if others:
        await db.execute(
            """INSERT INTO zizq.freed (fence, ids)
               SELECT fence, array_agg(id) FROM unnest($1::text[], $2::bigint[]) l (id, fence) GROUP BY fence""",
            *zip(*others, strict=True),
        )


async def write(db: Transaction, settled: Sequence[Settled]) -> None:
    """Carry out what was decided for jobs that the transaction holds."""
    gone = [one.job.id for one in settled if not one.kept]
    if gone:
        await db.execute("DELETE FROM zizq.jobs WHERE id = ANY($1)", gone)
    kept = [one.job for one in settled if one.kept]
    if kept:
        values = zip(*[[job.id, *rows.to_values(job, _SETTLED)] for job in kept], strict=True)
        marks = ", ".join(f"${number}::{name}[]" for number, name in enumerate(_TYPES, 1))
        text = f"""UPDATE zizq.jobs j SET {", ".join(f"{name} = s.{name}" for name in _SETTLED)}
                   FROM unnest({marks}) s (id, {", ".join(_SETTLED)}) WHERE j.id = s.id"""  # noqa: S608 - constants
        await db.execute(text, *values)
    errors = [
        (one.job.id, one.error.attempt, _encode(one.error)) for one in settled if one.kept and one.error is not None
    ]
    if errors:
        text = "INSERT INTO zizq.errors SELECT * FROM unnest($1::text[], $2::integer[], $3::bytea[])"
        await db.execute(text, *zip(*errors, strict=True))


async def put_back(db: Transaction, released: Sequence[Flying]) -> None:
    """Note when jobs had been taken that are ready again."""
    if released:
        await db.execute(
            """UPDATE zizq.jobs j SET dequeued_at = r.at FROM unnest($1::text[], $2::bigint[]) r (id, at)
               WHERE j.id = r.id""",
            [one.job.id for one in released],
            [one.job.dequeued_at for one in released],
        )


async def count_deaths(db: Transaction, flying: Sequence[Flying]) -> list[int]:
    """Count a death of each job's worker; returns how many there are by now."""
    await db.execute("UPDATE zizq.jobs SET deaths = deaths + 1 WHERE id = ANY($1)", [one.job.id for one in flying])
    return [one.deaths + 1 for one in flying]
