"""A list of jobs, of which a part is here: what is kept of it, and what to ask for; pure.

The list may have millions of jobs. What is here is a window around the selected one. Changes that the server tells of
are made to the window at once; where they cannot be known exactly the list is `stale`, and is asked for again.
"""

from __future__ import annotations

from bisect import bisect_left

from zizq.tui.cursor import Cursor, Edge
from zizq.wire.events import AdminJob, Around, Head, ListName, Offset, ShownWindow, Tail

PAGE = 200
"""How many jobs to ask for at once: some screens of any height."""
_MOST = 2 * PAGE
"""How many jobs are kept at most: what the server tells of may make the window longer than what was asked for."""


class JobList:
    """One list.

    Args:
        name: Its name.
    """

    def __init__(self, name: ListName) -> None:
        self.name = name
        self.jobs: list[AdminJob] = []
        self.keys: list[str] = []
        """The identifiers of these jobs."""
        self.first = 0
        self.total = 0
        self.cursor = Cursor()
        self.is_known = False
        self.is_stale = True
        self._is_lost = False

    @property
    def selected(self) -> AdminJob | None:
        """The selected job."""
        return self.jobs[self.cursor.row] if self.cursor.row < len(self.jobs) else None

    @property
    def position(self) -> int:
        """Where the selected job stands in the whole list, from 0."""
        return self.first + self.cursor.row

    @property
    def _end(self) -> int:
        return self.first + len(self.jobs)

    # ── what to ask for ──────────────────────────────────────────────────────────────────────────────

    @property
    def anchor(self) -> Around | Offset | Head | Tail:
        """Which part to ask for."""
        if self.cursor.edge is not None:
            return Head() if self.cursor.edge is Edge.HEAD else Tail()
        if self._is_lost or self.cursor.key is None:
            return Offset(max(self.position - PAGE // 2, 0))
        return Around(self.cursor.key)

    @property
    def is_short(self) -> bool:
        """Whether jobs are not here that stand less than a screen from the selected one."""
        cursor = self.cursor
        below = cursor.row + cursor.height >= len(self.jobs) and self._end < self.total
        above = cursor.row < cursor.height and self.first > 0
        return below or above

    # ── what the server tells ────────────────────────────────────────────────────────────────────────

    def load(self, window: ShownWindow) -> None:
        """Take a new window, unless it is an answer to what was asked before the user went elsewhere."""
        if self.is_known and not self._fits(window):
            self.is_stale = True
            return
        self.cursor.shift(self.first - window.first_position)
        self.jobs, self.first, self.total = list(window.items), window.first_position, window.total
        self.keys = [job.id for job in window.items]
        self.is_known, self.is_stale, self._is_lost = True, False, False
        self.cursor.settle(self.keys)

    def choose(self, window: ShownWindow, position: int) -> None:
        """Take a window, and select the job at a position of the list."""
        row = position - window.first_position
        if 0 <= row < len(window.items):
            self.cursor.edge, self.cursor.key = None, window.items[row].id
            self.load(window)
            # What the server tells of from now on is still the part that was asked for before.
            self.is_stale = True

    def put(self, job: AdminJob) -> None:
        """A job came in; one that does not belong among those that are here moves their numbers at the most."""
        was_selected = self.cursor.edge is None and self.cursor.key == job.id
        if not self._drop(job.id):
            self.total += 1
        place = bisect_left(self.jobs, self._order(job), key=self._order)
        if place == 0 and self.first > 0:
            self.first += 1
        elif place < len(self.jobs) or self._end + 1 >= self.total:
            self.jobs.insert(place, job)
            self.keys.insert(place, job.id)
            self._trim()
        if was_selected:
            self.cursor.key = job.id
        self.cursor.settle(self.keys)

    def remove(self, job_id: str) -> None:
        """A job has gone, or has fallen out of the part that the server tells of."""
        if self._may_have_fallen_out(job_id):
            self.is_stale = True
        elif self._drop(job_id):
            self.total -= 1
            self.cursor.settle(self.keys)
        elif self.first > 0:
            # It stood before these jobs or after them: only the server knows.
            self.is_stale = True

    def _may_have_fallen_out(self, job_id: str) -> bool:
        """Whether it is the job where the user is, at an end of what is here: then it stays until more is known."""
        if self.cursor.edge is not None or job_id != self.cursor.key:
            return False
        is_last, is_first = job_id == self.keys[-1], job_id == self.keys[0]
        return (is_last and self._end < self.total) or (is_first and self.first > 0)

    def _drop(self, job_id: str) -> bool:
        if job_id not in self.keys:
            return False
        row = self.keys.index(job_id)
        del self.jobs[row], self.keys[row]
        if row < self.cursor.row:
            self.cursor.shift(-1)
        return True

    def _fits(self, window: ShownWindow) -> bool:
        """Whether a window has the place where the user is; for a job that is gone, only once it was looked for."""
        end = window.first_position + len(window.items)
        if self.cursor.edge is Edge.HEAD:
            return window.first_position == 0
        if self.cursor.edge is Edge.TAIL:
            return end >= window.total
        if any(job.id == self.cursor.key for job in window.items) or self._is_lost:
            return True
        place = self.position
        is_here = window.first_position <= place and (place < end or end >= window.total)
        self._is_lost = not is_here
        return is_here

    def _order(self, job: AdminJob) -> tuple[int, str]:
        if self.name is ListName.READY:
            return job.priority, job.id
        if self.name is ListName.IN_FLIGHT:
            return job.dequeued_at or 0, job.id
        return job.ready_at, job.id

    def _trim(self) -> None:
        if len(self.jobs) <= _MOST:
            return
        if self.cursor.row < _MOST // 2:
            del self.jobs[-1], self.keys[-1]
        else:
            del self.jobs[0], self.keys[0]
            self.first += 1
            self.cursor.shift(-1)
