import msgspec
import pytest

from wire.talk import MSGPACK, pack, request, serving


def enqueue(**changes):
    body = {"type": "t", "queue": "q", "payload": None} | changes
    return msgspec.json.encode({name: value for name, value in body.items() if value is not ...})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{} x",
        enqueue(type=...),
        enqueue(queue=...),
        enqueue(payload=...),
        enqueue(type=1),
        enqueue(queue=None),
        enqueue(priority=-1),
        enqueue(priority=65536),
        enqueue(priority=1.5),
        enqueue(priority="1"),
        enqueue(ready_at=-1),
        enqueue(retry_limit=2**32),
        enqueue(backoff={}),
        enqueue(backoff={"exponent": 2, "base_ms": 1}),
        enqueue(backoff={"exponent": 2, "jitter_ms": 1}),
        enqueue(backoff={"base_ms": 2, "jitter_ms": 1}),
        enqueue(backoff={"exponent": 2, "base_ms": 2**32, "jitter_ms": 1}),
        enqueue(retention={"dead_ms": -1}),
        enqueue(unique_key=1),
        b'{"type":"t","queue":"q","payload":[1,]}',
        b'{"type":"t","queue":"q","payload":"\xff"}',
        b'{"type":"t","queue":"q","payload":"\\ud800"}',
        b'{"type":"t","queue":"q","payload":1e999}',
    ],
)
async def test_a_malformed_job_is_400_and_makes_nothing(body):
    async with serving() as server:
        status, text = (await server.ask("POST", "/jobs", body)).error
        assert (status, text.partition(": ")[0]) == (400, "invalid JSON")
        assert (await server.ask("GET", "/queues")).value == {"queues": []}


@pytest.mark.parametrize("number", [2**64, 10**30])
async def test_an_instant_beyond_64_bits_is_400(number):
    async with serving() as server:
        assert (await server.post("/jobs", {"type": "t", "queue": "q", "payload": 1, "ready_at": number})).status == 400


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x81", pack([]), pack({"type": "t", "queue": "q"}), pack({}) + b"\0"])
async def test_a_malformed_job_in_msgpack_is_400_too(body):
    async with serving() as server:
        status, text = (await server.ask("POST", "/jobs", body, content_type=MSGPACK)).error
    assert (status, text.partition(": ")[0]) == (400, "invalid MessagePack")


async def test_fields_that_are_not_known_are_passed_over_and_null_is_as_good_as_absent():
    optional = ("priority", "ready_at", "retry_limit", "backoff", "retention", "unique_key", "unique_while", "batch")
    async with serving() as server:
        job = {"type": "t", "queue": "q", "payload": 1, "colour": "red"} | dict.fromkeys((*optional, "budgets"))
        reply = await server.post("/jobs", job)
    assert reply.status == 201
    assert reply.value["priority"] == 32768
    assert not set(reply.value) & {"retry_limit", "backoff", "retention", "colour"}


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (
            "/jobs/take?color=red",
            "unknown field `color`, expected `prefetch`, `queue`, `timeout_ms`, `concurrency`, `stream`",
        ),
        (
            "/jobs/take?%FF=1",
            "unknown field `\ufffd`, expected `prefetch`, `queue`, `timeout_ms`, `concurrency`, `stream`",
        ),
        ("/jobs/take?queue=a&queue=b", "duplicate field `queue`"),
        ("/jobs/take?prefetch=-1", "prefetch '-1' is not a whole number of 0 or more"),
        ("/jobs/take?prefetch=", "prefetch '' is not a whole number of 0 or more"),
        ("/jobs/x/errors?page=1", "unknown field `page`, expected `from`, `order`, `limit`"),
        ("/jobs/x/errors?limit=1&limit=2", "duplicate field `limit`"),
        ("/jobs/x/errors?limit=some", "limit 'some' is not a whole number up to 65535"),
        ("/jobs/x/errors?limit=65536", "limit '65536' is not a whole number up to 65535"),
        ("/jobs/x/errors?from=-1", "from '-1' is not a whole number up to 4294967295"),
        ("/jobs/x/errors?order=DESC", "order 'DESC' is neither asc nor desc"),
    ],
)
async def test_a_query_that_is_wrong_is_400(target, text):
    async with serving() as server:
        assert (await server.ask("GET", target)).error == (400, f"invalid query parameters: {text}")


@pytest.mark.parametrize("target", ["/jobs/take?prefetch=", "/jobs/x/errors?limit=", "/jobs/x/errors/"])
async def test_a_number_of_thousands_of_digits_is_400(target):
    async with serving() as server:
        assert (await server.ask("GET", target + "9" * 5000)).status == 400


@pytest.mark.parametrize("limit", [0, 2001])
async def test_the_limit_of_a_page_is_1_to_2000(limit):
    async with serving() as server:
        reply = await server.ask("GET", f"/jobs/x/errors?limit={limit}")
    assert reply.error == (400, "limit must be between 1 and 2000")


@pytest.mark.parametrize(
    "target", ["/", "/nowhere", "/jobs/", "/jobs/x/", "/jobs/x/success/", "/health/", "//health", "/jobs//errors"]
)
async def test_a_path_that_is_not_known_is_404_also_with_a_slash_too_many(target):
    async with serving() as server:
        for method in ("GET", "POST", "DELETE"):
            reply = await server.ask(method, target)
            assert (reply.status, reply.body) == (404, b'{"error":"not found"}')


@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        ("POST", "/health", "GET, HEAD"),
        ("DELETE", "/queues", "GET, HEAD"),
        ("GET", "/reset", "POST"),
        ("PUT", "/jobs", "DELETE, GET, HEAD, PATCH, POST"),
        ("POST", "/openapi.json", "GET, HEAD"),
        ("PATCH", "/jobs/count", "GET, HEAD"),
        ("DELETE", "/jobs/count", "GET, HEAD"),
        ("GET", "/jobs/retry", "POST"),
        ("DELETE", "/jobs/retry", "POST"),
        ("GET", "/jobs/x/retry", "POST"),
        ("PATCH", "/jobs/success", "POST"),
        ("GET", "/jobs/bulk", "POST"),
        ("GET", "/jobs/success", "POST"),
        ("DELETE", "/jobs/bulk", "POST"),
        ("DELETE", "/jobs/take", "GET, HEAD"),
        ("POST", "/jobs/take", "GET, HEAD"),
        ("PATCH", "/jobs/take", "GET, HEAD"),
        ("PUT", "/jobs/x", "DELETE, GET, HEAD, PATCH"),
        ("GET", "/jobs/x/success", "POST"),
        ("GET", "/jobs/x/failure", "POST"),
        ("POST", "/jobs/x/errors", "GET, HEAD"),
        ("DELETE", "/jobs/x/errors/1", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_405_with_an_empty_body_and_fixed_segments_win(method, target, allowed):
    async with serving() as server:
        reply = await server.ask(method, target)
    assert (reply.status, reply.headers["allow"], reply.body) == (405, allowed, b"")
    assert "content-type" not in reply.headers


@pytest.mark.parametrize("form", ["application/json", MSGPACK])
async def test_head_is_get_without_the_body(form):
    async with serving() as server:
        job_id, stream = await server.taken()
        await server.fail(job_id)
        stream.connection.hang_up()
        for target in ("/health", "/version", "/openapi.json", "/queues", "/jobs", "/jobs/count", "/jobs/x",
                       f"/jobs/{job_id}", f"/jobs/{job_id}/errors", f"/jobs/{job_id}/errors/1"):  # fmt: skip
            head, get = [await server.ask(method, target, accept=form) for method in ("HEAD", "GET")]
            head.headers.pop("date"), get.headers.pop("date")
            assert (head.status, head.headers, head.body) == (get.status, get.headers, b"")


async def test_head_of_a_take_stream_takes_nothing():
    async with serving() as server:
        job_id = await server.enqueue()
        connection = await server.connect()
        await connection.send(request("HEAD", "/jobs/take"))
        assert (await connection.head()).headers["content-type"] == "application/x-ndjson"
        assert (await server.get(job_id))["status"] == "ready"


@pytest.mark.parametrize("form", ["application/json", MSGPACK])
async def test_a_body_over_the_limit_is_413(form):
    async with serving(max_body_size=100) as server:
        status, text = (await server.ask("POST", "/jobs", b"x" * 101, content_type=form)).error
        assert (status, text.partition(":")[0]) == (413, "body is larger than 100 bytes")
        assert (await server.ask("POST", "/jobs", b"x" * 100)).status == 400


async def test_a_body_without_a_length_is_counted_as_it_comes():
    async with serving(max_body_size=100) as server:
        connection = await server.connect()
        chunk = b"28\r\n" + b"x" * 40 + b"\r\n"
        await connection.send(request("POST", "/jobs", transfer_encoding="chunked") + chunk * 3 + b"0\r\n\r\n")
        assert (await connection.reply()).status == 413


async def test_a_body_in_chunks_is_read_whole():
    async with serving() as server:
        connection = await server.connect()
        whole = enqueue()
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in whole)
        await connection.send(request("POST", "/jobs", transfer_encoding="chunked") + chunks + b"0\r\n\r\n")
        assert (await connection.reply()).status == 201


NAMES = [
    ("", "must not be empty"),
    (",", "must not contain ','"),
    ("a\0", "must not contain null bytes"),
    *((f"a{mark}", f"must not contain '{mark}' (reserved)") for mark in "*?[]{}\\"),
]


@pytest.mark.parametrize(("name", "text"), NAMES)
@pytest.mark.parametrize("field", ["type", "queue"])
async def test_a_name_that_breaks_the_rule_is_400(field, name, text):
    async with serving() as server:
        reply = await server.ask("POST", "/jobs", enqueue(**{field: name}))
        jobs = b",".join([enqueue(), enqueue(**{field: name})])
        bulk = await server.ask("POST", "/jobs/bulk", b'{"jobs":[' + jobs + b"]}")
    assert reply.error == (400, f"{field} {text}")
    assert bulk.error == (400, f"jobs[1]: {field} {text}")


LONG = pytest.mark.embedded_only("a database refuses longer ones, as docs/limits.md has it: test_postgres_names.py")


@pytest.mark.parametrize("name", ["a b", "a/b", "müll 🗑", "!", "x" * 1000, pytest.param("x" * 5000, marks=LONG)])
async def test_any_other_name_is_taken(name):
    async with serving() as server:
        assert (await server.ask("POST", "/jobs", enqueue(type=name, queue=name))).status == 201
        assert (await server.ask("GET", "/queues")).value == {"queues": [name]}


BATCH = {"key": "k", "when": "true", "fold": "$new"}


@pytest.mark.parametrize(
    ("fields", "status", "text"),
    [
        ({"type": "", "queue": "", "unique_while": "x"}, 400, "type must not be empty"),
        ({"queue": "", "unique_while": "x"}, 400, "queue must not be empty"),
        ({"unique_while": "x", "batch": BATCH}, 400, "unique_while requires unique_key"),
        ({"unique_key": "k", "unique_while": "x", "batch": BATCH}, 400, "unique_key and batch cannot be combined"),
        (
            {"unique_key": "k", "unique_while": "x", "budgets": [{"key": "k", "cost": 0}]},
            400,
            'invalid unique_while: "x" (expected "queued", "active", or "exists")',
        ),
        ({"budgets": [{"key": "k", "cost": 0}]}, 422, "budget 'k' cost must be at least 1"),
    ],
)
async def test_the_first_rule_that_is_broken_is_named(fields, status, text):
    async with serving() as server:
        assert (await server.ask("POST", "/jobs", enqueue(**fields))).error == (status, text)
        assert (await server.ask("GET", "/queues")).value == {"queues": []}


@pytest.mark.parametrize(
    ("body", "text"),
    [(b'{"ids":[]}', "ids must not be empty"), (b"{}", "invalid JSON"), (b'{"ids":[1]}', "invalid JSON")],
)
async def test_a_bulk_success_needs_a_list_of_ids(body, text):
    async with serving() as server:
        status, said = (await server.ask("POST", "/jobs/success", body)).error
    assert (status, said[: len(text)]) == (400, text)


@pytest.mark.parametrize(
    "body", [b"{}", b'{"message":1}', b'{"message":"m","kill":1}', b'{"message":"m","retry_at":-1}']
)
async def test_a_failure_needs_a_message_and_fitting_members(body):
    async with serving() as server:
        assert (await server.ask("POST", "/jobs/x/failure", body)).status == 400
