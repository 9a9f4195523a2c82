"""What jobs draw from budgets, changed while they wait: for one job and for many (protocol.md#8.4)."""

import msgspec
import pytest

from wire.talk import serving

FLIGHT = {"type": "while_in_flight"}
ROOMY = {"allocation": 9, "strategy": FLIGHT}


async def put(server, target, value):
    return await server.ask("PUT", target, msgspec.json.encode(value))


async def prepared(server, *keys):
    """A job, and budgets that hold nine each; returns the job's target."""
    for key in keys:
        assert (await put(server, f"/budgets/{key}", ROOMY)).status == 200
    return f"/jobs/{await server.enqueue()}/budgets"


def draws(reply):
    assert reply.status == 200, reply.body
    assert "payload" not in reply.value
    return [(draw["key"], draw["cost"]) for draw in reply.value.get("budgets", [])]


async def test_all_that_a_job_draws_is_replaced_and_removed():
    async with serving() as server:
        target = await prepared(server, "a", "b")
        assert draws(await put(server, target, {"budgets": [{"key": "b", "cost": 2}, {"key": "a"}]})) == [
            ("b", 2),
            ("a", 1),
        ]
        assert draws(await put(server, target, {"budgets": [{"key": "a", "cost": 4}]})) == [("a", 4)]
        assert draws(await server.ask("DELETE", target)) == []


async def test_one_draw_is_added_replaced_priced_and_removed():
    async with serving() as server:
        target = await prepared(server, "a", "b")
        assert draws(await server.post(f"{target}/a", {})) == [("a", 1)]
        assert draws(await server.post(f"{target}/b", {"cost": 3})) == [("a", 1), ("b", 3)]
        assert draws(await put(server, f"{target}/a", {"cost": 5})) == [("a", 5), ("b", 3)]
        assert draws(await server.patch(f"{target}/a", {"cost": 6})) == [("a", 6), ("b", 3)]
        assert draws(await server.ask("DELETE", f"{target}/a")) == [("b", 3)]
        assert draws(await server.ask("DELETE", f"{target}/a")) == [("b", 3)]
        assert draws(await put(server, f"{target}/a", {})) == [("b", 3), ("a", 1)]


async def test_a_missing_budget_is_created_with_what_comes_along():
    async with serving() as server:
        target = await prepared(server)
        create = {"cost": 2, "create_with": {"allocation": 3, "strategy": FLIGHT}}
        assert draws(await server.post(f"{target}/new", create)) == [("new", 2)]
        assert (await server.ask("GET", "/budgets/new")).value["allocation"] == 3
        later = {"budgets": [{"key": "new", "create_with": ROOMY}]}
        assert draws(await put(server, target, later)) == [("new", 1)]
        assert (await server.ask("GET", "/budgets/new")).value["allocation"] == 3


async def test_what_does_not_fit_is_refused():
    async with serving() as server:
        target = await prepared(server, "a")
        job_id = target.split("/")[2]
        await server.post(f"{target}/a", {})
        already = (
            f"job '{job_id}' already draws on budget 'a'. Use PUT to replace the binding, or PATCH to change its cost."
        )
        expected = [
            ("POST", f"{target}/a", {}, (409, already)),
            ("PATCH", f"{target}/b", {"cost": 1}, (404, f"job '{job_id}' does not draw on budget 'b'")),
            ("PUT", f"{target}/a", {"cost": 10}, (422, "cost 10 exceeds budget 'a', which holds at most 9")),
            ("PUT", target, {"budgets": [{"key": "a"}, {"key": "a"}]}, (422, "budget 'a' named more than once")),
            ("POST", "/jobs/none/budgets/a", {}, (404, "job 'none' not found")),
            ("DELETE", "/jobs/none/budgets", None, (404, "job 'none' not found")),
        ]
        for method, path, value, error in expected:
            body = None if value is None else msgspec.json.encode(value)
            assert (await server.ask(method, path, body)).error == error
        status, text = (await server.post(f"{target}/none", {})).error
        assert status == 422
        assert text.startswith("budget 'none' does not exist")
        assert (await server.patch(f"{target}/a", {})).status == 400
        assert (await server.ask("GET", f"{target}")).status == 405
        assert draws(await put(server, f"{target}/a", {})) == [("a", 1)]


async def test_only_queued_jobs_are_bound():
    async with serving() as server:
        target = await prepared(server, "a")
        job_id = target.split("/")[2]
        stream = await server.take()
        await stream.job()
        text = f"job '{job_id}' is in_flight — only queued jobs may have their budgets changed"
        assert (await server.post(f"{target}/a", {})).error == (422, text)
        assert (await server.ask("DELETE", target)).error == (422, text)


async def test_many_jobs_are_bound_at_once():
    async with serving() as server:
        await prepared(server, "a")
        flying = await server.take("?queue=flying")
        for queue in ("flying", "x", "x", "y"):
            await server.enqueue(queue=queue)
        await flying.job()
        assert (await server.post("/jobs/budgets/a?queue=x,flying", {})).value == {"changed": 2, "blocked": 1}
        assert (await server.post("/jobs/budgets/a", {"cost": 2})).value == {"changed": 2, "blocked": 3}
        assert (await server.patch("/jobs/budgets/a?queue=x", {"cost": 4})).value == {"changed": 2, "blocked": 0}
        assert (await put(server, "/jobs/budgets/a?queue=y", {"cost": 5})).value == {"changed": 1, "blocked": 0}
        listed = (await server.ask("GET", "/jobs?budgets.key=a")).value["jobs"]
        assert [(job["queue"], job["budgets"]) for job in listed] == [
            ("q", [{"key": "a", "cost": 2}]),
            ("x", [{"key": "a", "cost": 4}]),
            ("x", [{"key": "a", "cost": 4}]),
            ("y", [{"key": "a", "cost": 5}]),
        ]
        assert (await server.ask("DELETE", "/jobs/budgets/a?queue=y")).value == {"changed": 1, "blocked": 0}
        assert (await server.ask("DELETE", "/jobs/budgets?queue=x")).value == {"changed": 2, "blocked": 0}
        assert (await server.ask("GET", "/jobs/count?budgets.key=a")).value == {"count": 1}
        assert (await server.post("/jobs/budgets/a?queue=x", {"cost": 10})).status == 422
        assert (await server.post("/jobs/budgets/a?queue=", {})).status == 400
        assert (await server.ask("GET", "/jobs/count?budgets.key=a")).value == {"count": 1}


async def test_unbinding_wakes_a_worker_at_once():
    async with serving() as server:
        target = await prepared(server, "a")
        await put(server, "/budgets/a", {"allocation": 1, "strategy": FLIGHT})
        await server.post("/jobs/budgets/a", {})
        waiting = await server.enqueue(budgets=[{"key": "a"}])
        stream = await server.take("?prefetch=9")
        assert (await stream.job())["id"] == target.split("/")[2]
        assert (await server.ask("DELETE", f"/jobs/{waiting}/budgets/a")).status == 200
        assert (await stream.job())["id"] == waiting


@pytest.mark.parametrize("key", ["success", "failure", "retry", "errors", "budgets"])
async def test_a_budget_may_have_the_name_of_a_call(key):
    async with serving() as server:
        target = await prepared(server, key)
        assert draws(await server.post(f"{target}/{key}", {})) == [(key, 1)]
        assert (await server.patch(f"/jobs/budgets/{key}", {"cost": 2})).value == {"changed": 1, "blocked": 0}
