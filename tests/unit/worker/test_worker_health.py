"""How a worker is, and what is answered to those who ask."""

from __future__ import annotations

import msgspec
import pytest

from unit.worker.fakes import FakeClient, job
from unit.worker.test_worker_life import SOON, Blocking
from zizq.errors import TransportError
from zizq.worker.health import WorkerHealth, answer, combined, unready
from zizq.worker.supervisor import Child
from zizq.worker.worker import Worker

WELL = WorkerHealth(connected=True, stopping=False, running=1, concurrency=2, processed=3, failed=4)
LOST = msgspec.structs.replace(WELL, connected=False, last_error="gone")
FIELDS = b'"running":1,"concurrency":2,"processed":3,"failed":4'


def ask(line: str, health: WorkerHealth = WELL, reason: str | None = None) -> bytes:
    return answer(f"{line}\r\nhost: here\r\n\r\n".encode(), lambda: health, lambda: reason)


def response(status: str, body: bytes, headers: bytes = b"") -> bytes:
    return (
        b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\ncache-control: no-store\r\n"
        b"%sconnection: close\r\n\r\n%s" % (status.encode(), len(body), headers, body)
    )


def test_a_worker_that_takes_jobs_is_ready() -> None:
    body = b'{"status":"ok","connected":true,"stopping":false,' + FIELDS + b',"last_error":null,"processes":1}'
    assert ask("GET /readyz HTTP/1.1") == response("200 OK", body)
    assert ask("GET /readyz?verbose HTTP/1.0") == response("200 OK", body)
    assert ask("HEAD /readyz HTTP/1.1") == response("200 OK", body).removesuffix(body)


@pytest.mark.parametrize(
    ("health", "reason"),
    [
        (LOST, "the worker has no take stream: gone"),
        (msgspec.structs.replace(LOST, last_error=None), "the worker has no take stream: it is being opened"),
        (msgspec.structs.replace(WELL, stopping=True), "the worker is stopping"),
    ],
)
def test_one_that_takes_none_says_why(health: WorkerHealth, reason: str) -> None:
    raw = ask("GET /readyz HTTP/1.1", health)
    head, _, body = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert msgspec.json.decode(body) == {"error": reason} | msgspec.to_builtins(health)
    assert unready(health) == reason


def test_to_live_is_less_than_to_be_ready() -> None:
    assert ask("GET /livez HTTP/1.1", LOST) == response("200 OK", b'{"status":"ok"}')
    assert ask("GET /livez HTTP/1.1", WELL, "hangs") == response("503 Service Unavailable", b'{"error":"hangs"}')


@pytest.mark.parametrize(
    ("line", "status", "text"),
    [
        ("GET / HTTP/1.1", "404 Not Found", b"ask for /livez or /readyz"),
        ("PRI * HTTP/2.0", "505 HTTP Version Not Supported", b"only HTTP/1.1 is spoken here"),
        ("", "400 Bad Request", b"this is no HTTP request"),
        ("GET /livez", "400 Bad Request", b"this is no HTTP request"),
        ("GET  /livez HTTP/1.1", "400 Bad Request", b"this is no HTTP request"),
        ("\xff\x00 \x16\x03", "400 Bad Request", b"this is no HTTP request"),
    ],
)
def test_what_is_none_of_the_two_is_refused(line: str, status: str, text: bytes) -> None:
    assert ask(line) == response(status, b'{"error":"%s"}' % text)


def test_another_method_is_told_which_there_are() -> None:
    body = b'{"error":"GET and HEAD are the only methods"}'
    assert ask("POST /livez HTTP/1.1") == response("405 Method Not Allowed", body, b"allow: GET, HEAD\r\n")


def test_several_are_connected_when_all_are() -> None:
    assert combined([WELL, WELL]) == msgspec.structs.replace(
        WELL, running=2, concurrency=4, processed=6, failed=8, processes=2
    )
    assert not combined([WELL, LOST]).connected
    assert combined([WELL, LOST]).last_error == "gone"
    assert not combined([]).connected


async def test_a_worker_tells_how_it_is() -> None:
    client, handler = FakeClient(), Blocking()
    client.take_answers.append(TransportError("nobody there"))
    worker = Worker(client, handler, concurrency=2, reconnect=SOON)
    assert (worker.health().connected, worker.health().last_error) == (False, None)
    async with worker:
        (await client.opened()).push(job())
        await handler.started.acquire()
        health = WorkerHealth(
            connected=True, stopping=False, running=1, concurrency=2, processed=0, failed=0, last_error="nobody there"
        )
        assert worker.health() == health
        handler.go.set()
        await client.until(lambda: client.acked)
        assert worker.health() == msgspec.structs.replace(health, running=0, processed=1)
    assert worker.health().stopping


# ── child processes ──────────────────────────────────────────────────────────────────────────────────


def answering(argument, pipe) -> None:
    """A worker process that answers once, and then says no more."""
    from zizq.worker.supervisor import Note

    pipe.recv_bytes()
    pipe.send_bytes(Note(health=WELL).encode())
    pipe.recv_bytes()
    pipe.recv_bytes()


def test_a_child_that_answers_lives_and_one_that_does_not_is_noticed() -> None:
    child = Child(0, answering, None)
    assert child.ailing(0.0) == "does not run: it is started again soon"
    child.start(0.0)
    try:
        child.ask(0.0)
        assert child.ailing(59.0) is None
        assert child.ailing(61.0) == "has not answered for 61 s"
        assert child.pipe is not None
        assert child.pipe.poll(30)
        child.hear()
        assert (child.health, child.ailing(1000.0)) == (WELL, None)
        child.ask(1000.0)
        child.ask(1010.0)
        assert child.ailing(1014.0) is None
        assert child.ailing(1016.0) == "has not answered for 16 s"
    finally:
        child.tell(b"end")
        child.process.join(30)
        child.ended(1020.0, 0.5)
    assert child.health is None
