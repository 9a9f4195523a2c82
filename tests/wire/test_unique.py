"""Jobs with unique keys (protocol.md#5): in memory, and on disk."""

import asyncio
from itertools import count

import msgspec
import pytest

from wire.talk import FIRST_ID, MSGPACK, NOW, pack, serving

DAY = 86_400_000
SCOPES = ("queued", "active", "exists")
STATUSES = ("scheduled", "ready", "in_flight", "completed", "dead")
COVERS = {"queued": STATUSES[:2], "active": STATUSES[:3], "exists": STATUSES}
"""The statuses in which a job holds its key, or keeps another from being enqueued, by the scope of each."""
JOB = {"type": "t", "queue": "q", "payload": None}
QUEUES = map("work{}".format, count())
"""One for each job that is taken, so that its stream gets no other."""


async def coming(server, key="k", **fields):
    """The answer to an enqueue under a key."""
    return await server.post("/jobs", JOB | {"unique_key": key} | fields)


async def came(server, key="k", **fields):
    """Its status, identifier and flags."""
    reply = await coming(server, key, **fields)
    return reply.status, reply.value["id"], reply.value["duplicate"], reply.value["folded"]


async def held(server, **fields):
    """A job in flight, and the stream that holds it."""
    queue = next(QUEUES)
    job_id = await server.enqueue(queue=queue, **fields)
    stream = await server.take(f"?queue={queue}")
    assert (await stream.job())["id"] == job_id
    return job_id, stream


async def brought(server, status, **fields):
    """A job that was brought to a status."""
    fields |= {"retention": {"completed_ms": DAY, "dead_ms": DAY}}
    if status == "scheduled":
        return await server.enqueue(ready_at=NOW + 1000, **fields)
    if status == "ready":
        return await server.enqueue(**fields)
    job_id, stream = await held(server, **fields)
    if status == "completed":
        await server.ask("POST", f"/jobs/{job_id}/success")
    if status == "dead":
        await server.fail(job_id, kill=True)
    if status != "in_flight":
        stream.connection.hang_up()
    return job_id


# ── who is a duplicate ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("own", SCOPES)
@pytest.mark.parametrize("scope", SCOPES)
async def test_a_job_is_a_duplicate_by_its_own_scope_and_by_that_of_the_job_that_is_there(place, own, scope):
    async with serving(**place) as server:
        for status in STATUSES:
            there = await brought(server, status, unique_key=status, unique_while=own)
            said, job_id, duplicate, folded = await came(server, status, unique_while=scope)
            blocks = status in COVERS[own] and status in COVERS[scope]
            assert (said, job_id == there, duplicate, folded) == (200 if blocks else 201, blocks, blocks, False), status


async def test_a_new_job_is_201_and_echoes_its_key():
    async with serving() as server:
        reply = await coming(server)
    assert (reply.status, reply.body) == (
        201,
        b'{"id":"%s","type":"t","queue":"q","priority":32768,"status":"ready","ready_at":1790000000000,"attempts":0,'
        b'"unique_key":"k","unique_while":"queued","duplicate":false,"folded":false}' % FIRST_ID.encode(),
    )


async def test_a_duplicate_is_200_and_shows_the_job_that_is_there(place):
    async with serving(**place) as server:
        there = await brought(server, "in_flight", unique_key="k", unique_while="exists", priority=7, retry_limit=3)
        server.clock.advance(1)
        await server.fail(there, kill=True)
        server.clock.advance(1)
        other = {"type": "other", "queue": "elsewhere", "priority": 9, "payload": [9], "unique_while": "exists"}
        reply = await coming(server, **other, ready_at=NOW + DAY, retention={"dead_ms": 5})
        job = await server.get(there)
    assert reply.status == 200
    payload, flags = job.pop("payload"), {"duplicate": True, "folded": False}
    assert (payload, reply.value) == (None, job | flags)
    assert list(reply.value) == [*job, *flags]
    expected = {"id": there, "type": "t", "priority": 7, "status": "dead", "failed_at": NOW + 1}
    assert expected.items() <= reply.value.items()


async def test_a_duplicate_changes_nothing_and_is_not_kept(place):
    async with serving(**place) as server:
        there = await server.enqueue([1], unique_key="k")
        before = await server.get(there)
        for _ in range(3):
            await coming(server, payload=[2], priority=0)
        assert await server.get(there) == before
        assert (await server.ask("GET", "/jobs/count")).value == {"count": 1}
        stream = await server.take("?prefetch=9")
        assert (await stream.job())["payload"] == [1]
        assert await stream.is_silent()


async def test_both_formats_say_the_same():
    async with serving() as server:
        body = pack(JOB | {"unique_key": "k", "unique_while": "active"})
        for status, yes_or_no in ((201, b"\xc2"), (200, b"\xc3")):
            reply = await server.ask("POST", "/jobs", body, content_type=MSGPACK, accept=MSGPACK)
            assert reply.status == status
            assert reply.body.endswith(
                b"\xaaunique_key\xa1k\xacunique_while\xa6active\xa9duplicate" + yes_or_no + b"\xa6folded\xc2"
            )


async def test_of_many_enqueues_at_once_one_is_new(place):
    async with serving(**place) as server:
        body = msgspec.json.encode(JOB | {"unique_key": "k"})
        connections = [await server.connect() for _ in range(20)]
        replies = await asyncio.gather(*(one.ask("POST", "/jobs", body) for one in connections))
    assert sorted(reply.status for reply in replies) == [200] * 19 + [201]
    assert len({reply.value["id"] for reply in replies}) == 1


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_key_holds_for_all_queues_and_types(place):
    async with serving(**place) as server:
        there = await server.enqueue(unique_key="k", type="a", queue="b")
        assert await came(server, type="c", queue="d") == (200, there, True, False)
        assert (await came(server, "K"))[0] == 201


@pytest.mark.parametrize("key", ["", " ", "a,b", "*", "\0", "ü", "k" * 1000, "é\0,[]{}\\"])
async def test_a_key_may_be_any_text(place, key):
    async with serving(**place) as server:
        there = await server.enqueue(unique_key=key)
        assert await came(server, key) == (200, there, True, False)
        assert (await server.get(there))["unique_key"] == key


@pytest.mark.parametrize("fields", [{}, {"unique_key": None}, {"unique_key": None, "unique_while": None}])
async def test_a_job_without_a_key_is_never_a_duplicate(fields):
    async with serving() as server:
        for _ in range(2):
            reply = await server.post("/jobs", JOB | fields)
            assert (reply.status, reply.value["duplicate"], reply.value["folded"]) == (201, False, False)
            assert not {"unique_key", "unique_while"} & set(reply.value)


async def test_a_scope_that_is_null_is_queued():
    async with serving() as server:
        assert (await coming(server, unique_while=None)).value["unique_while"] == "queued"


@pytest.mark.parametrize("scope", SCOPES)
async def test_every_reader_is_shown_the_key(place, scope):
    async with serving(**place) as server:
        there = await server.enqueue(unique_key="k", unique_while=scope)
        [listed] = (await server.ask("GET", "/jobs")).value["jobs"]
        taken = await (await server.take()).job()
        for job in (await server.get(there), listed, taken, await server.fail(there)):
            assert (job["unique_key"], job["unique_while"]) == ("k", scope)
            assert not {"duplicate", "folded"} & set(job)


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────

BATCH = {"key": "b", "when": "true", "fold": "$new"}
BAD_SCOPE = 'invalid unique_while: "x" (expected "queued", "active", or "exists")'
REFUSED = [
    ({"unique_while": "queued"}, "unique_while requires unique_key"),
    ({"unique_while": "x"}, "unique_while requires unique_key"),
    ({"unique_while": "queued", "unique_key": None}, "unique_while requires unique_key"),
    ({"unique_key": "k", "batch": BATCH}, "unique_key and batch cannot be combined"),
    ({"unique_key": "k", "unique_while": "x", "batch": BATCH}, "unique_key and batch cannot be combined"),
    ({"unique_key": "k", "unique_while": "x"}, BAD_SCOPE),
    ({"unique_key": "k", "unique_while": "Queued"}, BAD_SCOPE.replace("x", "Queued", 1)),
    ({"unique_key": "k", "unique_while": ""}, BAD_SCOPE.replace("x", "", 1)),
    ({"queue": "", "unique_while": "x"}, "queue must not be empty"),
]


@pytest.mark.parametrize(("fields", "text"), REFUSED)
async def test_what_contradicts_itself_is_400(fields, text):
    async with serving() as server:
        assert (await server.post("/jobs", JOB | fields)).error == (400, text)
        assert (await server.post("/jobs/bulk", {"jobs": [JOB, JOB | fields]})).error == (400, f"jobs[1]: {text}")
        assert (await server.ask("GET", "/jobs/count")).value == {"count": 0}


@pytest.mark.parametrize("fields", [{"unique_key": 5}, {"unique_key": ["k"]}, {"unique_key": "k", "unique_while": 1}])
async def test_what_is_no_text_is_400(fields):
    async with serving() as server:
        status, text = (await server.post("/jobs", JOB | fields)).error
        assert (status, text[:14]) == (400, "invalid JSON: ")


# ── bulk ─────────────────────────────────────────────────────────────────────────────────────────────


async def bulk(server, *jobs):
    """The status of a bulk, and identifiers and flags in their order."""
    reply = await server.post("/jobs/bulk", {"jobs": [JOB | job for job in jobs]})
    assert not any(job["folded"] for job in reply.value["jobs"])
    return reply.status, [(job["id"], job["duplicate"]) for job in reply.value["jobs"]]


async def test_in_a_bulk_the_first_counts_whatever_the_scopes(place):
    async with serving(**place) as server:
        jobs = [
            {"unique_key": "k", "unique_while": scope, "payload": scope} for scope in ("exists", "queued", "active")
        ]
        status, [first, second, plain, third] = await bulk(server, *jobs[:2], {}, jobs[2])
        assert (status, first[1], plain[1]) == (201, False, False)
        assert second == third == (first[0], True)
        assert (await server.get(first[0]))["payload"] == "exists"
        assert (await server.ask("GET", "/jobs/count")).value == {"count": 2}


async def test_a_bulk_is_200_when_nothing_in_it_is_new(place):
    async with serving(**place) as server:
        a, b = await server.enqueue(unique_key="a"), await server.enqueue(unique_key="b")
        assert await bulk(server, {"unique_key": "b"}, {"unique_key": "a"}) == (200, [(b, True), (a, True)])
        status, [old, new] = await bulk(server, {"unique_key": "a"}, {"unique_key": "c"})
        assert (status, old, new[1]) == (201, (a, True), False)


async def test_a_bulk_that_is_refused_takes_no_key(place):
    async with serving(**place) as server:
        bad = JOB | {"unique_key": "l", "unique_while": "x"}
        assert (await server.post("/jobs/bulk", {"jobs": [JOB | {"unique_key": "k"}, bad]})).status == 400
        assert (await came(server))[0] == 201


# ── how a key becomes free, and comes back ───────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", STATUSES)
async def test_a_key_goes_with_its_job(place, status):
    async with serving(**place) as server:
        for end in ("/jobs/{}", "/jobs?id={}"):
            there = await brought(server, status, unique_key="k", unique_while="exists")
            assert (await came(server, unique_while="exists"))[:2] == (200, there)
            assert (await server.ask("DELETE", end.format(there))).status in (200, 204)
            assert (await came(server, unique_while="exists"))[0] == 201
            await server.ask("POST", "/reset")


async def test_a_job_that_is_done_and_not_kept_frees_its_key(place):
    async with serving(**place) as server:
        for end in ("success", "failure"):
            unkept = {"retention": {"dead_ms": 0}, "retry_limit": 0}
            there, _ = await held(server, unique_key=end, unique_while="exists", **unkept)
            await server.post(f"/jobs/{there}/{end}", {"message": "m"})
            assert (await came(server, end))[0] == 201


async def test_a_job_past_its_retention_does_not_block(place):
    async with serving(**place) as server:
        there = await brought(server, "completed", unique_key="k", unique_while="exists")
        server.clock.advance(DAY - 1)
        assert (await came(server, unique_while="exists"))[:2] == (200, there)
        server.clock.advance(1)
        assert (await came(server, unique_while="exists"))[0] == 201


async def test_a_job_that_failed_has_its_key_again(place):
    async with serving(**place) as server:
        there, _ = await held(server, unique_key="k")
        await server.fail(there, retry_at=NOW + DAY)
        assert await came(server) == (200, there, True, False)


async def test_a_job_whose_worker_left_has_its_key_again(place):
    async with serving(**place) as server:
        there, stream = await held(server, unique_key="k")
        status, other, _, _ = await came(server)
        assert status == 201
        await server.ask("DELETE", f"/jobs/{other}")
        stream.connection.hang_up()
        while (await server.get(there))["status"] != "ready":
            pass
        assert await came(server) == (200, there, True, False)


async def test_a_dead_job_that_is_retried_has_its_key_again(place):
    async with serving(**place) as server:
        there = await brought(server, "dead", unique_key="k")
        other = await came(server)
        assert other[0] == 201
        await server.ask("DELETE", f"/jobs/{other[1]}")
        await server.ask("POST", f"/jobs/{there}/retry")
        assert await came(server) == (200, there, True, False)


async def test_of_several_jobs_that_hold_a_key_each_blocks(place):
    async with serving(**place) as server:
        there, _ = await held(server, unique_key="k")
        _, other, duplicate, _ = await came(server)
        assert not duplicate
        await server.fail(there, retry_at=NOW + DAY)
        assert await came(server) == (200, other, True, False)
        await server.ask("DELETE", f"/jobs/{other}")
        assert await came(server) == (200, there, True, False)


async def test_a_narrow_scope_in_flight_does_not_hide_a_wider_one(place):
    async with serving(**place) as server:
        wide = await brought(server, "completed", unique_key="k", unique_while="exists")
        await held(server, unique_key="k", unique_while="queued")
        assert (await came(server, unique_while="exists"))[:2] == (200, wide)
        assert (await came(server, unique_while="active"))[0] == 201


async def test_a_patch_leaves_the_key_alone(place):
    async with serving(**place) as server:
        there = await server.enqueue(unique_key="k")
        patched = await server.patch(f"/jobs/{there}", {"queue": "r", "unique_key": "l", "unique_while": "exists"})
        assert (patched.value["unique_key"], patched.value["unique_while"]) == ("k", "queued")
        assert not {"duplicate", "folded"} & set(patched.value)
        assert await came(server) == (200, there, True, False)
        assert (await came(server, "l"))[0] == 201


async def test_a_job_that_was_scheduled_keeps_its_key_when_it_is_ready(place):
    async with serving(**place) as server:
        there = await server.enqueue(unique_key="k", ready_at=NOW + 1)
        assert (await came(server))[:2] == (200, there)
        server.clock.advance(1)
        await server.app.broker.promote(10)
        assert (await came(server))[:2] == (200, there)
        assert (await server.get(there))["status"] == "ready"


async def test_keys_hold_after_a_restart(tmp_path):
    async with serving(root_dir=tmp_path) as server:
        there = {one: await brought(server, one, unique_key=one, unique_while="exists") for one in STATUSES}
        there["freed"] = await brought(server, "in_flight", unique_key="freed")
        status, other, _, _ = await came(server, "freed")
        assert status == 201
        await server.ask("DELETE", f"/jobs/{other}")
    async with serving(root_dir=tmp_path) as server:
        server.clock.advance(1)  # else identifiers would begin anew
        for key, job_id in there.items():
            assert await came(server, key, unique_while="exists") == (200, job_id, True, False)
        # What was in flight is ready again, and so holds its key by the narrowest scope too.
        assert (await came(server, "freed"))[:2] == (200, there["freed"])
