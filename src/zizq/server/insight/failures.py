"""Failures that look alike, together. Pure.

A message mostly differs from the next in a number: an identifier, a port, an amount. So digits count for nothing when
messages are compared.
"""

from __future__ import annotations

import re
from collections import OrderedDict, deque

from zizq.job import ErrorRecord, JobRecord, Status
from zizq.wire.insight import FailureInsight

MOST_GROUPS = 256
"""Groups that are kept; of more, the one that was seen last before all others goes."""
MOST_IDS = 10
MESSAGE = 200
"""Characters of a message that are looked at and kept."""

_DIGITS = re.compile(r"[0-9]+")
Key = tuple[str, str | None, str]


class Group:
    """Failures that look alike."""

    __slots__ = ("count", "dead", "error_type", "first_at", "ids", "last_at", "message", "type")

    def __init__(self, type: str, error_type: str | None, at: int) -> None:
        self.type = type
        self.error_type = error_type
        self.message = ""
        self.count = self.dead = 0
        self.first_at = self.last_at = at
        self.ids: deque[str] = deque(maxlen=MOST_IDS)

    def note(self, job: JobRecord, at: int, message: str) -> None:
        """One more."""
        self.count += 1
        self.dead += job.status is Status.DEAD
        if at >= self.last_at:
            self.last_at, self.message = at, message
            self.ids.appendleft(job.id)
        self.first_at = min(self.first_at, at)

    def insight(self) -> FailureInsight:
        """What is told of them."""
        return FailureInsight(
            type=self.type,
            error_type=self.error_type,
            message=self.message,
            count=self.count,
            dead=self.dead,
            first_at=self.first_at,
            last_at=self.last_at,
            ids=list(self.ids),
        )


class Failures:
    """All groups, those that were seen last at the end."""

    def __init__(self) -> None:
        self._groups: OrderedDict[Key, Group] = OrderedDict()

    def note(self, job: JobRecord, error: ErrorRecord) -> None:
        """A job failed.

        Args:
            job: The job after it.
            error: What is known of it.
        """
        message = error.message.lstrip()[: MESSAGE + 1].partition("\n")[0].rstrip()
        message = message if len(message) <= MESSAGE else f"{message[: MESSAGE - 1]}…"
        error_type = error.error_type and error.error_type[:MESSAGE]
        key = (job.type, error_type, _DIGITS.sub("0", message))
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(job.type, error_type, error.failed_at)
            if len(self._groups) > MOST_GROUPS:
                self._groups.popitem(last=False)
        else:
            self._groups.move_to_end(key)
        group.note(job, error.failed_at, message)

    def clear(self) -> None:
        """Forget all."""
        self._groups.clear()

    def groups(self) -> list[FailureInsight]:
        """All groups, those that were seen last first."""
        return [group.insight() for group in reversed(self._groups.values())]
