"""The lists that are shown of jobs: what is in each, and in which order (protocol.md#10.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import NamedTuple

from zizq.job import JobRecord, Status

Key = tuple[int, str]
"""Where a job stands in its list."""


class JobList(StrEnum):
    """A list of the jobs in one status."""

    READY = "ready"
    """By (priority, id): the order in which they are taken."""
    IN_FLIGHT = "in_flight"
    """By (dequeued_at, id)."""
    SCHEDULED = "scheduled"
    """By (ready_at, id)."""
    DEAD = "dead"
    """By identifier, the youngest first: no index has them by the time of their death."""

    @property
    def status(self) -> Status:
        """The status of its jobs."""
        return Status(self.value)

    @property
    def descends(self) -> bool:
        """Whether the greatest key comes first."""
        return self is JobList.DEAD


def key_in(of: JobList) -> Callable[[JobRecord], Key]:
    """Where jobs stand in a list; the smallest key comes first, or the greatest where it descends."""
    return _KEYS[of]


_KEYS: dict[JobList, Callable[[JobRecord], Key]] = {
    JobList.READY: lambda job: (job.priority, job.id),
    JobList.IN_FLIGHT: lambda job: (job.dequeued_at or 0, job.id),
    JobList.SCHEDULED: lambda job: (job.ready_at, job.id),
    JobList.DEAD: lambda job: (0, job.id),
}


class ListQuery(NamedTuple):
    """What is looked for in a list: a part of the queue's name, and one of the type's.

    Args:
        queues: Any of these must be in the name of the queue; none lets all through.
        types: Any of these must be in the type; none lets all through.
    """

    queues: tuple[str, ...] = ()
    types: tuple[str, ...] = ()

    def lets_in(self, queue: str, type: str) -> bool:
        """Whether jobs of a queue and a type are looked for."""
        return self.wants_queue(queue) and self.wants_type(type)

    def wants_queue(self, queue: str) -> bool:
        """Whether jobs of a queue are looked for, if their type is."""
        return _any_in(self.queues, queue)

    def wants_type(self, type: str) -> bool:
        """Whether jobs of a type are looked for, if their queue is."""
        return _any_in(self.types, type)


def _any_in(parts: tuple[str, ...], name: str) -> bool:
    return not parts or any(part in name for part in parts)


def in_order(of: JobList, jobs: Iterable[JobRecord]) -> list[JobRecord]:
    """The jobs of a list in its order; others may be among those given."""
    return sorted((job for job in jobs if job.status is of.status), key=key_in(of), reverse=of.descends)


def first_of(place: int, limit: int, total: int) -> int:
    """The position of the first job of a window that is to begin at a place, and to be as full as the list allows."""
    return max(0, min(place, total - limit))
