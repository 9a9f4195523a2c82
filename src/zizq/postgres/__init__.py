"""Enqueues inside a transaction of the application: a job exists if, and only if, that commits.

    with psycopg.connect(...) as connection:
        connection.execute("INSERT INTO orders ...")
        zizq.postgres.enqueue(connection, SendReceipt(order=7))

It needs `zizq serve --store postgresql://...` on the same database. The connection may be one of psycopg, a connection
or session of SQLAlchemy, Django's, or any other of the DB-API, or a cursor; none of these is imported here. For those
that are awaited there is `zizq.postgres.aio`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any, Unpack

from zizq.client.enqueue import Options
from zizq.clock import SystemClock
from zizq.errors import ConfigError
from zizq.postgres import statement


def enqueue(connection: Any, source: object, **options: Unpack[Options]) -> str:
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
    return _call(connection, statement.one(source, SystemClock().wall_ms(), **options))[0]


def enqueue_raw(connection: Any, type: str, payload: Any, **options: Unpack[Options]) -> str:
    """Enqueue one job by the name of its type; returns its identifier. All else is as for `enqueue`."""
    return _call(connection, statement.raw(type, payload, SystemClock().wall_ms(), **options))[0]


def enqueue_bulk(connection: Any, sources: Iterable[object]) -> list[str]:
    """Enqueue many jobs with one statement; returns their identifiers in order. All else is as for `enqueue`."""
    return _call(connection, statement.many(sources, SystemClock().wall_ms()))


def _call(connection: Any, argument: str) -> list[str]:
    if hasattr(connection, "get_bind"):
        # A session of SQLAlchemy; an asynchronous one is told by what its connection() is.
        _check(connection.connection, connection)
        connection = connection.connection()
    if hasattr(connection, "exec_driver_sql"):
        _check(connection.exec_driver_sql, connection)
        sql = statement.sql_of(connection.dialect.paramstyle)
        return statement.values(connection.exec_driver_sql(sql, (argument,)).all())
    _check(getattr(connection, "execute", None), connection)
    with closing(_cursor(connection)) as cursor:
        cursor.execute(statement.SQL, (argument,))
        rows: Sequence[Any] = cursor.fetchall()
        return statement.values(rows)


def _cursor(connection: Any) -> Any:
    """A cursor of our own, also beside one that is given: that may hold rows which are still to be read."""
    make = getattr(connection, "cursor", None)
    if not callable(make):
        make = getattr(getattr(connection, "connection", None), "cursor", None)
    if make is None:
        raise ConfigError(
            f"{connection!r} is no connection that is known: give one of psycopg, SQLAlchemy or Django, or its cursor"
        )
    cursor = make()
    if hasattr(cursor, "row_factory"):
        cursor.row_factory = statement.first
    return cursor


def _check(method: Any, connection: object) -> None:
    if inspect.iscoroutinefunction(method):
        raise ConfigError(f"{type(connection).__name__} is awaited: use zizq.postgres.aio")
