"""Traces through client, server and worker."""

from __future__ import annotations

import asyncio

import pytest

from docs.living import LivingServer
from tracing import Memory, links_of, parent_of, traceparent
from zizq import Client, Enqueue, Job, SyncClient, Worker
from zizq.client.options import instant_of
from zizq.ids import created_at
from zizq.testing.server import running_server
from zizq.worker import running


async def work(client: Client, count: int) -> None:
    """Work so many jobs; those of the type `broken` fail for good."""
    left, done = count, asyncio.Event()

    async def handler(job: Job) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()
        if job.type == "broken":
            raise ValueError(job.type)

    await Worker(client, handler, concurrency=count, worker_id="w").run(done.wait())


async def test_one_trace_goes_from_the_caller_through_the_run_to_its_report() -> None:
    memory = Memory()
    async with running_server() as server, Client(server.url, tracing=memory.tracing) as client:
        with memory.tracer.start_as_current_span("mine") as mine:
            job = await client.enqueue_raw("fine", None, queue="q")
        assert (await client.get_job(job.id)).metadata == {"traceparent": traceparent(memory.one("send"))}
        await work(client, 1)
    send, run, done = memory.one("send"), memory.one("process"), memory.one("succeed")
    assert [parent_of(span) for span in (send, run, done)] == [
        traceparent(one.get_span_context()) for one in (mine, send, run)
    ]
    assert [links_of(span) for span in (send, run, done)] == [[], [traceparent(send)], [traceparent(send)]]
    assert (done.name, done.attributes["messaging.operation.type"]) == ("succeed q", "settle")


async def test_the_report_of_a_failure_is_a_child_of_its_run_and_a_retry_links() -> None:
    memory = Memory()
    async with running_server() as server, Client(server.url, tracing=memory.tracing) as client:
        job = await client.enqueue_raw("broken", None)
        await work(client, 1)
        await client.patch_job(job.id, ready_at=job.ready_at)
        await work(client, 1)
    send, (first, second), failed = memory.one("send"), memory.ended("process"), memory.ended("fail")
    assert [parent_of(span) for span in (first, second)] == [traceparent(send), None]
    assert links_of(second) == [traceparent(send)]
    assert [parent_of(span) for span in failed] == [traceparent(first), traceparent(second)]


@pytest.mark.parametrize("create_spans", [True, False])
async def test_jobs_of_a_bulk_are_traces_of_their_own_and_are_settled_together(create_spans: bool) -> None:
    memory = Memory(create_spans=create_spans)
    async with running_server() as server, Client(server.url, tracing=memory.tracing) as client:
        await client.enqueue_bulk([Enqueue("fine", number) for number in range(9)])
        await work(client, 9)
    runs, made = memory.ended("process"), memory.ended("create") or [memory.one("send")] * 9
    assert [span.parent for span in runs] == [None] * 9
    assert [link for span in runs for link in links_of(span)] == [traceparent(span) for span in made]
    done = memory.ended("succeed")
    assert sum(span.attributes["messaging.batch.message_count"] for span in done) == 9
    assert sorted(link for span in done for link in links_of(span)) == sorted(traceparent(span) for span in made)


async def test_a_job_for_later_is_a_trace_of_its_own() -> None:
    memory = Memory()
    async with running_server() as server, Client(server.url, tracing=memory.tracing) as client:
        job = await client.enqueue_raw("fine", None, delay=3600)
        await client.patch_job(job.id, ready_at=instant_of(created_at(job.id) + 1))
        await work(client, 1)
    assert memory.one("process").parent is None
    assert links_of(memory.one("process")) == [traceparent(memory.one("send"))]


async def test_the_client_for_threads_traces_alike() -> None:
    memory = Memory()

    def story(url: str) -> None:
        with SyncClient(url, tracing=memory.tracing) as client:
            client.enqueue_raw("fine", None)
            with client.take() as jobs:
                client.report_success(next(jobs).id)

    async with running_server() as server:
        await asyncio.to_thread(story, server.url)
    send, received, done = memory.ended()
    assert [span.name for span in (send, received, done)] == ["send default", "receive default", "succeed default"]
    assert links_of(received) == links_of(done) == [traceparent(send)]


async def test_a_worker_that_traces_works_jobs_of_clients_that_do_not() -> None:
    memory = Memory()
    async with (
        running_server() as server,
        Client(server.url) as plain,
        Client(server.url, tracing=memory.tracing) as client,
    ):
        await plain.enqueue_raw("fine", None)
        await work(client, 1)
    assert (memory.one("process").parent, memory.one("process").links) == (None, ())
    assert links_of(memory.one("succeed")) == [traceparent(memory.one("process"))]


def test_a_worker_in_one_call_traces_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory()
    with LivingServer() as server, SyncClient(server.url) as client:
        monkeypatch.setattr(running, "on_signals", server.until_idle)
        client.enqueue_raw("fine", None)
        running.run_worker(lambda job: None, server.url, tracing=memory.tracing)
    assert [span.name for span in memory.ended("process")] == ["process default"]
