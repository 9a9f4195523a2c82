"""Changes to jobs that are there: patch, retry and delete, one by one and by filters."""

import asyncio

import pytest

from wire.talk import JSON, MSGPACK, NOW, PATIENCE_S, pack, serving

BACKOFF = {"exponent": 2.0, "base_ms": 1, "jitter_ms": 2}
ABSENT = "0" * 25
NOT_FOUND = (404, "job not found")


async def patched(server, job_id: str, **changes):
    """Patch a job; returns it as GET shows it, which the answer must equal but for the payload."""
    reply = await server.patch(f"/jobs/{job_id}", changes)
    assert reply.status == 200, reply
    job = await server.get(job_id)
    job.pop("payload")
    assert reply.value == job
    return job


async def finished(server, **retention) -> tuple[str, str]:
    """A completed and a dead job."""
    stream = await server.take("?prefetch=2&queue=done")
    completed = await server.enqueue(queue="done", retention={"completed_ms": 99} | retention)
    dead = await server.enqueue(queue="done", retention=retention)
    await stream.jobs(2)
    await server.ask("POST", f"/jobs/{completed}/success")
    await server.fail(dead, error_type="E", kill=True)
    await left(server, stream)
    return completed, dead


async def left(server, stream):
    """Hang up, and see the stream end: it takes nothing any more."""
    streams = server.app.broker.stream_count()
    stream.connection.hang_up()
    async with asyncio.timeout(PATIENCE_S):
        while server.app.broker.stream_count() == streams:  # noqa: ASYNC110 - it is asked each time
            await asyncio.sleep(0)


# ── patch one ──


async def test_an_empty_patch_changes_nothing():
    async with serving() as server:
        job_id = await server.enqueue(payload=[1], backoff=BACKOFF)
        before = await server.get(job_id)
        await patched(server, job_id)
        assert await server.get(job_id) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"queue": "other place"},
        {"priority": 0},
        {"priority": 65535},
        {"ready_at": NOW - 5},
        {"ready_at": 0},
        {"retry_limit": 0},
        {"retry_limit": 2**32 - 1},
        {"backoff": BACKOFF},
        {"retention": {"dead_ms": 0}},
        {"queue": "a", "priority": 1, "retry_limit": 2, "retention": {"completed_ms": 1, "dead_ms": 2}},
    ],
)
async def test_what_a_patch_names_is_changed_and_all_else_stays(changes):
    async with serving() as server:
        job_id = await server.enqueue()
        before = await server.get(job_id)
        before.pop("payload")
        assert await patched(server, job_id, **changes) == before | changes


@pytest.mark.parametrize("name", ["retry_limit", "backoff", "retention"])
async def test_null_clears_what_a_job_has_of_its_own(name):
    own = {"retry_limit": 1, "backoff": BACKOFF, "retention": {"dead_ms": 1}}
    async with serving() as server:
        job_id = await server.enqueue(**own)
        job = await patched(server, job_id, **{name: None})
    assert own.keys() & job == own.keys() - {name}


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        (None, {}, None),
        (None, {"dead_ms": None}, None),
        (None, {"dead_ms": 5}, {"dead_ms": 5}),
        ({"dead_ms": 1}, {}, {"dead_ms": 1}),
        ({"dead_ms": 1}, {"completed_ms": 2}, {"completed_ms": 2, "dead_ms": 1}),
        ({"dead_ms": 1, "completed_ms": 2}, {"dead_ms": None}, {"completed_ms": 2}),
        ({"dead_ms": 1}, {"dead_ms": None}, None),
        ({"dead_ms": 1}, {"dead_ms": 2**64 - 1}, {"dead_ms": 2**63 - 1}),
        ({"dead_ms": 1}, None, None),
    ],
)
async def test_a_retention_is_merged_member_by_member(before, change, after):
    async with serving() as server:
        job_id = await server.enqueue(retention=before)
        assert (await patched(server, job_id, retention=change)).get("retention") == after


@pytest.mark.parametrize(
    ("given", "ready_at", "after"),
    [
        (None, None, ("ready", NOW)),
        (None, NOW + 1, ("scheduled", NOW + 1)),
        (None, NOW, ("ready", NOW)),
        (None, NOW - 9, ("ready", NOW - 9)),
        (NOW - 9, None, ("ready", NOW - 9)),
        (NOW + 9, None, ("ready", NOW)),
        (NOW + 9, NOW, ("ready", NOW)),
        (NOW + 9, 3, ("ready", 3)),
        (NOW + 9, NOW + 1, ("scheduled", NOW + 1)),
        (NOW + 9, 2**64 - 1, ("scheduled", 2**63 - 1)),
    ],
)
async def test_a_new_time_makes_a_job_wait_or_ready(given, ready_at, after):
    async with serving() as server:
        job_id = await server.enqueue(ready_at=given)
        job = await patched(server, job_id, ready_at=ready_at)
    assert (job["status"], job["ready_at"]) == after


@pytest.mark.parametrize(("ready_at", "stored"), [(NOW + 9, NOW + 9), (0, 0), (None, NOW)])
async def test_a_job_in_flight_stays_there_whatever_its_new_time(ready_at, stored):
    async with serving() as server:
        job_id, stream = await server.taken()
        job = await patched(server, job_id, ready_at=ready_at, queue="elsewhere", priority=1)
        assert (job["status"], job["ready_at"], job["queue"]) == ("in_flight", stored, "elsewhere")
        stream.connection.hang_up()
        other = await server.take("?queue=elsewhere")
        assert (await other.job())["id"] == job_id


async def test_a_job_in_flight_fails_by_the_limit_that_it_was_patched_to():
    async with serving() as server:
        job_id, _ = await server.taken()
        await patched(server, job_id, retry_limit=0)
        assert (await server.fail(job_id))["status"] == "dead"


async def test_a_job_is_taken_by_the_priority_that_it_was_patched_to():
    async with serving() as server:
        ids = [await server.enqueue() for _ in range(3)]
        await patched(server, ids[2], priority=1)
        await patched(server, ids[0], priority=40_000)
        stream = await server.take("?prefetch=3")
        assert [job["id"] for job in await stream.jobs(3)] == [ids[2], ids[1], ids[0]]


async def test_a_job_that_is_patched_to_wait_is_handed_out_when_its_time_has_come():
    async with serving() as server:
        job_id = await server.enqueue()
        await patched(server, job_id, ready_at=NOW + 5)
        stream = await server.take()
        assert await stream.is_silent()
        server.clock.advance(5)
        assert (await stream.job())["ready_at"] == NOW + 5


@pytest.mark.parametrize("form", [JSON, MSGPACK])
async def test_a_patch_is_read_and_answered_in_both_formats(form):
    encode = pack if form == MSGPACK else None
    async with serving() as server:
        job_id = await server.enqueue(retention={"dead_ms": 1, "completed_ms": 1})
        changes = {"priority": 3, "retry_limit": None, "retention": {"dead_ms": None}}
        body = encode(changes) if encode else b'{"priority":3,"retry_limit":null,"retention":{"dead_ms":null}}'
        reply = await server.ask("PATCH", f"/jobs/{job_id}", body, content_type=form, accept=form)
    assert (reply.status, reply.headers["content-type"]) == (200, form)
    assert (reply.value["priority"], reply.value["retention"], "payload" in reply.value) == (
        3,
        {"completed_ms": 1},
        False,
    )


REFUSED = [
    ({"queue": None}, 422, "queue cannot be null"),
    ({"priority": None}, 422, "priority cannot be null"),
    ({"queue": ""}, 422, "queue must not be empty"),
    ({"queue": "a,b"}, 422, "queue must not contain ','"),
    ({"queue": "a*"}, 422, "queue must not contain '*' (reserved)"),
    ({"queue": 1}, 400, "invalid JSON: "),
    ({"priority": 65536}, 400, "invalid JSON: "),
    ({"priority": -1}, 400, "invalid JSON: "),
    ({"ready_at": -1}, 400, "invalid JSON: "),
    ({"ready_at": 2**64}, 400, f"ready_at {2**64} is out of range"),
    ({"ready_at": 2**64, "queue": None}, 400, f"ready_at {2**64} is out of range"),
    ({"retry_limit": 2**32}, 400, "invalid JSON: "),
    ({"backoff": {"exponent": 1, "base_ms": 1}}, 400, "invalid JSON: "),
    ({"backoff": BACKOFF | {"exponent": 1e39}}, 400, "backoff.exponent is out of range"),
    ({"retention": {"dead_ms": -1}}, 400, "invalid JSON: "),
    ({"retention": {"dead_ms": 2**64}}, 400, f"retention.dead_ms {2**64} is out of range"),
    ([], 400, "invalid JSON: "),
]


@pytest.mark.parametrize(("changes", "status", "text"), REFUSED)
async def test_a_patch_that_is_wrong_is_refused_and_changes_nothing(changes, status, text):
    async with serving() as server:
        job_id = await server.enqueue()
        before = await server.get(job_id)
        for target in (f"/jobs/{job_id}", "/jobs", f"/jobs?id={job_id}"):
            said, why = (await server.patch(target, changes)).error
            assert (said, why[: len(text)]) == (status, text)
        assert await server.get(job_id) == before


async def test_what_cannot_be_patched_is_passed_over():
    async with serving() as server:
        job_id = await server.enqueue(payload=1)
        before = await server.get(job_id)
        others = {"type": "x", "payload": 2, "status": "dead", "unique_key": "k", "batch": {}, "budgets": [], "id": "x"}
        await patched(server, job_id, **others)
        assert await server.get(job_id) == before


async def test_a_patch_is_read_in_the_formats_that_are_spoken():
    async with serving() as server:
        for target in ("/jobs", "/jobs/x"):
            assert (await server.ask("PATCH", target, b"{}", content_type="text/plain")).status == 415
            assert (await server.ask("PATCH", target, b"{")).error == (400, "invalid JSON: Input data was truncated")
            assert (await server.ask("PATCH", target)).status == 400


async def test_the_query_of_a_patch_is_judged_before_its_body():
    async with serving() as server:
        reply = await server.ask("PATCH", "/jobs?color=red", b"{", content_type="text/plain")
    assert reply.status == 400
    assert "`color`" in reply.error[1]


async def test_a_finished_job_cannot_be_patched_and_one_that_is_not_there_is_404():
    async with serving() as server:
        completed, dead = await finished(server, dead_ms=99)
        for job_id, status in ((completed, "completed"), (dead, "dead")):
            reply = await server.patch(f"/jobs/{job_id}", {})
            assert reply.error == (422, f"cannot patch job {job_id} in {status} status")
        server.clock.advance(99)
        for job_id in (completed, dead, ABSENT, "x"):
            assert (await server.patch(f"/jobs/{job_id}", {})).error == NOT_FOUND


# ── patch many ──


async def test_a_patch_by_filters_changes_all_that_match_and_counts_them():
    async with serving() as server:
        ids = [await server.enqueue(queue=queue, payload={"n": n}) for n, queue in enumerate("abab")]
        assert (await server.patch("/jobs?queue=a", {"priority": 5})).value == {"patched": 2}
        assert (await server.patch("/jobs?filter=.n%20%3E%202", {"retry_limit": 9})).value == {"patched": 1}
        assert (await server.patch("/jobs?queue=nowhere", {"priority": 6})).value == {"patched": 0}
        jobs = [await server.get(job_id) for job_id in ids]
    assert [job["priority"] for job in jobs] == [5, 32768, 5, 32768]
    assert [job.get("retry_limit") for job in jobs] == [None, None, None, 9]


async def test_a_patch_of_everything_counts_what_is_not_finished_also_where_nothing_changes():
    async with serving() as server:
        await finished(server)
        await server.enqueue(ready_at=NOW + 9)
        await server.taken()
        assert (await server.patch("/jobs", {})).value == {"patched": 2}
        assert (await server.patch("/jobs?", {"priority": 1}, accept=MSGPACK)).body == pack({"patched": 2})


async def test_finished_jobs_are_passed_over_but_cannot_be_named():
    async with serving() as server:
        completed, dead = await finished(server)
        assert (await server.patch("/jobs?queue=done", {"priority": 1})).value == {"patched": 0}
        assert [(await server.get(job_id))["priority"] for job_id in (completed, dead)] == [32768] * 2
        for status, named in (("completed", "completed"), ("dead", "ready,dead"), ("completed", "dead,completed")):
            reply = await server.patch(f"/jobs?status={named}", {"priority": 1})
            assert reply.error == (422, f"cannot patch jobs in {status} status")


# ── delete many ──


async def test_jobs_in_every_status_are_deleted_by_filters():
    async with serving() as server:
        completed, dead = await finished(server)
        flying, _ = await server.taken(payload={"a": 1})
        later = await server.enqueue(ready_at=NOW + 9, queue="r")
        ready = await server.enqueue(queue="r", payload={"a": 1})
        assert (await server.ask("DELETE", "/jobs?status=dead,scheduled")).value == {"deleted": 2}
        assert (await server.ask("DELETE", "/jobs?filter=.a%20%3D%3D%201")).value == {"deleted": 2}
        assert [await server.get(job_id) for job_id in (dead, later, flying, ready)] == [None] * 4
        assert (await server.get(completed))["status"] == "completed"
        assert (await server.ask("GET", f"/jobs/{dead}/errors")).error == NOT_FOUND
        assert (await server.ask("DELETE", "/jobs")).value == {"deleted": 1}
        assert (await server.ask("GET", "/jobs/count")).value == {"count": 0}


async def test_a_deletion_does_not_count_what_is_past_its_retention():
    async with serving() as server:
        await finished(server, dead_ms=99)
        server.clock.advance(99)
        reply = await server.ask("DELETE", "/jobs", accept=MSGPACK)
    assert reply.body == pack({"deleted": 0})


async def test_a_job_that_is_deleted_in_flight_makes_room_and_its_acknowledgement_is_404():
    async with serving() as server:
        held = await server.enqueue(queue="a")
        stream = await server.take()
        await stream.job()
        following = await server.enqueue(queue="b")
        assert await stream.is_silent()
        assert (await server.ask("DELETE", "/jobs?queue=a")).value == {"deleted": 1}
        assert (await stream.job())["id"] == following
        assert (await server.ask("POST", f"/jobs/{held}/success")).error[0] == 404
        assert (await server.post("/jobs/success", {"ids": [held, following]})).value == {"not_found": [held]}


# ── retry ──


async def test_a_dead_job_that_is_retried_is_ready_as_if_it_had_never_failed():
    async with serving() as server:
        _, job_id = await finished(server)
        server.clock.advance(7)
        reply = await server.ask("POST", f"/jobs/{job_id}/retry")
        job = await server.get(job_id)
        assert (await server.ask("GET", f"/jobs/{job_id}/errors")).value["errors"] == []
    assert reply.value | {"payload": None} == job
    assert job == {
        "id": job_id, "type": "t", "queue": "done", "priority": 32768, "status": "ready", "payload": None,
        "ready_at": NOW + 7, "attempts": 0, "dequeued_at": NOW, "failed_at": NOW, "retention": {},
    }  # fmt: skip


async def test_a_job_that_was_retried_can_fail_as_often_as_before():
    async with serving() as server:
        job_id, stream = await server.taken(retry_limit=0)
        await server.fail(job_id)
        assert (await server.ask("POST", f"/jobs/{job_id}/retry", accept=MSGPACK)).value["attempts"] == 0
        assert (await stream.job())["attempts"] == 0
        assert (await server.fail(job_id))["attempts"] == 1
        records = (await server.ask("GET", f"/jobs/{job_id}/errors")).value["errors"]
    assert [record["attempt"] for record in records] == [1]


async def test_only_a_dead_job_can_be_retried():
    async with serving() as server:
        completed, dead = await finished(server, dead_ms=99)
        flying, stream = await server.enqueue(), await server.take("?queue=q")
        await stream.job()
        ready, later = await server.enqueue(queue="r"), await server.enqueue(ready_at=NOW + 9)
        for job_id, status in (
            (completed, "completed"), (flying, "in_flight"), (ready, "ready"), (later, "scheduled")
        ):  # fmt: skip
            reply = await server.ask("POST", f"/jobs/{job_id}/retry")
            assert reply.error == (422, f"cannot retry job {job_id} in {status} status")
        server.clock.advance(99)
        for job_id in (dead, ABSENT, "x"):
            assert (await server.ask("POST", f"/jobs/{job_id}/retry")).error == NOT_FOUND


async def test_dead_jobs_are_retried_by_filters_and_all_others_are_passed_over():
    async with serving() as server:
        (_, first), (_, second), (_, third) = [await finished(server) for _ in range(3)]
        await server.enqueue()
        assert (await server.ask("POST", f"/jobs/retry?status=dead&id={first}")).value == {"retried": 1}
        assert (await server.ask("POST", "/jobs/retry?filter=. == 1".replace(" ", "%20"))).value == {"retried": 0}
        assert (await server.ask("POST", "/jobs/retry", accept=MSGPACK)).body == pack({"retried": 2})
        assert [(await server.get(job_id))["status"] for job_id in (first, second, third)] == ["ready"] * 3
        assert (await server.ask("POST", "/jobs/retry")).value == {"retried": 0}


@pytest.mark.parametrize(
    ("named", "status"), [("ready", "ready"), ("dead,scheduled", "scheduled"), ("completed,in_flight", "in_flight")]
)
async def test_a_retry_cannot_name_another_status_than_dead(named, status):
    async with serving() as server:
        _, dead = await finished(server)
        reply = await server.ask("POST", f"/jobs/retry?status={named}")
        assert reply.error == (422, f"cannot retry jobs in {status} status")
        assert (await server.get(dead))["status"] == "dead"


# ── what holds for all changes ──


CHANGES = [("PATCH", "/jobs"), ("DELETE", "/jobs"), ("POST", "/jobs/retry")]


@pytest.mark.parametrize(("method", "path"), CHANGES)
@pytest.mark.parametrize(
    "query", ["id=", "id=,", "status=", "status=,,", "queue=", "type=", "id", "queue=a&type=,", "filter=", "filter=+"]
)
async def test_a_change_of_what_is_named_by_nothing_is_400_and_not_a_change_of_everything(method, path, query):
    name = query.rpartition("&")[2].partition("=")[0]
    async with serving() as server:
        _, dead = await finished(server)
        await server.enqueue(queue="a")
        before = (await server.ask("GET", "/jobs")).value
        status, text = (await server.ask(method, f"{path}?{query}", b"{}")).error
        expected = "invalid filter" if name == "filter" else f"invalid query parameters: {name} is empty"
        assert (status, text[: len(expected)]) == (400, expected)
        assert (await server.ask("GET", "/jobs")).value == before
        assert dead in [job["id"] for job in before["jobs"]]


@pytest.mark.parametrize(("method", "path"), CHANGES)
@pytest.mark.parametrize("query", ["priority=&ready_at=&attempts=", "priority=..", ""])
async def test_an_empty_range_asks_for_nothing(method, path, query):
    async with serving() as server:
        await finished(server)
        await server.enqueue()
        changed = (await server.ask(method, f"{path}?{query}", b"{}")).value
    assert changed == {"PATCH": {"patched": 1}, "DELETE": {"deleted": 3}, "POST": {"retried": 1}}[method]


@pytest.mark.parametrize(("method", "path"), CHANGES)
@pytest.mark.parametrize("query", ["limit=1", "from=0", "order=asc", "color=red", "id=x", "filter=.a%20%7C"])
async def test_a_change_by_a_filter_that_is_wrong_is_400_and_changes_nothing(method, path, query):
    async with serving() as server:
        await finished(server)
        await server.enqueue()
        before = (await server.ask("GET", "/jobs")).value
        assert (await server.ask(method, f"{path}?{query}", b'{"priority":1}')).status == 400
        assert (await server.ask("GET", "/jobs")).value == before


async def waiting(server):
    """A stream of the queue "there" that waits, in which nothing can be taken yet."""
    stream = await server.take("?queue=there")
    assert await stream.is_silent()
    return stream


async def test_a_ready_job_that_is_moved_to_another_queue_wakes_who_waits_there():
    async with serving() as server:
        job_id = await server.enqueue(queue="here")
        stream = await waiting(server)
        await server.patch("/jobs?queue=here", {"queue": "there"})
        assert (await stream.job())["id"] == job_id


async def test_a_single_job_that_is_moved_to_another_queue_wakes_who_waits_there():
    async with serving() as server:
        job_id = await server.enqueue(queue="here")
        stream = await waiting(server)
        assert (await server.patch(f"/jobs/{job_id}", {"queue": "there"})).value["status"] == "ready"
        assert (await stream.job())["id"] == job_id


@pytest.mark.parametrize("ready_at", [None, NOW, 0])
@pytest.mark.parametrize("target", ["/jobs", "/jobs/{id}", "/jobs?status=scheduled"])
async def test_a_job_that_is_made_ready_by_a_patch_wakes_who_waits(target, ready_at):
    async with serving() as server:
        job_id = await server.enqueue(queue="there", ready_at=NOW + 9)
        stream = await waiting(server)
        assert (await server.patch(target.replace("{id}", job_id), {"ready_at": ready_at})).status == 200
        assert (await stream.job())["id"] == job_id


@pytest.mark.parametrize("target", ["/jobs/retry", "/jobs/{id}/retry"])
async def test_a_job_that_is_retried_wakes_who_waits(target):
    async with serving() as server:
        job_id, holder = await server.taken(queue="there")
        await server.fail(job_id, kill=True)
        await left(server, holder)
        stream = await waiting(server)
        assert (await server.ask("POST", target.replace("{id}", job_id))).status == 200
        assert (await stream.job())["id"] == job_id
