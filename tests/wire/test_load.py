"""A server that has too much to do says so, and serves the others."""

import asyncio

import h2corn
import pytest
from trust.rogue import END_HEADERS, END_STREAM, HEADERS, frame, rogue

from wire.talk import JSON, PATIENCE_S, request, serving
from wire.talk2 import http2
from zizq.engine.cron.rules import MAX_ENTRIES
from zizq.server.broker import Broker
from zizq.server.http.load import GRACE_S
from zizq.server.net import limits


@pytest.fixture
def held(monkeypatch):
    """Enqueues wait for an event."""
    goes_on = asyncio.Event()
    enqueue = Broker.enqueue

    async def waiting(self, *arguments, **options):
        await goes_on.wait()
        return await enqueue(self, *arguments, **options)

    monkeypatch.setattr(Broker, "enqueue", waiting)
    return goes_on


def half_a_body(size: int, part: bytes) -> bytes:
    head = request("POST", "/jobs", b"", content_type=JSON).replace(b"content-length: 0", b"content-length: %d" % size)
    return head + part


async def test_a_client_with_too_many_requests_is_told_to_ask_less(held):
    async with serving(max_requests=4) as server:
        await server.ask("GET", "/health")
        waiting = [await server.connect() for _ in range(3)]
        for connection in waiting[:2]:
            await connection.send(request("POST", "/jobs", b'{"type":"t","queue":"q","payload":1}'))
        async with asyncio.timeout(PATIENCE_S):
            while (reply := await server.ask("GET", "/queues")).status == 200:
                pass
        assert (reply.status, reply.headers["retry-after"]) == (429, "1")
        assert "--max-requests" in reply.value["error"]
        assert (await server.ask("GET", "/health")).status == 200
        held.set()
        assert [(await connection.reply()).status for connection in waiting[:2]] == [201, 201]
        assert (await server.ask("GET", "/queues")).status == 200


async def test_a_stream_too_many_is_refused_and_let_in_once_another_has_left():
    async with serving(max_streams=2) as server:
        streams = [await server.take() for _ in range(2)]
        refused = await (await server.connect()).ask("GET", "/jobs/take")
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert "--max-streams" in refused.value["error"]
        streams[0].connection.hang_up()
        async with asyncio.timeout(PATIENCE_S):
            while (await server.take()).head.status != 200:
                pass


async def test_bodies_that_would_take_too_much_memory_are_refused_and_small_ones_served():
    async with serving(max_body_memory=2**20) as server:
        await server.ask("GET", "/health")
        first, second = await server.connect(), await server.connect()
        await first.send(half_a_body(2**20, b" " * 400_000))
        await second.send(half_a_body(2**20, b" " * 400_000))
        async with asyncio.timeout(PATIENCE_S):
            done, _ = await asyncio.wait(
                [asyncio.ensure_future(one.reply()) for one in (first, second)], return_when=asyncio.FIRST_COMPLETED
            )
        [reply] = [one.result() for one in done]
        assert (reply.status, reply.headers["retry-after"]) == (429, "1")
        assert "--max-body-memory" in reply.value["error"]
        await server.enqueue("x" * 1000)


async def test_memory_of_a_body_that_was_cut_off_is_there_again():
    async with serving(max_body_memory=2**20) as server:
        await server.ask("GET", "/health")
        for _ in range(5):
            connection = await server.connect()
            await connection.send(half_a_body(2**20, b" " * 400_000))
            connection.hang_up()
        async with asyncio.timeout(PATIENCE_S):
            while (await server.post("/jobs", {"type": "t", "queue": "q", "payload": "x" * 500_000})).status != 201:
                pass


async def test_a_body_that_trickles_is_refused():
    async with serving() as server:
        await server.ask("GET", "/health")
        connection = await server.connect()
        await connection.send(half_a_body(2**20, b" " * 100))
        refused = asyncio.ensure_future(connection.head())
        async with asyncio.timeout(PATIENCE_S):
            while not refused.done():
                # Each time further on than a body may be, whenever the server looked at the clock for its beginning.
                server.clock.advance(2 * GRACE_S * 1000)
                await connection.send(b" ")
                await asyncio.wait([refused], timeout=0.02)
        assert refused.result().status == 408


async def test_a_page_takes_memory_while_it_is_sent():
    async with serving(max_body_memory=100_000) as server:
        await server.enqueue("x" * 40_000)
        assert (await server.ask("GET", "/jobs")).status == 429
        assert (await server.ask("GET", "/jobs?queue=other")).status == 200


async def test_what_is_done_is_answered_however_much_memory_the_answer_takes():
    async with serving(max_body_memory=100_000) as server:
        jobs = [{"type": "t", "queue": "q", "payload": number} for number in range(400)]
        reply = await server.post("/jobs/bulk", {"jobs": jobs})
        assert len(reply.body) > 50_000
        assert reply.status == 201
        assert (await server.ask("GET", "/jobs/count")).value == {"count": 400}


async def test_large_answers_arrive_whole_over_both_versions():
    async with serving() as server, http2(server) as connection:
        payload = "x" * 300_000
        job_id = await server.enqueue(payload)
        for speaker in (server, connection):
            assert (await speaker.ask("GET", f"/jobs/{job_id}")).value["payload"] == payload
            assert (await speaker.ask("GET", "/jobs")).value["jobs"][0]["payload"] == payload


async def test_large_jobs_come_whole_over_a_stream_however_many_wait():
    async with serving() as server:
        payloads = ["x" * 300_000, 1, "y" * 70_000, *range(20)]
        for payload in payloads:
            await server.enqueue(payload)
        stream = await server.take("?prefetch=1000")
        assert [job["payload"] for job in await stream.jobs(len(payloads))] == payloads


async def test_a_head_that_is_too_large_is_refused_over_both_versions():
    async with serving() as server:
        connection = await server.connect()
        await connection.send(request("GET", "/health", filler="x" * 70_000))
        assert (await connection.head()).status == 431
        async with http2(server) as two:
            numbers = [two.open("GET", "/health", **{f"f{n}": "x" * 9_000 for n in range(8)})]
            assert (await two.head(numbers[0])).status == 431


async def test_a_cron_group_has_so_many_entries_and_no_more():
    async with serving() as server:
        entries = [
            {"name": str(number), "expression": "@daily", "job": {"type": "t", "queue": "q", "payload": None}}
            for number in range(MAX_ENTRIES + 1)
        ]
        most = f"{MAX_ENTRIES + 1} cron entries are too many for one group: at most {MAX_ENTRIES}, so make several"
        told = (400, most)
        assert (await server.put("/crons/g", {"entries": entries})).error == told
        assert (await server.put("/crons/g", {"entries": entries[1:]})).status == 200
        assert (await server.post("/crons/g/entries", entries[0])).error == told
        assert (await server.put("/crons/g/entries/1", entries[1])).status == 200


async def test_a_long_bulk_keeps_its_order():
    async with serving() as server:
        jobs = [{"type": "t", "queue": "q", "payload": number} for number in range(1000)]
        assert (await server.post("/jobs/bulk", {"jobs": jobs})).status == 201
        stream = await server.take("?prefetch=1000")
        assert [job["payload"] for job in await stream.jobs(1000)] == list(range(1000))


async def test_a_connection_too_many_waits_until_another_ends():
    async with serving(max_connections=2) as server:
        for _ in range(2):
            assert (await (await server.connect()).ask("GET", "/health")).status == 200
        reply = asyncio.ensure_future((await server.connect()).ask("GET", "/health"))
        for _ in range(20):
            assert (await server.ask("GET", "/queues")).status == 200
        assert not reply.done()
        server._open[1].hang_up()
        assert (await reply).status == 200


async def ask_for_ever(client):
    while True:
        await client.ask("GET", "/health")


async def test_an_http_server_that_fails_is_begun_anew(monkeypatch):
    class Failing(h2corn.Server):
        fails = asyncio.Event()

        async def serve(self):
            running = asyncio.ensure_future(super().serve())
            await self.fails.wait()
            Failing.fails = asyncio.Event()
            self.shutdown()
            await running
            raise OSError("Too many open files")

    monkeypatch.setattr(h2corn, "Server", Failing)
    monkeypatch.setattr(limits, "REVIVE_S", 0)
    async with serving() as server:
        async with http2(server) as client:
            assert (await client.ask("GET", "/health")).status == 200
            Failing.fails.set()
            # It may still answer what comes before it has ended.
            with pytest.raises(AssertionError, match="hung up"):
                await asyncio.wait_for(ask_for_ever(client), PATIENCE_S)
        async with http2(server) as client:
            assert (await client.ask("GET", "/health")).status == 200
        Failing.fails.set()


async def test_a_stream_whose_window_stays_shut_gives_its_jobs_back(monkeypatch):
    monkeypatch.setattr(limits, "PATIENCE_S", 0.2)
    async with serving() as server:
        job_id = await server.enqueue()
        with rogue(server.address, window=0) as client:
            asked = client.head("GET", "/jobs/take")
            client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, asked))
            async with asyncio.timeout(PATIENCE_S):
                while (await server.get(job_id))["status"] == "ready":  # noqa: ASYNC110 - it is asked each time
                    await asyncio.sleep(0)
                while (await server.get(job_id))["status"] == "in_flight":  # noqa: ASYNC110
                    await asyncio.sleep(0)
