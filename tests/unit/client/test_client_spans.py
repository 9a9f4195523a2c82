"""The spans of a client: for what it sends, is handed and settles (docs/decisions/traces.md)."""

import subprocess
import sys

import msgspec
import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.trace import SpanKind, StatusCode

from tracing import PARENT, Memory, links_of, parent_of, traceparent
from unit.client.fakes import JOB, FakeStream, FakeTransport, SyncFakeStream, SyncFakeTransport, answer
from unit.client.test_client_take import frame
from zizq.client import Client, SyncClient, spans
from zizq.client.enqueue import Enqueue
from zizq.client.tracing import Tracing
from zizq.errors import ConfigError, EncodeError, InvalidRequest, NotFound

WHERE = {"messaging.system": "zizq", "server.address": "127.0.0.1", "server.port": 7890}
NEW = {"duplicate": False, "folded": False}


def talk(tracing, call, *answers, **network):
    """What a call returns, and the bodies that it sent."""
    transport = SyncFakeTransport(*answers, **network)
    with SyncClient(format="json", tracing=tracing, transport=transport) as client:
        value = call(client)
    return value, [msgspec.json.decode(request.body) for request in transport.sent if request.body]


def enqueued(tracing, *args, **options):
    """The metadata that an enqueue sends."""
    _, [body] = talk(tracing, lambda client: client.enqueue_raw("send", None, **options), answer(JOB | NEW, 201))
    return body.get("metadata")


def enqueued_bulk(tracing, *requests):
    """The metadata that each job of a bulk is sent with."""
    jobs = [JOB | NEW | {"id": str(index) * 25} for index, _ in enumerate(requests)]
    _, [body] = talk(tracing, lambda client: client.enqueue_bulk(requests), answer({"jobs": jobs}, 201))
    return [job.get("metadata") for job in body["jobs"]]


# ── one job ──────────────────────────────────────────────────────────────────────────────────────────


def test_an_enqueue_is_a_span_that_its_job_carries():
    memory = Memory()
    metadata = enqueued(memory.tracing, queue="emails", metadata={"mine": "1"})
    span = memory.one()
    assert (span.name, span.kind, span.parent, span.links) == ("send emails", SpanKind.PRODUCER, None, ())
    assert span.attributes == WHERE | {
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "emails",
        "messaging.message.id": JOB["id"],
        "messaging.zizq.job.type": "send",
    }
    assert (span.status.status_code, metadata) == (StatusCode.UNSET, {"mine": "1", "traceparent": traceparent(span)})


async def test_a_span_is_a_child_of_the_current_one_and_is_current_while_the_request_is_under_way():
    class Network(FakeTransport):
        async def send(self, request):
            self.current = trace.get_current_span()
            return await super().send(request)

    memory, network = Memory(), Network(answer(JOB | NEW, 201))
    with memory.tracer.start_as_current_span("mine") as mine:
        async with Client(format="json", tracing=memory.tracing, transport=network) as client:
            await client.enqueue(Enqueue("send", None))
        assert trace.get_current_span() is mine
    assert network.current.get_span_context() == memory.one("send").context
    assert parent_of(memory.one("send")) == traceparent(mine.get_span_context())


def test_a_context_that_the_caller_gives_is_left_alone_and_linked_to():
    memory = Memory()
    assert enqueued(memory.tracing, metadata={"traceparent": PARENT}) == {"traceparent": PARENT}
    span = memory.one()
    assert (span.kind, links_of(span), span.parent) == (SpanKind.CLIENT, [PARENT], None)


@pytest.mark.parametrize("flag", ["duplicate", "folded"])
def test_a_job_that_was_there_before_is_marked(flag):
    memory = Memory()
    talk(memory.tracing, lambda client: client.enqueue_raw("send", None), answer(JOB | NEW | {flag: True}))
    assert memory.one().attributes[f"messaging.zizq.job.{flag}"] is True


def test_a_refusal_is_an_error_of_the_span():
    memory = Memory()
    with pytest.raises(InvalidRequest):
        talk(memory.tracing, lambda client: client.enqueue_raw("send", None), answer({"error": "no such thing"}, 400))
    span = memory.one()
    assert (span.status.status_code, span.attributes["error.type"]) == (StatusCode.ERROR, "zizq.errors.InvalidRequest")
    assert "no such thing" in span.status.description
    assert span.events[0].name == "exception"
    assert trace.get_current_span() is trace.INVALID_SPAN


@pytest.mark.parametrize(
    ("metadata", "error"), [(["a"], ConfigError), ({"traceparent": 1}, ConfigError), ({"m": "\ud800"}, EncodeError)]
)
def test_metadata_that_cannot_be_sent_is_refused_as_without_tracing(metadata, error):
    for tracing in (False, Memory().tracing):
        with pytest.raises(error):
            enqueued(tracing, metadata=metadata)
        with pytest.raises(error):
            enqueued_bulk(tracing, Enqueue("a", 1, metadata=metadata))


def test_what_cannot_be_sent_ends_its_span_too():
    memory = Memory()
    with pytest.raises(EncodeError):
        talk(memory.tracing, lambda client: client.enqueue_raw("send", object()))
    assert memory.one("send").attributes["error.type"] == "zizq.errors.EncodeError"


# ── many jobs ────────────────────────────────────────────────────────────────────────────────────────


def test_each_job_of_a_bulk_has_a_span_that_its_run_is_to_link_to():
    memory = Memory()
    metadata = enqueued_bulk(memory.tracing, Enqueue("a", 1, "q"), Enqueue("b", 2, "q"))
    made, send = memory.ended("create"), memory.one("send")
    assert metadata == [{"traceparent": traceparent(span), "zizq-trace": "link"} for span in made]
    assert [(span.name, span.kind) for span in made] == [("create q", SpanKind.PRODUCER)] * 2
    assert [span.attributes["messaging.message.id"] for span in made] == ["0" * 25, "1" * 25]
    assert [span.attributes["messaging.zizq.job.type"] for span in made] == ["a", "b"]
    assert (send.name, send.kind, links_of(send)) == ("send q", SpanKind.CLIENT, [traceparent(span) for span in made])
    assert send.attributes["messaging.batch.message_count"] == 2
    assert "messaging.message.id" not in send.attributes


def test_without_spans_of_their_own_jobs_of_a_bulk_carry_that_of_the_request():
    memory = Memory(create_spans=False)
    metadata = enqueued_bulk(memory.tracing, Enqueue("a", 1), Enqueue("b", 2))
    send = memory.one()
    assert metadata == [{"traceparent": traceparent(send), "zizq-trace": "link"}] * 2
    assert (send.kind, send.links) == (SpanKind.PRODUCER, ())


def test_contexts_of_the_caller_are_left_alone_in_a_bulk_too():
    memory = Memory()
    given = {"traceparent": PARENT}
    metadata = enqueued_bulk(memory.tracing, Enqueue("a", 1, metadata=given), Enqueue("b", 2))
    made = memory.one("create")
    assert metadata[0] == given
    assert metadata[1]["traceparent"] == traceparent(made)
    assert links_of(memory.one("send")) == [PARENT, traceparent(made)]


def test_a_bulk_to_several_queues_names_none():
    memory = Memory()
    enqueued_bulk(memory.tracing, Enqueue("a", 1, "p"), Enqueue("b", 2, "q"))
    assert memory.one("send").name == "send"
    assert "messaging.destination.name" not in memory.one("send").attributes


def test_a_span_has_so_many_links_and_no_more(monkeypatch):
    monkeypatch.setattr(spans, "_MOST_LINKS", 3)
    memory = Memory()
    enqueued_bulk(memory.tracing, *[Enqueue("a", 1)] * 5)
    assert len(memory.one("send").links) == 3


# ── room in the metadata ─────────────────────────────────────────────────────────────────────────────


def test_baggage_travels_as_far_as_there_is_room():
    memory = Memory()
    for size, travels in ((100, True), (5000, False)):
        token = context.attach(baggage.set_baggage("k", "v" * size))
        assert ("baggage" in enqueued(memory.tracing)) is travels
        context.detach(token)
    assert all("traceparent" in enqueued(memory.tracing, metadata={"m": "v" * size}) for size in (0, 4000))


@pytest.mark.parametrize("full", [{str(n): "" for n in range(32)}, {"m": "v" * 4090}])
def test_an_enqueue_whose_metadata_is_full_is_sent_as_it_is(full):
    assert enqueued(Memory().tracing, metadata=full) == full


# ── settling, and what a stream hands over ───────────────────────────────────────────────────────────


def take(memory, read, *then, queue="emails"):
    jobs = b"".join(frame(n, queue=queue, metadata={"traceparent": PARENT}) for n in (1, 2))
    network = SyncFakeTransport(*then, stream=SyncFakeStream([jobs, frame(3)]))
    with SyncClient(tracing=memory.tracing, transport=network) as client, client.take() as stream:
        return read(client, stream)


def test_each_job_that_is_handed_over_is_received_when_it_is_asked_for():
    memory = Memory()
    take(memory, lambda client, stream: next(stream))
    span = memory.one()
    assert (span.name, span.kind, links_of(span)) == ("receive emails", SpanKind.CLIENT, [PARENT])
    assert span.attributes["messaging.message.id"] == "1" * 25
    assert "messaging.batch.message_count" not in span.attributes


def test_jobs_that_are_handed_over_together_are_received_together():
    memory = Memory()
    take(memory, lambda client, stream: stream.next_batch())
    span = memory.one()
    assert (span.attributes["messaging.batch.message_count"], links_of(span)) == (2, [PARENT, PARENT])


async def test_jobs_for_others_to_run_are_not_received():
    memory = Memory()
    assert len(take(memory, lambda client, stream: list(stream.batches()))) == 2
    network = FakeTransport(stream=FakeStream([frame(1)]))
    async with Client(tracing=memory.tracing, transport=network) as client, client.take() as stream:
        assert len([batch async for batch in stream.batches()]) == 1
    assert memory.ended() == []


async def test_coroutines_receive_alike():
    memory = Memory()
    network = FakeTransport(stream=FakeStream([frame(1) + frame(2), frame(3)]))
    async with Client(tracing=memory.tracing, transport=network) as client, client.take() as stream:
        await anext(stream)
        await stream.next_batch()
    assert [span.attributes.get("messaging.batch.message_count") for span in memory.ended()] == [None, 1]


def test_a_report_is_made_once_with_links_and_none_is_made_of_nothing():
    memory = Memory()

    def read(client, stream):
        ids = [job.id for job in stream.next_batch()]
        client.report_success_bulk(ids)
        client.report_success_bulk(ids)
        client.release([], "stream")

    take(memory, read, *[answer(status=204)] * 3)
    assert [(span.name, len(span.links)) for span in memory.ended()[1:]] == [("succeed emails", 2), ("succeed", 0)]


def test_a_success_of_a_job_that_was_received_links_to_where_it_was_made():
    memory = Memory()
    take(memory, lambda client, stream: client.report_success(next(stream).id), answer(status=204))
    span = memory.one("succeed")
    assert (span.name, span.kind, links_of(span)) == ("succeed emails", SpanKind.CLIENT, [PARENT])
    assert span.attributes["messaging.operation.type"] == "settle"
    assert span.attributes["messaging.message.id"] == "1" * 25


def test_a_report_of_a_job_that_is_not_known_has_its_identifier_alone():
    memory = Memory()
    with pytest.raises(NotFound):
        talk(memory.tracing, lambda client: client.report_failure("x", "boom"), answer({"error": "not found"}, 404))
    span = memory.one()
    assert (span.name, span.links, span.attributes["messaging.message.id"]) == ("fail", (), "x")
    assert span.attributes["error.type"] == "zizq.errors.NotFound"


def test_reports_of_many_jobs_say_how_many():
    memory = Memory()
    lost = answer({"not_found": ["b"]}, 422)
    talk(memory.tracing, lambda client: client.report_success_bulk(["a", "b"]), lost)
    talk(memory.tracing, lambda client: client.release(["a", "b", "c"]), answer(status=204))
    done, back = memory.ended()
    assert (done.name, done.attributes["messaging.batch.message_count"]) == ("succeed", 2)
    assert done.attributes["messaging.zizq.not_found_count"] == 1
    assert (back.name, back.attributes["messaging.batch.message_count"]) == ("release", 3)


def test_jobs_that_are_never_settled_are_forgotten(monkeypatch):
    monkeypatch.setattr(spans, "_MOST_KNOWN", 1)
    memory = Memory()

    def read(client, stream):
        for job in stream.next_batch():
            client.report_success(job.id)

    take(memory, read, answer(status=204), answer(status=204))
    assert [span.name for span in memory.ended("succeed")] == ["succeed", "succeed emails"]


# ── when there is no tracing ─────────────────────────────────────────────────────────────────────────


def test_without_a_provider_jobs_carry_nothing():
    assert enqueued(True) is None
    assert enqueued_bulk(True, Enqueue("a", 1), Enqueue("b", 1, metadata={"m": ""})) == [None, {"m": ""}]


def test_without_tracing_there_is_no_span_and_no_metadata():
    assert enqueued(False) is None


@pytest.mark.parametrize("wrong", [None, "yes", 1, object()])
def test_tracing_that_says_nothing_is_refused(wrong):
    with pytest.raises(ConfigError, match="must be True, False or a zizq"):
        SyncClient(tracing=wrong)


@pytest.mark.parametrize("how", [True, Tracing(create_spans=False)])
def test_without_opentelemetry_the_error_says_what_to_install(how, monkeypatch):
    for name in ("zizq.client.spans", "zizq.client.traced"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    for make in (SyncClient, Client):
        with pytest.raises(ConfigError, match=r"pip install 'zizq\[otel\]'"):
            make(tracing=how)


def test_nobody_imports_opentelemetry_who_does_not_trace():
    program = "import sys, zizq; zizq.SyncClient(); print([name for name in sys.modules if 'opentelemetry' in name])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
