"""Insights and pauses that say what a test wants, where no real ones are asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

from zizq.clock import Clock
from zizq.server.dashboard.opening import make_dashboard
from zizq.server.settings import Settings
from zizq.testing.server import RunningServer
from zizq.wire.insight import (
    BudgetInsight,
    Counts,
    FailureInsight,
    Flow,
    Overview,
    Point,
    QueueInsight,
    RunningJob,
    StorageInsight,
    WorkerInsight,
)

COUNTS = Counts(scheduled=50_000, ready=949_000, in_flight=16, completed=0, dead=1_000)
FLOW = Flow(
    enqueued_per_s=1204.5, completed_per_s=1187.0, failed_per_s=3.2, wait_p50_ms=1.25, wait_p95_ms=8.9,
    run_p50_ms=42.0, run_p95_ms=310.0,
)  # fmt: skip


@dataclass
class FakeInsights:
    """What is in it is what it says."""

    now: int
    trouble: str | None = None
    counts: Counts = COUNTS
    names: tuple[str, ...] = ("default", "images", "mail", "reports")
    running: list[RunningJob] = field(default_factory=list)
    found: list[FailureInsight] = field(default_factory=list)
    pauses: FakePauses | None = None
    asked: int = 0

    async def overview(self) -> Overview:
        self.asked += 1
        return Overview(
            version="0.7.0", uptime_ms=93_784_000, counts=self.counts, flow=FLOW, queues=len(self.names), streams=2,
            oldest_ready_ms=754_000, trouble=self.trouble,
        )  # fmt: skip

    async def queues(self) -> list[QueueInsight]:
        paused = set() if self.pauses is None else self.pauses.paused
        return [
            QueueInsight(
                queue=name,
                counts=Counts(
                    ready=self.counts.ready // len(self.names), scheduled=12_500, in_flight=4, dead=250 * (index == 2)
                ),
                flow=FLOW,
                oldest_ready_ms=754_000 // (index + 1),
                paused=name in paused,
            )
            for index, name in enumerate(self.names)
        ]

    async def glance(self) -> tuple[Overview, list[QueueInsight]]:
        return await self.overview(), await self.queues()

    async def workers(self) -> list[WorkerInsight]:
        jobs = self.running
        return [
            WorkerInsight(
                stream=1, worker_id="app-1:4711", peer="10.0.0.7:52114", queues=["mail", "images"], prefetch=32,
                concurrency=16, opened_at=self.now - 3_600_000, held=len(jobs), jobs=jobs,
            ),
            WorkerInsight(stream=2, peer="10.0.0.8:52990", opened_at=self.now - 60_000),
        ]  # fmt: skip

    async def failures(self) -> list[FailureInsight]:
        return self.found

    async def storage(self) -> StorageInsight:
        return StorageInsight(
            size=431_000_000, log_size=4_120_000, free=20_480, commits=81_230, calls_per_commit=7.4,
            commit_p50_ms=0.9, commit_p99_ms=6.1, fsync_p99_ms=5.2, checkpoint_at=self.now - 12_000,
            trouble=self.trouble,
        )  # fmt: skip

    async def budgets(self) -> list[BudgetInsight]:
        return [
            BudgetInsight(
                key="mail-api",
                strategy="time_based",
                allocation=100,
                period_ms=60_000,
                capacity=100,
                available=37,
            ),
            BudgetInsight(key="gpu", strategy="while_in_flight", allocation=4, capacity=4, available=0),
        ]

    async def history(self, step: str) -> list[Point]:
        step_ms, length = (1000, 300) if step == "second" else (60_000, 1440)
        first = self.now - self.now % step_ms - length * step_ms
        return [self._point(first + number * step_ms, number, step_ms / 1000) for number in range(length + 1)]

    def _point(self, at: int, number: int, seconds: float) -> Point:
        wave = math.sin(number / 23) + math.sin(number / 7) / 3
        return Point(
            at=at,
            enqueued=round((1200 + 300 * wave) * seconds),
            completed=round((1180 + 260 * math.sin((number - 4) / 23)) * seconds),
            failed=round(max(0.0, 4 + 6 * wave) * seconds),
            counts=Counts(
                ready=round(600_000 + 80_000 * wave), in_flight=round(9000 + 3000 * wave),
                scheduled=250_000 - 100 * number, dead=100_000 + number * 20,
            ),
            oldest_ready_ms=round(400_000 + 300_000 * math.sin(number / 60)),
            wait_p50_ms=1.2 + abs(wave), wait_p95_ms=7 + 5 * abs(wave),
            run_p50_ms=40 + 8 * wave, run_p95_ms=260 + 70 * wave,
        )  # fmt: skip


def install(server: RunningServer, insights: FakeInsights, pauses: FakePauses, clock: Clock, **settings: Any) -> None:
    """Put a dashboard that shows what fakes say in the place of a server's own, unless it has none."""
    app = server.app
    if app.dashboard is not None:
        chosen = replace(Settings(), **settings)
        app.dashboard = make_dashboard(chosen, insights, app.catalog, app.crontab, pauses, app.auth, clock)
        app.admin._fallback = app.dashboard


@dataclass
class FakePauses:
    """Remembers which queues are paused."""

    paused: set[str] = field(default_factory=set)

    async def pause_queue(self, queue: str) -> None:
        self.paused.add(queue)

    async def resume_queue(self, queue: str) -> None:
        self.paused.discard(queue)
