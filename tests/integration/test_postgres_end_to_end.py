"""Servers on one database, from the outside: clients, workers, and applications with transactions of their own."""

from __future__ import annotations

import asyncio
import json

import psycopg
from click.testing import CliRunner

import zizq
import zizq.postgres
from postgres import Databases
from zizq.cli.main import cli
from zizq.store.url import StoreUrl
from zizq.testing.server import running_server


async def test_what_an_application_commits_is_worked(postgres_url: str) -> None:
    ran: list[str] = []
    done = asyncio.Event()
    router = zizq.Router()

    @router.route("t")
    async def handle(job: zizq.Job) -> None:
        ran.append(job.id)
        done.set()

    async with (
        running_server(store=StoreUrl(postgres_url)) as one,
        running_server(store=StoreUrl(postgres_url)),
        zizq.Client(one.url) as client,
    ):
        worker = asyncio.create_task(zizq.Worker(client, router).run(done))
        with psycopg.connect(postgres_url) as connection:
            zizq.postgres.enqueue_raw(connection, "t", 1)
            connection.rollback()
            job_id = zizq.postgres.enqueue_raw(connection, "t", 2)
        async with asyncio.timeout(20):
            await done.wait()
            await worker
    assert ran == [job_id]


async def test_a_job_of_one_server_is_there_at_another(postgres_url: str) -> None:
    async with (
        running_server(store=StoreUrl(postgres_url)) as one,
        running_server(store=StoreUrl(postgres_url)) as other,
        zizq.Client(one.url) as first,
        zizq.Client(other.url) as second,
    ):
        job = await first.enqueue_raw("t", {"n": 1})
        assert (await second.get_job(job.id)).payload == {"n": 1}


def test_a_queue_goes_to_a_database_and_back(databases: Databases, tmp_path) -> None:
    async def fill() -> None:
        async with running_server(root_dir=tmp_path / "a") as server, zizq.Client(server.url) as client:
            for number in range(3):
                await client.enqueue_raw("t", {"n": number}, unique_key=f"k{number}")

    asyncio.run(fill())
    url = databases.fresh()
    copies = [
        CliRunner().invoke(cli, ["store", "copy", "--json", str(source), str(target)])
        for source, target in ((tmp_path / "a", url), (url, tmp_path / "b"))
    ]
    assert [one.exit_code for one in copies] == [0, 0], [one.output for one in copies]
    first, second = (json.loads(one.stdout) for one in copies)
    assert first == second
    assert first["jobs"] == [{"queue": "default", "type": "t", "status": "ready", "jobs": 3}]
