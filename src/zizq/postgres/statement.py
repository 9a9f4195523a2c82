"""The one statement by which an application enqueues in its own transaction; what it is given, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Unpack

from zizq.client.enqueue import Enqueue, Options
from zizq.client.kinds import request_for
from zizq.client.payload import encode_body
from zizq.errors import ConfigError
from zizq.wire.codec import Format

# As text first, whatever codecs a connection has for JSON.
SQL = (
    "SELECT zizq.enqueue(job ->> 'type', job ->> 'queue', job -> 'payload', job - '{type,queue,payload}'::text[])"
    " FROM jsonb_array_elements(%s::text::jsonb) WITH ORDINALITY AS jobs (job, place) ORDER BY place"
)
"""Enqueues the jobs of an array, in the form of POST /jobs, and returns their identifiers in its order."""
SQL_NUMBERED = SQL.replace("%s", "$1")
"""The same for drivers that number their arguments."""


def sql_of(paramstyle: str) -> str:
    """The statement as a driver wants it.

    Raises:
        ConfigError: When the driver marks arguments in a way that none for PostgreSQL does.
    """
    if paramstyle in ("format", "pyformat"):
        return SQL
    if paramstyle == "numeric_dollar":
        return SQL_NUMBERED
    raise ConfigError(f"a driver with arguments in the style {paramstyle!r} is not known: use psycopg or asyncpg")


def one(source: object, now_ms: int, **options: Unpack[Options]) -> str:
    """The argument for one job: an instance of a kind, or a request.

    Raises:
        ConfigError: When it is neither, or an option is unknown or has no such value.
        EncodeError: When the payload cannot travel.
    """
    return _argument([request_for(source, **options)], now_ms)


def raw(type: str, payload: Any, now_ms: int, **options: Unpack[Options]) -> str:
    """The argument for one job by the name of its type.

    Raises:
        ConfigError: When an option is unknown or has no such value.
        EncodeError: When the payload cannot travel.
    """
    return _argument([Enqueue(type, payload).with_(**options)], now_ms)


def many(sources: Iterable[object], now_ms: int) -> str:
    """The argument for many jobs.

    Raises:
        ConfigError: When one is neither an instance of a kind nor a request.
        EncodeError: When a payload cannot travel.
    """
    return _argument([request_for(source) for source in sources], now_ms)


def _argument(requests: Sequence[Enqueue], now_ms: int) -> str:
    return encode_body([request.to_wire(now_ms) for request in requests], Format.JSON).decode()


def first(cursor: object) -> Callable[[Sequence[Any]], Any]:
    """A row factory of psycopg that makes a row of one column its value."""
    return lambda values: values[0]


def values(rows: Iterable[Any]) -> list[str]:
    """The identifiers in rows of one column, or in their values themselves."""
    return [row if isinstance(row, str) else row[0] for row in rows]
