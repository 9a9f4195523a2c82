"""Jobs that draw on budgets: enqueued, shown, and chosen by what they draw on."""

import asyncio
from urllib.parse import quote

import msgspec
import pytest

from wire.talk import FIRST_ID, MSGPACK, NOW, pack, serving, unpack
from zizq.budget import Budget, Draw, Strategy, StrategyType
from zizq.engine import admit
from zizq.engine.budgets import no_such_budget
from zizq.job import Batch

JOB = {"type": "t", "queue": "q", "payload": 1}


def at_once(number):
    """A budget that lets so many jobs run at once."""
    return {"allocation": number, "strategy": {"type": "while_in_flight"}}


def drawing(*draws, **fields):
    """A job that draws on budgets, each a key or a whole draw."""
    return JOB | {"budgets": [{"key": one} if isinstance(one, str) else one for one in draws]} | fields


async def keys(server):
    return [budget["key"] for budget in (await server.ask("GET", "/budgets")).value["budgets"]]


async def test_a_job_shows_what_it_draws_wherever_it_is_shown():
    budgets = '"budgets":[{"key":"a","cost":1},{"key":"b","cost":2}]'
    async with serving() as server:
        await server.put("/budgets/a", at_once(5))
        draws = [{"key": "a", "colour": "red"}, {"key": "b", "cost": 2, "create_with": at_once(2), "bucket": None}]
        made = await server.post("/jobs", JOB | {"budgets": draws})
        read = await server.ask("GET", f"/jobs/{FIRST_ID}")
        listed = await server.ask("GET", "/jobs")
        patched = await server.patch(f"/jobs/{FIRST_ID}", {"priority": 1, "budgets": []})
        stream = await server.take()
        taken = await stream.job()
        failed = await server.fail(FIRST_ID)
    assert made.status == 201
    assert made.body.decode() == (
        f'{{"id":"{FIRST_ID}","type":"t","queue":"q","priority":32768,"status":"ready","ready_at":{NOW},"attempts":0,'
        f'{budgets},"duplicate":false,"folded":false}}'
    )
    for reply in (read, listed, patched):
        assert budgets.encode() in reply.body
    assert taken["budgets"] == failed["budgets"] == made.value["budgets"]


async def test_a_job_without_draws_has_no_budgets():
    async with serving() as server:
        for budgets in ([], None):
            assert "budgets" not in (await server.post("/jobs", JOB | {"budgets": budgets})).value


async def test_a_draw_in_msgpack_is_answered_in_msgpack():
    async with serving() as server:
        body = pack(drawing({"key": "a", "create_with": at_once(1)}))
        reply = await server.ask("POST", "/jobs", body, content_type=MSGPACK, accept=MSGPACK)
    assert (reply.status, unpack(reply.body)["budgets"]) == (201, [{"key": "a", "cost": 1}])


@pytest.mark.parametrize(
    ("draws", "text"),
    [
        (["k", "k"], "budget 'k' named more than once"),
        ([{"key": "k", "cost": 0}], "budget 'k' cost must be at least 1"),
        ([{"key": "k", "bucket": "b"}], "budget 'k' sets bucket, which is reserved and not yet supported"),
        (["none"], "budget 'none' does not exist and no create_with policy was supplied to create it with"),
        ([{"key": "k", "cost": 3}], "cost 3 exceeds budget 'k', which holds at most 2"),
        ([{"key": "n", "cost": 2, "create_with": at_once(1)}], "cost 2 exceeds budget 'n', which holds at most 1"),
        ([{"key": "n", "create_with": at_once(1)}, "none"], "budget 'none' does not exist and no create_with policy was"
         " supplied to create it with"),
        ([""], "budget key must not be empty"),
        (["a*"], "budget key must not contain '*' (reserved)"),
    ],
)  # fmt: skip
async def test_a_job_that_cannot_draw_so_is_422_and_makes_nothing(draws, text):
    async with serving() as server:
        await server.put("/budgets/k", at_once(2))
        assert (await server.post("/jobs", drawing(*draws))).error == (422, text)
        bulk = {"jobs": [JOB, drawing("k"), drawing(*draws), JOB]}
        assert (await server.post("/jobs/bulk", bulk)).error == (422, f"jobs[2]: {text}")
        assert (await server.ask("GET", "/jobs/count")).value == {"count": 0}
        assert await keys(server) == ["k"]


@pytest.mark.parametrize(
    "budgets", [{}, "k", ["k"], [{}], [{"key": 1}], [{"key": "k", "cost": -1}], [{"key": "k", "cost": 1.5}],
                [{"key": "k", "cost": 2**32}], [{"key": "k", "create_with": 1}]]
)  # fmt: skip
async def test_draws_that_are_malformed_are_400(budgets):
    async with serving() as server:
        await server.put("/budgets/k", at_once(2))
        assert (await server.post("/jobs", JOB | {"budgets": budgets})).status == 400


async def test_the_first_who_brings_a_budget_creates_it():
    async with serving() as server:
        server.clock.advance(3)
        first, second = ({"key": "k", "create_with": at_once(number)} for number in (5, 6))
        reply = await server.post("/jobs/bulk", {"jobs": [JOB, drawing(first), drawing(second)]})
        assert reply.status == 201
        created = {"key": "k", **at_once(5), "created_at": NOW + 3, "updated_at": NOW + 3}
        assert (await server.ask("GET", "/budgets/k")).value == created
        server.clock.advance(3)
        assert (await server.post("/jobs", drawing(second))).status == 201
        assert (await server.ask("GET", "/budgets/k")).value == created


async def test_a_duplicate_brings_no_budget_and_shows_those_of_the_job_that_is_there():
    async with serving() as server:
        await server.put("/budgets/a", at_once(1))
        there = await server.enqueue(unique_key="u", budgets=[{"key": "a"}])
        twin = drawing({"key": "b", "create_with": at_once(1)}, unique_key="u")
        reply = await server.post("/jobs", twin)
        assert (reply.status, reply.value["id"], reply.value["duplicate"]) == (200, there, True)
        assert reply.value["budgets"] == [{"key": "a", "cost": 1}]
        assert await keys(server) == ["a"]


BATCH = {"batch": {"key": "b", "when": "true", "fold": "$existing + $new"}, "payload": [1]}
OTHER_BATCH = BATCH | {"batch": BATCH["batch"] | {"key": "c"}}


async def test_a_job_that_is_folded_draws_as_the_one_that_waits():
    async with serving() as server:
        first = await server.post("/jobs", drawing({"key": "a", "create_with": at_once(1)}, **BATCH))
        second = await server.post("/jobs", drawing({"key": "b", "create_with": at_once(1)}, **BATCH))
        third = await server.post("/jobs", JOB | BATCH)
        assert (first.status, second.status, third.status) == (201, 200, 200)
        for reply in (second, third):
            assert (reply.value["id"], reply.value["folded"]) == (first.value["id"], True)
            assert reply.value["budgets"] == [{"key": "a", "cost": 1}]
        assert (await server.get(first.value["id"]))["payload"] == [1, 1, 1]
        assert await keys(server) == ["a"]


async def test_a_batched_job_that_cannot_draw_keeps_out_its_own_request_alone():
    async with serving() as server:
        broker = server.app.broker

        def job(*draws):
            fields = {"type": "t", "queue": "q", "payload": msgspec.Raw(pack([1])), "batch": Batch(**BATCH["batch"])}
            return admit.new_job(broker.next_id(), NOW, **fields, budgets=tuple(draws))

        create = {"a": Budget("a", 1, Strategy(StrategyType.WHILE_IN_FLIGHT), NOW, NOW)}

        def plain():
            return admit.new_job(broker.next_id(), NOW, type="t", queue="q", payload=msgspec.Raw(pack(0)))

        # In the order of their identifiers, which is that of the turn: were `alone` the last, it would only be folded.
        refused, alone, kept, brings, folded = (
            plain(),
            job(Draw("none", 1)),
            plain(),
            job(Draw("a", 1)),
            job(Draw("a", 2)),
        )
        # All three come under one key at once, and so share a turn.
        outcomes = await asyncio.gather(
            broker.enqueue([refused, alone]), broker.enqueue([kept, brings], create), broker.enqueue([folded]),
            return_exceptions=True,
        )  # fmt: skip
        error, [_, first], [second] = outcomes
        assert (str(error), error.index) == (str(no_such_budget(Draw("none", 1))), 1)
        assert first.id == second.id == brings.id
        assert await server.get(refused.id) is None
        assert await server.get(kept.id) is not None
        assert (await server.get(brings.id))["payload"] == [1, 1]
        assert await keys(server) == ["a"]


async def test_a_batched_job_that_cannot_draw_is_named_by_its_place_in_a_bulk():
    async with serving() as server:
        reply = await server.post("/jobs/bulk", {"jobs": [JOB, JOB | BATCH, drawing("none", **OTHER_BATCH)]})
        text = "budget 'none' does not exist and no create_with policy was supplied to create it with"
        assert reply.error == (422, f"jobs[2]: {text}")
        assert (await server.ask("GET", "/jobs/count")).value == {"count": 0}


# ── filters by them ──


async def some_jobs(server):
    """Jobs that draw on a, on b, on both and on nothing."""
    for key in "ab":
        await server.put(f"/budgets/{key}", at_once(9))
    return [await server.enqueue(budgets=[{"key": key} for key in draws]) for draws in ("a", "b", "ab", "")]


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("budgets.key=a", [0, 2]),
        ("budgets.key=b,,none", [1, 2]),
        ("budgets.key=a,b", [0, 1, 2]),
        ("budgets.key=none", []),
        ("budgets.key=", [0, 1, 2, 3]),
        ("budgets.key=,", [0, 1, 2, 3]),
        ("budgets.key=a&status=dead", []),
        ("budgets.key=a&filter=true", [0, 2]),
    ],
)
async def test_jobs_are_listed_and_counted_by_what_they_draw_on(query, wanted):
    async with serving() as server:
        ids = await some_jobs(server)
        jobs = (await server.ask("GET", f"/jobs?{query}")).value["jobs"]
        assert [job["id"] for job in jobs] == [ids[number] for number in wanted]
        assert (await server.ask("GET", f"/jobs/count?{query}")).value == {"count": len(wanted)}


async def test_jobs_are_changed_by_what_they_draw_on():
    async with serving() as server:
        ids = await some_jobs(server)
        assert (await server.patch("/jobs?budgets.key=b", {"priority": 1})).value == {"patched": 2}
        assert [(await server.get(job_id))["priority"] for job_id in ids] == [32768, 1, 1, 32768]
        stream = await server.take("?prefetch=4")
        for job in await stream.jobs(4):
            await server.fail(job["id"], kill=True)
        assert (await server.ask("POST", "/jobs/retry?budgets.key=a")).value == {"retried": 2}
        assert (await server.ask("DELETE", "/jobs?budgets.key=b,none")).value == {"deleted": 2}
        assert [await server.get(job_id) is None for job_id in ids] == [False, True, True, False]


@pytest.mark.parametrize(("method", "target"), [("PATCH", "/jobs"), ("DELETE", "/jobs"), ("POST", "/jobs/retry")])
@pytest.mark.parametrize("value", ["", ","])
async def test_a_change_by_no_budget_is_400_and_not_a_change_of_everything(method, target, value):
    text = "invalid query parameters: budgets.key is empty; leave it out to mean all jobs"
    async with serving() as server:
        ids = await some_jobs(server)
        assert (await server.ask(method, f"{target}?budgets.key={value}", b"{}")).error == (400, text)
        assert (await server.ask("GET", "/jobs/count")).value == {"count": len(ids)}


async def test_the_links_of_a_page_keep_to_the_budget():
    key = "a&b #100%"
    async with serving() as server:
        ids = []
        for _ in range(3):
            ids.append(await server.enqueue(budgets=[{"key": key, "create_with": at_once(1)}]))
            await server.enqueue()
        page = (await server.ask("GET", f"/jobs?limit=2&budgets.key={quote(key)}")).value
        assert [job["id"] for job in page["jobs"]] == ids[:2]
        last = (await server.ask("GET", page["pages"]["next"])).value
        assert ([job["id"] for job in last["jobs"]], last["pages"]["next"]) == (ids[2:], None)
        back = (await server.ask("GET", last["pages"]["prev"])).value
        assert [job["id"] for job in back["jobs"]] == ids[1::-1]
