"""Routes that say when the server is to enqueue their jobs."""

from dataclasses import dataclass

import msgspec
import pytest

from unit.client.fakes import FakeTransport, answer
from zizq import Client, ConfigError, Enqueue, Job, Router, job_kind


@job_kind("report", queue="reports")
@dataclass
class Report:
    id: int = 0


async def defined(router, **options):
    """What a router defines."""
    transport = FakeTransport(answer({"name": "app", "paused": False, "entries": []}))
    async with Client(format="json", transport=transport) as client:
        await router.define_crons(client, "app", **options)
    [request] = transport.sent
    assert (request.method, request.path) == ("PUT", "/crons/app")
    return msgspec.json.decode(request.body)


async def test_all_routes_with_a_cron_are_one_group():
    router = Router()

    @router.route(cron="0 3 * * *", cron_job=Report(7))
    def report(job: Report): ...

    @router.route("sweep", cron="@hourly")
    def sweep(job: Job): ...

    @router.route("seldom", cron="@yearly", cron_job=Enqueue("seldom", [1], priority=5))
    def seldom(job: Job): ...

    @router.route("other")
    def other(job: Job): ...

    body = await defined(router, timezone="Europe/London", paused=False)
    assert (body["timezone"], body["paused"]) == ("Europe/London", False)
    assert body["entries"] == [
        {
            "name": "report",
            "expression": "0 3 * * *",
            "job": {"type": "report", "queue": "reports", "payload": {"id": 7}},
        },
        {"name": "sweep", "expression": "@hourly", "job": {"type": "sweep", "queue": "default", "payload": None}},
        {
            "name": "seldom",
            "expression": "@yearly",
            "job": {"type": "seldom", "queue": "default", "payload": [1], "priority": 5},
        },
    ]


async def test_a_route_that_is_replaced_takes_its_cron_along():
    router = Router()
    router.route("a", cron="@daily")(print)
    router.route("b", cron="@daily")(print)
    router.route("a", replace=True)(print)
    router.route("b", replace=True, cron="@hourly")(print)
    assert [(entry["name"], entry["expression"]) for entry in (await defined(router))["entries"]] == [("b", "@hourly")]


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("a", {"cron_job": Enqueue("a", 1)}, "give cron as well, or neither"),
        (Report, {"cron": "@daily"}, "give cron_job, an instance of the kind"),
        ("a", {"cron": "@daily", "cron_job": Report(1)}, "of type 'report', which goes to another route"),
        (Report, {"cron": "@daily", "cron_job": Enqueue("a", 1)}, "of type 'a'"),
        (Report, {"cron": "@daily", "cron_job": Report}, "is a class"),
        ("a", {"cron": "@daily", "cron_job": 7}, "int is no kind"),
    ],
)
def test_a_cron_that_does_not_fit_its_route_is_refused_where_it_is_written(target, options, message):
    router = Router()
    with pytest.raises(ConfigError, match=message):
        router.route(target, **options)(print)
    assert router._routes == {}


async def test_a_wrong_expression_is_refused_before_anything_is_sent():
    router = Router()
    router.route("a", cron="")(print)
    async with Client(transport=FakeTransport()) as client:
        with pytest.raises(ConfigError, match="expression=''"):
            await router.define_crons(client, "app")
