"""Servers behind PgBouncer in transaction mode: nothing is expected of a session."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from itertools import count

import psycopg
import pytest
from click.testing import CliRunner

import zizq
import zizq.postgres
from postgres import Databases
from zizq.cli.main import cli
from zizq.errors import ConfigError
from zizq.store.postgres.database import Database
from zizq.store.url import StoreUrl
from zizq.testing.postgres import Pooler
from zizq.testing.server import running_server

JOBS = 300


@pytest.fixture
def pooled_url(databases: Databases) -> Iterator[str]:
    """The URL of a database behind a pooler with few sessions."""
    try:
        pooler = Pooler(databases.cluster)
    except ConfigError as error:
        if os.environ.get("ZIZQ_TEST_POSTGRES") == "required":
            raise
        pytest.skip(str(error))
    yield pooler.url(databases.fresh().rpartition("/")[2])
    pooler.remove()


def post(url: str) -> None:
    with psycopg.connect(url) as connection:
        zizq.postgres.enqueue_raw(connection, "t", JOBS)


async def test_two_servers_work_behind_a_pooler(pooled_url: str) -> None:
    ran: list[int] = []
    done, numbers = asyncio.Event(), count(1)
    router = zizq.Router()

    @router.route("t")
    async def handle(job: zizq.Job) -> None:
        ran.append(job.payload)
        if next(numbers) == JOBS + 1:
            done.set()

    url = StoreUrl(pooled_url)
    async with (
        running_server(store=url) as one,
        running_server(store=url) as other,
        zizq.Client(one.url) as first,
        zizq.Client(other.url) as second,
    ):
        worker = asyncio.create_task(zizq.Worker(second, router).run(done))
        await first.enqueue_bulk([zizq.Enqueue("t", number) for number in range(JOBS)])
        # Elsewhere: the servers, which have all sessions of the pooler, go on meanwhile.
        await asyncio.to_thread(post, url.dsn)
        async with asyncio.timeout(30):
            await done.wait()
            await worker
    assert sorted(ran) == list(range(JOBS + 1))


@pytest.mark.parametrize("prepared", [True, False])
async def test_a_pooler_need_not_know_all_that_is_asked_of_a_database(pooled_url: str, prepared: bool) -> None:
    database = Database(StoreUrl(pooled_url).dsn, prepared=prepared)
    await database.open()
    async with database.writing(durable=True) as db:
        await db.execute("SELECT 1")
    await database.close()


def test_doctor_says_that_no_notifications_come(pooled_url: str) -> None:
    assert CliRunner().invoke(cli, ["migrate", "--store", pooled_url]).exit_code == 0
    told = CliRunner().invoke(cli, ["doctor", "--json", "--port", "1", "--store", pooled_url])
    found = {one["check"]: one for one in json.loads(told.stdout)["findings"]}
    assert (found["notifications"]["verdict"], found["store"]["verdict"]) == ("note", "ok")
