"""Migrates a database that no store is open on, or says what that would do."""

from __future__ import annotations

from typing import NamedTuple

from zizq.store.postgres import schema
from zizq.store.postgres.database import Database
from zizq.store.url import StoreUrl


class Migrated(NamedTuple):
    """What became of a database.

    Args:
        before: The format that it had; 0 for none.
        after: The format that it has now, or would have.
        script: What was done, or would be, as SQL that may be run by hand; empty where there is nothing to do.
    """

    before: int
    after: int
    script: str


async def migrate(url: StoreUrl, *, dry_run: bool) -> Migrated:
    """Bring a database up to date, in one transaction.

    Raises:
        ConfigError: When it cannot be reached, or is newer than this program.
        Unavailable: When the database refuses it; nothing is changed.
    """
    database = Database(url.dsn, prepared=url.prepared)
    await database.open()
    try:
        async with database.writing(durable=True) as db:
            before = await schema.format_of(db)
            scripts = schema.steps(before)
            if not dry_run:
                before, _ = await schema.migrate(db)
    finally:
        await database.close()
    script = "\n".join(["BEGIN;", *(one.strip() for one in scripts), "COMMIT;"]) if scripts else ""
    return Migrated(before, len(schema.MIGRATIONS), script)
