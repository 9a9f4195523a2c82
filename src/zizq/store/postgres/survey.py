"""What can be told of a database by one who only looks; beside the servers that may run on it."""

from __future__ import annotations

import asyncio
from typing import Any

from zizq.clock import Clock
from zizq.errors import ConfigError, Unavailable
from zizq.store.facts import DatabaseFacts, Holdup
from zizq.store.postgres import inbox, schema
from zizq.store.postgres.database import Database, Transaction
from zizq.store.postgres.time import NOW_MS
from zizq.store.url import StoreUrl

SETTINGS = ("fsync", "full_page_writes", "synchronous_commit", "synchronous_standby_names", "autovacuum",
            "track_counts", "max_connections")  # fmt: skip
ECHO_S = 1.0
"""How long a notification may take to come back."""
_CHANNEL = "zizq_doctor"

_HOLDUPS = """
    SELECT format('transaction of process %s (%s, %s)', pid, coalesce(nullif(application_name, ''), usename), state),
        extract(epoch FROM clock_timestamp() - xact_start)::float8
    FROM pg_stat_activity
    WHERE (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL) AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
        AND datname = current_database()
    UNION ALL SELECT format('prepared transaction %s', gid), extract(epoch FROM clock_timestamp() - prepared)::float8
    FROM pg_prepared_xacts WHERE database = current_database()
    UNION ALL SELECT format('replication slot %s, which nobody reads', slot_name), NULL
    FROM pg_replication_slots WHERE NOT active AND (xmin IS NOT NULL OR restart_lsn IS NOT NULL)
    ORDER BY 2 DESC NULLS FIRST LIMIT 10"""
_DEAD = "SELECT relname, n_live_tup, n_dead_tup FROM pg_stat_user_tables WHERE schemaname = 'zizq'"
_CONNECTIONS = """
    SELECT (SELECT sum(numbackends) FROM pg_stat_database)::int,
        current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"""
_SEES_ALL = "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'MEMBER')"


async def survey(url: StoreUrl, clock: Clock) -> DatabaseFacts:
    """What there is to be told.

    Args:
        url: Where it is.
        clock: That of this machine.
    """
    database = Database(url.dsn, prepared=url.prepared)
    try:
        await database.open()
        async with database.reading() as db:
            facts = await _look(db, clock)
        return facts._replace(hears=None if facts.is_standby else await _hears(database))
    except (ConfigError, Unavailable) as error:
        return DatabaseFacts(str(error))
    finally:
        await database.close()


async def _look(db: Transaction, clock: Clock) -> DatabaseFacts:
    asked = clock.mono_s()
    there_ms = float(await db.fetchval(f"SELECT {NOW_MS}") or 0)
    round_ms = (clock.mono_s() - asked) * 1000
    done = await schema.format_of(db)
    settings: list[Any] = await db.fetch("SELECT name, setting FROM pg_settings WHERE name = ANY($1)", SETTINGS)
    connections: Any = await db.fetchrow(_CONNECTIONS)
    return DatabaseFacts(
        version=int(await db.fetchval("SHOW server_version_num") or 0),
        size=await db.fetchval("SELECT pg_database_size(current_database())") or 0,
        format=done,
        known_format=len(schema.MIGRATIONS),
        settings=dict(map(tuple, settings)),
        is_standby=bool(await db.fetchval("SELECT pg_is_in_recovery()")),
        holdups=[Holdup(*row) for row in await db.fetch(_HOLDUPS)],
        sees_all=bool(await db.fetchval(_SEES_ALL)),
        dead={name: (live, dead) for name, live, dead in await db.fetch(_DEAD)},
        connections=tuple(connections),
        ahead_ms=round(there_ms - (clock.wall_ms() - round_ms / 2)),
        apart_ms=round(round_ms / 2) + 1,
        servers=await _servers(db) if done else 0,
        posts=await _posts(db, there_ms) if done == len(schema.MIGRATIONS) else (0, 0.0),
    )


async def _servers(db: Transaction) -> int:
    return await db.fetchval("SELECT count(*) FROM zizq.servers WHERE lease_until > clock_timestamp()") or 0


async def _posts(db: Transaction, now_ms: float) -> tuple[int, float]:
    number, first_at = await inbox.waiting(db)
    return number, 0.0 if first_at is None else (now_ms - first_at) / 1000


async def _hears(database: Database) -> bool:
    """Whether a notification comes; behind a pooler in transaction mode none does."""
    heard = asyncio.Event()
    try:
        async with database.listening(_CHANNEL, lambda _: heard.set()):
            async with database.writing(durable=False) as db:
                await db.execute("SELECT pg_notify($1, '')", _CHANNEL)
            await asyncio.wait_for(heard.wait(), ECHO_S)
    except (TimeoutError, Unavailable):
        return False
    return True
