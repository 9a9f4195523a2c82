import math

import msgspec
import pytest

from wire.talk import MSGPACK, NOW, pack, serving, unpack
from zizq.server.http.jobs import MOST
from zizq.server.payloads import SMALL

BACKOFF = {"exponent": 4.0, "base_ms": 1, "jitter_ms": 2}


@pytest.mark.parametrize("priority", [0, 1, 65535])
async def test_a_priority_is_kept(priority):
    async with serving() as server:
        assert (await server.get(await server.enqueue(priority=priority)))["priority"] == priority


@pytest.mark.parametrize(
    ("ready_at", "status"), [(0, "ready"), (NOW - 5, "ready"), (NOW, "ready"), (NOW + 1, "scheduled")]
)
async def test_a_job_is_scheduled_only_for_a_time_to_come_and_keeps_the_one_given(ready_at, status):
    async with serving() as server:
        job = await server.get(await server.enqueue(ready_at=ready_at))
    assert (job["status"], job["ready_at"]) == (status, ready_at)


async def test_a_time_without_end_is_kept_as_the_latest_there_is():
    async with serving() as server:
        job = await server.get(await server.enqueue(ready_at=2**64 - 1))
    assert (job["status"], job["ready_at"]) == ("scheduled", 2**63 - 1)


@pytest.mark.parametrize(
    "fields",
    [
        {"retry_limit": 0},
        {"retry_limit": 2**32 - 1},
        {"backoff": BACKOFF},
        {"backoff": BACKOFF | {"exponent": 4.1}},
        {"retention": {}},
        {"retention": {"completed_ms": 0}},
        {"retention": {"completed_ms": 1, "dead_ms": 2}},
    ],
)
async def test_what_was_given_is_echoed_as_it_was_given(fields):
    job = {"type": "t", "queue": "q", "payload": None} | fields
    async with serving() as server:
        created = (await server.post("/jobs", job)).value
        read = await server.get(created["id"])
    for name, value in fields.items():
        assert created[name] == read[name] == value


async def test_fields_come_in_the_order_that_is_written_down():
    job = {"payload": 1, "retention": {}, "backoff": BACKOFF, "retry_limit": 3, "queue": "q", "type": "t"}
    async with serving() as server:
        created = (await server.post("/jobs", job)).value
    assert list(created) == [
        "id", "type", "queue", "priority", "status", "ready_at", "attempts", "retry_limit", "backoff", "retention",
        "duplicate", "folded",
    ]  # fmt: skip


async def test_an_exponent_of_32_bits_is_said_in_its_fewest_digits():
    body = b"\x84\xa4type\xa1t\xa5queue\xa1q\xa7payload\xc0\xa7backoff\x83\xa8exponent\xca\x40\x83\x33\x33"
    async with serving() as server:
        reply = await server.ask("POST", "/jobs", body + b"\xa7base_ms\x01\xa9jitter_ms\x02", content_type=MSGPACK)
    assert b'"backoff":{"exponent":4.1,"base_ms":1,"jitter_ms":2}' in reply.body


@pytest.mark.parametrize("exponent", [1e39, math.inf, math.nan])
async def test_an_exponent_that_is_no_32_bit_number_is_400(exponent):
    job = {"type": "t", "queue": "q", "payload": None, "backoff": BACKOFF | {"exponent": exponent}}
    async with serving() as server:
        assert (await server.ask("POST", "/jobs", pack(job), content_type=MSGPACK)).status == 400


async def raw_payload(server, payload: bytes) -> bytes:
    """What GET shows of a payload that was sent as JSON text."""
    created = await server.ask("POST", "/jobs", b'{"type":"t","queue":"q","payload":' + payload + b"}")
    assert created.status == 201, created
    body = (await server.ask("GET", f"/jobs/{created.value['id']}")).body
    return bytes(msgspec.json.decode(body, type=dict[str, msgspec.Raw])["payload"])


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (b"null", b"null"),
        (b"false", b"false"),
        (b'""', b'""'),
        (b"[]", b"[]"),
        (b' { "b" : 1 , "a" : [ 2 ] } ', b'{"a":[2],"b":1}'),
        (b'{"a":1,"a":2}', b'{"a":2}'),
        (b'{"Z":0,"a":{"y":1,"x":2}}', b'{"Z":0,"a":{"x":2,"y":1}}'),
        (b"18446744073709551615", b"18446744073709551615"),
        (b"-9223372036854775808", b"-9223372036854775808"),
        (b"18446744073709551616", b"1.8446744073709552e19"),
        (b"1.50", b"1.5"),
        ('"\\u00fc ü \\ud83d\\ude00"'.encode(), '"ü ü 😀"'.encode()),
        (b'"\\u0000"', b'"\\u0000"'),
    ],
)
async def test_a_payload_in_json_is_shown_with_its_keys_sorted(sent, shown):
    async with serving() as server:
        assert await raw_payload(server, sent) == shown


@pytest.mark.parametrize(
    "payload",
    [
        pack({"b": 1, "a": {"z": 1, "y": [1.5, None, True, "x"]}}),
        b"\x82\xa1b\x01\xa1b\x02",
        b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xca\x40\x83\x33\x33",
        b"\xd9\x01x",
        b"\xc0",
    ],
)
async def test_a_payload_in_msgpack_comes_back_byte_for_byte_in_msgpack(payload):
    async with serving() as server:
        body = b"\x83\xa4type\xa1t\xa5queue\xa1q\xa7payload" + payload
        created = await server.ask("POST", "/jobs", body, content_type=MSGPACK)
        job = await server.ask("GET", f"/jobs/{created.value['id']}", accept=MSGPACK)
    assert b"\xa7payload" + payload + b"\xa8ready_at" in job.body


async def test_a_number_that_is_none_is_null_in_json():
    async with serving() as server:
        job = {"type": "t", "queue": "q", "payload": [math.nan, math.inf]}
        created = await server.ask("POST", "/jobs", pack(job), content_type=MSGPACK)
        assert (await server.get(created.value["id"]))["payload"] == [None, None]


@pytest.mark.parametrize(
    "payload", [b"bin", {"a": [b"bin"]}, msgspec.msgpack.Ext(5, b"x"), {1: 2}, {"a": {None: 1}}, {(1,): 2}]
)
async def test_a_payload_that_json_cannot_say_is_400(payload):
    job = {"type": "t", "queue": "q", "payload": payload}
    async with serving() as server:
        status, text = (await server.ask("POST", "/jobs", pack(job), content_type=MSGPACK)).error
    assert (status, text[:19]) == (400, "invalid MessagePack")


@pytest.mark.parametrize("form", ["application/json", MSGPACK])
async def test_a_payload_as_deep_as_allowed_is_taken_and_a_deeper_one_refused(form):
    encode = pack if form == MSGPACK else msgspec.json.encode
    deep = None
    for _ in range(128):
        deep = [deep]
    async with serving() as server:
        for payload, status in ((deep, 201), ([deep], 400), ({"a": deep}, 400)):
            job = {"type": "t", "queue": "q", "payload": payload}
            assert (await server.ask("POST", "/jobs", encode(job), content_type=form)).status == status
        assert (await (await server.take()).job())["payload"] == deep


async def test_a_bulk_makes_its_jobs_in_the_order_given():
    jobs = [{"type": "t", "queue": f"q{n}", "payload": n} for n in range(20)]
    async with serving() as server:
        reply = await server.post("/jobs/bulk", {"jobs": jobs})
    made = reply.value["jobs"]
    assert reply.status == 201
    assert [job["queue"] for job in made] == [job["queue"] for job in jobs]
    assert made == sorted(made, key=lambda job: job["id"])
    assert all(job["duplicate"] is job["folded"] is False and "payload" not in job for job in made)


@pytest.mark.parametrize("form", ["application/json", MSGPACK])
async def test_an_empty_bulk_is_201(form):
    encode = pack if form == MSGPACK else msgspec.json.encode
    async with serving() as server:
        reply = await server.ask("POST", "/jobs/bulk", encode({"jobs": []}), content_type=form, accept=form)
    assert (reply.status, reply.body) == (201, encode({"jobs": []}))


@pytest.mark.parametrize(
    ("bad", "status", "start"),
    [
        ({"queue": ""}, 400, "jobs[1]: queue must not be empty"),
        ({"budgets": [{"key": "k"}]}, 422, "jobs[1]: budget 'k' does not exist"),
        ({"backoff": BACKOFF | {"exponent": 1e39}}, 400, "jobs[1]: backoff.exponent is out of range"),
        ({"priority": 65536}, 400, "invalid JSON: "),
    ],
)
async def test_one_bad_job_keeps_the_whole_bulk_out(bad, status, start):
    good = {"type": "t", "queue": "q", "payload": 1}
    async with serving() as server:
        said, text = (await server.post("/jobs/bulk", {"jobs": [good, good | bad, good]})).error
        assert (said, text[: len(start)]) == (status, start)
        assert (await server.ask("GET", "/queues")).value == {"queues": []}


@pytest.mark.parametrize("at", [0, MOST - 1, MOST, 2 * MOST + 1])
async def test_the_first_bad_job_of_a_long_bulk_is_named_by_its_place(at):
    jobs = [{"type": "t", "queue": "q", "payload": 1} for _ in range(2 * MOST + 3)]
    jobs[at]["queue"] = jobs[-1]["queue"] = ""
    async with serving() as server:
        reply = await server.post("/jobs/bulk", {"jobs": jobs})
    assert reply.error == (400, f"jobs[{at}]: queue must not be empty")


async def test_a_long_bulk_of_which_some_have_options_keeps_its_order():
    jobs = [{"type": "t", "queue": "q", "payload": n} for n in range(3 * MOST)]
    jobs[MOST + 5] |= {"retry_limit": 3, "payload": "x" * (SMALL + 1)}
    async with serving() as server:
        made = (await server.post("/jobs/bulk", {"jobs": jobs})).value["jobs"]
        assert made == sorted(made, key=lambda job: job["id"])
        assert [n for n, job in enumerate(made) if "retry_limit" in job] == [MOST + 5]
        taken = await (await server.take(f"?prefetch={len(jobs)}")).jobs(len(jobs))
    assert [job["payload"] for job in taken] == [job["payload"] for job in jobs]


async def test_a_bulk_in_msgpack_is_answered_in_msgpack():
    async with serving() as server:
        body = pack({"jobs": [{"type": "t", "queue": "q", "payload": {"b": 1, "a": 2}}]})
        reply = await server.ask("POST", "/jobs/bulk", body, content_type=MSGPACK, accept=MSGPACK)
        assert len(unpack(reply.body)["jobs"]) == 1
        assert (await (await server.take()).job())["payload"] == {"a": 2, "b": 1}
