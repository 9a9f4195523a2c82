"""`zizq doctor` on a real database."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from postgres import Databases
from zizq.cli.main import cli
from zizq.clock import SystemClock
from zizq.store.opening import migrate_store, survey_database
from zizq.store.postgres import schema
from zizq.store.url import StoreUrl


def found(url: str) -> dict[str, Any]:
    result = CliRunner().invoke(cli, ["doctor", "--json", "--port", "1", "--store", url])
    assert "s3cr3t" not in result.output
    return {one["check"]: one for one in json.loads(result.stdout)["findings"]}


@pytest.fixture
def url(databases: Databases) -> str:
    return databases.fresh(lambda url: asyncio.run(migrate_store(StoreUrl(url), dry_run=False)) and None)


def test_an_empty_database_is_looked_at_and_left_empty(postgres_url: str) -> None:
    checks = found(postgres_url)
    assert (checks["store"]["verdict"], checks["notifications"]["verdict"]) == ("ok", "ok")
    # That of tests is quick and careless.
    assert (checks["fsync"]["verdict"], checks["full_page_writes"]["verdict"]) == ("problem", "note")
    assert "folder" not in checks
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT to_regnamespace('zizq')").fetchone() == (None,)


def test_what_is_open_and_what_waits_is_seen(url: str) -> None:
    with psycopg.connect(url) as old, psycopg.connect(url) as other:
        other.execute("SELECT zizq.enqueue('t', 'q', '1')")
        other.commit()
        old.execute("SELECT txid_current()")
        process = old.info.backend_pid
        facts = asyncio.run(survey_database(StoreUrl(url), SystemClock()))
    assert [one.what.split(" (")[0] for one in facts.holdups] == [f"transaction of process {process}"]
    assert (facts.posts[0], facts.format, facts.hears, facts.sees_all) == (1, len(schema.MIGRATIONS), True, True)
    assert facts.connections[0] >= 3
    assert abs(facts.ahead_ms) <= 1000
    assert "jobs" in facts.dead


def test_a_database_that_does_not_answer_is_a_problem() -> None:
    checks = found("postgresql://u:s3cr3t@127.0.0.1:1/d")
    assert checks["database"]["verdict"] == "problem"
