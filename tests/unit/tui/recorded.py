"""What a server would say: a small world that is always the same, as messages and as insights."""

from __future__ import annotations

from typing import Any

import msgspec

from zizq.tui.model import Model
from zizq.wire import events, insight
from zizq.wire.events import AdminJob, JobSnapshot, ListName, ServerFacts, ShownWindow
from zizq.wire.insight import Counts, Flow

NOW_AT = 1_767_225_600_000
"""The first moment of 2026."""
URL = "http://127.0.0.1:8901"
ID = "03fvmaj8q5po1huy5nd4x{:04}"
TYPES = ("send_email", "resize_image", "charge_card", "écrire_一覧", "billing.invoices.send_reminder_to_customer")
QUEUES = ("emails", "media", "billing", "default")


def job(number: int, **fields: Any) -> AdminJob:
    """A job; its number says everything of it."""
    common: dict[str, Any] = {
        "id": ID.format(number),
        "queue": QUEUES[number % len(QUEUES)],
        "job_type": TYPES[number % len(TYPES)],
        "priority": 100,
        "ready_at": NOW_AT - 60_000 * (50 - number % 50),
        "attempts": number % 3,
    }
    return AdminJob(**{**common, **fields})


def window(name: ListName, first: int, count: int, total: int) -> ShownWindow:
    """Neighbours in a list; the jobs there have the numbers of their positions."""
    return ShownWindow(
        items=[listed(name, number) for number in range(first, first + count)], first_position=first, total=total
    )


def listed(name: ListName, number: int) -> AdminJob:
    """A job as it stands in a list."""
    if name is ListName.IN_FLIGHT:
        return job(number, dequeued_at=NOW_AT - 1000 * (300 - number))
    if name is ListName.SCHEDULED:
        return job(number, ready_at=NOW_AT + 90_000 * (number + 1))
    if name is ListName.DEAD:
        return job(number, failed_at=NOW_AT - 3_600_000 * (number + 1), attempts=26)
    return job(number)


TOTALS = {ListName.IN_FLIGHT: 24, ListName.READY: 1_204_332, ListName.SCHEDULED: 87, ListName.DEAD: 3}


def server(**fields: Any) -> ServerFacts:
    """What every message says."""
    common = {"version": "0.7.0", "uptime_ms": 273_600_000, "tier": "pro", "total_ready": TOTALS[ListName.READY]}
    return ServerFacts(**{**common, "total_in_flight": 24, "total_scheduled": 87, **fields})


def snapshot(first: int = 0, count: int = 200, **windows: ShownWindow) -> JobSnapshot:
    """The lists; `first` is where the window of the ready ones begins."""
    found = {name.value: window(name, 0, min(count, total), total) for name, total in TOTALS.items()}
    found["ready"] = window(ListName.READY, first, count, TOTALS[ListName.READY])
    return JobSnapshot(server=server(), **{**found, **windows})


FLOW = Flow(
    enqueued_per_s=120.4, completed_per_s=118.0, failed_per_s=2.1,
    wait_p50_ms=0.42, wait_p95_ms=12.5, run_p50_ms=35.0, run_p95_ms=1_250.0,
)  # fmt: skip
OVERVIEW = insight.Overview(
    version="0.7.0",
    uptime_ms=273_600_000,
    counts=Counts(scheduled=87, ready=1_204_332, in_flight=24, completed=0, dead=3),
    flow=FLOW,
    queues=4,
    streams=2,
    oldest_ready_ms=3_000_000,
)
INSIGHTS: dict[str, object] = {
    "overview": OVERVIEW,
    "queues": [
        insight.QueueInsight(
            queue="billing", counts=Counts(ready=1_200_000, in_flight=8, dead=3), flow=FLOW, oldest_ready_ms=3_000_000
        ),
        insight.QueueInsight(queue="default", counts=Counts(), flow=Flow()),
        insight.QueueInsight(
            queue="emails", counts=Counts(ready=4_332, in_flight=16, scheduled=87), flow=FLOW, oldest_ready_ms=12_000
        ),
        insight.QueueInsight(queue="media", counts=Counts(ready=7), flow=Flow(), paused=True),
    ],
    "crons": [
        insight.CronInsight(
            group="reports",
            entry="nightly",
            expression="0 3 * * *",
            timezone="Europe/Berlin",
            type="make_report",
            queue="default",
            next_at=NOW_AT + 7_200_000,
            last_at=NOW_AT - 79_200_000,
        ),
        insight.CronInsight(
            group="reports",
            entry="weekly",
            expression="0 4 * * MON",
            type="make_report",
            queue="default",
            paused=True,
            next_at=NOW_AT + 90_000_000,
        ),
    ],
    "budgets": [
        insight.BudgetInsight(
            key="stripe", strategy="time_based", allocation=100, period_ms=1_000, capacity=100, available=37
        ),
        insight.BudgetInsight(key="render", strategy="while_in_flight", allocation=4, capacity=4, available=0),
    ],
    "workers": [
        insight.WorkerInsight(
            stream=1,
            worker_id="web-1:4711",
            peer="10.0.0.7",
            prefetch=16,
            concurrency=8,
            opened_at=NOW_AT - 86_400_000,
            held=16,
            jobs=[insight.RunningJob(id=ID.format(0), type="send_email", queue="emails", dequeued_at=NOW_AT - 300_000)],
        ),
        insight.WorkerInsight(
            stream=2, queues=["billing", "media"], peer="10.0.0.8", opened_at=NOW_AT - 60_000, held=8
        ),
    ],
    "failures": [
        insight.FailureInsight(
            type="charge_card",
            error_type="CardError",
            message="insufficient funds",
            count=12,
            dead=1,
            first_at=NOW_AT - 86_400_000,
            last_at=NOW_AT - 3_600_000,
            ids=[ID.format(0)],
        ),
    ],
}


def tell(model: Model, *names: str) -> None:
    """Give a model insights; all of them where none is named."""
    for name in names or INSIGHTS:
        model.read(name, msgspec.json.encode(INSIGHTS[name]))


def told(first: int = 0) -> Model:
    """A model that is connected, and knows everything; what it asked for until now is forgotten."""
    model = Model(URL, "0.7.0", 0.0)
    model.resize(20)
    model.connected(0.0)
    model.hear(snapshot(first))
    tell(model)
    model.take_requests()
    return model


def changed(status: str, number: int, known: AdminJob | None = None, **totals: int) -> events.JobChanged:
    """A change of a job."""
    return events.JobChanged(server=server(**totals), id=ID.format(number), status=status, job=known)
