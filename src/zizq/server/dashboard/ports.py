"""What the dashboard asks of the server, beside the catalog and the crontab."""

from __future__ import annotations

from typing import Literal, Protocol

from zizq.wire.insight import (
    BudgetInsight,
    FailureInsight,
    Overview,
    Point,
    QueueInsight,
    StorageInsight,
    WorkerInsight,
)


class Insights(Protocol):
    """What the server tells of itself (`wire.insight`)."""

    async def overview(self) -> Overview:
        """The server as a whole."""

    async def queues(self) -> list[QueueInsight]:
        """All queues that hold a job or are paused."""

    async def glance(self) -> tuple[Overview, list[QueueInsight]]:
        """The server as a whole and its queues, by one look at the store."""

    async def workers(self) -> list[WorkerInsight]:
        """All open take streams."""

    async def failures(self) -> list[FailureInsight]:
        """Failures, those that look alike as one."""

    async def storage(self) -> StorageInsight:
        """The store and its disk."""

    async def budgets(self) -> list[BudgetInsight]:
        """All budgets."""

    async def history(self, step: Literal["second", "minute"]) -> list[Point]:
        """The last five minutes by the second, or the last day by the minute, the oldest first."""


class Pauses(Protocol):
    """Holds queues back."""

    async def pause_queue(self, queue: str) -> object:
        """Hand out no job of a queue any more."""

    async def resume_queue(self, queue: str) -> object:
        """Hand out jobs of a queue again."""
