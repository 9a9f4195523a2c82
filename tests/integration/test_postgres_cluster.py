"""The PostgreSQL that tests have of their own."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from postgres import Databases, require_postgres
from zizq.errors import ConfigError
from zizq.testing import postgres
from zizq.testing.postgres import Cluster

ENQUEUE = """INSERT INTO zizq.jobs (id, queue, type, priority, status, ready_at, payload)
             SELECT lpad(nextval('zizq.job_numbers')::text, 25, '0'), 'q', 't', 1, 1, 1, '\\xc0'
             FROM generate_series(1, %s)"""


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


def test_a_place_has_one_store(databases: Databases, tmp_path: Path) -> None:
    assert databases.store(tmp_path) == databases.store(tmp_path) != databases.store(tmp_path / "other")


@pytest.mark.parametrize("jobs", [1, 3000], ids=["few", "many"])
def test_a_store_comes_back_empty_also_under_a_connection(databases: Databases, jobs: int) -> None:
    url = databases.store()
    lingering = psycopg.connect(url)
    lingering.execute(ENQUEUE, [jobs])
    lingering.commit()
    lingering.execute(ENQUEUE, [jobs])
    databases.drop()
    with pytest.raises(psycopg.OperationalError):
        lingering.execute("SELECT")
    lingering.close()
    assert url == databases.store()
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT (SELECT count(*) FROM zizq.jobs), (SELECT count(*) FROM zizq.tally)")
        assert found.fetchone() == (0, 0)
        connection.execute(ENQUEUE, [jobs])
        assert connection.execute("SELECT sum(jobs) FROM zizq.tally").fetchone() == (jobs,)


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
