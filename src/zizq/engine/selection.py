"""Which jobs a list, a count or a change is about (protocol.md#2.6)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from zizq.job import JobRecord, Status


class Range(msgspec.Struct, frozen=True):
    """Whole numbers from `low` to `high`, both included."""

    low: int
    high: int

    def __contains__(self, value: int) -> bool:
        return self.low <= value <= self.high


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Conditions on jobs; all of them must hold.

    None asks for nothing; an empty set is met by no job.

    Args:
        ids: Identifiers.
        statuses: Statuses, as they truly are: a job in flight is not ready.
        queues: Queues.
        types: Types.
        priority: Priorities.
        ready_at: Instants of `ready_at`, in Unix milliseconds.
        attempts: Counts of failures.
        budgets: Budgets, of which a job draws on at least one.
    """

    ids: frozenset[str] | None = None
    statuses: frozenset[Status] | None = None
    queues: frozenset[str] | None = None
    types: frozenset[str] | None = None
    priority: Range | None = None
    ready_at: Range | None = None
    attempts: Range | None = None
    budgets: frozenset[str] | None = None

    def __contains__(self, job: JobRecord) -> bool:
        if self.budgets is not None and not any(draw.key in self.budgets for draw in job.budgets or ()):
            return False
        return all(value in wanted for wanted, value in self._conditions(job) if wanted is not None)

    def _conditions(self, job: JobRecord) -> Iterator[tuple[Any, str | int]]:
        yield self.statuses, job.status
        yield self.queues, job.queue
        yield self.types, job.type
        yield self.ids, job.id
        yield self.priority, job.priority
        yield self.ready_at, job.ready_at
        yield self.attempts, job.attempts

    @property
    def is_empty(self) -> bool:
        """Whether no job can meet it."""
        sets = (self.ids, self.statuses, self.queues, self.types, self.budgets)
        return any(wanted is not None and not wanted for wanted in sets)

    @property
    def is_tallied(self) -> bool:
        """Whether it asks for nothing but statuses, queues and types, of which stores keep counts."""
        return all(wanted is None for wanted in (self.ids, self.priority, self.ready_at, self.attempts, self.budgets))

    def with_(self, **changes: object) -> Selection:
        """The same conditions with some changed."""
        return msgspec.structs.replace(self, **changes)


EVERYTHING = Selection()
"""Every job."""
