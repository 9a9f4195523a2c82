import msgspec
import pytest

from wire.talk import FIRST_ID, MSGPACK, NOW, STREAM, pack, serving, unpack

TAKEN = (
    f'{{"id":"{FIRST_ID}","type":"t","queue":"q","priority":32768,"status":"in_flight","payload":{{"to":"a@b"}},'
    f'"ready_at":{NOW},"attempts":0,"dequeued_at":{NOW + 4}}}'
).encode()


async def opened(server, accept: str):
    """A stream in a format, after a job was enqueued and 4 ms went by."""
    await server.enqueue({"to": "a@b"})
    server.clock.advance(4)
    return await server.take(accept=accept)


async def test_a_job_is_a_line_of_ndjson_and_a_heartbeat_an_empty_one():
    async with serving() as server:
        stream = await opened(server, "application/x-ndjson")
        assert await stream.read(len(TAKEN) + 3) == TAKEN + b"\n\n\n"


async def test_a_job_is_a_data_line_of_server_sent_events_and_a_heartbeat_a_comment():
    golden = b"data: " + TAKEN + b"\n\n: heartbeat\n\n: heartbeat\n\n"
    async with serving() as server:
        stream = await opened(server, "text/event-stream")
        assert await stream.read(len(golden)) == golden


async def test_a_job_is_a_length_and_a_map_of_msgpack_and_a_heartbeat_a_length_of_zero():
    async with serving() as server:
        stream = await opened(server, STREAM)
        body = await stream.read(int.from_bytes(await stream.read(4), "big"))
        assert await stream.read(8) == b"\0" * 8
    assert unpack(body) == msgspec.json.decode(TAKEN)
    assert list(unpack(body)) == list(msgspec.json.decode(TAKEN))
    assert b"\xa7payload" + pack({"to": "a@b"}) in body


async def test_the_headers_of_a_stream_come_at_once_and_heartbeats_do_not():
    async with serving(heartbeat_interval=3_600_000) as server:
        stream = await server.take()
        assert (stream.head.status, stream.data) == (200, b"")


async def test_a_job_that_comes_later_is_sent_on_an_open_stream():
    async with serving(heartbeat_interval=3_600_000) as server:
        stream = await server.take(worker_id="any name")
        job_id = await server.enqueue("late")
        assert (await stream.job())["id"] == job_id


@pytest.mark.parametrize(("query", "count"), [("", 1), ("?prefetch=1", 1), ("?prefetch=3", 3), ("?prefetch=0", 5)])
async def test_a_stream_holds_as_many_jobs_as_its_prefetch_allows(query, count):
    async with serving() as server:
        ids = [await server.enqueue() for _ in range(5)]
        stream = await server.take(query)
        assert [job["id"] for job in await stream.jobs(count)] == ids[:count]
        assert await stream.is_silent()
        assert [(await server.get(job_id))["status"] for job_id in ids].count("in_flight") == count


@pytest.mark.parametrize(
    ("method", "suffix", "body"),
    [("POST", "/success", None), ("POST", "/failure", b'{"message":"m"}'), ("DELETE", "", None)],
)
async def test_a_job_that_is_finished_over_another_connection_makes_room(method, suffix, body):
    async with serving() as server:
        first, second = await server.enqueue(), await server.enqueue()
        stream = await server.take()
        assert (await stream.job())["id"] == first
        assert (await server.ask(method, f"/jobs/{first}{suffix}", body)).status in (200, 204)
        assert (await stream.job())["id"] == second
        assert await stream.is_silent()


async def test_a_bulk_success_makes_room_for_as_many():
    async with serving() as server:
        ids = [await server.enqueue() for _ in range(4)]
        stream = await server.take("?prefetch=2")
        await stream.jobs(2)
        assert (await server.post("/jobs/success", {"ids": ids[:2]})).status == 204
        assert [job["id"] for job in await stream.jobs(2)] == ids[2:]


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("queue=a", ["a"]),
        ("queue=a,c", ["a", "c"]),
        ("queue=a%2Cc", ["a", "c"]),
        ("queue=,c,,nowhere", ["c"]),
        ("queue=", ["a", "b c", "c"]),
        ("queue=b+c", ["b c"]),
        ("queue=b%20c", ["b c"]),
    ],
)
async def test_only_the_queues_that_are_named_are_taken_from(query, wanted):
    async with serving() as server:
        for queue in ("a", "b c", "c"):
            await server.enqueue(queue=queue)
        stream = await server.take(f"?prefetch=0&{query}")
        assert [job["queue"] for job in await stream.jobs(len(wanted))] == wanted
        assert await stream.is_silent()


async def test_a_queue_with_a_name_in_any_script_can_be_taken_from():
    async with serving() as server:
        job_id = await server.enqueue(queue="müll")
        stream = await server.take("?queue=m%C3%BCll")
        assert (await stream.job())["id"] == job_id


async def test_jobs_come_by_priority_and_then_by_age_over_all_queues():
    async with serving() as server:
        made = [
            await server.enqueue(queue=f"q{n % 3}", priority=priority) for n, priority in enumerate([5, 1, 5, 0, 1])
        ]
        stream = await server.take("?prefetch=0")
        assert [job["id"] for job in await stream.jobs(5)] == [made[n] for n in (3, 1, 4, 0, 2)]


async def test_a_job_that_was_given_back_goes_ahead_of_younger_ones():
    async with serving() as server:
        old, stream = await server.taken()
        await server.enqueue()
        stream.connection.hang_up()
        other = await server.take()
        while (job := await other.job())["id"] != old:
            assert (await server.ask("POST", f"/jobs/{job['id']}/success")).status == 204


async def test_the_global_limit_holds_over_all_streams():
    async with serving(global_in_flight_limit=3) as server:
        ids = [await server.enqueue() for _ in range(5)]
        first = await server.take("?prefetch=2")
        await first.jobs(2)
        second = await server.take("?prefetch=10")
        assert (await second.job())["id"] == ids[2]
        assert await second.is_silent()
        assert (await server.ask("POST", f"/jobs/{ids[0]}/success")).status == 204
        streams = [(await server.get(job_id))["status"] for job_id in ids[1:]]
        assert streams.count("in_flight") <= 3


async def test_the_global_limit_gives_way_to_a_waiting_stream():
    async with serving(global_in_flight_limit=1) as server:
        held, stream = await server.taken()
        waiting = await server.take()
        job_id = await server.enqueue(queue="other")
        stream.connection.hang_up()
        assert (await waiting.job())["id"] == held
        assert (await server.ask("DELETE", f"/jobs/{held}")).status == 204
        assert (await waiting.job())["id"] == job_id


async def test_two_streams_never_hold_the_same_job():
    async with serving() as server:
        ids = {await server.enqueue() for _ in range(10)}
        streams = [await server.take("?prefetch=5") for _ in range(2)]
        taken = [job["id"] for stream in streams for job in await stream.jobs(5)]
    assert sorted(taken) == sorted(ids)


async def test_a_scheduled_job_is_not_handed_out_before_its_time():
    async with serving() as server:
        await server.enqueue(ready_at=NOW + 1000)
        stream = await server.take()
        assert await stream.is_silent()


async def test_a_job_that_is_due_is_handed_out_with_the_time_it_was_given():
    async with serving() as server:
        job_id = await server.enqueue(ready_at=NOW + 1000)
        stream = await server.take()
        # A take that is under way may still get it, with the time at which it began.
        assert await stream.is_silent()
        server.clock.advance(1000)
        await server.app.broker.promote(10)
        job = await stream.job()
    assert (job["id"], job["ready_at"], job["dequeued_at"]) == (job_id, NOW + 1000, NOW + 1000)


@pytest.mark.parametrize("accept", ["application/json", MSGPACK])
async def test_a_job_in_flight_is_shown_as_such(accept):
    async with serving() as server:
        job_id, _ = await server.taken(payload={"n": 1}, retry_limit=2, retention={})
        job = (await server.ask("GET", f"/jobs/{job_id}", accept=accept)).value
    assert list(job) == [
        "id", "type", "queue", "priority", "status", "payload", "ready_at", "attempts", "retry_limit", "dequeued_at",
        "retention",
    ]  # fmt: skip
    assert (job["status"], job["dequeued_at"], job["retention"]) == ("in_flight", NOW, {})
