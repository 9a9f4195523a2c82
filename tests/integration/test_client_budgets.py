"""Budgets through both clients, against a whole server."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from integration.threaded import client_of, each_client
from zizq import (
    Client,
    Conflict,
    Draw,
    Enqueue,
    InvalidRequest,
    NotFound,
    Rebound,
    TimeBased,
    WhileInFlight,
    job_kind,
)
from zizq.testing.clock import ManualClock

NOW = datetime.fromtimestamp(ManualClock().wall_ms() / 1000, UTC)


@job_kind("charge", budgets=("stripe", 2))
@dataclass
class Charge:
    order: int


@each_client
async def test_a_budget_is_defined_read_updated_and_deleted(make, form):
    clock = ManualClock()
    async with client_of(make, form, clock) as client:
        made = await client.define_budget("mail", TimeBased(100, per=60, burst=5))
        assert (made.key, made.created_at, made.updated_at) == ("mail", NOW, NOW)
        assert made.policy == TimeBased(100, timedelta(minutes=1), 5)
        clock.advance(1000)
        assert await client.define_budget("mail", TimeBased(100, per=timedelta(minutes=1), burst=5)) == made
        with pytest.raises(Conflict, match="say replace=True"):
            await client.define_budget("mail", WhileInFlight(1))
        assert await client.budget("mail") == made

        updated = await client.update_budget("mail", allocation=7, per=0.5, burst=None)
        assert updated.policy == TimeBased(7, timedelta(seconds=0.5))
        assert (updated.created_at, updated.updated_at) == (NOW, NOW + timedelta(seconds=1))
        assert await client.update_budget("mail") == updated
        replaced = await client.define_budget("mail", WhileInFlight(3), replace=True)
        assert (replaced.policy, replaced.created_at) == (WhileInFlight(3), NOW)
        await client.define_budget("a/ü 1", WhileInFlight(1))
        assert [budget.key for budget in await client.budgets()] == ["a/ü 1", "mail"]
        await client.delete_budget("a/ü 1")
        with pytest.raises(NotFound):
            await client.budget("a/ü 1")
        assert await client.budgets() == [replaced]


@each_client
async def test_jobs_draw_on_budgets(make, form):
    async with client_of(make, form, ManualClock()) as client:
        with pytest.raises(InvalidRequest, match="'stripe' does not exist"):
            await client.enqueue(Charge(1))
        await client.define_budget("stripe", WhileInFlight(3))
        job = await client.enqueue(Charge(1))
        assert job.budgets == (Draw("stripe", 2),)
        new = await client.enqueue(Charge(2), budgets=["stripe", Draw("new", create_with=TimeBased(1, per=3600))])
        assert new.budgets == (Draw("stripe"), Draw("new"))
        assert (await client.budget("new")).policy == TimeBased(1, timedelta(hours=1))
        assert (await client.enqueue(Charge(3), budgets=None)).budgets == ()
        assert await client.jobs(budgets="new").count() == 1
        assert await client.jobs(budgets=["new", "stripe"]).count() == 2
        assert (await client.get_job(new.id)).budgets == new.budgets
        with pytest.raises(InvalidRequest, match="cost 4 exceeds budget 'stripe'"):
            await client.enqueue(Charge(4), budgets=("stripe", 4))
        with pytest.raises(Conflict, match="2 unfinished jobs"):
            await client.delete_budget("stripe")
        with pytest.raises(InvalidRequest, match="cannot allocate 1"):
            await client.update_budget("stripe", allocation=1)


@each_client
async def test_what_a_job_draws_is_changed(make, form):
    async with client_of(make, form, ManualClock()) as client:
        await client.define_budget("a", WhileInFlight(3))
        job = await client.enqueue_raw("t", None)
        assert (await client.bind(job.id, "a")).budgets == (Draw("a"),)
        with pytest.raises(Conflict, match="already draws"):
            await client.bind(job.id, ("a", 2))
        assert (await client.bind(job.id, ("a", 2), replace=True)).budgets == (Draw("a", 2),)
        bound = await client.bind(job.id, Draw("b/c", create_with=WhileInFlight(1)))
        assert bound.budgets == (Draw("a", 2), Draw("b/c"))
        assert (await client.unbind(job.id, "a")).budgets == (Draw("b/c"),)
        assert (await client.unbind(job.id, "a")).budgets == (Draw("b/c"),)
        assert (await client.rebind(job.id, [("a", 3), "b/c"])).budgets == (Draw("a", 3), Draw("b/c"))
        assert (await client.unbind(job.id)).budgets == ()
        assert (await client.rebind(job.id, "a")).budgets == (Draw("a"),)
        assert (await client.rebind(job.id, ())).budgets == ()
        with pytest.raises(NotFound):
            await client.bind("0" * 25, "a")
        with pytest.raises(InvalidRequest, match="holds at most 3"):
            await client.bind(job.id, ("a", 4))


@each_client
async def test_what_many_jobs_draw_is_changed(make, form):
    async with client_of(make, form, ManualClock()) as client:
        await client.define_budget("a", WhileInFlight(3))
        await client.enqueue_bulk([Enqueue("t", n, queue="xy"[n % 2]) for n in range(6)])
        assert await client.jobs(queue="x").bind(("a", 2)) == Rebound(changed=3, blocked=0)
        assert await client.jobs().bind("a", all=True) == Rebound(changed=3, blocked=3)
        assert await client.jobs(queue="y").bind(("a", 3), replace=True) == Rebound(3, 0)
        assert [job.budgets[0].cost async for job in client.jobs(budgets="a")] == [2, 3, 2, 3, 2, 3]
        assert await client.jobs(queue="x").limit(2).unbind("a") == Rebound(2, 0)
        assert await client.jobs(budgets="a").count() == 4
        assert await client.jobs(budgets="a").unbind() == Rebound(4, 0)
        assert await client.jobs(budgets="a").count() == 0


async def test_a_job_in_flight_is_blocked():
    async with client_of(Client, "msgpack", ManualClock()) as client:
        await client.define_budget("a", WhileInFlight(1))
        await client.enqueue_bulk([Enqueue("t", n) for n in range(2)])
        async with client.take() as stream:
            taken = await anext(stream)
            assert await client.jobs(queue="default").bind("a") == Rebound(changed=1, blocked=1)
            with pytest.raises(InvalidRequest, match="only queued jobs"):
                await client.bind(taken.id, "a")


async def test_a_budget_holds_jobs_back():
    async with client_of(Client, "msgpack", ManualClock()) as client:
        await client.define_budget("a", WhileInFlight(1))
        first, _, free = await client.enqueue_bulk(
            [Enqueue("t", 0, budgets="a"), Enqueue("t", 1, budgets="a"), Enqueue("t", 2)]
        )
        async with client.take(prefetch=3) as stream:
            assert [(await anext(stream)).id for _ in range(2)] == [first.id, free.id]
            await client.report_success(first.id)
            assert (await anext(stream)).payload == 1
