"""Crons through both clients, against a whole server."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from integration.threaded import client_of, each_client
from zizq import Client, Draw, Enqueue, InvalidRequest, Job, NotFound, Router, Unique, WhileInFlight, job_kind
from zizq.testing.clock import ManualClock
from zizq.testing.server import running_server

MIDNIGHT = datetime(2030, 1, 1, tzinfo=UTC)


@job_kind("report", queue="reports", retry_limit=3, unique=Unique())
@dataclass
class Report:
    id: int


def clock():
    return ManualClock(int(MIDNIGHT.timestamp() * 1000))


@each_client
async def test_a_group_is_defined_and_read(make, form):
    async with client_of(make, form, clock()) as client:
        async with client.define_cron("my/app ü", timezone="America/New_York") as cron:
            cron.entry("report", "0 3 * * *", Report(7), priority=5)
            cron.entry("a sweep", "*/5 * * * *", Enqueue("sweep", None), timezone="UTC", paused=True)
        assert await client.crons() == ["my/app ü"]
        group = await client.cron("my/app ü").get()
        assert (group.name, group.timezone, group.paused) == ("my/app ü", "America/New_York", False)
        sweep, report = group.entries
        assert (sweep.name, sweep.timezone, sweep.paused, sweep.paused_at) == ("a sweep", "UTC", True, MIDNIGHT)
        assert sweep.next_enqueue_at == MIDNIGHT + timedelta(minutes=5)
        assert (report.name, report.expression, report.timezone) == ("report", "0 3 * * *", None)
        assert (report.next_enqueue_at, report.last_enqueue_at) == (MIDNIGHT + timedelta(hours=8), None)
        key = Unique().key_for("report", {"id": 7})
        assert report.job == Enqueue(
            "report", {"id": 7}, "reports", 5, retry_limit=3, unique_key=key, unique_while="queued"
        )


@each_client
async def test_a_definition_takes_away_what_it_does_not_name(make, form):
    async with client_of(make, form, clock()) as client:
        for names in (["a", "b"], ["b", "c"]):
            async with client.define_cron("app") as cron:
                for name in names:
                    cron.entry(name, "0 3 * * *", Report(1))
        group = await client.cron("app").get()
        assert [entry.name for entry in group.entries] == ["b", "c"]


@each_client
async def test_a_wrong_definition_changes_nothing(make, form):
    async with client_of(make, form, clock()) as client:
        async with client.define_cron("app") as cron:
            cron.entry("a", "@daily", Report(1))
        for options, message in (
            ({"expression": "61 * * * *"}, 'minute "61"'),
            ({"timezone": "Mars/Olympus"}, "Mars/Olympus"),
        ):
            arguments = {"expression": "@daily", **options}
            with pytest.raises(InvalidRequest, match=message):
                async with client.define_cron("app") as cron:
                    cron.entry("b", kind_or_request=Report(1), **arguments)
        assert [entry.name for entry in (await client.cron("app").get()).entries] == ["a"]


@each_client
async def test_a_group_and_an_entry_are_paused_resumed_and_deleted(make, form):
    time = clock()
    async with client_of(make, form, time) as client:
        handle = client.cron("app")
        entry = handle.entry("a/b")
        put = await entry.put("@hourly", Report(1), timezone="UTC")
        assert (put.name, put.expression, put.next_enqueue_at) == ("a/b", "@hourly", MIDNIGHT + timedelta(hours=1))
        assert (await handle.pause()).paused_at == MIDNIGHT
        assert (await entry.pause()).paused
        time.advance(1000)
        resumed = await handle.resume()
        assert (resumed.paused, resumed.resumed_at) == (False, MIDNIGHT + timedelta(seconds=1))
        assert (await entry.get()).paused
        assert (await entry.resume()).resumed_at == MIDNIGHT + timedelta(seconds=1)
        again = await entry.put("@hourly", (await entry.get()).job, timezone="UTC", queue="other")
        assert (again.next_enqueue_at, again.job.queue, again.job.payload) == (put.next_enqueue_at, "other", {"id": 1})
        await entry.delete()
        for call in (entry.get, entry.pause, entry.resume, entry.delete):
            with pytest.raises(NotFound, match="'a/b' not found in group 'app'"):
                await call()
        assert (await handle.get()).entries == ()
        await handle.delete()
        for call in (handle.get, handle.pause, handle.resume, handle.delete):
            with pytest.raises(NotFound, match="'app' not found"):
                await call()
        assert await client.crons() == []


async def test_a_router_defines_what_its_routes_say():
    router = Router()

    @router.route(cron="0 3 * * *", cron_job=Report(7))
    def report(job: Report): ...

    @router.route("sweep", cron="@hourly")
    def sweep(job: Job): ...

    async with client_of(Client, "msgpack", clock()) as client:
        await router.define_crons(client, "app", timezone="UTC")
        await router.define_crons(client, "app", timezone="UTC")
        group = await client.cron("app").get()
        assert [(entry.name, entry.job.payload) for entry in group.entries] == [("report", {"id": 7}), ("sweep", None)]


async def test_an_entry_that_is_due_enqueues_its_job():
    time = clock()
    async with running_server(clock=time) as server, Client(server.url) as client:
        async with client.define_cron("app", timezone="UTC") as cron:
            cron.entry("report", "@hourly", Report(7))
        time.advance(3_600_000)
        await server.app.crontab.fire(100)
        [job] = [job async for job in client.jobs(queue="reports")]
        assert (job.type, job.payload, job.retry_limit) == ("report", {"id": 7}, 3)
        entry = await client.cron("app").entry("report").get()
        due = MIDNIGHT + timedelta(hours=1)
        assert (entry.last_enqueue_at, entry.next_enqueue_at) == (due, due + timedelta(hours=1))


async def test_an_entry_draws_on_budgets():
    async with client_of(Client, "msgpack", clock()) as client:
        async with client.define_cron("app") as cron:
            cron.entry("report", "@daily", Report(7), budgets=Draw("a", 2, create_with=WhileInFlight(3)))
        [entry] = (await client.cron("app").get()).entries
        assert entry.job.budgets == (Draw("a", 2),)
        assert (await client.budget("a")).policy == WhileInFlight(3)
