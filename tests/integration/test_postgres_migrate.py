"""How a database gets its tables: by a server where it is empty, by `zizq migrate` always."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from zizq.cli.main import cli
from zizq.clock import SystemDice
from zizq.errors import ConfigError
from zizq.store.base import Silence
from zizq.store.opening import StoreOptions, make_store
from zizq.store.postgres import schema
from zizq.store.url import StoreUrl

FORMAT = len(schema.MIGRATIONS)


@pytest.fixture
def run() -> Any:
    def run(*arguments: str, **variables: str) -> Result:
        return CliRunner().invoke(cli, ["migrate", *arguments], env=variables)

    return run


def tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        return {name for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'zizq'")}


def mark(url: str, number: int) -> None:
    """Make a database look as if it had seen that migration as well."""
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO zizq.migrations VALUES (%s, now())", [number])


async def open_store(url: str) -> None:
    store = make_store(StoreUrl(url), StoreOptions(), SystemDice())
    try:
        await store.open(Silence())
    finally:
        await store.close()


def test_an_empty_database_gets_its_tables_once(run: Any, postgres_url: str) -> None:
    first, second = run("--store", postgres_url), run(ZIZQ_STORE=postgres_url)
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert f"from format 0 to {FORMAT}" in first.stderr
    assert f"is up to date: format {FORMAT}" in second.stderr
    assert "jobs" in tables(postgres_url)


def test_a_dry_run_prints_what_can_be_run_by_hand(run: Any, postgres_url: str) -> None:
    dry = run("--store", postgres_url, "--dry-run")
    assert (dry.exit_code, tables(postgres_url)) == (0, set())
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(dry.stdout)
    assert "is up to date" in run("--store", postgres_url, "--dry-run").stderr


async def test_a_store_makes_the_tables_of_an_empty_database(postgres_url: str) -> None:
    for _ in range(2):
        await open_store(postgres_url)
    assert "jobs" in tables(postgres_url)


async def test_a_store_does_not_migrate_an_older_database(monkeypatch: pytest.MonkeyPatch, postgres_url: str) -> None:
    await open_store(postgres_url)
    later = [*schema.MIGRATIONS, "CREATE TABLE zizq.more (n int)"]
    monkeypatch.setattr(schema.prepare, "__defaults__", (later,))
    with pytest.raises(ConfigError, match=f"format {FORMAT}, and this zizq needs {FORMAT + 1}: run `zizq migrate`"):
        await open_store(postgres_url)
    assert "more" not in tables(postgres_url)


def test_a_newer_database_is_refused(run: Any, postgres_url: str) -> None:
    asyncio.run(open_store(postgres_url))
    mark(postgres_url, FORMAT + 1)
    with pytest.raises(ConfigError, match=f"format {FORMAT + 1}, this zizq knows {FORMAT}: use a newer zizq"):
        asyncio.run(open_store(postgres_url))
    refused = run("--store", postgres_url)
    assert (refused.exit_code, "use a newer zizq" in refused.stderr) == (1, True)


def test_a_database_that_is_not_there_is_named_without_its_password(run: Any) -> None:
    refused = run("--store", "postgresql://u:s3cr3t@127.0.0.1:1/d")
    assert refused.exit_code == 1
    assert "cannot reach the database" in refused.stderr
    assert "s3cr3t" not in refused.stderr


def test_a_missing_driver_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    for name in [name for name in sys.modules if name.startswith("zizq.store.postgres.")]:
        monkeypatch.delitem(sys.modules, name)
    refused = run("--store", "postgresql://h/d")
    assert (refused.exit_code, "pip install 'zizq[postgres]'" in refused.stderr) == (1, True)
    with pytest.raises(ConfigError, match="asyncpg"):
        make_store(StoreUrl("postgresql://h/d"), StoreOptions(), SystemDice())
