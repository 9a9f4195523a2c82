"""Until when jobs in flight may be held, earliest first."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

_SLACK = 64
"""Entries of jobs that are gone which are not worth a sweep."""


class Deadlines:
    """The deadlines of some jobs, one each.

    A deadline that is moved or dropped leaves an entry behind in the heap, which is passed over when it comes up. Since
    most jobs are done long before their time, such entries are swept as soon as they are more than half of all.
    """

    def __init__(self) -> None:
        self._at: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._at)

    def set(self, job_id: str, at: int) -> None:
        """Give a job its deadline, in Unix milliseconds, or move the one it has."""
        self._at[job_id] = at
        heappush(self._heap, (at, job_id))
        self._sweep()

    def drop(self, job_id: str) -> None:
        """Forget the deadline of a job, if it has one."""
        self._at.pop(job_id, None)
        self._sweep()

    def next(self) -> int | None:
        """The earliest deadline; None where there is none."""
        while self._heap and self._is_stale(self._heap[0]):
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop(self, now: int, limit: int) -> list[str]:
        """Forget, and return, the jobs whose deadlines have come, earliest first, `limit` at most."""
        due: list[str] = []
        while len(due) < limit and (at := self.next()) is not None and at <= now:
            due.append(heappop(self._heap)[1])
            del self._at[due[-1]]
        return due

    def _is_stale(self, entry: tuple[int, str]) -> bool:
        return self._at.get(entry[1]) != entry[0]

    def _sweep(self) -> None:
        if len(self._heap) > 2 * len(self._at) + _SLACK:
            self._heap = [(at, job_id) for job_id, at in self._at.items()]
            heapify(self._heap)
