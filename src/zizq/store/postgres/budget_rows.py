"""The rows of budgets: who draws on them, and what tokens they have.

Who enqueues or binds jobs locks the rows of their budgets FOR KEY SHARE, so that none is deleted or made smaller
meanwhile, and takes go on beside it. Who changes a budget locks its row FOR UPDATE, and no other. Who takes locks those
of all its budgets in the order of their keys, before all else, and never waits for a job; so who gives back may lock
them last.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from zizq.budget import Budget, Draw
from zizq.cron import CronJob
from zizq.engine import budgets
from zizq.engine.bucket import Bucket, BucketState
from zizq.errors import Refusal
from zizq.job import JobRecord
from zizq.store import rows
from zizq.store.postgres.database import Transaction

CREATING = 0x7A697A62
"""The advisory lock of whoever adds a budget, so that they can be counted; "zizb"."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Budget).decode
_STATE = "tokens, remainder, at, held"
_BIND = f"""INSERT INTO zizq.draws ({rows.DRAW_COLUMNS})
            SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::boolean[])"""  # noqa: S608 - our own words


# ── buckets ──────────────────────────────────────────────────────────────────────────────────────────


async def every(db: Transaction) -> list[Bucket]:
    """All budgets with their tokens, by their keys."""
    return [_bucket(row) for row in await db.fetch(f"SELECT budget, {_STATE} FROM zizq.budgets ORDER BY key")]  # noqa: S608 - ours


async def hold(db: Transaction, keys: Collection[str]) -> list[tuple[Bucket, int]]:
    """Some budgets with their tokens, which nobody else changes until the transaction is over; and their versions."""
    text = f"""SELECT budget, {_STATE}, xmin::text::bigint FROM zizq.budgets WHERE key = ANY($1)
               ORDER BY key FOR NO KEY UPDATE"""  # noqa: S608 - our own words
    return [(_bucket(row), row[5]) for row in await db.fetch(text, list(keys))]


async def versions(db: Transaction, keys: Collection[str]) -> dict[str, int]:
    """The versions of rows of budgets: a row that was written has another one."""
    return dict(await db.fetch("SELECT key, xmin::text::bigint FROM zizq.budgets WHERE key = ANY($1)", list(keys)))


async def write(db: Transaction, buckets: Iterable[Bucket], now: int) -> dict[str, int]:
    """Write down the tokens of budgets that are held; returns the versions of their rows."""
    states = [(bucket.budget.key, *msgspec.structs.astuple(bucket.state(now))) for bucket in buckets]
    text = """UPDATE zizq.budgets b SET tokens = s.tokens, remainder = s.remainder, at = s.at, held = s.held
              FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
                  s (key, tokens, remainder, at, held)
              WHERE b.key = s.key RETURNING b.key, b.xmin::text::bigint"""
    return dict(await db.fetch(text, *zip(*states, strict=True)))


async def stir(db: Transaction, keys: Collection[str]) -> None:
    """Make new versions of the rows of budgets, by which all servers see that those who wait may go."""
    await db.execute(
        """WITH held AS MATERIALIZED (SELECT key FROM zizq.budgets WHERE key = ANY($1) ORDER BY key FOR NO KEY UPDATE)
           UPDATE zizq.budgets b SET held = b.held FROM held WHERE b.key = held.key""",
        list(keys),
    )


def _bucket(row: Sequence[Any]) -> Bucket:
    """The tokens in a row that begins with `budget` and `_STATE`."""
    return Bucket.restored(_decode(row[0]), BucketState(*row[1:5]))


# ── draws ────────────────────────────────────────────────────────────────────────────────────────────


async def check(
    db: Transaction, jobs: Sequence[tuple[int, JobRecord | CronJob]], create: Mapping[str, Budget], most: int, now: int
) -> None:
    """Hold the draws of new jobs to what there is, and create budgets that are missing.

    Args:
        db: The transaction that is to store them.
        jobs: The jobs, and which of their request they are.
        create: What budgets are created with where they are missing.
        most: How many budgets there may be.
        now: The wall clock.

    Raises:
        Unprocessable: When a budget is missing or too small, or is one too many; the transaction must not be committed.
    """
    draws = [(index, draw) for index, job in jobs for draw in job.budgets or ()]
    known = await _known(db, {draw.key for _, draw in draws})
    if any(draw.key in create and draw.key not in known for _, draw in draws):
        # Others may have created some of them meanwhile; from now on nobody can.
        count = await _count(db)
        known.update(await _known(db, {draw.key for _, draw in draws} - known.keys()))
    for index, draw in draws:
        budget = known.get(draw.key)
        if budget is None and draw.key in create:
            if count >= most:
                raise budgets.too_many_budgets(draw.key, most).at(index)
            budget = known[draw.key] = create[draw.key]
            await insert(db, draw.key, budget, now)
            count += 1
        if refusal := budgets.draw_refusal(draw, budget):
            raise refusal.at(index)


async def check_draws(db: Transaction, draws: Sequence[Draw]) -> None:
    """Hold draws to the budgets that there are, which stay so until the transaction is over.

    Raises:
        Unprocessable: When one is missing or too small.
    """
    known = await _known(db, {draw.key for draw in draws})
    for draw in draws:
        if refusal := budgets.draw_refusal(draw, known.get(draw.key)):
            raise refusal


async def bind(db: Transaction, jobs: Iterable[JobRecord]) -> None:
    """Note what new jobs draw on."""
    if draws := rows.to_draw_rows(jobs):
        await db.execute(_BIND, *zip(*draws, strict=True))


async def rebind(db: Transaction, jobs: Sequence[JobRecord]) -> None:
    """Note what jobs draw on from now on, whatever it was before."""
    await db.execute("DELETE FROM zizq.draws WHERE id = ANY($1)", [job.id for job in jobs])
    await bind(db, jobs)


async def _known(db: Transaction, keys: Collection[str]) -> dict[str, Budget]:
    if not keys:
        return {}
    text = "SELECT key, budget FROM zizq.budgets WHERE key = ANY($1) ORDER BY key FOR KEY SHARE"
    return {key: _decode(budget) for key, budget in await db.fetch(text, list(keys))}


async def _count(db: Transaction) -> int:
    """How many budgets there are, to which nobody else adds any until the transaction is over."""
    await db.execute("SELECT pg_advisory_xact_lock($1)", CREATING)
    return await db.fetchval("SELECT count(*) FROM zizq.budgets") or 0


# ── a budget itself ──────────────────────────────────────────────────────────────────────────────────


async def insert(db: Transaction, key: str, budget: Budget, now: int) -> None:
    """Add a budget, which is full."""
    text = "INSERT INTO zizq.budgets (key, budget, tokens, remainder, at) VALUES ($1, $2, $3, 0, $4)"
    await db.execute(text, key, _encode(budget), budget.capacity, now)


async def restore(db: Transaction, budget: Budget, state: BucketState | None) -> None:
    """Add a budget with the tokens that it had; None for a full one."""
    await insert(db, budget.key, budget, budget.updated_at)
    if state is not None:
        await write(db, [Bucket.restored(budget, state)], 0)


async def save(db: Transaction, key: str, before: Budget | None, after: Budget | None, most: int, now: int) -> bool:
    """Create, change or delete a budget; False where it is not as it was thought to be.

    Raises:
        Refusal: When it cannot become what it is to be; the transaction must not be committed.
    """
    count = await _count(db) if before is None else 0
    text = f"SELECT budget, {_STATE} FROM zizq.budgets WHERE key = $1 FOR UPDATE"  # noqa: S608 - our own words
    row = await db.fetchrow(text, key)
    if (None if row is None else _decode(row[0])) != before:
        return False
    if refusal := await _objection(db, key, before, after):
        raise refusal
    if before is None and after is not None:
        if count >= most:
            raise budgets.too_many_budgets(key, most)
        await insert(db, key, after, now)
    elif before is not None and row is not None and after is not None:
        bucket = Bucket.restored(before, BucketState(*row[1:]))
        bucket.change(after, now)
        await db.execute("UPDATE zizq.budgets SET budget = $2 WHERE key = $1", key, _encode(after))
        await write(db, [bucket], now)
    else:
        await db.execute("DELETE FROM zizq.budgets WHERE key = $1", key)
    return True


async def _objection(db: Transaction, key: str, before: Budget | None, after: Budget | None) -> Refusal | None:
    """Why a budget cannot become what it is to be; None when it can."""
    if before is not None and after is not None and after.capacity >= before.capacity:
        # Whoever could pay still can; to see that would take a look at every draw.
        return None
    capacity = 0 if after is None else after.capacity
    if refusal := budgets.objection_of_jobs(key, after, *await _drawing(db, key, capacity)):
        return refusal
    return budgets.objection_of_crons(key, after, *await _crons_drawing(db, key, capacity))


async def _drawing(db: Transaction, key: str, above: int) -> tuple[int, int]:
    """How many unfinished jobs draw more than so much, and the highest cost."""
    text = "SELECT count(*), coalesce(max(cost), 0) FROM zizq.draws WHERE budget = $1 AND NOT finished AND cost > $2"
    jobs, highest = await db.fetchrow(text, key, above) or (0, 0)
    return jobs, highest


async def _crons_drawing(db: Transaction, key: str, above: int) -> tuple[int, int, str]:
    """How many cron entries have jobs that draw more than so much, the highest cost, and one of the entries."""
    text = """SELECT count(*) OVER (), max(cost) OVER (), cron || '/'::bytea || name FROM zizq.cron_draws
              WHERE budget = $1 AND cost > $2 ORDER BY 3 LIMIT 1"""
    row = await db.fetchrow(text, key, above)
    return (0, 0, "") if row is None else (row[0], row[1], row[2].decode())
