import pytest

from wire.talk import MSGPACK, NOW, pack, serving

WEEK = 7 * 24 * 3600 * 1000
NOT_IN_FLIGHT = (404, "job not found in in-flight set")


async def test_a_success_is_204_and_the_job_is_gone():
    async with serving() as server:
        job_id, _ = await server.taken()
        reply = await server.ask("POST", f"/jobs/{job_id}/success")
        assert (reply.status, set(reply.headers)) == (204, {"date"})
        assert await server.get(job_id) is None
        assert (await server.ask("POST", f"/jobs/{job_id}/success")).error == NOT_IN_FLIGHT


async def test_the_body_of_a_success_is_passed_over():
    async with serving() as server:
        job_id, _ = await server.taken()
        reply = await server.ask("POST", f"/jobs/{job_id}/success", b"rubbish", content_type="text/plain")
        assert reply.status == 204
        assert (await server.ask("GET", "/health")).status == 200


async def test_only_a_job_in_flight_can_succeed_or_fail():
    async with serving() as server:
        ready, later = await server.enqueue(), await server.enqueue(ready_at=NOW + 1)
        for job_id in (ready, later, "x", "ü"):
            assert (await server.ask("POST", f"/jobs/{job_id.replace('ü', '%C3%BC')}/success")).error == NOT_IN_FLIGHT
            assert (await server.post(f"/jobs/{ready}/failure", {"message": "m"})).error == NOT_IN_FLIGHT


async def test_a_success_that_is_retained_shows_the_job_until_then():
    async with serving() as server:
        job_id, _ = await server.taken(payload=[1], retention={"completed_ms": 50})
        await server.ask("POST", f"/jobs/{job_id}/success")
        job = await server.get(job_id)
        assert (job["status"], job["payload"], job["completed_at"], job["purge_at"]) == (
            "completed",
            [1],
            NOW,
            NOW + 50,
        )
        assert list(job)[-3:] == ["retention", "purge_at", "completed_at"]
        server.clock.advance(50)
        assert await server.get(job_id) is None


async def test_a_job_past_its_retention_is_gone_for_every_reader():
    async with serving() as server:
        job_id, _ = await server.taken(retention={"dead_ms": 50})
        await server.fail(job_id, kill=True)
        assert (await server.ask("GET", "/queues")).value == {"queues": ["q"]}
        server.clock.advance(50)
        for path in ("", "/errors", "/errors/1"):
            assert (await server.ask("GET", f"/jobs/{job_id}{path}")).error == (404, "job not found")
        assert (await server.ask("GET", "/queues")).value == {"queues": []}


async def test_a_bulk_success_completes_what_it_finds_and_names_the_rest_once_in_order():
    async with serving() as server:
        first, second = await server.enqueue(), await server.enqueue()
        stream = await server.take("?prefetch=2")
        await stream.jobs(2)
        reply = await server.post("/jobs/success", {"ids": ["zz", first, "a", "zz", second, first]})
        assert (reply.status, reply.body) == (422, b'{"not_found":["zz","a"]}')
        assert await server.get(first) is await server.get(second) is None


@pytest.mark.parametrize("form", ["application/json", MSGPACK])
async def test_a_bulk_success_of_jobs_that_are_all_there_is_204_also_with_repetitions(form):
    async with serving() as server:
        job_id, _ = await server.taken()
        body = pack({"ids": [job_id, job_id]})
        reply = await server.ask("POST", "/jobs/success", body, content_type=MSGPACK, accept=form)
        assert (reply.status, set(reply.headers)) == (204, {"date"})


async def test_a_bulk_success_says_what_is_missing_in_msgpack_too():
    async with serving() as server:
        reply = await server.post("/jobs/success", {"ids": ["x"]}, accept=MSGPACK)
    assert (reply.status, reply.body) == (422, pack({"not_found": ["x"]}))


async def test_a_failure_is_answered_with_the_job_and_without_its_payload():
    async with serving() as server:
        job_id, _ = await server.taken(payload="secret")
        server.clock.advance(10)
        job = await server.fail(job_id)
        assert job == {
            "id": job_id, "type": "t", "queue": "q", "priority": 32768, "status": "scheduled",
            "ready_at": NOW + 10 + 1000 + 15_000, "attempts": 1, "dequeued_at": NOW, "failed_at": NOW + 10,
        }  # fmt: skip
        assert await server.get(job_id) == job | {"payload": "secret"}


@pytest.mark.parametrize(
    ("attempts", "unit", "delay"),
    [(1, 0.0, 16_000), (1, 0.5, 31_000), (2, 0.0, 31_000), (2, 0.5, 61_000), (3, 0.999, 81_000 + 15_000 + 89_910)],
)
async def test_the_delay_is_a_power_of_the_attempts_in_seconds_plus_base_plus_jitter(attempts, unit, delay):
    async with serving() as server:
        server.dice.value = unit
        job_id, stream = await server.taken()
        for _ in range(attempts - 1):
            await server.fail(job_id, retry_at=0)
            await stream.job()
        assert (await server.fail(job_id))["ready_at"] == NOW + delay


async def test_a_job_waits_by_its_own_backoff():
    async with serving() as server:
        server.dice.value = 0.5
        job_id, _ = await server.taken(backoff={"exponent": 1.5, "base_ms": 7, "jitter_ms": 20})
        assert (await server.fail(job_id))["ready_at"] == NOW + 1000 + 7 + 10


async def test_a_delay_without_end_stays_within_what_an_instant_can_be():
    async with serving() as server:
        job_id, stream = await server.taken(backoff={"exponent": 1000, "base_ms": 0, "jitter_ms": 0})
        await server.fail(job_id, retry_at=0)
        await stream.job()
        assert (await server.fail(job_id))["ready_at"] == 2**63 - 1


@pytest.mark.parametrize(
    ("fields", "report", "status"),
    [
        ({}, {"kill": True}, "dead"),
        ({}, {"kill": False}, "scheduled"),
        ({}, {"kill": None}, "scheduled"),
        ({}, {"kill": True, "retry_at": NOW + 1}, "dead"),
        ({"retry_limit": 0}, {}, "dead"),
        ({"retry_limit": 1}, {}, "scheduled"),
        ({"retry_limit": 0}, {"retry_at": NOW + 1}, "scheduled"),
        ({}, {"retry_at": NOW - 1}, "scheduled"),
    ],
)
async def test_kill_comes_before_retry_at_and_that_before_the_retry_limit(fields, report, status):
    async with serving() as server:
        job_id, _ = await server.taken(**fields)
        job = await server.fail(job_id, **report)
    assert (job["status"], job["attempts"]) == (status, 1)
    if status == "scheduled" and report.get("retry_at"):
        assert job["ready_at"] == report["retry_at"]


async def test_a_job_with_a_retry_limit_of_two_runs_three_times():
    async with serving() as server:
        job_id, stream = await server.taken(retry_limit=2, backoff={"exponent": 0, "base_ms": 0, "jitter_ms": 0})
        for attempts in (1, 2):
            assert (await server.fail(job_id))["status"] == "scheduled"
            server.clock.advance(1000)
            await server.app.broker.promote(10)
            assert (await stream.job())["attempts"] == attempts
        assert (await server.fail(job_id))["status"] == "dead"


async def test_a_job_that_failed_comes_back_with_what_is_known_of_it():
    async with serving() as server:
        job_id, stream = await server.taken()
        server.clock.advance(5)
        await server.fail(job_id, retry_at=NOW)
        job = await stream.job()
    assert (job["attempts"], job["failed_at"], job["dequeued_at"], job["ready_at"]) == (1, NOW + 5, NOW + 5, NOW)


@pytest.mark.parametrize(
    ("retention", "purge_at"),
    [({}, NOW + WEEK), ({"retention": {"completed_ms": 1}}, NOW + WEEK), ({"retention": {"dead_ms": 5}}, NOW + 5)],
)
async def test_a_dead_job_is_kept_for_a_week_or_as_long_as_it_says(retention, purge_at):
    async with serving() as server:
        job_id, _ = await server.taken(**retention)
        assert (await server.fail(job_id, kill=True))["purge_at"] == purge_at
        assert (await server.get(job_id))["status"] == "dead"


async def test_a_dead_job_that_is_not_retained_is_gone_at_once():
    async with serving() as server:
        job_id, _ = await server.taken(retention={"dead_ms": 0})
        job = await server.fail(job_id, kill=True)
        assert (job["status"], "purge_at" in job) == ("dead", False)
        assert await server.get(job_id) is None


@pytest.mark.parametrize("form", ["application/json", MSGPACK])
async def test_each_failure_leaves_a_record_in_the_order_that_is_written_down(form):
    async with serving() as server:
        job_id, stream = await server.taken()
        await server.fail(job_id, retry_at=0)
        await stream.job()
        server.clock.advance(3)
        await server.fail(job_id, message="ü", error_type="E", backtrace="at 1\nat 2")
        records = (await server.ask("GET", f"/jobs/{job_id}/errors", accept=form)).value["errors"]
        single = (await server.ask("GET", f"/jobs/{job_id}/errors/2", accept=form)).value
    assert records[0] == {"attempt": 1, "message": "boom", "dequeued_at": NOW, "failed_at": NOW}
    assert list(records[1]) == ["attempt", "message", "error_type", "backtrace", "dequeued_at", "failed_at"]
    assert records[1] == single
    assert (single["message"], single["dequeued_at"], single["failed_at"]) == ("ü", NOW, NOW + 3)


async def failed(server, times: int) -> str:
    """A job that failed so often."""
    job_id, stream = await server.taken()
    for _ in range(times):
        await server.fail(job_id, retry_at=0)
        await stream.job()
    return job_id


@pytest.mark.parametrize(
    ("query", "attempts", "own", "after", "before"),
    [
        ("", [1, 2, 3, 4, 5], "order=asc&limit=50", None, None),
        ("?", [1, 2, 3, 4, 5], "order=asc&limit=50", None, None),
        ("?from=&order=&limit=", [1, 2, 3, 4, 5], "order=asc&limit=50", None, None),
        ("?limit=2", [1, 2], "order=asc&limit=2", "from=2&order=asc&limit=2", None),
        ("?limit=5", [1, 2, 3, 4, 5], "order=asc&limit=5", None, None),
        (
            "?from=2&limit=2",
            [3, 4],
            "from=2&order=asc&limit=2",
            "from=4&order=asc&limit=2",
            "from=3&order=desc&limit=2",
        ),
        ("?from=4&limit=2", [5], "from=4&order=asc&limit=2", None, "from=5&order=desc&limit=2"),
        ("?order=desc&limit=2", [5, 4], "order=desc&limit=2", "from=4&order=desc&limit=2", None),
        ("?order=desc&from=2", [1], "from=2&order=desc&limit=50", None, "from=1&order=asc&limit=50"),
        ("?from=9", [], "from=9&order=asc&limit=50", None, None),
    ],
)
async def test_errors_come_in_pages_with_links(query, attempts, own, after, before):
    async with serving() as server:
        job_id = await failed(server, 5)
        page = (await server.ask("GET", f"/jobs/{job_id}/errors{query}")).value
    assert [record["attempt"] for record in page["errors"]] == attempts
    links = {name: link and f"/jobs/{job_id}/errors?{link}" for name, link in
             (("self", own), ("next", after), ("prev", before))}  # fmt: skip
    assert page["pages"] == links
    assert list(page["pages"]) == ["self", "next", "prev"]


async def test_a_link_can_be_followed_as_it_is():
    async with serving() as server:
        target = f"/jobs/{await failed(server, 5)}/errors?limit=2"
        seen = []
        while target:
            page = (await server.ask("GET", target)).value
            seen += [record["attempt"] for record in page["errors"]]
            target = page["pages"]["next"]
    assert seen == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/jobs/x/errors", 404, "job not found"),
        ("/jobs/x/errors/1", 404, "job not found"),
        ("/jobs/{id}/errors/0", 404, "error record not found"),
        ("/jobs/{id}/errors/2", 404, "error record not found"),
        ("/jobs/{id}/errors/first", 400, "invalid path: attempt 'first' is not a whole number up to 4294967295"),
        (
            "/jobs/{id}/errors/4294967296",
            400,
            "invalid path: attempt '4294967296' is not a whole number up to 4294967295",
        ),
    ],
)
async def test_an_error_that_is_not_there_is_404_and_no_number_is_400(path, status, text):
    async with serving() as server:
        job_id = await failed(server, 1)
        assert (await server.ask("GET", path.replace("{id}", job_id))).error == (status, text)


async def test_a_job_in_any_status_can_be_deleted_once():
    async with serving() as server:
        flying, stream = await server.taken()
        dead, done = await server.enqueue(retry_limit=0), await server.enqueue(retention={"completed_ms": 9})
        await stream.jobs(2)
        await server.fail(dead)
        await server.ask("POST", f"/jobs/{done}/success")
        await server.ask("POST", f"/jobs/{flying}/failure", b'{"message":"m","retry_at":0}')
        await stream.job()
        for job_id in (flying, dead, done, await server.enqueue(ready_at=NOW + 9)):
            reply = await server.ask("DELETE", f"/jobs/{job_id}")
            assert (reply.status, set(reply.headers)) == (204, {"date"})
            assert await server.get(job_id) is None
            assert (await server.ask("DELETE", f"/jobs/{job_id}")).error == (404, "job not found")


async def test_a_job_that_was_deleted_in_flight_cannot_be_finished():
    async with serving() as server:
        job_id, _ = await server.taken()
        await server.ask("DELETE", f"/jobs/{job_id}")
        assert (await server.ask("POST", f"/jobs/{job_id}/success")).error == NOT_IN_FLIGHT
