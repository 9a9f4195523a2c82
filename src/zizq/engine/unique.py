"""Unique jobs: when a job that is there keeps another from being enqueued (protocol.md#5)."""

from __future__ import annotations

from collections.abc import Sequence
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


def admitted(jobs: Sequence[JobRecord], holders: dict[str, list[JobRecord]]) -> tuple[list[JobRecord], list[JobRecord]]:
    """What comes of an enqueue: for each job itself or the one that has its key; and those that are new.

    Args:
        jobs: The jobs that come, in their order; each keeps those behind it away as one that is there does.
        holders: By key, the jobs that had it and are not expired, the youngest first. New ones are put in front.
    """
    outcome, new = [], []
    for job in jobs:
        stands = job
        if job.unique_key is not None:
            there = holders.setdefault(job.unique_key, [])
            stands = next((one for one in there if conflicts(job.unique_while or "", one)), job)
            if stands is job:
                there.insert(0, job)
        if stands is job:
            new.append(job)
        outcome.append(stands if stands is job else stands.with_(payload=None))
    return outcome, new
