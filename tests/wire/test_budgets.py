"""Budgets over HTTP: their own calls. Jobs that draw on them are in test_draws, takes in test_budget_takes."""

from urllib.parse import quote

import pytest

from wire.talk import JSON, MSGPACK, NOW, pack, serving, unpack

RATE = {"allocation": 2, "strategy": {"type": "time_based", "duration_ms": 1000}}
SHOWN = (
    f'{{"key":"mail","allocation":2,"strategy":{{"type":"time_based","duration_ms":1000}},'
    f'"created_at":{NOW},"updated_at":{NOW}}}'
).encode()
JOB = {"type": "t", "queue": "q", "payload": 1}


def at_once(number):
    """A budget that lets so many jobs run at once."""
    return {"allocation": number, "strategy": {"type": "while_in_flight"}}


def rate(allocation, **strategy):
    """A budget by time."""
    return {"allocation": allocation, "strategy": {"type": "time_based"} | strategy}


def drawing(*draws, **fields):
    """A job that draws on budgets, each a key or a whole draw."""
    return JOB | {"budgets": [{"key": one} if isinstance(one, str) else one for one in draws]} | fields


async def keys(server):
    return [budget["key"] for budget in (await server.ask("GET", "/budgets")).value["budgets"]]


async def test_a_budget_is_byte_for_byte_what_is_written_down():
    async with serving() as server:
        made = await server.post("/budgets/mail", RATE)
        read = await server.ask("GET", "/budgets/mail")
        listed = await server.ask("GET", "/budgets")
    assert (made.status, made.headers["content-type"], made.body) == (201, JSON, SHOWN)
    assert (read.status, read.body) == (200, SHOWN)
    assert (listed.status, listed.body) == (200, b'{"budgets":[' + SHOWN + b"]}")


async def test_a_budget_in_msgpack_is_answered_in_msgpack():
    async with serving() as server:
        body = pack(rate(3, duration_ms=9, burst=None))
        made = await server.ask("POST", "/budgets/b", body, content_type=MSGPACK, accept=MSGPACK)
        listed = await server.ask("GET", "/budgets", accept=MSGPACK)
    strategy = {"type": "time_based", "duration_ms": 9}
    shown = {"key": "b", "allocation": 3, "strategy": strategy, "created_at": NOW, "updated_at": NOW}
    assert (made.status, unpack(made.body)) == (201, shown)
    assert list(unpack(made.body)) == list(shown)
    assert unpack(listed.body) == {"budgets": [shown]}


async def test_budgets_are_listed_by_their_keys():
    async with serving() as server:
        assert (await server.ask("GET", "/budgets")).body == b'{"budgets":[]}'
        for key in ("é", "b", "a b", "B", "🗑"):
            await server.post(f"/budgets/{quote(key)}", at_once(1))
        assert await keys(server) == ["B", "a b", "b", "é", "🗑"]


@pytest.mark.parametrize("key", ["a/b", "a b", "é 🗑", "a&b=c#d", "100%", "."])
async def test_a_key_is_any_name(key):
    async with serving() as server:
        target = "/budgets/" + quote(key, safe="").replace(".", "%2E")
        assert (await server.post(target, at_once(1))).value["key"] == key
        assert (await server.ask("GET", target)).value["key"] == key
        assert (await server.ask("DELETE", target)).status == 204


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize(
    ("key", "text"), [("a%2Cb", "must not contain ','"), ("%00", "must not contain null bytes"),
                      ("%7Ba", "must not contain '{' (reserved)")]
)  # fmt: skip
async def test_a_key_that_is_no_name_is_422(method, key, text):
    async with serving() as server:
        body = b'{"allocation":1,"strategy":{"type":"while_in_flight"}}'
        assert (await server.ask(method, f"/budgets/{key}", body)).error == (422, f"budget key {text}")
        assert await keys(server) == []


async def test_what_is_not_there_is_404_and_what_is_there_is_not_created_again():
    async with serving() as server:
        for method, body in (("GET", None), ("PATCH", b"{}"), ("DELETE", None)):
            assert (await server.ask(method, "/budgets/a%20b", body)).error == (404, "budget 'a b' not found")
        await server.post("/budgets/k", at_once(1))
        assert (await server.post("/budgets/k", at_once(2))).error == (409, "budget 'k' already exists")
        assert (await server.ask("GET", "/budgets/k")).value["allocation"] == 1


async def test_a_budget_that_is_put_is_new_but_for_the_time_of_its_creation():
    async with serving() as server:
        first = await server.put("/budgets/k", rate(5, duration_ms=10, burst=7))
        server.clock.advance(5)
        second = await server.put("/budgets/k", at_once(3))
    assert (first.status, first.value["created_at"], first.value["updated_at"]) == (200, NOW, NOW)
    assert second.status == 200
    assert second.value == {"key": "k", **at_once(3), "created_at": NOW, "updated_at": NOW + 5}


@pytest.mark.parametrize(
    ("patch", "allocation", "strategy"),
    [
        ({}, 2, {"type": "time_based", "duration_ms": 1000, "burst": 7}),
        ({"allocation": 3}, 3, {"type": "time_based", "duration_ms": 1000, "burst": 7}),
        ({"strategy": {}}, 2, {"type": "time_based", "duration_ms": 1000, "burst": 7}),
        ({"strategy": {"burst": None}}, 2, {"type": "time_based", "duration_ms": 1000}),
        ({"strategy": {"burst": 9}}, 2, {"type": "time_based", "duration_ms": 1000, "burst": 9}),
        ({"strategy": {"duration_ms": 5}}, 2, {"type": "time_based", "duration_ms": 5, "burst": 7}),
        ({"strategy": {"type": "while_in_flight", "duration_ms": None, "burst": None}}, 2, {"type": "while_in_flight"}),
    ],
)
async def test_a_patch_is_merged_member_by_member(patch, allocation, strategy):
    async with serving() as server:
        await server.put("/budgets/k", rate(2, duration_ms=1000, burst=7))
        server.clock.advance(5)
        reply = await server.patch("/budgets/k", patch)
        shown = {"key": "k", "allocation": allocation, "strategy": strategy, "created_at": NOW, "updated_at": NOW + 5}
        assert (reply.status, reply.value) == (200, shown)
        assert (await server.ask("GET", "/budgets/k")).value == shown


@pytest.mark.parametrize(
    ("patch", "text"),
    [
        ({"allocation": None}, "allocation cannot be null"),
        ({"allocation": 0}, "allocation must be from 1 to 1000000, not 0"),
        ({"strategy": None}, "strategy cannot be null"),
        ({"strategy": {"type": None}}, "strategy.type cannot be null"),
        ({"strategy": {"duration_ms": None}}, "time_based budget requires strategy.duration_ms"),
        (
            {"strategy": {"type": "while_in_flight", "burst": None}},
            "while_in_flight budget does not take strategy.duration_ms, given as 1000: leave it out, or set it to null",
        ),
    ],
)
async def test_a_patch_is_held_to_the_rules_once_it_is_merged(patch, text):
    async with serving() as server:
        await server.post("/budgets/mail", RATE)
        assert (await server.patch("/budgets/mail", patch)).error == (422, text)
        assert (await server.ask("GET", "/budgets/mail")).body == SHOWN


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (at_once(0), "allocation must be from 1 to 1000000, not 0"),
        (at_once(1_000_001), "allocation must be from 1 to 1000000, not 1000001"),
        (rate(1), "time_based budget requires strategy.duration_ms"),
        (rate(1, duration_ms=0), "strategy.duration_ms must be at least 1, not 0"),
        (rate(1, duration_ms=1, burst=0), "strategy.burst must be from 1 to 1000000, not 0"),
        (rate(1, duration_ms=1, burst=1_000_001), "strategy.burst must be from 1 to 1000000, not 1000001"),
        (
            {"allocation": 1, "strategy": {"type": "while_in_flight", "duration_ms": 5}},
            "while_in_flight budget does not take strategy.duration_ms, given as 5: leave it out, or set it to null",
        ),
        (
            {"allocation": 1, "strategy": {"type": "while_in_flight", "burst": 5}},
            "while_in_flight budget does not take strategy.burst, given as 5: leave it out, or set it to null",
        ),
        (
            {"allocation": 1, "strategy": {"type": "x"}},
            'unknown budget strategy: "x" (expected "time_based" or "while_in_flight")',
        ),
    ],
)
async def test_a_budget_that_breaks_a_rule_is_422_wherever_it_is_given(body, text):
    async with serving() as server:
        for send in (server.post, server.put):
            assert (await send("/budgets/k", body)).error == (422, text)
        job = drawing({"key": "k", "create_with": body})
        assert (await server.post("/jobs", job)).error == (422, text)
        assert (await server.post("/jobs/bulk", {"jobs": [JOB, job]})).error == (422, f"jobs[1]: {text}")
        assert await keys(server) == []
        assert (await server.ask("GET", "/queues")).value == {"queues": []}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"allocation": 1},
        {"strategy": {"type": "while_in_flight"}},
        {"allocation": 1, "strategy": {}},
        at_once(None),
        at_once("1"),
        at_once(1.5),
        at_once(-1),
        at_once(2**32),
        rate(1, duration_ms=-1),
        rate(1, duration_ms=2**64),
        rate(1, duration_ms=1, burst=-1),
        at_once(1) | {"key": "k"},
        at_once(1) | {"allocaton": 1},
        {"allocation": 1, "strategy": {"type": "while_in_flight", "brust": None}},
    ],
)
async def test_a_budget_that_is_malformed_or_has_a_member_too_many_is_400_wherever_it_is_given(body):
    async with serving() as server:
        for reply in (
            await server.post("/budgets/k", body),
            await server.put("/budgets/k", body),
            await server.post("/jobs", drawing({"key": "k", "create_with": body})),
            await server.post("/jobs/bulk", {"jobs": [drawing({"key": "k", "create_with": body})]}),
        ):
            assert reply.status == 400, reply
        assert await keys(server) == []


@pytest.mark.parametrize(
    "patch", [{"key": "k"}, {"strategy": {"brust": 1}}, {"strategy": {"burst": -1}}, {"strategy": 1}]
)
async def test_a_patch_that_is_malformed_or_has_a_member_too_many_is_400(patch):
    async with serving() as server:
        await server.post("/budgets/mail", RATE)
        assert (await server.patch("/budgets/mail", patch)).status == 400
        assert (await server.ask("GET", "/budgets/mail")).body == SHOWN


async def test_a_period_beyond_what_is_stored_stands_for_the_end_of_time():
    async with serving() as server:
        reply = await server.post("/budgets/k", rate(1, duration_ms=2**64 - 1))
    assert reply.value["strategy"]["duration_ms"] == 2**63 - 1


@pytest.mark.parametrize("send", ["post", "put"])
@pytest.mark.parametrize("on_disk", [False, True])
async def test_there_are_no_more_budgets_than_the_server_holds(send, on_disk, tmp_path):
    text = (
        "cannot create budget 'c': the server already holds its maximum of 2 budgets (--max-budgets / ZIZQ_MAX_BUDGETS)"
        ". Delete one that nothing draws on, or raise the maximum."
    )
    async with serving(max_budgets=2, **({"root_dir": tmp_path} if on_disk else {})) as server:
        for key in "ab":
            assert (await server.post(f"/budgets/{key}", at_once(1))).status == 201
        assert (await getattr(server, send)("/budgets/c", at_once(1))).error == (422, text)
        job = drawing({"key": "c", "create_with": at_once(1)})
        assert (await server.post("/jobs", job)).error == (422, text)
        assert (await server.put("/budgets/b", at_once(2))).status == 200
        assert (await server.ask("DELETE", "/budgets/a")).status == 204
        assert (await server.post("/jobs", job)).status == 201
        assert await keys(server) == ["b", "c"]


async def test_a_budget_that_unfinished_jobs_draw_on_is_neither_shrunk_below_them_nor_deleted():
    small = "budget 'k' cannot allocate 2: {} up to 3 from it. Raise the {}, delete them, or wait for them to drain."
    used = "budget 'k' is referenced by {}. Delete them or wait for them to finish before deleting it."
    three = {"key": "k", "cost": 3}
    async with serving() as server:
        await server.put("/budgets/k", at_once(6))
        later = await server.enqueue(budgets=[three], ready_at=NOW + 1)
        assert (await server.ask("DELETE", "/budgets/k")).error == (409, used.format("1 unfinished job"))
        first = await server.enqueue(budgets=[three], retention={"dead_ms": 99})
        await (await server.take()).job()
        jobs = "2 unfinished jobs draw"
        assert (await server.put("/budgets/k", at_once(2))).error == (422, small.format(jobs, "allocation"))
        assert (await server.patch("/budgets/k", {"allocation": 2})).error == (422, small.format(jobs, "allocation"))
        shrunk = await server.put("/budgets/k", rate(9, duration_ms=1, burst=2))
        assert shrunk.error == (422, small.format(jobs, "burst"))
        assert (await server.ask("DELETE", "/budgets/k")).error == (409, used.format("2 unfinished jobs"))
        assert (await server.put("/budgets/k", at_once(3))).status == 200
        await server.fail(first, kill=True)
        await server.ask("DELETE", f"/jobs/{later}")
        assert (await server.ask("DELETE", "/budgets/k")).status == 204
        # A finished job may name what is gone.
        assert (await server.get(first))["budgets"] == [three]


async def test_reset_removes_budgets_too():
    async with serving() as server:
        await server.put("/budgets/k", at_once(1))
        await server.ask("POST", "/reset")
        assert await keys(server) == []
