"""Crons and budgets as typed code sees them; never run, only checked by `make check`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_type

import zizq


@zizq.job_kind("charge_card", budgets=["stripe", ("bank", 2), zizq.Draw("new", create_with=zizq.WhileInFlight(3))])
@dataclass
class ChargeCard(zizq.JobKind):
    order: int


class Report(zizq.JobKind):
    NAME = "report"
    BUDGETS = "reports"


router = zizq.Router()


@router.route(cron="0 3 * * *", cron_job=ChargeCard(7))
async def charge(job: ChargeCard) -> None:
    assert_type(job.order, int)


@router.route("sweep", cron="@hourly", cron_job=zizq.Enqueue("sweep", None))
def sweep(job: zizq.Job) -> None: ...


async def use_async(client: zizq.Client) -> None:
    async with client.define_cron("nightly", timezone="Europe/London", paused=None) as cron:
        assert_type(cron, zizq.CronDefinition)
        cron.entry("charge", "0 3 * * *", ChargeCard(7), timezone="UTC", paused=True, priority=5, budgets=())
        cron.entry("charge", "0 3 * * *", ChargeCard(7), prority=5)  # type: ignore[call-arg]
    handle = client.cron("nightly")
    assert_type(handle, zizq.CronHandle)
    group = await handle.get()
    assert_type(
        (group, await handle.pause(), group.entries), tuple[zizq.CronGroup, zizq.CronGroup, tuple[zizq.CronEntry, ...]]
    )
    entry = await handle.entry("charge").put("@daily", group.entries[0].job, queue="q")
    assert_type((entry.next_enqueue_at, entry.timezone, entry.job), tuple[datetime | None, str | None, zizq.Enqueue])
    assert_type(await client.crons(), list[str])
    await router.define_crons(client, "app", timezone="UTC")

    budget = await client.define_budget("stripe", zizq.TimeBased(100, per=timedelta(minutes=1), burst=5), replace=True)
    assert_type((budget.policy, budget.capacity), tuple[zizq.TimeBased | zizq.WhileInFlight | None, int])
    await client.update_budget("stripe", allocation=5, per=zizq.KEEP, burst=None)
    await client.update_budget("stripe", allocation=None)  # type: ignore[arg-type]
    await client.define_budget("stripe", {"allocation": 3})  # type: ignore[arg-type]
    assert_type(await client.bind("x", ("stripe", 2)), zizq.Job)
    assert_type((await client.unbind("x")).budgets, tuple[zizq.Draw, ...])
    rebound = await client.jobs(budgets=["stripe"]).bind(zizq.Draw("bank"), replace=True)
    assert_type((rebound, rebound.blocked), tuple[zizq.Rebound, int])
    await client.jobs().unbind("stripe", all=True)
    await client.jobs().unbind(None)  # type: ignore[arg-type]


def use_sync(client: zizq.SyncClient) -> None:
    with client.define_cron("nightly") as cron:
        assert_type(cron, zizq.CronDefinition)
    assert_type(client.cron("nightly"), zizq.SyncCronHandle)
    assert_type(client.cron("nightly").entry("a").pause(), zizq.CronEntry)
    assert_type(client.budgets(), list[zizq.Budget])
    client.enqueue_raw("t", 1, budgets="stripe")
    client.enqueue_raw("t", 1, budgets=("stripe", 2))
    client.enqueue_raw("t", 1, budgets=[("stripe", 2), "bank"])
    client.enqueue_raw("t", 1, budgets=7)  # type: ignore[arg-type]
    client.rebind("x", zizq.Enqueue("t", 1, budgets="a").budgets or ())
