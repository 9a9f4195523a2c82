"""What each call sends, and what each answer means; the same for both clients."""

import asyncio
import inspect
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from unit.client.fakes import JOB, FakeTransport, SyncFakeTransport, answer
from zizq.client import Client, SyncClient
from zizq.client.enqueue import Enqueue
from zizq.client.options import Backoff, Retention
from zizq.errors import (
    ClientError,
    ConfigError,
    Conflict,
    DecodeError,
    EncodeError,
    Forbidden,
    InvalidRequest,
    NotFound,
    ServerError,
    UnsupportedFormat,
)
from zizq.testing.clock import ManualClock
from zizq.wire.codec import Format

NOW = ManualClock().wall_ms()


def ask(method, *args, answers=None, form="json", **options):
    """The value of a call, and the request it sent."""
    transport = SyncFakeTransport(*(answers or [answer(JOB)]))
    with SyncClient(format=form, transport=transport, clock=ManualClock()) as client:
        value = getattr(client, method)(*args, **options)
    return value, transport.sent[0] if transport.sent else None


def test_enqueue_raw_sends_only_what_it_was_told():
    job, request = ask("enqueue_raw", "send", {"to": "a"})
    assert (request.method, request.path) == ("POST", "/jobs")
    assert request.headers == {"accept": "application/json", "content-type": "application/json"}
    assert msgspec.json.decode(request.body) == {"type": "send", "queue": "default", "payload": {"to": "a"}}
    assert (job.id, job.priority, job.attempts) == (JOB["id"], 7, 2)


def test_enqueue_raw_sends_every_option_in_the_units_of_the_wire():
    _, request = ask(
        "enqueue_raw", "send", None,
        queue="q", priority=0, delay=timedelta(minutes=1), retry_limit=0,
        backoff=Backoff(base=1.5, exponent=2, jitter=timedelta(seconds=3)),
        retention=Retention(completed=3600), unique_key="k", unique_while="active", timeout=timedelta(minutes=2),
    )  # fmt: skip
    assert msgspec.json.decode(request.body) == {
        "type": "send", "queue": "q", "payload": None, "priority": 0, "ready_at": NOW + 60_000, "retry_limit": 0,
        "backoff": {"exponent": 2.0, "base_ms": 1500, "jitter_ms": 3000}, "retention": {"completed_ms": 3_600_000},
        "unique_key": "k", "unique_while": "active", "timeout_ms": 120_000,
    }  # fmt: skip


def test_an_instant_is_sent_in_unix_milliseconds():
    _, request = ask("enqueue_raw", "send", 1, ready_at=datetime(2030, 1, 1, tzinfo=UTC))
    assert msgspec.json.decode(request.body)["ready_at"] == 1_893_456_000_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ready_at": datetime(2030, 1, 1)}, "time zone"),  # noqa: DTZ001
        ({"ready_at": datetime(2030, 1, 1, tzinfo=UTC), "delay": 1}, "exclude each other"),
        ({"delay": -1}, "negative"),
        ({"timeout": 0}, "timeout=0 must be a millisecond or more"),
        ({"timeout": "long"}, "not a duration"),
        ({"delay": "soon"}, "not a duration"),
        ({"delay": float("nan")}, "not a duration"),
        ({"prority": 1}, "unknown option 'prority'"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_sent(options, message):
    with pytest.raises(ConfigError, match=message):
        ask("enqueue_raw", "send", 1, **options)


@pytest.mark.parametrize("payload", [object(), {"a": {1, object()}}, 2**70])
def test_a_payload_that_cannot_travel_is_an_encode_error(payload):
    with pytest.raises(EncodeError, match="cannot be sent"):
        ask("enqueue_raw", "send", payload, form="msgpack")


def test_a_datetime_in_a_payload_is_text_in_both_formats():
    when = datetime(2030, 1, 1, tzinfo=UTC)
    for form, decode in (("json", msgspec.json.decode), ("msgpack", msgspec.msgpack.decode)):
        _, request = ask("enqueue_raw", "send", {1: when}, form=form)
        assert decode(request.body)["payload"] == {"1": "2030-01-01T00:00:00Z"}


def test_enqueue_bulk_sends_all_at_once_and_answers_in_order():
    answers = [answer({"jobs": [JOB, JOB | {"id": "1" * 25, "duplicate": True}]}, 201, Format.MSGPACK)]
    jobs, request = ask("enqueue_bulk", [Enqueue("a", 1), Enqueue("b", 2, delay=1)], answers=answers, form="msgpack")
    assert [job.id[0] for job in jobs] == ["0", "1"]
    assert [job.duplicate for job in jobs] == [False, True]
    body = msgspec.msgpack.decode(request.body)
    assert [(job["type"], job.get("ready_at")) for job in body["jobs"]] == [("a", None), ("b", NOW + 1000)]


@pytest.mark.parametrize("method", ["enqueue_bulk", "report_success_bulk"])
def test_an_empty_bulk_sends_nothing(method):
    assert ask(method, []) == ([], None)


@pytest.mark.parametrize(
    ("method", "args", "sent"),
    [
        ("get_job", ["a/b"], ("GET", "/jobs/a%2Fb")),
        ("delete_job", ["a"], ("DELETE", "/jobs/a")),
        ("get_error", ["a", 3], ("GET", "/jobs/a/errors/3")),
        ("report_success", ["a"], ("POST", "/jobs/a/success")),
        ("health", [], ("GET", "/health")),
        ("version", [], ("GET", "/version")),
        ("queues", [], ("GET", "/queues")),
        ("reset", [], ("POST", "/reset")),
    ],
)
def test_a_call_without_a_body_is_a_method_and_a_path(method, args, sent):
    body = (
        {"status": "ok", "version": "1", "queues": []}
        | JOB
        | {"attempt": 1, "message": "m", "dequeued_at": 1, "failed_at": 2}
    )
    done = 204 if sent[0] == "DELETE" or method in ("report_success", "reset") else 200
    _, request = ask(method, *args, answers=[answer(None if done == 204 else body, done)])
    assert (request.method, request.path) == sent
    assert request.body is None
    assert "content-type" not in request.headers


@pytest.mark.parametrize("id", ["", ".", ".."])
def test_an_id_that_would_change_the_path_is_refused(id):
    with pytest.raises(ConfigError):
        ask("delete_job", id)


def test_an_error_of_a_job_has_its_times():
    record = {"attempt": 3, "message": "m", "dequeued_at": 1, "failed_at": 1_790_000_000_000}
    error, request = ask("get_error", "a", 3, answers=[answer(record)])
    assert request.path == "/jobs/a/errors/3"
    assert (error.attempt, error.error_type, error.failed_at.year, error.dequeued_at.year) == (3, None, 2026, 1970)


@pytest.mark.parametrize("options", [{"priority": 2**70}, {"queue": "\ud800"}])
def test_a_request_that_cannot_be_encoded_is_an_encode_error(options):
    with pytest.raises(EncodeError, match="cannot be sent"):
        ask("enqueue_raw", "send", 1, form="msgpack", **options)


def test_success_in_bulk_returns_the_ids_that_were_not_in_flight():
    missing, request = ask("report_success_bulk", ["a", "b"], answers=[answer({"not_found": ["b"]}, 422)])
    assert missing == ["b"]
    assert msgspec.json.decode(request.body) == {"ids": ["a", "b"]}
    assert ask("report_success_bulk", ("a",), answers=[answer(status=204)])[0] == []


def test_another_422_on_bulk_success_is_an_error():
    with pytest.raises(InvalidRequest, match="no room"):
        ask("report_success_bulk", ["a"], answers=[answer({"error": "no room"}, 422)])


def test_an_exception_is_reported_with_its_type_and_traceback():
    _, request = ask("report_failure", "a", NotFound(404, "gone"), retry_in=60)
    body = msgspec.json.decode(request.body)
    assert (request.path, body["message"], body["error_type"]) == (
        "/jobs/a/failure",
        "404: gone",
        "zizq.errors.NotFound",
    )
    assert body["backtrace"].endswith("zizq.errors.NotFound: 404: gone\n")
    assert body["retry_at"] == NOW + 60_000
    assert "kill" not in body


def test_an_exception_without_text_is_reported_by_its_name():
    _, request = ask("report_failure", "a", KeyError(), kill=True)
    body = msgspec.json.decode(request.body)
    assert (body["message"], body["error_type"], body["kill"]) == ("KeyError", "KeyError", True)


def test_a_failure_of_any_size_and_any_characters_is_sendable():
    _, request = ask("report_failure", "a", "x\ud800" * 100_000, backtrace="y" * 100_000, form="msgpack")
    body = msgspec.msgpack.decode(request.body)
    assert body["message"].startswith("x\\ud800x")
    assert len(body["backtrace"]) == 65_536


@pytest.mark.parametrize(
    ("status", "error", "retryable"),
    [
        (400, InvalidRequest, False),
        (403, Forbidden, False),
        (404, NotFound, False),
        (406, UnsupportedFormat, False),
        (409, Conflict, False),
        (418, ClientError, False),
        (422, InvalidRequest, False),
        (503, ServerError, True),
    ],
)
def test_a_refusal_is_an_error_by_its_status(status, error, retryable):
    with pytest.raises(error, match=f"{status}: because") as caught:
        ask("health", answers=[answer({"error": "because"}, status)])
    assert caught.value.retryable is retryable
    assert caught.value.body == {"error": "because"}


def test_a_refusal_that_is_not_ours_is_shown_as_text():
    page = msgspec.structs.replace(answer(status=502), content_type="text/html", body=b"<h1>Bad Gateway</h1>" * 100)
    with pytest.raises(ServerError, match="502: <h1>Bad") as caught:
        ask("health", answers=[page])
    assert len(caught.value.message) == 500
    with pytest.raises(ServerError, match="no text"):
        ask("health", answers=[answer(status=500)])


@pytest.mark.parametrize("method", ["health", "version", "queues"])
@pytest.mark.parametrize("body", [b"", b"{}", b"{", b"[1]", b"\xff"])
def test_an_answer_that_cannot_be_read_is_a_decode_error(method, body):
    with pytest.raises(DecodeError):
        ask(method, answers=[msgspec.structs.replace(answer(), content_type="application/json", body=body)])


def test_an_answer_of_another_type_asks_whether_this_is_the_server():
    page = msgspec.structs.replace(answer(), content_type="text/html", body=b"<p>hello")
    with pytest.raises(DecodeError, match="is this a zizq server"):
        ask("get_job", "a", answers=[page])


def test_both_clients_have_the_same_methods_with_the_same_arguments():
    def surface(client):
        methods = {name: one for name, one in inspect.getmembers(client, callable) if not name.startswith("_")}
        return {name: list(inspect.signature(one).parameters.values()) for name, one in methods.items()}

    assert surface(Client).keys() == surface(SyncClient).keys() > {"enqueue", "pause_queue"}
    for name, parameters in surface(Client).items():
        assert surface(SyncClient)[name] == parameters, name


def test_the_asynchronous_client_sends_what_the_synchronous_one_sends():
    async def run():
        transport = FakeTransport(answer(JOB), answer({"jobs": [JOB]}), answer(status=204), answer({"status": "ok"}))
        async with Client(format="json", transport=transport, clock=ManualClock()) as client:
            await client.enqueue_raw("send", 1, delay=2)
            await client.enqueue_bulk([Enqueue("a", 1)])
            await client.report_success_bulk(["a"])
            assert await client.health() == "ok"
        assert transport.closed
        return transport.sent

    assert asyncio.run(run()) == [
        ask("enqueue_raw", "send", 1, delay=2)[1],
        ask("enqueue_bulk", [Enqueue("a", 1)], answers=[answer({"jobs": [JOB]})])[1],
        ask("report_success_bulk", ["a"], answers=[answer(status=204)])[1],
        ask("health", answers=[answer({"status": "ok"})])[1],
    ]
