"""PostgreSQL for tests: one cluster for the whole run, databases of its own for each test.

A test asks for `postgres_url`, an empty database, or for `databases` where it needs several, or a store that is made.
Both skip with a reason where there is no PostgreSQL, unless ZIZQ_TEST_POSTGRES=required.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from zizq.store.postgres.schema import steps
from zizq.testing.postgres import Cluster, programs

_LARGE = 1 << 18
"""The size from which a table is cut off, which takes longer than to delete a few rows."""
_TABLES = """SELECT oid::regclass::text, pg_relation_size(oid) FROM pg_class
             WHERE relnamespace = 'zizq'::regnamespace AND relkind = 'r' AND relname <> 'migrations'
             AND pg_relation_size(oid) > 0"""
_CUT_OFF = """SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
              WHERE datname = current_database() AND pid <> pg_backend_pid()"""


def require_postgres() -> None:
    """Skip a test where there is no PostgreSQL; fail it where there must be one."""
    if programs() is not None:
        return
    reason = "there is no PostgreSQL: apt-get install postgresql, or let `make test` do that as root"
    if os.environ.get("ZIZQ_TEST_POSTGRES") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


class EmptyStore:
    """A database with our tables that goes from one test to the next: emptied in 5 ms, where a new one takes 100.

    Args:
        url: Of a database without tables.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._db = psycopg.connect(url, autocommit=True)
        for script in steps(0):
            self._db.execute(script)

    def clear(self) -> None:
        """Cut off who is still connected, and remove all rows."""
        self._db.execute(_CUT_OFF)
        tables = self._db.execute(_TABLES).fetchall()
        clearing = [f"TRUNCATE {name} CASCADE" if size > _LARGE else f"DELETE FROM {name}" for name, size in tables]
        # Without triggers: they would note in one table what goes from another.
        self._db.execute("; ".join(["BEGIN", "SET LOCAL session_replication_role = replica", *clearing, "COMMIT"]))

    def close(self) -> None:
        """Leave it."""
        self._db.close()


class Databases:
    """The databases of a cluster.

    Args:
        cluster: A cluster that runs.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._admin = psycopg.connect(cluster.url(), autocommit=True)
        self._made: list[str] = []
        self._count = 0
        self._templates: dict[Callable[[str], None], str] = {}
        self._lent: list[EmptyStore] = []
        self._idle: list[EmptyStore] = []
        self._places: dict[Path, str] = {}

    def fresh(self, prepare: Callable[[str], None] | None = None) -> str:
        """The URL of a new database.

        Args:
            prepare: What makes an empty database, by its URL, what the test needs. It is called once; other databases
                with the same one are copies. It must leave no connection open. None for an empty one.
        """
        name = self._next("test")
        self._create(name, "template0" if prepare is None else self._template(prepare))
        self._made.append(name)
        return self.cluster.url(name)

    def store(self, place: Path | None = None) -> str:
        """The URL of a database with our tables and nothing in them; tests leave the tables as they are.

        Args:
            place: The folder for which it stands: with the same one it is the same. None for another one at each call.
        """
        if place is not None and place in self._places:
            return self._places[place]
        lent = self._idle.pop() if self._idle else self._new_store()
        self._lent.append(lent)
        if place is not None:
            self._places[place] = lent.url
        return lent.url

    def drop(self) -> None:
        """Drop what was made and empty what was lent, also where connections linger."""
        for name in self._made:
            self._admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        for lent in self._lent:
            lent.clear()
        self._idle += self._lent
        self._made.clear()
        self._lent.clear()
        self._places.clear()

    def close(self) -> None:
        """Leave the cluster."""
        for store in self._idle:
            store.close()
        self._admin.close()

    def _new_store(self) -> EmptyStore:
        name = self._next("store")
        self._create(name, "template0")
        return EmptyStore(self.cluster.url(name))

    def _template(self, prepare: Callable[[str], None]) -> str:
        if prepare not in self._templates:
            name = self._next("template")
            self._create(name, "template0")
            prepare(self.cluster.url(name))
            self._templates[prepare] = name
        return self._templates[prepare]

    def _create(self, name: str, template: str) -> None:
        self._admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')

    def _next(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._count}"


def databases_for(request: pytest.FixtureRequest) -> Databases | None:
    """The databases of a test whose fixture has the parameter `postgres`; None with any other.

    Tests that are marked `embedded_only` are left out, for the reason that the mark has.
    """
    if request.param != "postgres":
        return None
    if mark := request.node.get_closest_marker("embedded_only"):
        pytest.skip(mark.args[0])
    databases: Databases = request.getfixturevalue("databases")
    return databases


@pytest.fixture(scope="session")
def all_databases() -> Iterator[Databases]:
    """The cluster of the whole run."""
    require_postgres()
    cluster = Cluster(settings={"max_connections": "200"})
    try:
        cluster.start()
        databases = Databases(cluster)
        yield databases
        databases.close()
    finally:
        cluster.remove()


@pytest.fixture
def databases(all_databases: Databases) -> Iterator[Databases]:
    """Databases that are dropped after the test."""
    yield all_databases
    all_databases.drop()


@pytest.fixture
def postgres_url(databases: Databases) -> str:
    """The URL of an empty database."""
    return databases.fresh()
