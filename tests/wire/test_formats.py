import msgspec
import pytest

from wire.talk import FIRST_ID, JSON, MSGPACK, NOW, STREAM, pack, request, serving

JOB = {"type": "mail", "queue": "q", "payload": {"to": "a@b"}}
ORDINARY = [JSON, MSGPACK]
STREAMS = ["text/event-stream", "application/x-ndjson", STREAM]
CREATED = (
    f'{{"id":"{FIRST_ID}","type":"mail","queue":"q","priority":32768,"status":"ready","ready_at":{NOW},'
    '"attempts":0,"duplicate":false,"folded":false}'
)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ({}, JSON),
        ({"accept": JSON}, JSON),
        ({"accept": "*/*"}, JSON),
        ({"accept": "text/html, */*;q=0.1"}, JSON),
        ({"accept": MSGPACK}, MSGPACK),
        ({"accept": f"{JSON}, {MSGPACK}"}, MSGPACK),
        ({"accept": f"{JSON},\t{MSGPACK};q=0"}, MSGPACK),
    ],
)
async def test_the_response_is_in_the_format_that_accept_names(accept, form):
    async with serving() as server:
        reply = await server.ask("GET", "/health", **accept)
    assert (reply.status, reply.headers["content-type"], reply.value) == (200, form, {"status": "ok"})


@pytest.mark.parametrize("accept", ["", "application/*", "text/html", "Application/JSON", STREAM, "application/jsön"])
@pytest.mark.parametrize("target", ["/health", "/jobs/x", "/nowhere"])
async def test_a_format_that_is_not_spoken_is_406_in_json_on_every_path(accept, target):
    async with serving() as server:
        reply = await server.ask("GET", target, accept=accept)
    assert (reply.status, reply.headers["content-type"]) == (406, JSON)
    assert reply.body == b'{"error":"not acceptable","supported":["application/json","application/msgpack"]}'


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ({}, "application/x-ndjson"),
        ({"accept": "*/*"}, "application/x-ndjson"),
        ({"accept": JSON}, "application/x-ndjson"),
        ({"accept": "application/x-ndjson"}, "application/x-ndjson"),
        ({"accept": MSGPACK}, STREAM),
        ({"accept": f"application/x-ndjson, {STREAM}"}, STREAM),
        ({"accept": f"{STREAM}, text/event-stream"}, "text/event-stream"),
    ],
)
async def test_a_stream_is_in_the_format_that_accept_names(accept, form):
    async with serving() as server:
        stream = await server.take(**accept)
    assert (stream.head.status, stream.head.headers["content-type"]) == (200, form)


@pytest.mark.parametrize("accept", ["", "text/html", "application/*"])
async def test_a_stream_format_that_is_not_spoken_is_406_with_the_three_that_are(accept):
    async with serving() as server:
        reply = await server.ask("GET", "/jobs/take?prefetch=bad", accept=accept)
    assert (reply.status, reply.headers["content-type"]) == (406, JSON)
    assert reply.value == {"error": "not acceptable", "supported": STREAMS}


@pytest.mark.parametrize(
    ("content_type", "encode"),
    [
        ({}, msgspec.json.encode),
        ({"content_type": JSON}, msgspec.json.encode),
        ({"content_type": f"{JSON}; charset=utf-8"}, msgspec.json.encode),
        ({"content_type": MSGPACK}, pack),
        ({"content_type": f"{JSON}, {MSGPACK}"}, pack),
    ],
)
async def test_a_body_is_read_in_the_format_that_content_type_names(content_type, encode):
    async with serving() as server:
        reply = await server.ask("POST", "/jobs", encode(JOB), **content_type)
    assert (reply.status, reply.body.decode()) == (201, CREATED)


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "Application/JSON"])
@pytest.mark.parametrize("target", ["/jobs", "/jobs/bulk", "/jobs/success", "/jobs/x/failure"])
async def test_a_body_in_another_format_is_415(content_type, target):
    async with serving() as server:
        reply = await server.ask("POST", target, b"{}", content_type=content_type)
    assert (reply.status, reply.headers["content-type"]) == (415, JSON)
    assert reply.body == b'{"error":"unsupported media type","supported":["application/json","application/msgpack"]}'


async def test_415_is_in_msgpack_for_a_caller_who_accepts_it():
    async with serving() as server:
        reply = await server.ask("POST", "/jobs", b"{}", content_type="text/plain", accept=MSGPACK)
    assert (reply.status, reply.headers["content-type"]) == (415, MSGPACK)
    assert reply.body == pack({"error": "unsupported media type", "supported": ORDINARY})


async def test_accept_is_judged_before_the_content_type_and_that_before_the_body():
    async with serving() as server:
        first = await server.ask("POST", "/jobs", b"rubbish", accept="text/html", content_type="text/plain")
        second = await server.ask("POST", "/jobs", b"rubbish", content_type="text/plain")
        third = await server.ask("POST", "/jobs", b"rubbish")
    assert [first.status, second.status, third.status] == [406, 415, 400]


async def test_the_query_is_judged_before_the_job_is_looked_for():
    async with serving() as server:
        assert (await server.ask("GET", "/jobs/x/errors?limit=no")).status == 400
        assert (await server.ask("GET", "/jobs/x/errors/first")).status == 400


async def test_only_the_first_of_two_accept_headers_counts():
    async with serving() as server:
        connection = await server.connect()
        await connection.send(request("GET", "/health", Accept=MSGPACK, accept=JSON))
        assert (await connection.reply()).headers["content-type"] == MSGPACK


async def test_errors_are_in_the_accepted_format():
    async with serving() as server:
        reply = await server.ask("GET", "/jobs/x", accept=MSGPACK)
    assert (reply.status, reply.headers["content-type"], reply.body) == (404, MSGPACK, pack({"error": "job not found"}))


async def test_a_job_is_created_byte_for_byte_as_written_down_in_json():
    async with serving() as server:
        reply = await server.post("/jobs", JOB)
    assert (reply.status, reply.headers["content-type"], reply.body.decode()) == (201, JSON, CREATED)


async def test_a_job_is_created_byte_for_byte_as_written_down_in_msgpack():
    # The map is counted in 16 bits: fields that are left out are known only at the end.
    golden = (
        b"\xde\x00\x09\xa2id\xb9" + FIRST_ID.encode() + b"\xa4type\xa4mail\xa5queue\xa1q\xa8priority\xcd\x80\x00"
        b"\xa6status\xa5ready\xa8ready_at\xcf\x00\x00\x01\xa0\xc4\x50\x6c\x00\xa8attempts\x00"
        b"\xa9duplicate\xc2\xa6folded\xc2"
    )
    async with serving() as server:
        reply = await server.ask("POST", "/jobs", pack(JOB), content_type=MSGPACK, accept=MSGPACK)
    assert (reply.status, reply.headers["content-type"]) == (201, MSGPACK)
    assert reply.body == golden
