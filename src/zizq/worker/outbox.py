"""Which reports of finished jobs to send, merge or repeat; pure.

There are two lanes, so that a failure that cannot be delivered never holds up the acknowledgements of jobs that
went well. No timer gathers a batch: a batch is what came together while the request before it was under way, and one
that is full goes beside that. The server hands out new jobs as it hears of finished ones, so a timer would only make it
slower.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum

import msgspec

from zizq.errors import ClientError, NotFound, ZizqError
from zizq.wire.messages import FailureBody

_TRANSIENT = frozenset((408, 429))
"""Statuses below 500 that say "not now" rather than "not so"."""


class Verdict(Enum):
    """What becomes of a report that could not be delivered."""

    REPEAT = "repeat"
    """The server may take it later."""
    SETTLED = "settled"
    """The job is no longer in flight: nothing to do."""
    DROP = "drop"
    """It will never be taken."""


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, ClientError):
        return error.status in _TRANSIENT
    return isinstance(error, ZizqError) and error.retryable


def judge(error: BaseException) -> Verdict:
    """What becomes of the report that met this error."""
    if is_transient(error):
        return Verdict.REPEAT
    return Verdict.SETTLED if isinstance(error, NotFound) else Verdict.DROP


class Nack(msgspec.Struct, frozen=True):
    """A failure on its way to the server."""

    job_id: str
    attempts: int
    """How often the job had failed before: tells this run from a later one of the same job."""
    failure: FailureBody
    tries: int = 0
    """Requests made for it so far."""


class Outbox:
    """Reports of finished jobs, from the end of the handler until the server has them.

    Args:
        capacity: Reports it has room for. It takes more, and says `full`: the caller waits before it makes more.
        ack_max_batch: The most acknowledgements in one request, which is full then.
    """

    def __init__(self, capacity: int, ack_max_batch: int) -> None:
        self._capacity = capacity
        self._ack_max_batch = ack_max_batch
        self._acks: deque[str] = deque()
        self._nacks: deque[Nack] = deque()
        # Each report not yet settled, with the attempts that its job had when it came.
        self._attempts: dict[str, int] = {}
        self._came_again: set[str] = set()

    def __len__(self) -> int:
        return len(self._attempts)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._attempts

    @property
    def full(self) -> bool:
        """Whether the caller should wait before it adds more."""
        return len(self._attempts) >= self._capacity

    def ack(self, job_id: str, attempts: int) -> None:
        """Add the success of a job that had failed so many times before."""
        self._attempts[job_id] = attempts
        self._acks.append(job_id)

    def nack(self, job_id: str, attempts: int, failure: FailureBody) -> None:
        """Add the failure of a job that had failed so many times before."""
        self._attempts[job_id] = attempts
        self._nacks.append(Nack(job_id, attempts, failure))

    def covers(self, job_id: str, attempts: int) -> bool:
        """Whether a job that has just come needs no run, because a report for it is on its way.

        A job that failed comes again with more attempts than it had, possibly before our request is answered: that
        is a new run. With the same number, a lost connection brought back the run that we have already made, and
        the report settles it; if that report meets the server too early to count, it is sent once more.
        """
        ran = self._attempts.get(job_id)
        if ran is None or attempts > ran:
            return False
        self._came_again.add(job_id)
        return True

    def next_acks(self) -> list[str]:
        """The acknowledgements of the next request, oldest first; empty when none wait."""
        acks = self._acks
        if len(acks) <= self._ack_max_batch:
            batch = list(acks)
            acks.clear()
            return batch
        return [acks.popleft() for _ in range(self._ack_max_batch)]

    def next_full_acks(self) -> list[str]:
        """The acknowledgements of a request as large as they get; empty while fewer wait."""
        return self.next_acks() if len(self._acks) >= self._ack_max_batch else []

    def next_nack(self) -> Nack | None:
        """The oldest failure that waits."""
        return self._nacks.popleft() if self._nacks else None

    def acks_answered(self, ids: Iterable[str], not_found: Iterable[str]) -> list[str]:
        """Settle acknowledgements that the server has answered.

        Args:
            ids: All that were sent.
            not_found: Those that were not in flight there.

        Returns:
            Those that are settled though the server had no use for them.
        """
        missed = set(not_found)
        lost = []
        for job_id in ids:
            if job_id not in missed:
                # Absent where the job failed, came again and was done before the failure was answered.
                self._attempts.pop(job_id, None)
            elif self._goes_again(job_id):
                self._acks.append(job_id)
            else:
                lost.append(job_id)
        if self._came_again:
            self._came_again &= self._attempts.keys()
        return lost

    def nack_answered(self, nack: Nack, *, found: bool) -> bool:
        """Settle a failure that the server has answered; False when it had no use for it."""
        if self._attempts.get(nack.job_id) != nack.attempts:
            # The job came again, ran again, and that run's report is not out yet: it is not for this one to settle.
            return found
        if not found and self._goes_again(nack.job_id):
            self._nacks.append(nack)
            return True
        self._settle(nack.job_id)
        return found

    def repeat_acks(self, ids: list[str]) -> None:
        """Put acknowledgements back in front: their request was not answered."""
        self._acks.extendleft(reversed(ids))

    def repeat_nack(self, nack: Nack) -> None:
        """Put a failure back, at the end, so that one that is never taken does not hold up the others."""
        self._nacks.append(nack)

    def drop_acks(self, ids: Iterable[str]) -> None:
        """Forget acknowledgements that the server refuses."""
        for job_id in ids:
            self._settle(job_id)

    def _settle(self, job_id: str) -> None:
        self._attempts.pop(job_id, None)
        self._came_again.discard(job_id)

    def _goes_again(self, job_id: str) -> bool:
        """Whether a report that was not wanted is wanted now: its job was given to us again in the meantime."""
        if job_id in self._came_again:
            self._came_again.discard(job_id)
            return True
        self._attempts.pop(job_id, None)
        return False
