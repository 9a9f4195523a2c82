"""The statements by which ready jobs come to be in flight."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from zizq.engine import decide
from zizq.engine.purse import Key
from zizq.job import JobRecord
from zizq.policy import later
from zizq.store import rows
from zizq.store.postgres.database import Transaction
from zizq.store.postgres.floors import ALL
from zizq.store.postgres.lanes import Chosen

_COLUMNS = rows.WHOLE.split(", ")
_JOB = ", ".join(f"j.{name}" for name in _COLUMNS)
FREE = """NOT EXISTS (SELECT FROM zizq.flight f WHERE f.id = j.id)
          AND j.queue NOT IN (SELECT queue FROM zizq.paused_queues)"""
"""A condition on a ready job: whoever takes may have it."""
# All of the order of an index is asked for: so there is one way only to find them.
OF_ALL = f"""j.status = 1 AND j.budgets = '' AND {FREE}
    AND (j.priority, j.id) >= ({{priority}}, {{id}}) ORDER BY j.priority, j.id"""
"""The free jobs of all queues from a key on, in order."""
# A row is only compared to say where a scan begins: as its end it would hold the scan to the first column alone. The
# array keeps the planner from leaving the queue out of the order, so that no other index has it.
OF_ONE = f"""j.status = 1 AND {FREE} AND j.queue = ANY(ARRAY[{{queue}}]) AND j.budgets = ''
    AND (j.priority, j.id) >= ({{priority}}, {{id}}) ORDER BY j.queue, j.priority, j.id"""
"""The same of one queue."""

# Two servers may want the same job at once. Where one has it, the other passes over it: it is locked, or in flight.
_LOCKED = "LIMIT $1::bigint FOR UPDATE OF j SKIP LOCKED"
_HEAD_OF_ALL = f"""
    SELECT {_JOB}, NULL AS draws FROM zizq.jobs j
    WHERE {OF_ALL.format(priority="$9::integer", id="$10::text")} {_LOCKED}"""  # noqa: S608 - constants
_HEAD_OF_ONE = f"""
    SELECT {_JOB}, NULL AS draws FROM zizq.jobs j
    WHERE {OF_ONE.format(queue="$11::text", priority="$9::integer", id="$10::text")} {_LOCKED}"""  # noqa: S608
_HEAD_OF_SEVERAL = f"""
    SELECT {_JOB}, NULL AS draws FROM (
        SELECT first.id FROM unnest($9::integer[], $10::text[], $11::text[]) l (priority, id, queue)
        CROSS JOIN LATERAL (
            SELECT j.priority, j.id FROM zizq.jobs j
            WHERE {OF_ONE.format(queue="l.queue", priority="l.priority", id="l.id")} LIMIT $1::bigint
        ) first ORDER BY first.priority, first.id LIMIT $1::bigint
    ) first CROSS JOIN LATERAL (
        SELECT * FROM zizq.jobs j WHERE j.id = first.id OFFSET 0 FOR UPDATE SKIP LOCKED
    ) j WHERE j.status = 1 AND j.budgets = ''"""  # noqa: S608 - constants
_ALONE = "head AS MATERIALIZED ({head})"
# Those that draw on budgets, among the others. One that is not as it was, or that somebody is about, is not handed out,
# and neither are those behind it: they might overtake it.
_TOGETHER = f"""
    free AS MATERIALIZED ({{head}}),
    drawing AS MATERIALIZED (
        SELECT {_JOB}, c.draws, c.place FROM unnest(${{0}}::text[], ${{1}}::bigint[], ${{2}}::text[])
            WITH ORDINALITY c (id, version, draws, place)
        JOIN zizq.jobs j ON j.id = c.id WHERE j.xmin::text::bigint = c.version FOR UPDATE OF j SKIP LOCKED
    ),
    head AS MATERIALIZED (
        SELECT * FROM free
        UNION ALL
        SELECT {", ".join(_COLUMNS)}, draws FROM (
            SELECT *, place = row_number() OVER (ORDER BY place) AS all_before FROM drawing
        ) one WHERE all_before
        ORDER BY priority, id LIMIT $1::bigint
    )"""  # noqa: S608 - constants
# Payloads are in one set of rows alone: each further one would be a copy of them, and what is counted is narrow.
_CLAIM = f"""
    WITH {{head}},
    taken AS (
        INSERT INTO zizq.flight (id, fence, owner, turn, dequeued_at, stream_ms, overdue_at, draws)
        SELECT p.id, $2::bigint, ($4::bigint[])[p.call], $8::bigint + p.n,
               ($5::bigint[])[p.call], ($6::bigint[])[p.call], ($7::bigint[])[p.call], p.draws::jsonb
        FROM (
            SELECT *, width_bucket(n - 1, $3::bigint[]) + 1 AS call
            FROM (SELECT id, draws, row_number() OVER () AS n FROM head) counted
        ) p
        WHERE EXISTS (SELECT FROM zizq.servers WHERE fence = $2::bigint)
        ON CONFLICT (id) DO NOTHING RETURNING id
    )
    SELECT {", ".join(_COLUMNS)}, id IN (SELECT id FROM taken) FROM head"""  # noqa: S608 - constants


class Take(NamedTuple):
    """A call of `take`."""

    owner: int
    queues: frozenset[str]
    limit: int
    now: int
    timeout_ms: int | None


class Claimed(NamedTuple):
    """What came of the takes of some queues.

    Args:
        jobs: For each of them the jobs that it got, in order.
        reached: The last key that was looked at; None where nothing is left.
    """

    jobs: list[list[JobRecord]]
    reached: Key | None


async def claim(
    db: Transaction,
    fence: int,
    turn: int,
    floors: Mapping[str, Key],
    takes: Sequence[Take],
    chosen: Sequence[Chosen] = (),
) -> Claimed:
    """Put the first ready jobs into flight: of those that draw on no budget, and of those that were chosen.

    Args:
        db: The transaction.
        fence: Under which number; it is that of a server, or nothing is taken.
        turn: Jobs that this server took before have lower ones.
        floors: Where to begin, by queue, or under `ALL`.
        takes: Who takes of these queues; those that come first are served first.
        chosen: Jobs that can pay, in order.
    """
    upto = list(accumulate(take.limit for take in takes))
    limits = [None if take.timeout_ms is None else later(take.now, take.timeout_ms) for take in takes]
    text, where = _head(floors, bool(chosen))
    if chosen:
        jobs_chosen, versions, draws = zip(*chosen, strict=True)
        where = (*where, [job.id for job in jobs_chosen], versions, draws)
    found = await db.fetch(
        text, upto[-1], fence, upto, [take.owner for take in takes], [take.now for take in takes],
        [take.timeout_ms for take in takes], limits, turn, *where,
    )  # fmt: skip
    jobs: list[list[JobRecord]] = [[] for _ in takes]
    for place, row in enumerate(found):
        if row[13]:
            call = bisect_right(upto, place)
            jobs[call].append(rows.to_job(row, takes[call].now))
    await _follow_up(db, takes, jobs)
    return Claimed(jobs, (found[-1][3], found[-1][0]) if len(found) == upto[-1] else None)


def _head(floors: Mapping[str, Key], together: bool) -> tuple[str, Sequence[Any]]:
    """The statement that finds the jobs, maybe together with chosen ones; and the values that say where."""
    if ALL in floors:
        return _OF_ALL[together], floors[ALL]
    if len(floors) == 1:
        [(queue, key)] = floors.items()
        return _OF_ONE[together], (*key, queue)
    return _OF_SEVERAL[together], (
        [key[0] for key in floors.values()],
        [key[1] for key in floors.values()],
        list(floors),
    )


async def _follow_up(db: Transaction, takes: Sequence[Take], jobs: Sequence[Sequence[JobRecord]]) -> None:
    """What only some jobs need: nothing is folded into them any more, or they have a time limit of their own."""
    taken = [job for some in jobs for job in some]
    batched = [job.id for job in taken if job.batch is not None]
    if batched:
        await db.execute("UPDATE zizq.jobs SET key = NULL WHERE id = ANY($1)", batched)
    timed = [job for job in taken if job.timeout_ms is not None]
    if timed:
        await db.execute(
            """UPDATE zizq.flight f SET overdue_at = t.at FROM unnest($1::text[], $2::bigint[]) t (id, at)
               WHERE f.id = t.id""",
            [job.id for job in timed],
            [decide.overdue_at(job, None) for job in timed],
        )


_OF_ALL, _OF_ONE, _OF_SEVERAL = (
    [_CLAIM.format(head=way.format(*range(last + 1, last + 4), head=head)) for way in (_ALONE, _TOGETHER)]
    for head, last in ((_HEAD_OF_ALL, 10), (_HEAD_OF_ONE, 11), (_HEAD_OF_SEVERAL, 11))
)
