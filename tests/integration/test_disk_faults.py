"""A worker and a client whose server's disk is full for a while."""

from contextlib import asynccontextmanager

import pytest
from trust.disk import Disk

from zizq.client.aio import Client
from zizq.errors import ServerError
from zizq.store.sqlite import checkpoints
from zizq.testing.server import running_server
from zizq.worker.worker import Worker


@pytest.fixture(autouse=True)
def _soon_full(monkeypatch):
    # A disk that is full has no room behind the log either.
    monkeypatch.setattr(checkpoints, "AHEAD_PAGES", 0)


@asynccontextmanager
async def on_disk(place):
    with Disk() as disk:
        async with running_server(heartbeat_interval=50, root_dir=place) as server, Client(server.url) as client:
            yield client, disk


async def test_a_worker_repeats_its_report_until_the_disk_takes_it_and_runs_the_job_once(tmp_path):
    runs = []
    async with on_disk(tmp_path) as (client, disk):

        async def handle(job):
            disk.fill()
            runs.append(job.id)

        job = await client.enqueue_raw("greet", {"n": 1}, queue="q")
        async with Worker(client, handle) as worker:
            while await client.health() == "ok":
                pass
            assert await client.health() == "read-only"
            assert (await client.get_job(job.id)).status == "in_flight"
            disk.heal()
            while await client.queues():
                pass
        assert runs == [job.id]
        assert worker.summary.processed == 1
        assert worker.summary.ack_dropped == worker.summary.not_found == 0


async def test_a_client_hears_that_an_enqueue_may_be_tried_again(tmp_path):
    async with on_disk(tmp_path) as (client, disk):
        disk.fill()
        with pytest.raises(ServerError, match="cannot write just now") as refusal:
            await client.enqueue_raw("greet", {"n": 1}, queue="q")
        assert refusal.value.retryable
        disk.heal()
        assert await client.enqueue_raw("greet", {"n": 1}, queue="q")
