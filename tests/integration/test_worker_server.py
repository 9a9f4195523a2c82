"""A worker and a real server, in one process."""

import asyncio
import contextlib

import pytest

from unit.worker import handlers
from zizq.client.aio import Client
from zizq.client.options import Backoff
from zizq.errors import Cancel, ClientError
from zizq.testing.server import running_server
from zizq.worker.options import Reconnect
from zizq.worker.router import Router
from zizq.worker.worker import Worker

SOON = Reconnect(first=0.01, longest=0.01)


@contextlib.asynccontextmanager
async def serving(**settings):
    async with running_server(heartbeat_interval=50, **settings) as server, Client(server.url) as client:
        yield client


class Seen:
    """A handler that remembers what it was given, and lets a test wait for so much."""

    def __init__(self):
        self.jobs = []
        self._more = asyncio.Condition()

    async def handle(self, job):
        self.jobs.append(job)
        async with self._more:
            self._more.notify_all()

    async def until(self, count):
        async with self._more:
            await self._more.wait_for(lambda: len(self.jobs) >= count)


async def test_jobs_of_all_queues_are_worked_off():
    seen = Seen()
    async with serving() as client, Worker(client, seen, concurrency=5) as worker:
        for number in range(20):
            await client.enqueue_raw("greet", {"n": number}, queue=f"q{number % 3}")
        await seen.until(20)
    assert sorted(job.payload["n"] for job in seen.jobs) == list(range(20))
    assert worker.summary.processed == 20
    assert worker.summary.not_found == worker.summary.ack_dropped == 0


@pytest.mark.parametrize("format", ["msgpack", "json"])
async def test_both_formats_reach_handlers_on_the_loop_in_threads_and_in_processes(format):
    router, seen = Router(), asyncio.Queue()

    @router.route("loop")
    async def loop(job):
        seen.put_nowait(job.payload)

    @router.route(handlers.Greet)
    def thread(job):
        running.call_soon_threadsafe(seen.put_nowait, job.name)

    router.route("process", executor="process")(handlers.fine)
    running = asyncio.get_running_loop()
    async with (
        running_server() as server,
        Client(server.url, format=format) as client,
        Worker(client, router) as worker,
    ):
        await client.enqueue_raw("process", 1)
        await client.enqueue_raw("loop", {"é": [None, 1.5]})
        await client.enqueue(handlers.Greet("Ada"))
        assert [await seen.get(), await seen.get()] == [{"é": [None, 1.5]}, "Ada"]
    assert worker.summary.processed == 3


async def test_only_the_queues_that_were_named_are_taken_from():
    seen = Seen()
    async with serving() as client, Worker(client, seen, queues=["a"]):
        await client.enqueue_raw("greet", None, queue="b")
        await client.enqueue_raw("greet", None, queue="a")
        await seen.until(1)
    assert [job.queue for job in seen.jobs] == ["a"]


async def test_a_failed_job_comes_again_with_its_attempt_counted():
    runs = asyncio.Queue()

    async def handler(job):
        runs.put_nowait(job.attempts)
        if job.attempts == 0:
            raise ValueError("first time")

    async with serving() as client, Worker(client, handler):
        await client.enqueue_raw("greet", None, backoff=Backoff(base=0.01, exponent=0.0, jitter=0))
        assert [await runs.get(), await runs.get()] == [0, 1]


async def test_a_cancelled_job_is_dead():
    done = asyncio.Event()

    async def handler(job):
        done.set()
        raise Cancel("enough")

    async with serving() as client:
        job = await client.enqueue_raw("greet", None)
        async with Worker(client, handler):
            await done.wait()
        dead = await client.get_job(job.id)
        assert (dead.status, dead.attempts) == ("dead", 1)


async def test_an_unfinished_job_goes_back_without_an_attempt():
    started = asyncio.Event()

    async def handler(job):
        started.set()
        await asyncio.Event().wait()

    async with serving() as client:
        job = await client.enqueue_raw("greet", None)
        async with Worker(client, handler, shutdown_timeout=0.05):
            await started.wait()
        seen = Seen()
        async with Worker(client, seen):
            await seen.until(1)
        assert (seen.jobs[0].id, seen.jobs[0].attempts) == (job.id, 0)


async def test_a_refused_stream_ends_the_run():
    async with running_server() as server, Client(f"{server.url}/nowhere") as client:
        with pytest.raises(ClientError):
            await Worker(client, Seen()).run()


async def test_a_worker_waits_for_a_server_that_is_not_there_yet():
    async with Client("http://127.0.0.1:9") as client:
        worker = Worker(client, Seen(), reconnect=SOON, shutdown_timeout=1)
        run = asyncio.create_task(worker.run())
        await asyncio.sleep(0.1)
        worker.stop()
        assert (await run).processed == 0
