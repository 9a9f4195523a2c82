"""A worker that leaves in good order, and what it asks of its streams to that end."""

import asyncio
from datetime import timedelta

import pytest

from unit.worker.fakes import FakeClient, job, settle
from unit.worker.test_worker_life import SOON, Blocking, nothing
from zizq.errors import ConfigError, NotFound, TransportError
from zizq.worker.worker import Worker


async def test_jobs_that_were_not_begun_are_given_back_at_once_and_those_that_come_later_too():
    client, handler, stop = FakeClient(), Blocking(), asyncio.Event()
    run = asyncio.create_task(Worker(client, handler, concurrency=1, prefetch=3).run(stop))
    running, waiting, late = job(), job(), job()
    (await client.opened()).push(running, waiting)
    await handler.started.acquire()
    stop.set()
    await client.until(lambda: client.released == [waiting.id])
    client.stream.push(late)
    await client.until(lambda: client.released == [waiting.id, late.id])
    assert client.acked == []
    handler.go.set()
    await run
    assert client.log[-2:] == ["acked", "closed"]


async def test_an_idle_worker_asks_the_server_to_end_its_stream():
    client, stop = FakeClient(), asyncio.Event()
    run = asyncio.create_task(Worker(client, nothing).run(stop))
    await client.opened()
    stop.set()
    await run
    assert client.log == ["opened", "released", "closed"]


async def test_a_job_whose_handler_was_cut_short_by_the_shutdown_is_given_back():
    client, handler, stop = FakeClient(), Blocking(), asyncio.Event()
    run = asyncio.create_task(Worker(client, handler, shutdown_timeout=1).run(stop))
    running = job()
    (await client.opened()).push(running)
    await handler.started.acquire()
    stop.set()
    summary = await run
    assert (client.released, summary.abandoned) == ([running.id], 1)


@pytest.mark.parametrize("error", [NotFound(404, "not found"), TransportError("the server is away")])
async def test_a_server_that_takes_nothing_back_does_not_hold_up_a_shutdown(error, caplog):
    client, handler, stop = FakeClient(), Blocking(), asyncio.Event()
    client.release_answers.append(error)
    run = asyncio.create_task(Worker(client, handler, concurrency=1, prefetch=2, shutdown_timeout=None).run(stop))
    (await client.opened()).push(job(), job())
    await handler.started.acquire()
    stop.set()
    await settle()
    handler.go.set()
    assert (await run).processed == 1
    assert client.log[-1] == "closed"
    assert "jobs could not be given back" in caplog.text


async def test_the_time_that_a_worker_may_hold_jobs_is_asked_of_the_server():
    client = FakeClient()
    async with Worker(client, nothing, job_timeout=timedelta(minutes=2)):
        await client.opened()
    assert client.asked.job_timeout == 120
    with pytest.raises(ConfigError, match="job_timeout=0"):
        Worker(client, nothing, job_timeout=0)


async def test_every_stream_has_a_name_of_its_own():
    client, names = FakeClient(), []
    async with Worker(client, nothing, reconnect=SOON):
        for count in (1, 2):
            await client.opened(count)
            names.append(client.asked.stream)
            client.stream.end()
    assert len(set(names)) == 2
