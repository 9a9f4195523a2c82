"""PostgreSQL for tests: one cluster for the whole run, an empty database for each test.

A test asks for `postgres_url`, or for `databases` where it needs several. Both skip with a reason where there is no
PostgreSQL, unless ZIZQ_TEST_POSTGRES=required.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from zizq.testing.postgres import Cluster, programs


def require_postgres() -> None:
    """Skip a test where there is no PostgreSQL; fail it where there must be one."""
    if programs() is not None:
        return
    reason = "there is no PostgreSQL: apt-get install postgresql, or let `make test` do that as root"
    if os.environ.get("ZIZQ_TEST_POSTGRES") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


class Databases:
    """The databases of a cluster: made in 20 ms, of a template that is prepared once.

    Args:
        cluster: A cluster that runs.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._admin = psycopg.connect(cluster.url(), autocommit=True)
        self._made: list[str] = []
        self._count = 0
        self._templates: dict[Callable[[str], None], str] = {}
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

    def at(self, place: Path, prepare: Callable[[str], None] | None = None) -> str:
        """The URL of the one database that stands for a folder in this test; new at the first call."""
        if place not in self._places:
            self._places[place] = self.fresh(prepare)
        return self._places[place]

    def drop(self) -> None:
        """Drop what was made, also where connections linger."""
        for name in self._made:
            self._admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        self._made.clear()
        self._places.clear()

    def close(self) -> None:
        """Leave the cluster."""
        self._admin.close()

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
