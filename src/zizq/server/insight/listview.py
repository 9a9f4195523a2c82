"""What somebody sees of one list: a window that is kept as jobs move, without asking the store. Pure.

A window has the jobs from one position of the list to another. A job that comes or goes before it shifts its position,
one behind it only changes the total. So only a window that has lost many of its jobs has to be read anew, and a list of
a million jobs costs no more than a short one.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import NamedTuple

from zizq.engine.lists import JobList, Key, key_in
from zizq.engine.transitions import Cause
from zizq.job import JobRecord, Status
from zizq.store.views import Window

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_MIRRORED = str.maketrans(_DIGITS, _DIGITS[::-1])
"""Turns the order of identifiers about, for lists that descend."""


class Turn(NamedTuple):
    """A job that came into a window, or left it; and what the window is of."""

    of: JobList
    job: JobRecord
    came: bool


class ListView:
    """A window of one list.

    Args:
        of: Which list.
        limit: How many jobs it has at most.
    """

    def __init__(self, of: JobList, limit: int) -> None:
        self.of = of
        self.limit = limit
        self.first = 0
        """The position of its first job."""
        self.total = 0
        """How many jobs the list has."""
        self.keeps_tail = False
        """Whether it goes with the end of the list: what is too much falls out at its beginning."""
        self._keys: list[Key] = []
        self._jobs: dict[str, JobRecord] = {}
        self._key_of = key_in(of)

    @property
    def jobs(self) -> list[JobRecord]:
        """Its jobs in their order."""
        return [self._jobs[self._id(key)] for key in self._keys]

    @property
    def is_short(self) -> bool:
        """Whether there are jobs that it has room for, and does not know."""
        return len(self._keys) < min(self.limit, self.total)

    @property
    def is_worn(self) -> bool:
        """Whether so many are missing that it should be read anew now."""
        return len(self._keys) * 2 < min(self.limit, self.total)

    def load(self, window: Window) -> None:
        """Show what was read."""
        self.first, self.total = window.first, window.total
        self._jobs = {job.id: job for job in window.jobs}
        self._keys = sorted(map(self._key, window.jobs))

    def reload(self, window: Window) -> list[Turn]:
        """Show what was read; returns what is different."""
        before = dict(self._jobs)
        self.load(window)
        gone = [Turn(self.of, job, False) for job_id, job in before.items() if job_id not in self._jobs]
        return [*gone, *(Turn(self.of, job, True) for job_id, job in self._jobs.items() if job_id not in before)]

    def come(self, job: JobRecord) -> list[Turn]:
        """A job came into the list; returns what changes in the window, the end of which may fall out."""
        if job.id in self._jobs:
            self._jobs[job.id] = job
            return []
        key = self._key(job)
        reaches_end = self.first + len(self._keys) >= self.total
        self.total += 1
        if self._is_before(key):
            self.first += 1
            return []
        if self._is_behind(key, reaches_end):
            return []
        insort(self._keys, key)
        self._jobs[job.id] = job
        return [Turn(self.of, job, True), *self._trimmed()]

    def _is_before(self, key: Key) -> bool:
        is_full = len(self._keys) >= self.limit and self.keeps_tail
        return bool(self._keys) and key < self._keys[0] and (self.first > 0 or is_full)

    def _is_behind(self, key: Key, reaches_end: bool) -> bool:
        if not self.limit or not self._keys:
            return not (self.limit and reaches_end)
        is_full = len(self._keys) >= self.limit and not self.keeps_tail
        return key > self._keys[-1] and (is_full or not reaches_end)

    def _trimmed(self) -> list[Turn]:
        if len(self._keys) <= self.limit:
            return []
        key = self._keys.pop(0 if self.keeps_tail else -1)
        self.first += self.keeps_tail
        return [Turn(self.of, self._jobs.pop(self._id(key)), False)]

    def go(self, job: JobRecord) -> list[Turn]:
        """A job left the list; returns what changes in the window."""
        self.total = max(0, self.total - 1)
        if job.id not in self._jobs:
            key = self._key(job)
            if self.first > 0 and (not self._keys or key < self._keys[0]):
                self.first -= 1
            return []
        # By what is known here: its place may be told otherwise by now.
        key = self._key(self._jobs.pop(job.id))
        del self._keys[bisect_left(self._keys, key)]
        return [Turn(self.of, job, False)]

    def _key(self, job: JobRecord) -> Key:
        number, job_id = self._key_of(job)
        return (number, job_id.translate(_MIRRORED) if self.of.descends else job_id)

    def _id(self, key: Key) -> str:
        return key[1].translate(_MIRRORED) if self.of.descends else key[1]


_LEFT = {
    Cause.TAKE: JobList.READY,
    Cause.PROMOTE: JobList.SCHEDULED,
    Cause.SUCCEED: JobList.IN_FLIGHT,
    Cause.FAIL: JobList.IN_FLIGHT,
    Cause.RELEASE: JobList.IN_FLIGHT,
    Cause.RETRY: JobList.DEAD,
}
_LISTS = {of.status: of for of in JobList}
_ENDS = {Cause.SUCCEED, Cause.DELETE, Cause.REAP}


def left_by(cause: Cause, job: JobRecord) -> JobList | None:
    """The list that a job has left with a move; None where it was in none."""
    return _LISTS.get(job.status) if cause in (Cause.DELETE, Cause.REAP) else _LEFT.get(cause)


def reached_by(cause: Cause, job: JobRecord) -> JobList | None:
    """The list that a job has come into with a move; None where it is in none now."""
    if cause in _ENDS or (cause is Cause.FAIL and job.status is Status.DEAD and job.purge_at is None):
        # What is not kept has no end to its retention.
        return None
    return _LISTS.get(job.status)


def turns(views: Iterable[ListView], cause: Cause, job: JobRecord) -> list[Turn]:
    """What changes in windows with a move of one job."""
    left, reached = left_by(cause, job), reached_by(cause, job)
    found: list[Turn] = []
    shown = {view.of: view for view in views}
    if left is not None and left in shown:
        found += shown[left].go(job)
    if reached is not None and reached in shown:
        found += shown[reached].come(job)
    return found


def end_of(cause: Cause, job: JobRecord) -> str | None:
    """How an end is told of: every failure as `dead`, whatever becomes of the job (protocol.md#10.1)."""
    if cause is Cause.SUCCEED:
        return Status.COMPLETED.value
    return Status.DEAD.value if cause is Cause.FAIL else None
