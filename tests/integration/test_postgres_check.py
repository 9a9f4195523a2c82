"""`zizq check` on a database: it reads all of it while servers run, and finds what is wrong."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result

from postgres import Databases
from zizq.budget import Budget, Draw, Strategy, StrategyType
from zizq.cli.main import cli
from zizq.job import Batch
from zizq.policy import Defaults
from zizq.store.base import Silence
from zizq.store.postgres.store import PostgresStore
from zizq.testing.bench import NOW, Bench, Recorder
from zizq.testing.clock import LoadedDice
from zizq.testing.cron_conformance import entry, group

FLAWS = {
    "tally": ("UPDATE zizq.tally SET jobs = jobs + 1 WHERE status = 3 AND queue = 'q'", "tally: queue 'q'"),
    "type": ("UPDATE zizq.jobs SET type = 'a,b' WHERE priority = 5", "type must not contain ','"),
    "status": ("UPDATE zizq.jobs SET status = 9 WHERE priority = 5", "status is 9, which is none"),
    "options": ("UPDATE zizq.jobs SET options = '\\xc1' WHERE priority = 5", "its options cannot be read"),
    "payload": ("UPDATE zizq.jobs SET payload = '\\xc1' WHERE priority = 5", "its payload cannot be read"),
    "key": ("UPDATE zizq.jobs SET key = '\\x00' WHERE priority = 5", "key is b'\\x00', and its options make it None"),
    "errors": ("DELETE FROM zizq.errors", "it has 1 attempts, and 0 errors"),
    "no attempts": ("UPDATE zizq.errors SET job_id = lpad('x', 25, 'x')", "it has errors, and is not there"),
    "draws": ("DELETE FROM zizq.draws", "its draw on 'b' is cost 2, finished 0, and nothing is noted"),
    "draw": ("UPDATE zizq.draws SET id = lpad('x', 25, 'x')", "there is no such job"),
    "budget": ("DELETE FROM zizq.budgets", "budget 'b': it is not there, and 1 unfinished jobs draw on it"),
    "held": ("UPDATE zizq.budgets SET held = 7", "budget 'b': 7 of its tokens are held"),
    "flight": ("UPDATE zizq.flight SET id = lpad('x', 25, 'x')", "it is in flight, and is not there"),
    "active": (
        'INSERT INTO zizq.jobs SELECT (jsonb_populate_record(j, \'{"id": "0000000000000000000000000"}\')).*'
        " FROM zizq.jobs AS j WHERE priority = 6",
        "unique key 'k': the jobs 0000000000000000000000000 and",
    ),
    "batch": (
        'INSERT INTO zizq.jobs SELECT (jsonb_populate_record(j, \'{"id": "0000000000000000000000000"}\')).*'
        " FROM zizq.jobs AS j WHERE priority = 7",
        "batch key 'm': 2 jobs wait under it",
    ),
    "cron": ("UPDATE zizq.cron_entries SET next_at = 1", "next_at is 1, and in the entry"),
    "pause": ("UPDATE zizq.paused_queues SET paused_at = -1", "paused queue 'p': it is paused since -1"),
}


def fill(url: str) -> None:
    """A store with something of everything, and a job that a server holds which is cut off."""
    asyncio.run(_fill(url))


async def _fill(url: str) -> None:
    store = PostgresStore(url, Defaults(retry_limit=0), LoadedDice())
    await store.open(Silence())
    bench = Bench(store, Recorder(), LoadedDice())
    flight = Strategy(StrategyType.WHILE_IN_FLIGHT)
    await store.save_budget("b", None, Budget("b", 5, flight, NOW, NOW), NOW)
    [failing] = await bench.enqueue(bench.job())
    await bench.take(1)
    await bench.fail(failing)
    await bench.enqueue(
        bench.job(priority=5), bench.job(priority=6, unique_key="k", unique_while="active"),
        bench.job(priority=7, batch=Batch("m", "true", "$new")), bench.job(priority=8, budgets=(Draw("b", 2),)),
        bench.job("late", ready_at=NOW + 9),
    )  # fmt: skip
    await store.save_cron("g", None, group(entry()), NOW)
    await store.pause_queue("p", NOW)
    await store.close()
    with psycopg.connect(url) as db:
        db.execute("INSERT INTO zizq.servers (fence, name, lease_until) VALUES (99, 'other', 'infinity')")
        db.execute(
            """INSERT INTO zizq.flight (id, fence, owner, dequeued_at, turn, draws)
               SELECT id, 99, 1, 1, 1, '{"b": 2}' FROM zizq.jobs WHERE priority = 8"""
        )
        db.execute("UPDATE zizq.budgets SET held = 2")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments), prog_name="zizq")


def test_a_whole_store_is_summed_up(databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = databases.fresh(fill)
    result = run("check", "--store", url)
    assert (result.exit_code, result.stderr) == (0, "")
    told = "6 jobs (1 scheduled, 4 ready, 0 completed, 1 dead)"
    assert result.stdout.startswith(f"The store in {url} is whole: {told}, ")
    monkeypatch.setenv("ZIZQ_STORE", url)
    assert run("check").stdout == result.stdout
    # What is said here counts for more than the environment.
    assert "there is no store in" in run("check", "--root-dir", str(tmp_path)).stderr


@pytest.mark.parametrize("name", FLAWS)
def test_a_flaw_is_found(databases: Databases, name: str) -> None:
    url = databases.fresh(fill)
    statement, told = FLAWS[name]
    with psycopg.connect(url) as db:
        assert db.execute(statement).rowcount > 0
    result = run("check", "--store", url)
    assert result.exit_code == 1
    assert told in result.stdout
    assert "is damaged: " in result.stderr


def test_a_database_without_a_store_is_refused(databases: Databases) -> None:
    result = run("check", "--store", databases.fresh())
    assert (result.exit_code, "the database has no store" in result.stderr) == (1, True)
