"""The spans of runs: what is a child of what, what links to what, and what is an error (docs/decisions/traces.md)."""

import asyncio

import pytest
from opentelemetry import baggage, trace
from opentelemetry.trace import SpanKind, StatusCode

from tracing import PARENT, Memory, links_of, parent_of, traceparent
from unit.worker import handlers
from unit.worker.fakes import FakeClient, job
from zizq.client import Client
from zizq.errors import Cancel, RetryLater
from zizq.worker.router import Router
from zizq.worker.worker import Worker

CARRIED = {"traceparent": PARENT}
ID = "0" * 24 + "1"


def spans_of(tracing):
    """What a client that traces has for its worker."""
    return Client("http://host:1", tracing=tracing).spans


async def run(tracing, handler, *jobs, **options):
    """Work jobs to their ends."""
    client = FakeClient()
    client.spans = spans_of(tracing)
    async with Worker(client, handler, **options):
        (await client.opened()).push(*jobs)
        await client.until(lambda: len(client.acked) + len(client.failed) == len(jobs))
    return client


async def nothing(job):
    pass


# ── parents and links ────────────────────────────────────────────────────────────────────────────────


async def test_the_run_of_a_plain_job_is_a_child_of_the_span_it_was_made_in():
    memory = Memory()
    await run(memory.tracing, nothing, job(metadata=CARRIED, job_id=ID))
    span = memory.one()
    assert (span.name, span.kind, parent_of(span), links_of(span)) == (
        "process default", SpanKind.CONSUMER, PARENT, [PARENT],
    )  # fmt: skip
    assert span.attributes == {
        "messaging.system": "zizq",
        "server.address": "host",
        "server.port": 1,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "default",
        "messaging.message.id": ID,
        "messaging.zizq.job.type": "greet",
        "messaging.zizq.job.attempt": 1,
    }
    assert (span.status.status_code, span.events) == (StatusCode.UNSET, ())


@pytest.mark.parametrize(
    "why", [{"attempts": 1}, {"ready_at": 1}, {"metadata": CARRIED | {"zizq-trace": "link"}}], ids=str
)
async def test_the_run_of_a_retried_scheduled_or_bulk_job_is_a_trace_of_its_own_with_a_link(why):
    memory = Memory()
    await run(memory.tracing, nothing, job(**{"metadata": CARRIED, "job_id": ID} | why))
    span = memory.one()
    assert (span.parent, links_of(span)) == (None, [PARENT])
    assert span.attributes["messaging.zizq.job.attempt"] == why.get("attempts", 0) + 1


@pytest.mark.parametrize("metadata", [None, {"other": ""}, {"traceparent": "rubbish"}, {"traceparent": ""}])
async def test_the_run_of_a_job_without_a_context_is_a_trace_of_its_own(metadata):
    memory = Memory()
    await run(memory.tracing, nothing, job(metadata=metadata))
    assert (memory.one().parent, memory.one().links) == (None, ())


async def test_an_identifier_that_is_not_ours_is_no_reason_for_a_trace_of_its_own():
    memory = Memory()
    await run(memory.tracing, nothing, job(metadata=CARRIED, job_id="7"))
    assert parent_of(memory.one()) == PARENT


async def test_what_was_current_where_the_worker_was_started_is_no_parent_and_is_current_again_at_its_end():
    class Network(FakeClient):
        async def report_success_bulk(self, ids):
            assert trace.get_current_span() is trace.INVALID_SPAN
            return await super().report_success_bulk(ids)

    memory = Memory()
    client, stop = Network(), asyncio.Event()
    client.spans = spans_of(memory.tracing)
    with memory.tracer.start_as_current_span("program") as program:
        work = asyncio.create_task(Worker(client, nothing).run(stop.wait()))
        (await client.opened()).push(job(metadata=CARRIED), job())
        await client.until(lambda: len(client.acked) == 2)
        stop.set()
        await work
        other = FakeClient()
        other.spans, done = client.spans, asyncio.Event()
        done.set()
        await Worker(other, nothing).run(done.wait())
        assert trace.get_current_span() is program
    assert [parent_of(span) for span in memory.ended("process")] == [PARENT, None]


@pytest.mark.parametrize("attempts", [0, 1])
async def test_baggage_reaches_the_handler(attempts):
    found = []

    async def handler(job):
        found.append(baggage.get_baggage("tenant"))

    await run(Memory().tracing, handler, job(metadata=CARRIED | {"baggage": "tenant=acme"}, attempts=attempts))
    assert found == ["acme"]


# ── where it is current ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("executor", ["loop", "thread"])
async def test_the_span_is_current_in_the_handler_and_in_middleware(executor):
    memory, router, seen = Memory(), Router(), []

    @router.route("greet", executor=executor)
    def handler(job):
        seen.append(trace.get_current_span())

    async def middleware(job, call_next):
        seen.append(trace.get_current_span())
        await call_next(job)

    await run(memory.tracing, router, job(), middleware=[middleware])
    assert [span.get_span_context() for span in seen] == [memory.one().get_span_context()] * 2


async def test_the_span_is_current_in_a_handler_in_another_process():
    memory, router = Memory(), Router()
    router.route("tell", executor="process")(handlers.tell_span)
    client = await run(memory.tracing, router, job("tell"))
    span = memory.one()
    assert client.failed[0].message == traceparent(span)[3:-3].replace("-", " ")
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, client.failed[0].message)
    [event] = span.events
    assert (event.name, event.attributes["exception.type"]) == ("exception", "ValueError")
    assert "in tell_span" in event.attributes["exception.stacktrace"]
    assert span.attributes["error.type"] == "ValueError"


async def test_a_slot_goes_on_after_a_run_that_was_traced():
    tasks = set()

    async def handler(job):
        tasks.add(asyncio.current_task())

    await run(Memory().tracing, handler, *[job(metadata=CARRIED) for _ in range(5)])
    assert len(tasks) == 1


# ── how it ends ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_handler_that_raises_is_an_error():
    async def broken(job):
        raise KeyError("who")

    memory = Memory()
    await run(memory.tracing, broken, job())
    span = memory.one()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "'who'")
    assert span.attributes["error.type"] == "KeyError"
    assert [event.attributes["exception.type"] for event in span.events] == ["KeyError"]


async def test_a_type_without_a_route_is_an_error_too():
    memory = Memory()
    await run(memory.tracing, Router(), job())
    assert memory.one().attributes["error.type"] == "zizq.errors.NoRouteError"


@pytest.mark.parametrize(
    ("decision", "outcome"), [(Cancel("enough"), "cancel"), (RetryLater("busy", after=5), "retry_later")], ids=str
)
async def test_a_decision_of_the_handler_is_no_error_unless_it_comes_from_one(decision, outcome):
    async def plain(job):
        try:
            int("expected")
        except ValueError:
            raise decision  # noqa: B904 - the point of the test

    async def caused(job):
        raise decision from OSError("disk")

    for handler, status, kind in ((plain, StatusCode.UNSET, None), (caused, StatusCode.ERROR, "OSError")):
        memory = Memory()
        client = await run(memory.tracing, handler, job())
        span = memory.one()
        assert span.attributes["messaging.zizq.job.outcome"] == outcome
        assert (span.status.status_code, span.attributes.get("error.type")) == (status, kind)
        assert client.failed[0].message == str(decision)


async def test_a_decision_in_another_process_is_no_error_either():
    memory, router = Memory(), Router()
    router.route("give up", executor="process")(handlers.give_up)
    await run(memory.tracing, router, job("give up"))
    assert memory.one().status.status_code is StatusCode.UNSET
    assert memory.one().attributes["messaging.zizq.job.outcome"] == "cancel"


async def test_an_error_that_cannot_be_told_is_still_the_error():
    class Broken(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    async def handler(job):
        raise Broken

    memory = Memory()
    client = await run(memory.tracing, handler, job())
    assert "Broken" in client.failed[0].error_type
    assert "Broken" in memory.one().attributes["error.type"]


async def test_a_worker_runs_as_ever_where_nothing_provides_spans():
    client = await run(True, nothing, job(metadata=CARRIED), job())
    assert len(client.acked) == 2
