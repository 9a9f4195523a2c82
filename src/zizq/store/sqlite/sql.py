"""Statements that carry many rows, built once for each number of rows.

With a busy thread beside it, a statement a row starves on the interpreter's lock: every statement lets go of it and
then waits for its turn to get it back. So a group of rows should be one statement. Values alone are given to it as one
array, however many they are: `id IN {AMONG}`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, TypeVar

import apsw

T = TypeVar("T")

MOST = 128
"""Rows a statement at most."""
AMONG = "(SELECT CAST(value AS TEXT) FROM carray(?))"
"""The values of an `array`: a row that has one of them is found once, however often that is in it."""


def array(values: Iterable[str]) -> apsw.CArrayBinding:
    """Values, at least one, for `AMONG`; as bytes, since an array of text takes none with a NUL."""
    return apsw.carray(tuple([value.encode() for value in values]))


def among(db: apsw.Connection, text: str, values: Collection[str], *before: Any) -> Sequence[tuple[Any, ...]]:
    """The rows of a statement that is about what is `AMONG` values, its last; nothing is asked without any."""
    return db.execute(text, (*before, array(values))).fetchall() if values else ()


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Parts of at most `MOST` values."""
    for start in range(0, len(values), MOST):
        yield values[start : start + MOST]


def insert(
    db: apsw.Connection, table: str, columns: str, rows: Sequence[Sequence[Any]], *, only: str | None = None
) -> None:
    """Insert rows, or `only` those that meet a condition."""
    for some in chunks(rows):
        db.execute(_insert(table, columns, len(some), only), _flat(some))


def delete(db: apsw.Connection, table: str, column: str, values: Collection[str]) -> None:
    """Delete the rows that have one of the values in a column."""
    among(db, f"DELETE FROM {table} WHERE {column} IN {AMONG}", values)  # noqa: S608 - constants


def update_jobs(db: apsw.Connection, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Rewrite columns of jobs; each row has the values, and the identifier before them."""
    names = tuple(columns)
    for some in chunks(rows):
        db.execute(_update(names, len(some)), _flat(some))


def marks(count: int) -> str:
    """Places for as many values."""
    return ", ".join("?" * count)


def _flat(rows: Sequence[Sequence[Any]]) -> list[Any]:
    return list(chain.from_iterable(rows))


def _table(width: int, count: int) -> str:
    return ", ".join([f"({marks(width)})"] * count)


@lru_cache(maxsize=4 * MOST)
def _insert(table: str, columns: str, count: int, only: str | None) -> str:
    values = _table(columns.count(",") + 1, count)
    if only is None:
        return f"INSERT INTO {table} ({columns}) VALUES {values}"  # noqa: S608 - constants
    return f"""WITH new ({columns}) AS (VALUES {values})
               INSERT INTO {table} ({columns}) SELECT * FROM new WHERE {only}"""  # noqa: S608 - constants


@lru_cache(maxsize=4 * MOST)
def _update(columns: tuple[str, ...], count: int) -> str:
    sets = ", ".join(f"{name} = new.{name}" for name in columns)
    return f"""WITH new (id, {", ".join(columns)}) AS (VALUES {_table(len(columns) + 1, count)})
               UPDATE jobs SET {sets} FROM new WHERE jobs.id = new.id"""  # noqa: S608 - constants
