"""Cron groups and their entries (protocol.md#7)."""

import asyncio

import msgspec
import pytest

from wire.talk import JSON, MSGPACK, NOW, pack, serving, unpack

JOB = {"type": "t", "queue": "q", "payload": {"b": 1, "a": [None, 1.5]}}
SHOWN_JOB = JOB | {"priority": 32768}
FULL_JOB = {
    "type": "t", "queue": "q", "payload": None, "priority": 0, "retry_limit": 0,
    "backoff": {"exponent": 4.1, "base_ms": 1, "jitter_ms": 2}, "retention": {"dead_ms": 3},
    "unique_key": "k", "unique_while": "active",
}  # fmt: skip
NEXT = NOW + 40_000
"""The full minute after NOW."""
MINUTE = 60_000


def entry(name="e", expression="* * * * *", job=JOB, **more):
    return {"name": name, "expression": expression, "timezone": "UTC", "job": job} | more


def shown(name="e", expression="* * * * *", **more):
    """An entry as it is answered; all of it is set that always is."""
    first = {"name": name, "expression": expression, "timezone": "UTC", "paused": False}
    stamps = {key: more.pop(key) for key in ("paused_at", "resumed_at") if key in more}
    return first | stamps | {"job": SHOWN_JOB, "next_enqueue_at": NEXT} | more


async def put(server, *entries, group="g", **more):
    reply = await server.put(f"/crons/{group}", {"entries": entries} | more)
    assert reply.status == 200, reply
    return reply.value


async def get(server, path="g"):
    reply = await server.ask("GET", f"/crons/{path}")
    assert reply.status == 200, reply
    return reply.value


async def tick(server, at):
    """Fire what is due at an instant; returns the jobs that are there then."""
    server.clock.set_wall(at)
    await server.app.crontab.fire(100)
    return (await server.ask("GET", "/jobs")).value["jobs"]


# ── groups ──


async def test_a_group_is_answered_field_by_field_in_order():
    async with serving() as server:
        reply = await server.put("/crons/g", {"entries": [entry()], "timezone": "Asia/Tokyo", "paused": True})
        assert reply.headers["content-type"] == JSON
        assert reply.body == (
            b'{"name":"g","paused":true,"timezone":"Asia/Tokyo","paused_at":1790000000000,"entries":['
            b'{"name":"e","expression":"* * * * *","timezone":"UTC","paused":false,"job":'
            b'{"type":"t","queue":"q","payload":{"a":[null,1.5],"b":1},"priority":32768},'
            b'"next_enqueue_at":1790000040000}]}'
        )


async def test_a_group_comes_in_the_order_of_the_request_once_and_then_by_name():
    async with serving() as server:
        entries = [entry(name) for name in ("b", "a", "é", "c d")]
        assert [one["name"] for one in (await put(server, *entries))["entries"]] == ["b", "a", "é", "c d"]
        by_name = ["a", "b", "c d", "é"]
        assert [one["name"] for one in (await get(server))["entries"]] == by_name
        reply = await server.patch("/crons/g", {})
        assert [one["name"] for one in reply.value["entries"]] == by_name


async def test_an_empty_group_is_a_group():
    async with serving() as server:
        assert await put(server) == {"name": "g", "paused": False, "entries": []}
        assert await get(server) == {"name": "g", "paused": False, "entries": []}


async def test_a_template_keeps_what_an_enqueue_takes():
    async with serving() as server:
        batch = {"key": "", "when": "true", "fold": "$new"}
        jobs = [FULL_JOB, JOB | {"unique_key": ""}, JOB | {"batch": batch}]
        answered = await put(server, *[entry(str(number), job=job) for number, job in enumerate(jobs)])
        assert [one["job"] for one in answered["entries"]] == [
            FULL_JOB, SHOWN_JOB | {"unique_key": "", "unique_while": "queued"}, SHOWN_JOB | {"batch": batch},
        ]  # fmt: skip
        assert await get(server) == answered


async def test_messagepack_is_spoken():
    async with serving() as server:
        body = pack({"entries": [entry()]})
        reply = await server.ask("PUT", "/crons/g", body, content_type=MSGPACK, accept=MSGPACK)
        assert (reply.status, reply.headers["content-type"]) == (200, MSGPACK)
        assert unpack(reply.body) == {"name": "g", "paused": False, "entries": [shown()]}
        one = await server.ask("GET", "/crons/g/entries/e", accept=MSGPACK)
        assert unpack(one.body) == shown()


async def test_groups_are_listed_and_deleted():
    async with serving() as server:
        assert (await server.ask("GET", "/crons")).value == {"crons": []}
        for group in ("b", "a%2Fb", "%C3%A9", "a"):
            await put(server, entry(), group=group)
        assert (await server.ask("GET", "/crons")).value == {"crons": ["a", "a/b", "b", "é"]}
        reply = await server.ask("DELETE", "/crons/a%2Fb")
        assert (reply.status, reply.body, "content-type" in reply.headers) == (204, b"", False)
        assert (await server.ask("DELETE", "/crons")).value == {"deleted": 3}
        assert (await server.ask("DELETE", "/crons")).value == {"deleted": 0}
        assert (await server.ask("GET", "/crons")).value == {"crons": []}


async def test_a_reset_deletes_groups():
    async with serving() as server:
        await put(server, entry())
        await server.ask("POST", "/reset")
        assert (await server.ask("GET", "/crons")).value == {"crons": []}


async def test_put_replaces_and_keeps_what_it_does_not_name():
    async with serving() as server:
        await put(server, entry("a"), entry("b"), paused=True, timezone="Asia/Tokyo")
        server.clock.advance(MINUTE)
        after = await put(server, entry("b", "0 0 * * *", job=FULL_JOB), entry("c"))
        assert (after["paused"], after["paused_at"], "timezone" in after) == (True, NOW, False)
        assert [one["name"] for one in after["entries"]] == ["b", "c"]
        assert after["entries"][0]["job"] == FULL_JOB
        # Midnight in UTC.
        assert after["entries"][0]["next_enqueue_at"] == 1_790_035_200_000


async def test_patch_pauses_and_moves_a_group():
    async with serving() as server:
        own, inherits = entry("own"), entry("inherits", "0 12 * * *", timezone=None)
        await put(server, own, inherits, timezone="UTC")
        server.clock.advance(1)
        reply = await server.patch("/crons/g", {"paused": True})
        assert (reply.value["paused"], reply.value["paused_at"], reply.value["timezone"]) == (True, NOW + 1, "UTC")
        server.clock.advance(1)
        value = (await server.patch("/crons/g", {"paused": False, "timezone": "Asia/Tokyo"})).value
        assert (value["paused_at"], value["resumed_at"], value["timezone"]) == (NOW + 1, NOW + 2, "Asia/Tokyo")
        assert value["entries"][1] == shown("own")
        assert value["entries"][0]["next_enqueue_at"] == 1_790_046_000_000
        assert (await server.patch("/crons/g", {"timezone": None})).value["entries"][1] == shown("own")
        assert "timezone" not in await get(server)
        assert (await server.patch("/crons/g", {"paused": None})).value == await get(server)


async def test_the_clocks_of_the_server_count_where_no_zone_is_named(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    async with serving() as server:
        [answered] = (await put(server, entry(expression="30 5 * * *", timezone=None)))["entries"]
        assert answered["next_enqueue_at"] == 1_790_035_200_000
        assert "timezone" not in answered


# ── entries ──


async def test_an_entry_is_created_once():
    async with serving() as server:
        reply = await server.post("/crons/g/entries", entry())
        assert (reply.status, reply.value) == (201, shown())
        assert await get(server) == {"name": "g", "paused": False, "entries": [shown()]}
        again = await server.post("/crons/g/entries", entry(expression="0 0 * * *"))
        assert again.error == (409, "cron entry 'e' already exists in group 'g'")
        assert await get(server, "g/entries/e") == shown()


async def test_an_entry_is_put_under_the_name_in_the_path():
    async with serving() as server:
        for expression in ("0 0 * * *", "* * * * *"):
            reply = await server.put("/crons/g/entries/x%2Cy", entry("e", expression))
            assert (reply.status, reply.value["name"]) == (200, "x,y")
        assert await get(server) == {"name": "g", "paused": False, "entries": [shown("x,y")]}


async def test_an_entry_is_paused_and_goes_on():
    async with serving() as server:
        await put(server, entry(paused=True), entry("other"))
        assert (await get(server, "g/entries/e")) == shown(paused=True, paused_at=NOW)
        server.clock.advance(1)
        reply = await server.patch("/crons/g/entries/e", {"paused": False})
        assert (reply.status, reply.value) == (200, shown(paused_at=NOW, resumed_at=NOW + 1))
        assert (await server.patch("/crons/g/entries/e", {"paused": False})).value == reply.value
        assert (await get(server, "g/entries/other")) == shown("other")


async def test_an_entry_is_deleted_and_its_group_stays():
    async with serving() as server:
        await put(server, entry())
        reply = await server.ask("DELETE", "/crons/g/entries/e")
        assert (reply.status, reply.body) == (204, b"")
        assert await get(server) == {"name": "g", "paused": False, "entries": []}


async def test_an_entry_that_never_fires_has_no_next_time():
    async with serving() as server:
        [answered] = (await put(server, entry(expression="0 0 0 1 1 * 2020")))["entries"]
        assert "next_enqueue_at" not in answered


# ── firing ──


async def test_an_entry_fires_an_ordinary_job():
    async with serving() as server:
        await put(server, entry(job=FULL_JOB), entry("later", "0 0 * * *"))
        assert await tick(server, NEXT - 1) == []
        [job] = await tick(server, NEXT + 5)
        assert job == {"id": job["id"], "status": "ready", "ready_at": NEXT + 5, "attempts": 0} | FULL_JOB
        after = await get(server, "g/entries/e")
        assert (after["last_enqueue_at"], after["next_enqueue_at"]) == (NEXT + 5, NEXT + MINUTE)
        assert "last_enqueue_at" not in await get(server, "g/entries/later")


async def test_a_worker_that_waits_gets_the_job():
    async with serving() as server:
        stream = await server.take()
        await put(server, entry())
        await tick(server, NEXT)
        assert (await stream.job())["payload"] == JOB["payload"]


async def test_the_server_fires_by_itself():
    async with serving() as server:
        stream = await server.take()
        server.clock.set_wall(NEXT - 10)
        await put(server, entry())
        server.clock.set_wall(NEXT)
        assert (await stream.job())["payload"] == JOB["payload"]


async def test_jobs_are_batched_and_unique_as_others_are():
    async with serving() as server:
        batched = JOB | {"payload": [1], "batch": {"key": "b", "when": "true", "fold": "$existing + $new"}}
        unique = JOB | {"unique_key": "u"}
        await put(server, entry("a", job=batched), entry("b", job=batched), entry("c", job=unique))
        for minutes in range(2):
            jobs = await tick(server, NEXT + minutes * MINUTE)
        assert sorted(msgspec.json.encode(job["payload"]) for job in jobs) == [
            b"[1,1,1,1]", msgspec.json.encode(JOB["payload"], order="sorted"),
        ]  # fmt: skip


BUDGET = {"allocation": 3, "strategy": {"type": "while_in_flight"}}


async def test_a_template_draws_on_budgets_and_may_bring_them():
    async with serving() as server:
        draws = [{"key": "new", "create_with": BUDGET}, {"key": "there", "cost": 2}]
        await server.post("/budgets/there", BUDGET)
        [answered] = (await put(server, entry(job=JOB | {"budgets": draws})))["entries"]
        assert answered["job"] == SHOWN_JOB | {"budgets": [{"key": "new", "cost": 1}, {"key": "there", "cost": 2}]}
        assert [one["key"] for one in (await server.ask("GET", "/budgets")).value["budgets"]] == ["new", "there"]
        [job] = await tick(server, NEXT)
        assert job["budgets"] == answered["job"]["budgets"]
        await server.ask("DELETE", "/jobs")
        reply = await server.ask("DELETE", "/budgets/new")
        assert reply.error == (
            409,
            "budget 'new' is referenced by 1 cron entry, including 'g/e'. Remove them before deleting it.",
        )
        await server.ask("DELETE", "/crons/g/entries/e")
        assert (await server.ask("DELETE", "/budgets/new")).status == 204


# ── refusals ──

BAD_EXPRESSION = "invalid cron expression: "
NOT_FOUND = {
    ("GET", "g"): "cron group 'g' not found",
    ("PATCH", "g"): "cron group 'g' not found",
    ("DELETE", "g"): "cron group 'g' not found",
    ("GET", "g/entries/e"): "cron entry 'e' not found in group 'g'",
    ("PATCH", "g/entries/e"): "cron entry 'e' not found in group 'g'",
    ("DELETE", "g/entries/e"): "cron entry 'e' not found in group 'g'",
}


@pytest.mark.parametrize(("method", "path"), NOT_FOUND)
async def test_what_is_not_there_is_not_found(method, path):
    async with serving() as server:
        body = b'{"paused":true}' if method == "PATCH" else None
        for _ in range(2):
            assert (await server.ask(method, f"/crons/{path}", body)).error == (404, NOT_FOUND[method, path])
            if path == "g":
                break
            await put(server, entry("another"))


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (entry(""), "cron entry name must not be empty"),
        (entry("a,b"), "cron entry name must not contain ','"),
        (entry(expression="* * * *"), f'{BAD_EXPRESSION}"* * * *" has 4 fields'),
        (entry(expression="61 * * * *"), f'{BAD_EXPRESSION}minute "61" is not allowed'),
        (entry(timezone="europe/london"), 'invalid timezone: "europe/london"'),
        (entry(timezone=""), 'invalid timezone: ""'),
        (entry(job=JOB | {"ready_at": 0}), "ready_at is not supported for cron entries"),
        (entry(job=JOB | {"type": "a*"}), "type must not contain '*' (reserved)"),
        (entry(job=JOB | {"queue": ""}), "queue must not be empty"),
        (entry(job=JOB | {"unique_while": "queued"}), "unique_while requires unique_key"),
        (entry(job=JOB | {"unique_key": "k", "unique_while": "x"}), 'invalid unique_while: "x" (expected'),
        (
            entry(job=JOB | {"unique_key": "k", "batch": {"key": "", "when": "true", "fold": "1"}}),
            "unique_key and batch cannot be combined",
        ),
        (entry(job=JOB | {"batch": {"key": "", "when": "(", "fold": "1"}}), "batch expression: when: "),
        (entry(job=JOB | {"batch": {"key": "", "when": "true", "fold": "1, 2"}}), "batch dry-run: fold: "),
        (entry(job=JOB | {"budgets": [{"key": "none"}]}), "budget 'none' does not exist"),
        (entry(job=JOB | {"budgets": [{"key": "a,b", "create_with": BUDGET}]}), "budget key must not contain ','"),
        (entry(job=JOB | {"budgets": [{"key": "b", "cost": 4, "create_with": BUDGET}]}), "cost 4 exceeds budget 'b'"),
        (entry(job=JOB | {"budgets": [{"key": "b", "cost": 0}]}), "budget 'b' cost must be at least 1"),
        # The first rule that is broken counts.
        (entry("", job=JOB | {"ready_at": 0}), "cron entry name must not be empty"),
        (entry(expression="?", job=JOB | {"ready_at": 0, "type": ""}), "ready_at is not supported"),
        (entry(expression="?", job=JOB | {"type": ""}), "type must not be empty"),
        (entry(expression="?", timezone="?"), BAD_EXPRESSION),
    ],
)
async def test_a_bad_entry_is_refused_wherever_it_comes(bad, text):
    async with serving() as server:
        there = await put(server, entry("good"))
        for reply in (
            await server.put("/crons/g", {"entries": [entry("first"), bad]}),
            await server.post("/crons/g/entries", bad),
            await server.put("/crons/g/entries/e", bad),
        ):
            status, error = reply.error
            assert status == 400
            assert error.startswith(text), error
        assert await get(server) == there


async def test_names_are_compared_before_the_entries_are_looked_at():
    async with serving() as server:
        reply = await server.put("/crons/g", {"entries": [entry(), entry("x", "bad"), entry("x")]})
        assert reply.error == (400, 'duplicate cron entry name: "x"')


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/crons/a,b", "cron group name must not contain ','"),
        ("/crons/%00", "cron group name must not contain null bytes"),
        ("/crons/%5B", "cron group name must not contain '[' (reserved)"),
    ],
)
async def test_a_bad_name_of_a_group_is_refused(path, error):
    async with serving() as server:
        assert (await server.put(path, {"entries": []})).error == (400, error)
        assert (await server.post(f"{path}/entries", entry())).error == (400, error)
        assert (await server.put(f"{path}/entries/e", entry())).error == (400, error)
        assert (await server.ask("GET", path)).status == 404


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "g", "{}"),
        ("PUT", "g", '{"entries":null}'),
        ("PUT", "g", '{"entries":[{}]}'),
        ("PUT", "g", '{"entries":[],"paused":1}'),
        ("PUT", "g", '{"entries":[{"name":"e","expression":"* * * * *","job":{"type":"t","queue":"q"}}]}'),
        ("PATCH", "g", '{"paused":"yes"}'),
        ("PATCH", "g", '{"timezone":1}'),
        ("POST", "g/entries", '{"name":"e","expression":"* * * * *"}'),
        ("PUT", "g/entries/e", '{"expression":"* * * * *","job":{"type":"t","queue":"q","payload":1}}'),
        ("PATCH", "g/entries/e", "{}"),
        ("PATCH", "g/entries/e", '{"paused":null}'),
    ],
)
async def test_a_body_of_another_shape_is_refused(method, path, body):
    async with serving() as server:
        there = await put(server, entry())
        status, error = (await server.ask(method, f"/crons/{path}", body.encode())).error
        assert (status, error.startswith("invalid JSON: ")) == (400, True)
        assert await get(server) == there


async def test_a_zone_that_is_not_there_is_refused_for_a_group():
    async with serving() as server:
        await put(server, entry())
        for reply in (
            await server.put("/crons/g", {"entries": [], "timezone": "Moon"}),
            await server.patch("/crons/g", {"timezone": "Moon"}),
        ):
            assert reply.error == (400, 'invalid timezone: "Moon"')
        assert (await get(server))["entries"] == [shown()]


async def test_unknown_fields_are_passed_over():
    async with serving() as server:
        assert (await put(server, entry(more=1), more=1))["entries"] == [shown()]


async def test_paths_and_methods_that_are_not_there():
    async with serving() as server:
        for path in ("/crons/", "/crons/g/", "/crons//entries", "/crons/g/entries/", "/crons/g/other"):
            assert (await server.ask("GET", path)).error == (404, "not found")
        for path, allow in (("/crons", "DELETE, GET, HEAD"), ("/crons/g/entries", "POST")):
            reply = await server.ask("PUT", path, b"{}")
            assert (reply.status, reply.headers["allow"]) == (405, allow)


async def test_changes_at_the_same_time_are_all_made():
    async with serving() as server:
        connections = [await server.connect() for _ in range(8)]
        bodies = [msgspec.json.encode(entry(str(number))) for number in range(8)]
        replies = await asyncio.gather(
            *[one.ask("POST", "/crons/g/entries", body) for one, body in zip(connections, bodies, strict=True)]
        )
        assert [reply.status for reply in replies] == [201] * 8
        assert len((await get(server))["entries"]) == 8
