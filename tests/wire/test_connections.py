"""What ends, breaks or shares a connection; both versions of HTTP."""

import asyncio
from contextlib import asynccontextmanager

import pytest
import uvicorn

from wire.talk import MSGPACK, NOW, PATIENCE_S, Talk, pack, request, serving
from wire.talk2 import http2
from zizq.clock import SystemDice
from zizq.policy import Defaults
from zizq.server.app import App
from zizq.server.broker import Broker
from zizq.server.settings import Settings
from zizq.store.memory import MemoryStore
from zizq.testing.clock import LoadedDice, ManualClock


async def given_back(server, job_id: str) -> dict:
    """The job once it is ready again, told by a stream that is handed it."""
    stream = await server.take()
    job = await stream.job()
    assert job["id"] == job_id
    stream.connection.hang_up()
    return job


async def test_a_client_that_hangs_up_gives_its_jobs_back_with_no_attempt_counted():
    async with serving() as server:
        job_id, stream = await server.taken()
        stream.connection.hang_up()
        server.clock.advance(9)
        job = await given_back(server, job_id)
        assert (job["attempts"], job["ready_at"], job["dequeued_at"]) == (0, NOW, NOW + 9)
        assert (await server.ask("GET", f"/jobs/{job_id}/errors")).value["errors"] == []


async def ready(server, job_id: str) -> dict:
    """The job once it is shown as ready."""
    async with asyncio.timeout(PATIENCE_S):
        while (job := await server.get(job_id))["status"] != "ready":  # noqa: ASYNC110 - it is asked each time
            await asyncio.sleep(0)
    return job


async def test_a_job_that_was_given_back_still_says_when_it_was_taken():
    async with serving() as server:
        job_id, stream = await server.taken()
        server.clock.advance(9)
        stream.connection.hang_up()
        assert (await ready(server, job_id))["dequeued_at"] == NOW


async def test_a_connection_that_is_reset_gives_its_jobs_back():
    async with serving() as server:
        job_id, stream = await server.taken()
        stream.connection.writer.transport.abort()
        assert (await ready(server, job_id))["attempts"] == 0


async def test_a_stream_that_is_reset_gives_its_jobs_back_and_leaves_the_connection_open():
    async with serving() as server, http2(server) as connection:
        job_id = await server.enqueue()
        stream = connection.open("GET", "/jobs/take")
        assert job_id.encode() in await connection.body(stream, b"}\n")
        connection.reset(stream)
        job = await ready(server, job_id)
        assert (job["attempts"], job["dequeued_at"]) == (0, NOW)
        assert (await connection.ask("GET", "/health")).status == 200


async def test_a_success_after_the_job_was_given_back_is_404():
    async with serving() as server:
        job_id, stream = await server.taken()
        stream.connection.hang_up()
        await ready(server, job_id)
        assert (await server.ask("POST", f"/jobs/{job_id}/success")).status == 404


async def test_heartbeats_and_jobs_come_over_http2_too():
    async with serving() as server, http2(server) as connection:
        stream = connection.open("GET", "/jobs/take")
        assert (await connection.head(stream)).headers["content-type"] == "application/x-ndjson"
        assert await connection.body(stream, b"\n\n")
        job_id = await server.enqueue()
        assert job_id.encode() in await connection.body(stream, b"}\n")


async def test_one_port_speaks_both_versions():
    async with serving() as server, http2(server) as connection:
        created = await connection.ask("POST", "/jobs", b'{"type":"t","queue":"q","payload":1}')
        assert (created.status, created.headers["content-type"]) == (201, "application/json")
        assert (
            await server.get(created.value["id"]) == (await connection.ask("GET", f"/jobs/{created.value['id']}")).value
        )


async def test_msgpack_travels_over_http2():
    async with serving() as server, http2(server) as connection:
        body = pack({"type": "t", "queue": "q", "payload": None})
        reply = await connection.ask("POST", "/jobs", body, content_type=MSGPACK, accept=MSGPACK)
    assert (reply.status, reply.value["queue"]) == (201, "q")


async def test_a_204_over_http2_has_no_body_and_no_length():
    async with serving() as server, http2(server) as connection:
        job_id, _ = await server.taken()
        for method, target in (("POST", f"/jobs/{job_id}/success"), ("POST", "/reset")):
            reply = await connection.ask(method, target)
            assert (reply.status, reply.body, set(reply.headers)) == (204, b"", {"date"})


async def test_refusals_over_http2_are_those_of_http1():
    async with serving() as server, http2(server) as connection:
        for method, target, body in (("GET", "/nowhere", None), ("PUT", "/jobs", None), ("POST", "/jobs", b"{")):
            one, two = [await speaker.ask(method, target, body) for speaker in (server, connection)]
            assert (one.status, one.headers, one.body) == (two.status, two.headers, two.body)


async def test_a_head_over_http2_ends_without_a_body():
    async with serving() as server, http2(server) as connection:
        reply = await connection.ask("HEAD", "/health")
    assert (reply.status, reply.body, reply.headers["content-length"]) == (200, b"", "15")


async def test_many_requests_share_one_http2_connection():
    async with serving() as server, http2(server) as connection:
        body = b'{"type":"t","queue":"q","payload":1}'
        numbers = [connection.open("POST", "/jobs", body) for _ in range(100)]
        replies = [await connection.end(number) for number in numbers]
    assert {reply.status for reply in replies} == {201}
    assert len({reply.value["id"] for reply in replies}) == 100


async def test_requests_that_come_together_are_answered_in_their_order():
    async with serving() as server:
        connection = await server.connect()
        job = b'{"type":"t","queue":"q","payload":1}'
        targets = [("POST", "/jobs", job), ("GET", "/queues", None), ("GET", "/x", None), ("POST", "/reset", None)]
        await connection.send(b"".join(request(*parts) for parts in [*targets, ("GET", "/queues", None)]))
        replies = [await connection.reply() for _ in range(5)]
    assert [reply.status for reply in replies] == [201, 200, 404, 204, 200]
    assert [replies[1].value, replies[4].value] == [{"queues": ["q"]}, {"queues": []}]


async def test_a_client_that_waits_for_leave_to_send_its_body_gets_it():
    async with serving() as server:
        connection = await server.connect()
        whole = request("POST", "/jobs", b'{"type":"t","queue":"q","payload":1}', expect="100-continue")
        head, _, body = whole.partition(b"\r\n\r\n")
        await connection.send(head + b"\r\n\r\n")
        assert (await connection.head()).status == 100
        await connection.send(body)
        assert (await connection.reply()).status == 201


async def test_a_connection_is_closed_when_the_client_asks_for_it():
    async with serving() as server:
        connection = await server.connect()
        await connection.ask("GET", "/health", connection="close")
        assert await connection.reader.read() == b""


@pytest.mark.parametrize("target", ["/jobs/{id}", "/jobs/%30{rest}", "/jobs/{id}?", "http://test/jobs/{id}"])
async def test_a_path_is_understood_however_it_is_written(target):
    async with serving() as server:
        job_id = await server.enqueue()
        reply = await server.ask("GET", target.replace("{id}", job_id).replace("{rest}", job_id[1:]))
    assert (reply.status, reply.value["id"]) == (200, job_id)


@pytest.mark.parametrize("target", ["/jobs/a%2Fb", "/jobs/%2F", "/jobs/%00", "/jobs/%FF", "/jobs/%C3%BC", "/jobs/%3F"])
async def test_whatever_is_encoded_in_a_segment_is_a_part_of_it(target):
    async with serving() as server:
        assert (await server.ask("GET", target)).error == (404, "job not found")


async def test_an_encoded_slash_does_not_lead_to_another_call():
    async with serving() as server:
        job_id, _ = await server.taken()
        assert (await server.ask("POST", f"/jobs/{job_id}%2Fsuccess")).status == 405
        assert (await server.get(job_id))["status"] == "in_flight"


async def test_reset_empties_the_server_and_leaves_streams_open():
    async with serving() as server:
        held, stream = await server.taken()
        await server.enqueue(queue="a")
        assert (await server.ask("POST", "/reset")).status == 204
        assert (await server.ask("GET", "/queues")).value == {"queues": []}
        assert await server.get(held) is None
        job_id = await server.enqueue()
        while (job := await stream.job())["id"] != job_id:
            assert job["queue"] == "a"


async def test_queues_are_sorted_by_their_bytes_whatever_the_status_of_their_jobs():
    async with serving() as server:
        for queue in ("b", "ü", "a", "Z"):
            job_id = await server.enqueue(queue=queue)
        await server.enqueue(queue="later", ready_at=NOW + 1)
        assert (await server.ask("GET", "/queues")).value == {"queues": ["Z", "a", "b", "later", "ü"]}
        await server.ask("DELETE", f"/jobs/{job_id}")
        assert (await server.ask("GET", "/queues", accept=MSGPACK)).value == {"queues": ["a", "b", "later", "ü"]}


async def test_health_and_version_are_as_written_down():
    async with serving() as server:
        assert (await server.ask("GET", "/health")).body == b'{"status":"ok"}'
        assert set((await server.ask("GET", "/version")).value) == {"version"}


async def test_a_store_that_refuses_writes_is_shown_in_health(monkeypatch):
    monkeypatch.setattr(Broker, "trouble", lambda self: "disk full")
    async with serving() as server:
        reply = await server.ask("GET", "/health")
    assert (reply.status, reply.value) == (200, {"status": "ok", "writes_refused": "disk full"})


async def test_a_server_that_stops_ends_its_streams_after_it_took_their_jobs_back():
    async with serving() as server, http2(server) as connection:
        ids = [await server.enqueue() for _ in range(2)]
        one = await server.take()
        await one.job()
        two = connection.open("GET", "/jobs/take")
        await connection.body(two, b"}\n")
        server.app.end_streams()
        assert (await one.rest()).strip() == b""
        assert (await connection.end(two)).status == 200
        assert [(await server.get(job_id))["status"] for job_id in ids] == ["ready", "ready"]


async def test_a_stream_that_is_asked_for_while_the_server_stops_ends_at_once():
    async with serving() as server:
        await server.enqueue()
        server.app.end_streams()
        assert await (await server.take()).rest() == b""


async def test_a_stop_ends_the_chunks_of_a_stream_properly():
    async with serving() as server:
        _, stream = await server.taken()
        ending = asyncio.create_task(stream.rest())
        server._open.remove(stream.connection)
    assert (await ending).strip() == b""
    stream.connection.hang_up()


@asynccontextmanager
async def under_uvicorn():
    """The same application, served by another server."""
    clock, dice = ManualClock(NOW), LoadedDice()
    app = App(Settings(heartbeat_interval=20), store=MemoryStore(Defaults(), SystemDice()), clock=clock, dice=dice)
    await app.start()
    config = uvicorn.Config(
        app.asgi, port=0, log_level="critical", ws="none", lifespan="on", timeout_graceful_shutdown=5
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - it has no event for that
        await asyncio.sleep(0)
    port = server.servers[0].sockets[0].getsockname()[1]
    talk = Talk(f"http://127.0.0.1:{port}", app, clock, dice)
    try:
        yield talk
    finally:
        app.end_streams()
        talk.hang_up()
        server.should_exit = True
        await serving
        await app.stop()


async def test_the_application_runs_under_another_server():
    async with under_uvicorn() as server:
        job_id, stream = await server.taken(payload={"n": 1})
        assert (await server.ask("GET", "/health", accept="text/html")).status == 406
        assert (await server.ask("GET", "/jobs/a%2Fb")).error == (404, "job not found")
        assert await stream.is_silent()
        assert (await server.fail(job_id, retry_at=0))["status"] == "scheduled"
        assert (await stream.job())["attempts"] == 1
        assert (await server.ask("POST", f"/jobs/{job_id}/success")).status == 204


async def test_a_client_that_hangs_up_is_noticed_under_another_server():
    async with under_uvicorn() as server:
        job_id, stream = await server.taken()
        stream.connection.hang_up()
        assert (await ready(server, job_id))["attempts"] == 0


async def test_a_stop_ends_streams_under_another_server():
    async with under_uvicorn() as server:
        _, stream = await server.taken()
        server.app.end_streams()
        assert (await stream.rest()).strip() == b""
