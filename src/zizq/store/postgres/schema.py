"""The tables in PostgreSQL, and how a database gets them.

To change the tables: append a migration, never edit one that was released. Each runs once; all that are missing run in
one transaction, one server at a time. All names stand in the schema `zizq` and are written out in full: nothing is
expected of a session, so that a pooler may give every transaction another one.

What holds at any instant:

* A job is a row of `jobs`. One that is in flight is stored there as ready, and has a row in `flight`: a take adds
  narrow rows and changes none. So: ready = stored as ready, less those in `flight`.
* A row of `flight` names the *fence* of the server that holds the job: a number that no other server ever gets, nor
  the same one after it has lost its lease. Where no server has that fence, the row counts for nothing and is swept.
* What jobs in flight hold of a budget is in `budgets.held`, and comes back by a trigger, whoever removes their rows of
  `flight`. Where a budget counts what is in flight, its tokens are the capacity less `held`, whatever `tokens` says.
* `tally` is a ledger: whatever changes how many jobs there are adds rows, and the sums are what there is. No two
  writers meet in a row of it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from textwrap import dedent

from zizq.errors import ConfigError
from zizq.store.postgres import inbox_sql
from zizq.store.postgres.database import Transaction

log = logging.getLogger("zizq.store")

MIGRATING = 0x7A697A71
"""The advisory lock of whoever migrates; "zizq"."""

BEGINNING = """
CREATE SCHEMA IF NOT EXISTS zizq;
CREATE TABLE zizq.migrations (number integer PRIMARY KEY, applied_at timestamptz NOT NULL);
"""

MIGRATIONS = [
    """
    CREATE TABLE zizq.jobs (
        id text COLLATE "C" PRIMARY KEY,
        queue text COLLATE "C" NOT NULL,
        type text COLLATE "C" NOT NULL,
        priority integer NOT NULL,
        status smallint NOT NULL, -- rows.STATUS; a job in flight is stored as ready
        ready_at bigint NOT NULL,
        attempts integer NOT NULL DEFAULT 0,
        payload bytea NOT NULL, -- MessagePack
        budgets text COLLATE "C" NOT NULL DEFAULT '', -- purse.budget_keys: those of one queue with the same form a lane
        key bytea, -- keys.stored_key
        options bytea, -- rows.Options, or NULL where a job sets none
        dequeued_at bigint,
        failed_at bigint,
        completed_at bigint,
        purge_at bigint,
        deaths integer NOT NULL DEFAULT 0 -- workers that died while they held it
    ) WITH (
        fillfactor = 90,
        autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
        autovacuum_vacuum_insert_scale_factor = 0.2, autovacuum_analyze_scale_factor = 0.05
    );
    -- Those that draw on no budget, for takes of all queues; and all, lane by lane.
    CREATE INDEX ready ON zizq.jobs (priority, id) WHERE status = 1 AND budgets = '';
    CREATE INDEX lane ON zizq.jobs (queue, budgets, priority, id) WHERE status = 1;
    CREATE INDEX drawing_lane ON zizq.jobs (queue, budgets, priority, id) WHERE status = 1 AND budgets <> '';
    CREATE INDEX due ON zizq.jobs (ready_at, id) WHERE status = 0;
    CREATE INDEX keyed ON zizq.jobs (key, status, id) WHERE key IS NOT NULL;
    CREATE INDEX purge ON zizq.jobs (purge_at, queue, type, status) WHERE purge_at IS NOT NULL;
    -- For lists, in the order of identifiers: one range for each queue, type and status.
    CREATE INDEX place ON zizq.jobs (queue, type, status, id);

    -- The servers, each with its lease. Its clock is the database's, so that those of the servers do not matter.
    CREATE SEQUENCE zizq.fences;
    -- Unlogged, so that a crash of the database or a failover ends all leases: its last moments may have undone takes
    -- and settlings, and servers that begin anew do not go by what they remember of those.
    CREATE UNLOGGED TABLE zizq.servers (
        fence bigint PRIMARY KEY,
        name text NOT NULL,
        started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        lease_until timestamptz NOT NULL
    ) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 50, autovacuum_vacuum_scale_factor = 0);

    -- The jobs in flight.
    CREATE TABLE zizq.flight (
        id text COLLATE "C" PRIMARY KEY,
        fence bigint NOT NULL,
        owner bigint NOT NULL, -- the take stream, as its server calls it
        dequeued_at bigint NOT NULL,
        stream_ms bigint, -- the time that the stream grants jobs that set none
        turn bigint NOT NULL, -- the order in which its server took them
        overdue_at bigint, -- decide.overdue_at; NULL where it may be held for as long as the stream likes
        draws jsonb -- what it paid to budgets, {key: cost}; NULL for nothing
    ) WITH (
        fillfactor = 90,
        autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0
    );
    CREATE INDEX overdue ON zizq.flight (fence, overdue_at) WHERE overdue_at IS NOT NULL;
    -- What others have ended of the jobs that a server holds: it reads and removes the rows with its fence.
    CREATE TABLE zizq.freed (
        fence bigint NOT NULL,
        ids text[] NOT NULL
    ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
    CREATE INDEX freed_of ON zizq.freed (fence);

    CREATE TABLE zizq.errors (
        job_id text COLLATE "C" NOT NULL,
        attempt integer NOT NULL,
        error bytea NOT NULL, -- MessagePack of a job.ErrorRecord: its texts may hold any character
        PRIMARY KEY (job_id, attempt)
    );

    -- How many jobs there are of each queue, type and status, in parts that are to be added up (module docstring).
    CREATE TABLE zizq.tally (
        queue text COLLATE "C" NOT NULL,
        type text COLLATE "C" NOT NULL,
        status smallint NOT NULL,
        jobs bigint NOT NULL
    ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

    CREATE TABLE zizq.paused_queues (
        queue text COLLATE "C" PRIMARY KEY, -- whether or not it has jobs
        paused_at bigint NOT NULL
    );

    CREATE TABLE zizq.budgets (
        key text COLLATE "C" PRIMARY KEY,
        budget bytea NOT NULL, -- MessagePack of a budget.Budget
        -- A bucket.BucketState.
        tokens bigint NOT NULL,
        remainder bigint NOT NULL,
        at bigint NOT NULL,
        held bigint NOT NULL DEFAULT 0
    ) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 50, autovacuum_vacuum_scale_factor = 0);
    -- Which jobs draw on a budget, and how much; finished ones do not hold it back any more.
    CREATE TABLE zizq.draws (
        budget text COLLATE "C" NOT NULL,
        id text COLLATE "C" NOT NULL,
        cost bigint NOT NULL,
        finished boolean NOT NULL DEFAULT false,
        PRIMARY KEY (budget, id)
    );
    CREATE INDEX drawing ON zizq.draws (id);

    CREATE TABLE zizq.crons (
        name bytea PRIMARY KEY, -- UTF-8, as all names of crons and entries, which may have a NUL in them
        settings bytea NOT NULL -- MessagePack of a cron.CronGroup without its entries
    );
    CREATE TABLE zizq.cron_entries (
        cron bytea NOT NULL REFERENCES zizq.crons ON DELETE CASCADE,
        name bytea NOT NULL,
        next_at bigint, -- as in the entry; NULL where it never fires again
        entry bytea NOT NULL, -- MessagePack of a cron.CronEntry
        PRIMARY KEY (cron, name)
    );
    CREATE INDEX next_firing ON zizq.cron_entries (next_at) WHERE next_at IS NOT NULL;
    -- What the jobs of cron entries draw, for budgets that are changed or deleted.
    CREATE TABLE zizq.cron_draws (
        cron bytea NOT NULL,
        name bytea NOT NULL,
        budget text COLLATE "C" NOT NULL,
        cost bigint NOT NULL,
        PRIMARY KEY (cron, name, budget),
        FOREIGN KEY (cron, name) REFERENCES zizq.cron_entries ON DELETE CASCADE
    );
    CREATE INDEX cron_drawing ON zizq.cron_draws (budget, cost);

    -- Once a statement, however many jobs it is about; and no statement can forget it.
    CREATE FUNCTION zizq.jobs_added() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO zizq.tally SELECT queue, type, status, count(*) FROM added GROUP BY queue, type, status;
        RETURN NULL;
    END $$;
    CREATE TRIGGER jobs_added AFTER INSERT ON zizq.jobs
        REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION zizq.jobs_added();

    CREATE FUNCTION zizq.jobs_moved() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO zizq.tally SELECT queue, type, status, sum(n) FROM (
            SELECT queue, type, status, 1 AS n FROM after UNION ALL SELECT queue, type, status, -1 FROM before
        ) moves GROUP BY queue, type, status HAVING sum(n) <> 0;
        UPDATE zizq.draws d SET finished = a.status >= 2 FROM after a
            WHERE a.budgets <> '' AND d.id = a.id AND d.finished <> (a.status >= 2);
        RETURN NULL;
    END $$;
    CREATE TRIGGER jobs_moved AFTER UPDATE ON zizq.jobs
        REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION zizq.jobs_moved();

    CREATE FUNCTION zizq.jobs_removed() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO zizq.tally SELECT queue, type, status, -count(*) FROM removed GROUP BY queue, type, status;
        DELETE FROM zizq.errors e USING removed r WHERE r.attempts > 0 AND e.job_id = r.id;
        DELETE FROM zizq.draws d USING removed r WHERE r.budgets <> '' AND d.id = r.id;
        RETURN NULL;
    END $$;
    CREATE TRIGGER jobs_removed AFTER DELETE ON zizq.jobs
        REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION zizq.jobs_removed();

    CREATE FUNCTION zizq.flight_ended() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT FROM ended WHERE draws IS NOT NULL) THEN
            PERFORM FROM zizq.budgets WHERE key IN (SELECT jsonb_object_keys(draws) FROM ended)
                ORDER BY key FOR NO KEY UPDATE;
            UPDATE zizq.budgets b SET held = greatest(0, b.held - back.cost) FROM (
                SELECT draw.key, sum(draw.value::bigint) AS cost FROM ended, jsonb_each_text(draws) draw GROUP BY 1
            ) back WHERE b.key = back.key;
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER flight_ended AFTER DELETE ON zizq.flight
        REFERENCING OLD TABLE AS ended FOR EACH STATEMENT EXECUTE FUNCTION zizq.flight_ended();
    """,
    inbox_sql.MIGRATION,
]


async def format_of(db: Transaction) -> int:
    """How many migrations a database has seen; 0 where it has none of our tables."""
    if await db.fetchval("SELECT to_regclass('zizq.migrations')") is None:
        return 0
    return await db.fetchval("SELECT count(*) FROM zizq.migrations") or 0


def steps(done: int, migrations: Sequence[str] = MIGRATIONS) -> list[str]:
    """The scripts that bring a database up to date, in order; nothing where it is.

    Args:
        done: The format that it has.
        migrations: The migrations that this program knows.

    Raises:
        ConfigError: When it is newer than this program.
    """
    if done > len(migrations):
        raise ConfigError(f"the database has format {done}, this zizq knows {len(migrations)}: use a newer zizq")
    found = [] if done else [BEGINNING]
    for number, script in enumerate(migrations[done:], done + 1):
        found += [dedent(script), f"INSERT INTO zizq.migrations VALUES ({number}, clock_timestamp());"]  # noqa: S608 - a number
    return found


async def migrate(db: Transaction, migrations: Sequence[str] = MIGRATIONS) -> tuple[int, int]:
    """Bring a database up to date, inside a transaction; returns the formats it had and has.

    Raises:
        ConfigError: When it is newer than this program.
    """
    await db.execute("SELECT pg_advisory_xact_lock($1)", MIGRATING)
    done, known = await format_of(db), len(migrations)
    for script in steps(done, migrations):
        await db.execute(script)
    if done != known:
        log.info("migrated store", extra={"fields": {"from": done, "to": known}})
    return done, known


async def prepare(db: Transaction, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Make the tables of an empty database, inside a transaction, and hold any other to the format known here.

    An older one is not migrated unasked: servers that run on it know nothing of what would be new.

    Raises:
        ConfigError: When it has another format.
    """
    done, known = await format_of(db), len(migrations)
    if 0 < done < known:
        raise ConfigError(
            f"the database has format {done}, and this zizq needs {known}: run `zizq migrate` with the same --store"
        )
    if done != known:
        await migrate(db, migrations)
