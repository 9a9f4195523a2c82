"""The PostgreSQL that tests have of their own."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from postgres import Databases, require_postgres
from zizq.errors import ConfigError
from zizq.testing import postgres
from zizq.testing.postgres import Cluster


def prepare(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE prepared (n int)")


def test_each_database_is_new(databases: Databases) -> None:
    for _ in range(2):
        with psycopg.connect(databases.fresh()) as connection:
            connection.execute("CREATE TABLE t (n int)")


def test_a_template_is_prepared_once(databases: Databases) -> None:
    for _ in range(2):
        with psycopg.connect(databases.fresh(prepare)) as connection:
            assert connection.execute("SELECT count(*) FROM prepared").fetchone() == (0,)
            connection.execute("INSERT INTO prepared VALUES (1)")


def test_a_place_has_one_database(databases: Databases, tmp_path: Path) -> None:
    assert databases.at(tmp_path) == databases.at(tmp_path) != databases.at(tmp_path / "other")


def test_what_was_made_is_dropped_also_under_a_connection(databases: Databases) -> None:
    with psycopg.connect(databases.fresh()):
        databases.drop()
    assert "test_" not in databases.cluster.psql("SELECT string_agg(datname, ' ') FROM pg_database")


def test_a_standby_takes_over_with_what_was_written() -> None:
    require_postgres()
    primary = Cluster(settings={"wal_level": "replica"})
    standby = None
    try:
        primary.start()
        standby = Cluster(copy_of=primary)
        standby.start()
        primary.psql("CREATE TABLE written (n int)")
        primary.stop()
        standby.promote()
        assert standby.psql("SELECT count(*) FROM written") == "0"
        standby.psql("INSERT INTO written VALUES (1)")
    finally:
        for cluster in (primary, standby):
            if cluster is not None:
                cluster.remove()
                assert not cluster.folder.exists()


def test_a_cluster_that_cannot_start_says_why() -> None:
    require_postgres()
    cluster = Cluster(settings={"shared_buffers": "nonsense"})
    try:
        with pytest.raises(ConfigError, match="shared_buffers"):
            cluster.start()
    finally:
        cluster.remove()


def test_where_there_is_none_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "programs", lambda: None)
    with pytest.raises(ConfigError, match="apt-get install postgresql"):
        Cluster()
