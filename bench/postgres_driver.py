"""`python -m bench.postgres_driver`: the client's processor time for a row, by driver and by how rows travel."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

import asyncpg
import psycopg

from bench import report
from zizq.testing.postgres import Cluster

ROWS, LOTS = 1000, 100
COLUMNS = ("id", "queue", "priority", "ready_at", "payload")
TYPES = ("text", "text", "int4", "int8", "bytea")
RECORDS = [(f"{number:025d}", "mail", 32768, 1_790_000_000_000 + number, b"x" * 200) for number in range(ROWS)]
ARRAYS = [list(column) for column in zip(*RECORDS, strict=True)]
TABLE = f"CREATE UNLOGGED TABLE rows ({', '.join(map(' '.join, zip(COLUMNS, TYPES, strict=True)))})"
FETCH = f"SELECT * FROM rows LIMIT {ROWS}"


def unnest(marks: str) -> str:
    """The statement that inserts arrays."""
    return f"INSERT INTO rows SELECT * FROM unnest({marks})"


async def timed(name: str, work: Callable[[], Awaitable[object]]) -> None:
    """Do it often, and print what it takes."""
    await work()
    began = time.process_time()
    for _ in range(LOTS):
        await work()
    print(f"{name}: {(time.process_time() - began) / LOTS / ROWS * 1e6:.1f} us a row", flush=True)


async def of_asyncpg(url: str) -> None:
    """Those of asyncpg."""
    db = await asyncpg.connect(url)
    text = unnest(", ".join(f"${number}::{kind}[]" for number, kind in enumerate(TYPES, 1)))
    await timed("asyncpg, COPY", lambda: db.copy_records_to_table("rows", records=RECORDS, columns=COLUMNS))
    await timed("asyncpg, unnest", lambda: db.execute(text, *ARRAYS))
    await timed("asyncpg, fetch", lambda: db.fetch(FETCH))
    await db.close()


async def of_psycopg(url: str) -> None:
    """Those of psycopg, binary as far as it can."""
    db = await psycopg.AsyncConnection.connect(url, autocommit=True)
    cursor = db.cursor(binary=True)
    text = unnest(", ".join(f"%b::{kind}[]" for kind in TYPES))

    async def copy() -> None:
        async with cursor.copy("COPY rows FROM STDIN (FORMAT BINARY)") as rows:
            rows.set_types(TYPES)
            for record in RECORDS:
                await rows.write_row(record)

    async def fetch() -> None:
        await (await cursor.execute(FETCH)).fetchall()

    await timed("psycopg, COPY", copy)
    await timed("psycopg, unnest", lambda: cursor.execute(text, ARRAYS))
    await timed("psycopg, fetch", fetch)
    await db.close()


def main() -> None:
    """Measure once."""
    print(report.machine(), file=sys.stderr)
    cluster = Cluster()
    try:
        cluster.start()
        cluster.psql(TABLE)
        for of in (of_asyncpg, of_psycopg):
            asyncio.run(of(cluster.url()))
    finally:
        cluster.remove()


if __name__ == "__main__":
    main()
