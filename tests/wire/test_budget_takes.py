"""What budgets let take streams have, and when (protocol.md#8.5): in memory, and on disk."""

import pytest

from wire.talk import NOW, serving

RATE = {"allocation": 2, "strategy": {"type": "time_based", "duration_ms": 1000}}


@pytest.fixture
def still(place):
    """The same, without heartbeats: a stream looks again at each, and here only for what wakes it."""
    return place | {"heartbeat_interval": 3_600_000}


def at_once(number):
    """A budget that lets so many jobs run at once."""
    return {"allocation": number, "strategy": {"type": "while_in_flight"}}


def draws(*asked):
    """What a job draws: keys, or keys and costs."""
    pairs = [(one, 1) if isinstance(one, str) else one for one in asked]
    return {"budgets": [{"key": key, "cost": cost} for key, cost in pairs]}


async def ids_of(stream, count):
    return [job["id"] for job in await stream.jobs(count)]


async def in_flight(server):
    return (await server.ask("GET", "/jobs/count?status=in_flight")).value["count"]


async def test_no_more_jobs_run_at_once_than_a_budget_lets(place):
    async with serving(**place) as server:
        await server.put("/budgets/k", at_once(3))
        ids = [await server.enqueue(**draws("k")) for _ in range(8)]
        first = await server.take("?prefetch=2")
        assert await ids_of(first, 2) == ids[:2]
        second = await server.take("?prefetch=100")
        assert await ids_of(second, 1) == ids[2:3]
        assert await second.is_silent()
        assert await in_flight(server) == 3
        # Jobs that wait for a budget are ready to all but the streams.
        assert (await server.ask("GET", "/jobs/count?status=ready&budgets.key=k")).value == {"count": 5}


async def test_jobs_that_draw_on_nothing_go_past(place):
    async with serving(**place) as server:
        await server.put("/budgets/k", at_once(1))
        held = [await server.enqueue(priority=0, **draws("k")) for _ in range(3)]
        free = [await server.enqueue(), await server.enqueue(queue="other")]
        stream = await server.take("?prefetch=100")
        assert await ids_of(stream, 3) == [held[0], *free]
        late = await server.enqueue()
        assert await ids_of(stream, 1) == [late]
        assert await stream.is_silent()


async def finish(server, how, job_id, stream):
    """Let a job leave in flight, in one of the ways in which it can."""
    if how == "success":
        await server.ask("POST", f"/jobs/{job_id}/success")
    elif how == "bulk success":
        await server.post("/jobs/success", {"ids": [job_id]})
    elif how == "failure":
        await server.fail(job_id)
    elif how == "kill":
        await server.fail(job_id, kill=True)
    elif how == "delete":
        await server.ask("DELETE", f"/jobs/{job_id}")
    else:
        stream.connection.hang_up()


@pytest.mark.parametrize("how", ["success", "bulk success", "failure", "kill", "delete", "disconnect"])
async def test_tokens_come_back_however_a_job_leaves_in_flight(still, how):
    async with serving(**still) as server:
        await server.put("/budgets/k", at_once(2))
        first = await server.enqueue(queue="a", **draws(("k", 2)))
        stream = await server.take("?queue=a")
        assert (await stream.job())["id"] == first
        waiting = await server.take("?queue=b")
        second = await server.enqueue(queue="b", **draws(("k", 2)))
        await finish(server, how, first, stream)
        assert (await waiting.job())["id"] == second


async def test_a_job_that_is_retried_pays_again(place):
    async with serving(**place) as server:
        await server.put("/budgets/k", at_once(1))
        first = await server.enqueue(**draws("k"))
        second = await server.enqueue(**draws("k"))
        stream = await server.take("?prefetch=9")
        assert await ids_of(stream, 1) == [first]
        await server.fail(first, retry_at=NOW + 5)
        assert await ids_of(stream, 1) == [second]
        server.clock.advance(5)
        await server.app.broker.promote(10)
        assert await stream.is_silent()
        await server.ask("POST", f"/jobs/{second}/success")
        assert await ids_of(stream, 1) == [first]


async def test_what_stands_first_in_a_budget_goes_first(place):
    async with serving(**place) as server:
        await server.put("/budgets/k", at_once(3))
        small, large, behind = [await server.enqueue(**draws(("k", cost))) for cost in (1, 3, 1)]
        stream = await server.take("?prefetch=9")
        assert await ids_of(stream, 1) == [small]
        assert await stream.is_silent()
        await server.ask("POST", f"/jobs/{small}/success")
        assert await ids_of(stream, 1) == [large]
        assert await stream.is_silent()
        await server.ask("DELETE", f"/jobs/{large}")
        assert await ids_of(stream, 1) == [behind]


@pytest.mark.parametrize("how", ["delete", "patch"])
async def test_a_job_that_no_longer_stands_before_others_lets_them_go(still, how):
    async with serving(**still) as server:
        await server.put("/budgets/k", at_once(3))
        small, large, behind = [await server.enqueue(**draws(("k", cost))) for cost in (1, 3, 1)]
        stream = await server.take("?prefetch=9")
        assert await ids_of(stream, 1) == [small]
        if how == "delete":
            assert (await server.ask("DELETE", f"/jobs/{large}")).status == 204
        else:
            assert (await server.patch(f"/jobs/{large}", {"priority": 60_000})).status == 200
        assert await ids_of(stream, 1) == [behind]


async def test_a_job_is_paid_by_all_its_budgets_or_by_none(place):
    async with serving(**place) as server:
        for key in "ab":
            await server.put(f"/budgets/{key}", at_once(1))
        first, both, behind = [await server.enqueue(**draws(*keys)) for keys in ("a", "ab", "b")]
        stream = await server.take("?prefetch=9")
        assert await ids_of(stream, 1) == [first]
        assert await stream.is_silent()
        await server.ask("POST", f"/jobs/{first}/success")
        assert await ids_of(stream, 1) == [both]
        await server.ask("POST", f"/jobs/{both}/success")
        assert await ids_of(stream, 1) == [behind]


async def test_a_job_waits_only_behind_jobs_that_its_worker_can_see(place):
    async with serving(**place) as server:
        await server.put("/budgets/k", at_once(2))
        large = await server.enqueue(queue="x", **draws(("k", 2)))
        small = await server.enqueue(queue="y", **draws("k"))
        stream = await server.take("?queue=y")
        assert await ids_of(stream, 1) == [small]
        other = await server.take("?queue=x")
        assert await other.is_silent()
        await server.ask("POST", f"/jobs/{small}/success")
        assert await ids_of(other, 1) == [large]


@pytest.mark.parametrize(("method", "body"), [("PUT", at_once(3)), ("PATCH", {"allocation": 3})])
async def test_a_wider_budget_wakes_who_waits_for_it(still, method, body):
    async with serving(**still) as server:
        await server.put("/budgets/k", at_once(1))
        ids = [await server.enqueue(**draws("k")) for _ in range(5)]
        stream = await server.take("?prefetch=9")
        assert await ids_of(stream, 1) == ids[:1]
        await (server.put if method == "PUT" else server.patch)("/budgets/k", body)
        assert await ids_of(stream, 2) == ids[1:3]
        assert await in_flight(server) == 3


async def test_a_narrower_budget_takes_nothing_away_and_lets_nobody_go_before_it_is_worked_off(place):
    async with serving(**place) as server:
        await server.put("/budgets/k", at_once(3))
        ids = [await server.enqueue(**draws("k")) for _ in range(5)]
        stream = await server.take("?prefetch=9")
        assert await ids_of(stream, 3) == ids[:3]
        await server.patch("/budgets/k", {"allocation": 1})
        assert await in_flight(server) == 3
        await server.post("/jobs/success", {"ids": ids[:2]})
        assert await stream.is_silent()
        await server.post("/jobs/success", {"ids": ids[2:3]})
        assert await ids_of(stream, 1) == ids[3:4]


async def test_all_idle_streams_get_what_a_wider_budget_lets_go(still):
    async with serving(**still) as server:
        await server.put("/budgets/k", at_once(1))
        streams = [await server.take() for _ in range(4)]
        ids = [await server.enqueue(queue=queue, **draws("k")) for queue in ("a", "a", "b", "a")]
        await server.put("/budgets/k", at_once(4))
        assert sorted([(await stream.job())["id"] for stream in streams]) == ids


async def test_tokens_come_back_with_time_and_not_with_success(place):
    async with serving(**place) as server:
        await server.put("/budgets/k", RATE)
        ids = [await server.enqueue(**draws("k")) for _ in range(6)]
        stream = await server.take("?prefetch=9")
        assert await ids_of(stream, 2) == ids[:2]
        await server.post("/jobs/success", {"ids": ids[:2]})
        server.clock.advance(499)
        await server.app.broker.promote(10)
        assert await stream.is_silent()
        server.clock.advance(1)
        await server.app.broker.promote(10)
        assert await ids_of(stream, 1) == ids[2:3]
        assert await stream.is_silent()
        # However long nobody came, there are no more tokens than the budget holds.
        server.clock.advance(60_000)
        await server.app.broker.promote(10)
        assert await ids_of(stream, 2) == ids[3:5]
        assert await stream.is_silent()


async def test_who_waits_for_time_alone_is_woken_in_time(still):
    async with serving(**still) as server:
        await server.put("/budgets/k", {"allocation": 1, "strategy": {"type": "time_based", "duration_ms": 20}})
        ids = [await server.enqueue(**draws("k")) for _ in range(2)]
        stream = await server.take("?prefetch=9")
        assert await ids_of(stream, 1) == ids[:1]
        # The promoter sleeps by real time, and looks at the clock when it wakes.
        server.clock.advance(20)
        assert await ids_of(stream, 1) == ids[1:]


@pytest.mark.parametrize("burst", [1, 4])
async def test_a_burst_is_what_a_budget_holds(place, burst):
    async with serving(**place) as server:
        await server.put("/budgets/k", {"allocation": 2, "strategy": RATE["strategy"] | {"burst": burst}})
        ids = [await server.enqueue(**draws("k")) for _ in range(9)]
        stream = await server.take("?prefetch=9")
        assert await ids_of(stream, burst) == ids[:burst]
        assert await stream.is_silent()
        server.clock.advance(500)
        await server.app.broker.promote(10)
        assert await ids_of(stream, 1) == ids[burst : burst + 1]
        assert await stream.is_silent()


async def test_a_wider_rate_counts_from_now_on(place):
    async with serving(**place) as server:
        await server.put("/budgets/k", RATE)
        ids = [await server.enqueue(**draws("k")) for _ in range(9)]
        stream = await server.take("?prefetch=9")
        assert await ids_of(stream, 2) == ids[:2]
        assert await stream.is_silent()
        await server.patch("/budgets/k", {"allocation": 5})
        assert await ids_of(stream, 3) == ids[2:5]
        assert await stream.is_silent()
        server.clock.advance(400)
        await server.app.broker.promote(10)
        assert await ids_of(stream, 2) == ids[5:7]


async def test_a_budget_that_comes_with_a_job_holds_from_the_first(place):
    async with serving(**place) as server:
        budgets = [{"key": "k", "create_with": at_once(1)}]
        stream = await server.take("?prefetch=9")
        jobs = [{"type": "t", "queue": "q", "payload": n, "budgets": budgets} for n in range(3)]
        made = (await server.post("/jobs/bulk", {"jobs": jobs})).value["jobs"]
        for job in made:
            assert await ids_of(stream, 1) == [job["id"]]
            assert await stream.is_silent()
            await server.ask("POST", f"/jobs/{job['id']}/success")


async def test_a_restart_gives_back_what_was_in_flight_and_no_second_burst(tmp_path):
    async with serving(root_dir=tmp_path) as server:
        await server.put("/budgets/rate", RATE)
        await server.put("/budgets/flight", at_once(1))
        fast = [await server.enqueue(**draws("rate")) for _ in range(3)]
        held = [await server.enqueue(**draws("flight")) for _ in range(2)]
        stream = await server.take("?prefetch=9")
        assert await ids_of(stream, 3) == [*fast[:2], held[0]]
        await server.post("/jobs/success", {"ids": fast[:2]})
    async with serving(root_dir=tmp_path) as server:
        stream = await server.take("?prefetch=9")
        assert await ids_of(stream, 1) == held[:1]
        assert await stream.is_silent()
        server.clock.advance(500)
        await server.app.broker.promote(10)
        assert await ids_of(stream, 1) == fast[2:]


async def test_a_job_may_name_a_budget_that_is_gone(place):
    async with serving(**place) as server:
        await server.put("/budgets/k", at_once(1))
        job_id = await server.enqueue(retry_limit=0, **draws("k"))
        stream = await server.take("?prefetch=9")
        await stream.job()
        await server.fail(job_id)
        assert (await server.ask("DELETE", "/budgets/k")).status == 204
        assert (await server.ask("POST", f"/jobs/{job_id}/retry")).status == 200
        assert await ids_of(stream, 1) == [job_id]
