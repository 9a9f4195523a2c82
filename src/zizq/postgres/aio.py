"""The same for connections that are awaited: those of psycopg, asyncpg and SQLAlchemy."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, Unpack

from zizq.client.enqueue import Options
from zizq.clock import SystemClock
from zizq.errors import ConfigError
from zizq.postgres import statement


async def enqueue(connection: Any, source: object, **options: Unpack[Options]) -> str:
    """Enqueue one job; returns its identifier.

    Args:
        connection: Where the transaction is.
        source: An instance of a kind, or an `Enqueue`.
        options: What it says of itself, as for `Client.enqueue`.

    Raises:
        ConfigError: When the source is neither, or an option is unknown or has no such value, or the connection is
            nothing that is known.
        EncodeError: When the payload cannot travel.
    """
    return (await _call(connection, statement.one(source, SystemClock().wall_ms(), **options)))[0]


async def enqueue_raw(connection: Any, type: str, payload: Any, **options: Unpack[Options]) -> str:
    """Enqueue one job by the name of its type; returns its identifier. All else is as for `enqueue`."""
    return (await _call(connection, statement.raw(type, payload, SystemClock().wall_ms(), **options)))[0]


async def enqueue_bulk(connection: Any, sources: Iterable[object]) -> list[str]:
    """Enqueue many jobs with one statement; returns their identifiers in order. All else is as for `enqueue`."""
    return await _call(connection, statement.many(sources, SystemClock().wall_ms()))


async def _call(connection: Any, argument: str) -> list[str]:
    if hasattr(connection, "get_bind"):
        # A session of SQLAlchemy.
        connection = await _awaited(connection, "connection")()
    if hasattr(connection, "exec_driver_sql"):
        sql = statement.sql_of(connection.dialect.paramstyle)
        return statement.values((await _awaited(connection, "exec_driver_sql")(sql, (argument,))).all())
    if hasattr(connection, "fetch"):
        return statement.values(await _awaited(connection, "fetch")(statement.SQL_NUMBERED, argument))
    _awaited(connection, "execute")
    # A cursor of our own, also beside one that is given: that may hold rows which are still to be read.
    async with (connection if hasattr(connection, "cursor") else connection.connection).cursor() as cursor:
        cursor.row_factory = statement.first
        await cursor.execute(statement.SQL, (argument,))
        return statement.values(await cursor.fetchall())


def _awaited(connection: Any, name: str) -> Any:
    method = getattr(connection, name, None)
    if not inspect.iscoroutinefunction(method):
        raise ConfigError(
            f"{connection!r} is no connection that is awaited: give one of psycopg, asyncpg or SQLAlchemy, or call"
            f" zizq.postgres.enqueue without await"
        )
    return method
