"""Workers and a server in one process: jobs that are held for too long, and workers that leave in good order."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest

from zizq.client.aio import Client
from zizq.client.enqueue import Enqueue
from zizq.client.job import Job
from zizq.client.kinds import job_kind
from zizq.client.sync import SyncClient
from zizq.testing.server import RunningServer, running_server
from zizq.worker.hooks import Acked, Hooks
from zizq.worker.worker import Worker


def deaths(server: RunningServer) -> dict[str, int]:
    """What the store in memory has counted."""
    store: Any = server.app.broker._store
    return dict(store._deaths)


class Gate:
    """A handler that says when it starts, and waits to be let go."""

    def __init__(self) -> None:
        self.started = asyncio.Semaphore(0)
        self.go = asyncio.Event()

    async def handle(self, job: Job) -> None:
        self.started.release()
        await self.go.wait()


# ── time limits ──


@pytest.mark.parametrize("whose", ["job", "worker"])
async def test_a_job_that_hangs_is_taken_away_and_its_late_report_warned_of(
    whose: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "zizq")
    limit = timedelta(milliseconds=30)
    gate, reported = Gate(), asyncio.Event()
    hooks = Hooks(on_ack=lambda event: reported.set())
    async with running_server() as server, Client(server.url) as client:
        job = await client.enqueue_raw("t", None, timeout=limit if whose == "job" else None)
        worker = Worker(client, gate, job_timeout=limit if whose == "worker" else None, hooks=hooks)
        async with worker:
            await gate.started.acquire()
            while (await client.get_job(job.id)).status == "in_flight":
                pass
            gate.go.set()
            await asyncio.wait_for(reported.wait(), 5)
        after = await client.get_job(job.id)
        error = await client.get_error(job.id, 1)
        assert (after.status, after.attempts, error.error_type) == ("scheduled", 1, "Timeout")
        assert worker.summary.not_found == 1
        assert "they took longer than their timeout" in caplog.text
        assert job.id in caplog.text


@job_kind("slow", timeout=timedelta(seconds=90))
class Slow(dict):  # type: ignore[type-arg]
    def to_payload(self) -> object:
        return dict(self)

    @classmethod
    def from_payload(cls, payload: Any) -> Slow:
        return cls(payload)


async def test_a_timeout_is_an_option_of_kinds_enqueues_patches_and_crons() -> None:
    async with running_server() as server, Client(server.url) as client:
        slow = await client.enqueue(Slow())
        other = await client.enqueue(Slow(), timeout=2.5)
        assert (slow.timeout, other.timeout) == (timedelta(seconds=90), timedelta(seconds=2.5))
        assert (await client.patch_job(slow.id, timeout=timedelta(hours=1))).timeout == timedelta(hours=1)
        assert (await client.patch_job(slow.id, timeout=None)).timeout is None
        assert await client.jobs(type="slow").update(timeout=3) == 2
        assert [job.timeout_ms async for job in client.jobs()] == [3000, 3000]
        async with client.define_cron("c") as cron:
            cron.entry("e", "0 9 * * *", Slow())
        [entry] = (await client.cron("c").get()).entries
        assert entry.template.request().timeout == timedelta(seconds=90)


# ── leaving in good order ──


JOBS = 400


@pytest.mark.parametrize(("concurrency", "prefetch"), [(1, 1), (1, 4), (3, 3), (3, 20)])
async def test_orderly_stops_under_load_count_nothing(concurrency: int, prefetch: int) -> None:
    async with running_server() as server, Client(server.url) as client:
        await client.enqueue_bulk([Enqueue("t", number) for number in range(JOBS)])
        done: set[str] = set()
        more = asyncio.Semaphore(0)

        def note(event: Acked) -> None:
            done.update(event.ids)
            more.release()

        async def handle(job: Job) -> None:
            await asyncio.sleep(0)

        for _ in range(15):
            before = len(done)
            async with Worker(client, handle, concurrency=concurrency, prefetch=prefetch, hooks=Hooks(on_ack=note)):
                while len(done) < min(before + 5, JOBS):
                    await more.acquire()
        assert deaths(server) == {}
        assert await client.jobs(status="in_flight").count() == 0
        assert await client.jobs().count() == JOBS - len(done)


async def test_jobs_that_a_stopping_worker_has_not_begun_run_elsewhere_at_once() -> None:
    async with running_server() as server, Client(server.url) as client:
        running, waiting = await client.enqueue_bulk([Enqueue("t", 1), Enqueue("t", 2)])
        slow, other = Gate(), Gate()
        stop = asyncio.Event()
        stopping = asyncio.create_task(Worker(client, slow, concurrency=1, prefetch=2).run(stop))
        await slow.started.acquire()
        while (await client.get_job(waiting.id)).status != "in_flight":
            pass
        stop.set()
        async with Worker(client, other):
            await asyncio.wait_for(other.started.acquire(), 5)
            assert (await client.get_job(running.id)).status == "in_flight"
            slow.go.set()
            other.go.set()
            assert (await stopping).processed == 1
        assert deaths(server) == {}


async def test_a_handler_that_outlives_the_shutdown_is_not_held_against_its_job() -> None:
    async with running_server() as server, Client(server.url) as client:
        job = await client.enqueue_raw("t", None)
        gate, stop = Gate(), asyncio.Event()
        run = asyncio.create_task(Worker(client, gate, shutdown_timeout=1).run(stop))
        await gate.started.acquire()
        stop.set()
        assert (await run).abandoned == 1
        assert (await client.get_job(job.id)).status == "ready"
        assert deaths(server) == {}


async def test_a_worker_that_is_killed_counts_for_the_jobs_it_ran() -> None:
    async with running_server() as server, Client(server.url) as client:
        running, waiting = await client.enqueue_bulk([Enqueue("t", 1), Enqueue("t", 2)])
        gate = Gate()
        worker = Worker(client, gate, concurrency=1, prefetch=2)
        run = asyncio.create_task(worker.run())
        await gate.started.acquire()
        while (await client.get_job(waiting.id)).status != "in_flight":
            pass
        worker.kill()
        await run
        while (await client.get_job(waiting.id)).status != "ready":
            pass
        assert deaths(server) == {running.id: 1}


# ── by hand ──


async def test_jobs_are_given_back_by_hand() -> None:
    async with running_server() as server, Client(server.url) as client:
        first, second = await client.enqueue_bulk([Enqueue("t", 1), Enqueue("t", 2)])
        async with client.take(prefetch=2, job_timeout=60, concurrency=1, stream="mine") as jobs:
            assert {(await anext(jobs)).id, (await anext(jobs)).id} == {first.id, second.id}
            assert await client.release([second.id, "none"], stream="mine") == ["none"]
            await client.report_success(first.id)
            assert [job async for job in jobs] == []
        assert (await client.get_job(second.id)).status == "ready"
        assert await client.release([]) == []


async def test_jobs_are_given_back_by_hand_from_a_thread() -> None:
    async with running_server() as server:

        def use() -> list[str]:
            with SyncClient(server.url) as client:
                job = client.enqueue_raw("t", None)
                with client.take(job_timeout=60, concurrency=1, stream="mine") as jobs:
                    assert next(jobs).id == job.id
                    missing = client.release([job.id], stream="mine")
                    assert list(jobs) == []
                return missing

        assert await asyncio.to_thread(use) == []
