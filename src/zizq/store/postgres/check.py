"""Proves that a store on PostgreSQL is whole, by reading all of it at one instant; servers may run meanwhile.

What must hold is said by `schema`, by the statements that write, and by the rules of the engine; here it is asked of
what was stored. Jobs are read some at a time, so that the memory for it does not depend on how many there are. That
indexes agree with their tables is for the tools of PostgreSQL to prove (`amcheck`).

Some of what looks wrong may be right, since a dead job that is retried takes neither keys nor budgets into account. So
of jobs that share a unique key only those are wrong that can never have come to it; the same holds for budgets.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from zizq.engine.decide import is_expired
from zizq.engine.unique import Scope
from zizq.errors import ConfigError
from zizq.job import TERMINAL, JobRecord
from zizq.store import rows
from zizq.store.findings import Checked, Findings
from zizq.store.flaws import JOB_COLUMNS
from zizq.store.postgres import keys, schema
from zizq.store.postgres.database import Database, Transaction
from zizq.store.url import StoreUrl
from zizq.words import count

_STEP = 1000
"""Jobs that are read at a time."""
_NO_LIMIT_S = 86_400.0
_SIZE = """SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class
           WHERE relnamespace = 'zizq'::regnamespace AND relkind = 'r'"""


async def check(url: StoreUrl, now: int, progress: Callable[[str], None]) -> Checked:
    """Read the store in a database.

    Args:
        url: Where it is.
        now: The wall clock, in Unix milliseconds.
        progress: Hears what is being done.

    Raises:
        ConfigError: When it cannot be reached, or is of another version.
        Unavailable: When it cannot be read to the end.
    """
    database = Database(url.dsn, prepared=url.prepared)
    await database.open()
    try:
        async with database.reading() as db:
            done, known = await schema.format_of(db), len(schema.MIGRATIONS)
            if done != known:
                told = f"has format {done}" if done else "has no store"
                raise ConfigError(f"the database {told}, and this zizq knows format {known}: see `zizq migrate`")
            checked = await examine(db, now, progress)
            return checked._replace(size=await db.fetchval(_SIZE, timeout=_NO_LIMIT_S))
    finally:
        await database.close()


async def examine(db: Transaction, now: int, progress: Callable[[str], None] = lambda told: None) -> Checked:
    """Read a store, inside a transaction that sees one instant; its size is left at 0.

    Args:
        db: The transaction.
        now: The wall clock, in Unix milliseconds.
        progress: Hears what is being done.
    """
    return await _Check(db, now, progress).run()


class _Check:
    """One look at a store."""

    def __init__(self, db: Transaction, now: int, progress: Callable[[str], None]) -> None:
        self._db = db
        self._now = now
        self._progress = progress
        self._findings = Findings()

    async def run(self) -> Checked:
        """Look at everything."""
        steps = {
            "counts": self._check_tally,
            "jobs": self._check_jobs,
            "errors": self._check_errors,
            "jobs in flight": self._check_flight,
            "budgets": self._check_budgets,
            "batch keys": self._check_batches,
            "crons": self._check_crons,
            "pauses": self._check_pauses,
        }
        for name, step in steps.items():
            self._progress(f"checking {name}")
            await step()
        return self._findings.checked()

    async def _ask(self, text: str, *values: Any) -> Sequence[Sequence[Any]]:
        found: Sequence[Sequence[Any]] = await self._db.fetch(text, *values, timeout=_NO_LIMIT_S)
        return found

    async def _each(self, kind: str, text: str, sql: str, *values: Any) -> None:
        """Note a violation for each row of an answer, with the row put into a text."""
        for row in await self._ask(sql, *values):
            self._findings.add(kind, text.format(*row))

    # ── jobs ──

    async def _check_tally(self) -> None:
        """The counts by queue, type and status."""
        text = """SELECT queue, type, status, sum(there)::bigint, sum(noted)::bigint FROM (
                      SELECT queue, type, status, count(*) AS there, 0 AS noted FROM zizq.jobs GROUP BY 1, 2, 3
                      UNION ALL SELECT queue, type, status, 0, jobs FROM zizq.tally
                  ) AS counts GROUP BY 1, 2, 3"""
        for row in await self._ask(text):
            self._findings.count(*row)

    async def _check_jobs(self) -> None:
        """Each job by itself, what it has in other tables, and the others that have its unique key."""
        total, after, done = count(self._findings.jobs), "", 0
        text = f"SELECT {JOB_COLUMNS} FROM zizq.jobs WHERE id > $1 ORDER BY id LIMIT {_STEP}"  # noqa: S608 - constants
        while found := await self._ask(text, after):
            jobs = [job for row in found if (job := self._findings.job(tuple(row), keys.digest)) is not None]
            await self._check_draws(jobs)
            await self._check_attempts([job for job in jobs if job.attempts])
            await self._check_unique([job for job in jobs if job.unique_key is not None])
            after, done = found[-1][0], done + len(found)
            self._progress(f"checking jobs, {count(done)} of {total}")

    async def _check_draws(self, jobs: Sequence[JobRecord]) -> None:
        """What is noted of the budgets that jobs draw on."""
        drawing = [job for job in jobs if job.budgets]
        if not drawing:
            return
        text = "SELECT id, budget, cost, finished FROM zizq.draws WHERE id = ANY($1::text[])"
        noted: defaultdict[str, dict[str, tuple[int, bool]]] = defaultdict(dict)
        for job_id, budget, *draw in await self._ask(text, [job.id for job in drawing]):
            noted[job_id][budget] = tuple(draw)
        for job in drawing:
            self._findings.draws(job, noted[job.id])

    async def _check_attempts(self, jobs: Sequence[JobRecord]) -> None:
        """The errors of jobs: one for each attempt."""
        if not jobs:
            return
        text = """SELECT job_id, count(*), min(attempt), max(attempt) FROM zizq.errors
                  WHERE job_id = ANY($1::text[]) GROUP BY job_id"""
        errors = {row[0]: tuple(row[1:]) for row in await self._ask(text, [job.id for job in jobs])}
        for job in jobs:
            self._findings.errors(job, *errors.get(job.id, (0, 1, 0)))

    async def _check_unique(self, jobs: Sequence[JobRecord]) -> None:
        """Jobs that have the same unique key although neither let the other in."""
        # One that failed may have been dead, and come back without a question.
        wait = [job for job in jobs if job.status not in TERMINAL and job.failed_at is None]
        active = [job for job in wait if job.unique_while == Scope.ACTIVE]
        stay = [job for job in jobs if job.unique_while == Scope.EXISTS and not is_expired(job, self._now)]
        await self._check_scope(active, Scope.ACTIVE, "never finished", "o.status < 2 AND o.failed_at IS NULL")
        await self._check_scope(active, Scope.EXISTS, "never finished", "o.status < 2 AND o.failed_at IS NULL")
        await self._check_scope(stay, Scope.EXISTS, "exist", f"(o.purge_at IS NULL OR o.purge_at > {self._now})")

    async def _check_scope(self, jobs: Sequence[JobRecord], scope: Scope, told: str, condition: str) -> None:
        """Others that have the unique keys of some jobs by a scope, and meet a condition."""
        if not jobs:
            return
        # Of those of the same scope each is told of with the next one only.
        text = f"""SELECT m.id, o.id FROM unnest($1::text[], $2::bytea[], $3::boolean[]) AS m (id, key, same)
                   CROSS JOIN LATERAL (
                       SELECT o.id FROM zizq.jobs AS o WHERE o.key = m.key AND {condition}
                       AND (o.id > m.id OR NOT m.same) AND o.id <> m.id ORDER BY o.id LIMIT 1
                   ) AS o"""  # noqa: S608 - constants
        names = [keys.digest(f"{scope.value[0]}{job.unique_key}") for job in jobs]
        found = await self._ask(text, [job.id for job in jobs], names, [job.unique_while == scope for job in jobs])
        key_of = {job.id: job.unique_key for job in jobs}
        for job_id, other in found:
            told_of = f"unique key {key_of[job_id]!r}: the jobs {job_id} and {other} have it and {told}"
            self._findings.add("unique", told_of)

    async def _check_batches(self) -> None:
        """Jobs that wait under the same batch key, which is what a job is found by that has no unique key."""
        text = """SELECT key, array_agg(id ORDER BY id) FROM zizq.jobs WHERE key IS NOT NULL AND status = 1
                  GROUP BY key HAVING count(*) > 1"""
        for _, ids in await self._ask(text):
            found = await self._ask(f"SELECT {rows.BARE} FROM zizq.jobs WHERE id = ANY($1::text[])", ids[:2])  # noqa: S608
            first, second = (rows.to_job(tuple(row)) for row in found)
            if first.unique_key is None and first.batch is not None:
                told = f"{len(ids)} jobs wait under it, among them {first.id} and {second.id}"
                self._findings.add("batch", f"batch key {first.batch.key!r}: {told}")

    # ── what belongs to jobs ──

    async def _check_errors(self) -> None:
        """Errors of jobs that are not there, or never failed."""
        await self._each(
            "errors",
            "job {0}: it has errors, and {1}",
            """SELECT DISTINCT e.job_id, CASE WHEN jobs.id IS NULL THEN 'is not there' ELSE 'no attempts' END
               FROM zizq.errors AS e LEFT JOIN zizq.jobs ON jobs.id = e.job_id
               WHERE jobs.id IS NULL OR jobs.attempts = 0""",
        )

    async def _check_flight(self) -> None:
        """Jobs in flight: they are stored as ready, and what they have paid is held back."""
        await self._each(
            "flight",
            "job {0}: it is in flight, and {1}",
            """SELECT f.id, CASE WHEN jobs.id IS NULL THEN 'is not there' ELSE 'not stored as ready' END
               FROM zizq.flight AS f LEFT JOIN zizq.jobs ON jobs.id = f.id WHERE jobs.id IS NULL OR jobs.status <> 1""",
        )
        # Less may be: what was held of a budget that was deleted since is forgotten.
        await self._each(
            "held",
            "budget {0!r}: {1} of its tokens are held, and jobs in flight have only paid {2}",
            """SELECT b.key, b.held, coalesce(paid.cost, 0) FROM zizq.budgets AS b LEFT JOIN (
                   SELECT draw.key, sum(draw.value::bigint)::bigint AS cost
                   FROM zizq.flight, jsonb_each_text(flight.draws) AS draw GROUP BY draw.key
               ) AS paid ON paid.key = b.key WHERE b.held > coalesce(paid.cost, 0)""",
        )

    # ── budgets and crons ──

    async def _check_budgets(self) -> None:
        """Each budget, and what is drawn on it."""
        for row in await self._ask("SELECT key, budget FROM zizq.budgets"):
            self._findings.budget(*row)
        # A dead job may come back when its budget is gone or smaller.
        text = """SELECT d.budget, count(*), max(d.cost) FROM zizq.draws AS d WHERE NOT d.finished
                  AND NOT EXISTS (SELECT FROM zizq.jobs WHERE jobs.id = d.id AND jobs.failed_at IS NOT NULL)
                  GROUP BY d.budget"""
        for key, jobs, cost in await self._ask(text):
            self._findings.drawn(key, cost, f"{jobs} unfinished jobs")
        await self._each(
            "draws",
            "draw of job {1} on {0!r}: {2}",
            """SELECT d.budget, d.id,
                      CASE WHEN jobs.id IS NULL THEN 'there is no such job' ELSE 'the job does not draw on it' END
               FROM zizq.draws AS d LEFT JOIN zizq.jobs ON jobs.id = d.id
               WHERE jobs.id IS NULL OR strpos(',' || jobs.budgets || ',', ',' || d.budget || ',') = 0""",
        )

    async def _check_crons(self) -> None:
        """Each group and entry, and what is noted of them in columns."""
        for cron, settings in await self._ask("SELECT name, settings FROM zizq.crons"):
            self._findings.cron(cron.decode(errors="replace"), settings)
        draws: dict[tuple[bytes, bytes], dict[str, int]] = {}
        for cron, entry, budget, cost in await self._ask("SELECT cron, name, budget, cost FROM zizq.cron_draws"):
            draws.setdefault((cron, entry), {})[budget] = cost
        for cron, entry, next_at, stored in await self._ask("SELECT cron, name, next_at, entry FROM zizq.cron_entries"):
            group, name = cron.decode(errors="replace"), entry.decode(errors="replace")
            self._findings.entry(group, name, next_at, stored, draws.get((cron, entry), {}))

    async def _check_pauses(self) -> None:
        """Each paused queue: a name that it can have, and when it was paused."""
        for row in await self._ask("SELECT queue, paused_at FROM zizq.paused_queues"):
            self._findings.pause(*row)
