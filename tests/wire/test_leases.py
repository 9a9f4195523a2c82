"""How long jobs may be held, workers that die, and jobs that are given back."""

from __future__ import annotations

import pytest

from wire.talk import NOW, serving

DEAD_BY_WORKERS = "6 workers died, or lost their connections, while they held it, and 5 may"


async def overdue(server):
    """Let the time pass that is needed, and the server do what is due: its duties sleep by the standing clock."""
    await server.app.broker.fail_overdue(100)


async def lose(server, query="?prefetch=100", *, jobs=1, times=1):
    """Let workers die that hold jobs, one after the other."""
    for _ in range(times):
        stream = await server.take(query)
        taken = [job["id"] for job in await stream.jobs(jobs)]
        await hang_up(server, stream)
    return taken


async def hang_up(server, stream):
    """End a connection, and wait until the server has noticed."""
    before = server.app.broker.stream_count()
    stream.connection.hang_up()
    while server.app.broker.stream_count() == before:
        await server.ask("GET", "/health")
    while (await server.ask("GET", "/jobs/count?status=in_flight")).value["count"]:
        pass


# ── time limits ──


async def test_a_timeout_is_shown_where_it_is_set():
    async with serving() as server:
        reply = await server.post("/jobs", {"type": "t", "queue": "q", "payload": 1, "timeout_ms": 5000})
        assert reply.value["timeout_ms"] == 5000
        assert "timeout_ms" not in (await server.post("/jobs", {"type": "t", "queue": "q", "payload": 1})).value
        assert (await server.get(reply.value["id"]))["timeout_ms"] == 5000
        assert (await (await server.take()).job())["timeout_ms"] == 5000


@pytest.mark.parametrize("value", [0, -1, 1.5, "5", 2**64])
async def test_a_timeout_is_a_whole_number_of_one_or_more(value):
    async with serving() as server:
        reply = await server.post("/jobs", {"type": "t", "queue": "q", "payload": 1, "timeout_ms": value})
        assert reply.status == 400
        assert "timeout_ms" in reply.error[1]


async def test_a_job_that_is_held_for_too_long_fails_and_a_late_report_is_refused():
    async with serving() as server:
        job_id, stream = await server.taken(timeout_ms=5000)
        server.clock.advance(4999)
        await overdue(server)
        assert (await server.get(job_id))["status"] == "in_flight"
        server.clock.advance(1)
        await overdue(server)
        job = await server.get(job_id)
        assert (job["status"], job["attempts"], job["failed_at"]) == ("scheduled", 1, NOW + 5000)
        error = (await server.ask("GET", f"/jobs/{job_id}/errors/1")).value
        assert (error["error_type"], error["dequeued_at"]) == ("Timeout", NOW)
        assert "within its timeout of 5s" in error["message"]
        assert (await server.ask("POST", f"/jobs/{job_id}/success")).status == 404
        assert (await server.post(f"/jobs/{job_id}/failure", {"message": "m"})).status == 404
        assert (await server.post("/jobs/success", {"ids": [job_id]})).value == {"not_found": [job_id]}
        await hang_up(server, stream)
        assert (await server.get(job_id))["status"] == "scheduled"


async def test_the_stream_of_an_overdue_job_has_room_again():
    async with serving() as server:
        first, second = await server.enqueue(timeout_ms=1), await server.enqueue()
        stream = await server.take("?prefetch=1")
        assert (await stream.job())["id"] == first
        server.clock.advance(1)
        await overdue(server)
        assert (await stream.job())["id"] == second


async def test_the_timekeeper_wakes_by_itself_when_a_time_is_up():
    async with serving() as server:
        job_id, _ = await server.taken(timeout_ms=1)
        server.clock.advance(1)
        while (job := await server.get(job_id))["status"] == "in_flight":
            pass
        assert (job["status"], job["attempts"]) == ("scheduled", 1)


async def test_a_stream_limits_the_jobs_that_set_no_timeout():
    async with serving() as server:
        own, other = await server.enqueue(timeout_ms=900), await server.enqueue()
        stream = await server.take("?prefetch=2&timeout_ms=300")
        await stream.jobs(2)
        server.clock.advance(300)
        await overdue(server)
        assert [(await server.get(job_id))["status"] for job_id in (own, other)] == ["in_flight", "scheduled"]
        error = (await server.ask("GET", f"/jobs/{other}/errors/1")).value
        assert "within its stream's timeout of 300ms" in error["message"]


@pytest.mark.parametrize("query", ["timeout_ms=0", "timeout_ms=x", "timeout_ms=", "concurrency=0", "concurrency=-1",
                                   "stream=", "lease=1"])  # fmt: skip
async def test_parameters_of_a_stream_that_make_no_sense_are_refused(query):
    async with serving() as server:
        reply = await server.ask("GET", f"/jobs/take?{query}")
        assert reply.status == 400
        assert query.partition("=")[0] in reply.error[1]


async def test_a_timeout_can_be_patched_and_cleared():
    async with serving() as server:
        job_id, _ = await server.taken(timeout_ms=5000)
        assert (await server.patch(f"/jobs/{job_id}", {"timeout_ms": 10})).value["timeout_ms"] == 10
        assert "timeout_ms" not in (await server.patch(f"/jobs/{job_id}", {"timeout_ms": None})).value
        assert (await server.patch(f"/jobs/{job_id}", {"timeout_ms": 0})).status == 400
        server.clock.advance(10_000)
        await overdue(server)
        assert (await server.get(job_id))["status"] == "in_flight"
        assert (await server.patch("/jobs?queue=q", {"timeout_ms": 1})).value == {"patched": 1}
        await overdue(server)
        assert (await server.get(job_id))["status"] == "scheduled"


async def test_jobs_of_a_cron_have_the_timeout_of_their_entry():
    async with serving() as server:
        job = {"type": "t", "queue": "q", "payload": 1, "timeout_ms": 5000}
        entry = {"name": "e", "expression": "* * * * *", "job": job}
        reply = await server.put("/crons/g", {"entries": [entry], "timezone": "UTC"})
        assert reply.value["entries"][0]["job"]["timeout_ms"] == 5000
        server.clock.advance(60_000)
        await server.app.crontab.fire(10)
        assert (await (await server.take()).job())["timeout_ms"] == 5000


# ── workers that die ──


async def test_a_crash_loop_ends_with_a_dead_job():
    async with serving() as server:
        job_id = await server.enqueue()
        await lose(server, times=5)
        job = await server.get(job_id)
        assert (job["status"], job["attempts"]) == ("ready", 0)
        await lose(server)
        job = await server.get(job_id)
        assert (job["status"], job["attempts"]) == ("dead", 1)
        [error] = (await server.ask("GET", f"/jobs/{job_id}/errors")).value["errors"]
        assert error["error_type"] == "WorkerDied"
        assert error["message"].startswith(DEAD_BY_WORKERS)


async def test_jobs_beyond_the_concurrency_of_their_worker_are_spared():
    async with serving() as server:
        ids = [await server.enqueue() for _ in range(4)]
        await lose(server, "?prefetch=4&concurrency=2", jobs=4, times=6)
        assert [(await server.get(job_id))["status"] for job_id in ids] == ["dead", "dead", "ready", "ready"]


async def test_without_a_concurrency_all_that_a_worker_held_counts():
    async with serving(max_worker_deaths=1) as server:
        ids = [await server.enqueue() for _ in range(2)]
        await lose(server, jobs=2, times=2)
        assert [(await server.get(job_id))["status"] for job_id in ids] == ["dead", "dead"]


async def test_workers_may_die_for_ever_where_the_option_says_so():
    async with serving(max_worker_deaths=0) as server:
        job_id = await server.enqueue()
        await lose(server, times=8)
        assert (await server.get(job_id))["status"] == "ready"


async def test_a_server_that_stops_counts_nothing(tmp_path):
    async with serving(root_dir=tmp_path, max_worker_deaths=1) as server:
        job_id = await server.enqueue()
        await lose(server)
    for _ in range(3):
        async with serving(root_dir=tmp_path, max_worker_deaths=1) as server:
            stream = await server.take()
            assert (await stream.job())["id"] == job_id
            server.app.end_streams()
            await stream.rest()
    async with serving(root_dir=tmp_path, max_worker_deaths=1) as server:
        assert (await server.get(job_id))["status"] == "ready"
        await lose(server)
        assert (await server.get(job_id))["status"] == "dead"


async def test_a_retry_by_hand_gives_a_job_all_its_workers_again():
    async with serving(max_worker_deaths=1) as server:
        job_id = await server.enqueue()
        await lose(server, times=2)
        assert (await server.ask("POST", f"/jobs/{job_id}/retry")).status == 200
        await lose(server)
        assert (await server.get(job_id))["status"] == "ready"


# ── given back ──


async def test_jobs_are_given_back_as_if_they_had_never_been_taken():
    async with serving(max_worker_deaths=1) as server:
        ids = [await server.enqueue() for _ in range(3)]
        stream = await server.take("?prefetch=3")
        await stream.jobs(3)
        reply = await server.post("/jobs/release", {"ids": ids[:2]})
        assert (reply.status, reply.body) == (204, b"")
        # There is room again, so they come again, in the same order.
        assert [job["id"] for job in await stream.jobs(2)] == ids[:2]
        assert (await server.get(ids[0]))["attempts"] == 0


async def test_jobs_that_are_not_in_flight_are_named():
    async with serving() as server:
        taken, _ = await server.taken()
        ready = await server.enqueue(queue="other", ready_at=NOW + 1)
        reply = await server.post("/jobs/release", {"ids": [ready, taken, "none", "none"]})
        assert (reply.status, reply.value) == (422, {"not_found": [ready, "none"]})


async def test_a_stream_that_is_named_gets_nothing_more_and_ends_once_it_holds_nothing():
    async with serving(max_worker_deaths=1, heartbeat_interval=3_600_000) as server:
        running, waiting, third = [await server.enqueue() for _ in range(3)]
        stream = await server.take("?prefetch=2&stream=mine")
        await stream.jobs(2)
        assert (await server.post("/jobs/release", {"ids": [waiting], "stream": "mine"})).status == 204
        other = await server.take("?prefetch=9")
        assert [job["id"] for job in await other.jobs(2)] == [waiting, third]
        assert not stream.ended
        assert (await server.ask("POST", f"/jobs/{running}/success")).status == 204
        assert await stream.rest() == b""


async def test_who_names_its_stream_gives_back_only_what_that_stream_holds():
    async with serving() as server:
        theirs, stream = await server.taken()
        assert (await server.post("/jobs/release", {"ids": [theirs], "stream": "mine"})).value == {
            "not_found": [theirs]
        }
        assert (await server.get(theirs))["status"] == "in_flight"
        assert not stream.ended


@pytest.mark.parametrize("name", ["mine", "another"])
async def test_an_idle_stream_ends_at_once_where_it_is_the_one_that_is_named(name):
    async with serving() as server:
        stream = await server.take(f"?stream={name}")
        other = await server.take("?stream=theirs")
        assert (await server.post("/jobs/release", {"ids": [], "stream": name})).status == 204
        await stream.rest()
        job_id = await server.enqueue()
        assert (await other.job())["id"] == job_id


async def test_a_stream_that_leaves_with_jobs_that_run_counts_all_the_same():
    async with serving(max_worker_deaths=1) as server:
        job_id = await server.enqueue()
        for _ in range(2):
            stream = await server.take("?stream=mine")
            await stream.job()
            await server.post("/jobs/release", {"ids": [], "stream": "mine"})
            await hang_up(server, stream)
        assert (await server.get(job_id))["status"] == "dead"


@pytest.mark.parametrize("body", [{}, {"ids": None}, {"ids": "x"}, {"ids": [1]}, []])
async def test_a_malformed_release_is_refused(body):
    async with serving() as server:
        assert (await server.post("/jobs/release", body)).status == 400
