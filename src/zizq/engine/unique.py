"""Unique jobs: when a job that is there keeps another from being enqueued (protocol.md#5)."""

from __future__ import annotations

from enum import StrEnum

from zizq.job import JobRecord, Status


class Scope(StrEnum):
    """For how long a job keeps its key to itself."""

    QUEUED = "queued"
    ACTIVE = "active"
    EXISTS = "exists"


_COVERS = {
    Scope.QUEUED: frozenset((Status.SCHEDULED, Status.READY)),
    Scope.ACTIVE: frozenset((Status.SCHEDULED, Status.READY, Status.IN_FLIGHT)),
    Scope.EXISTS: frozenset(Status),
}


def holds(job: JobRecord) -> bool:
    """Whether a job holds its key, by its own scope."""
    return job.unique_while is not None and job.status in _COVERS[Scope(job.unique_while)]


def conflicts(scope: str, holder: JobRecord) -> bool:
    """Whether the job that a key points to keeps a job of a scope from being enqueued.

    Args:
        scope: The scope of the job that comes.
        holder: The job that had the key last; it is there, and not expired.
    """
    return holds(holder) and holder.status in _COVERS[Scope(scope)]
