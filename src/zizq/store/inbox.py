"""The inbox of a store: where applications put jobs by themselves, in transactions of their own.

Not every store has one. What is in it is no job yet; a server moves it on, by the rules that hold for all jobs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol, runtime_checkable

from zizq.budget import Budget
from zizq.job import JobRecord
from zizq.store.base import NO_BUDGETS, NOTHING

NAMELESS = ("unreadable", "inbox")
"""The type and queue of what has none that can be kept: somebody has written to the inbox by hand."""


class Post(NamedTuple):
    """What an application has put there: the identifier that it was told, and the body of an enqueue, in JSON."""

    id: str
    body: bytes


class Waiting(NamedTuple):
    """How many posts wait, and when the first was made, in Unix milliseconds; None where there is none."""

    posts: int
    first_at: int | None


class Posted(Protocol):
    """Some posts that are on their way, in one transaction with what becomes of them."""

    @property
    def posts(self) -> Sequence[Post]:
        """The posts, in the order of their identifiers. All of them leave the inbox."""

    async def enqueue(
        self,
        jobs: Sequence[JobRecord],
        now: int,
        folds: Sequence[JobRecord] = (),
        pending: Mapping[str, str | None] = NOTHING,
        create: Mapping[str, Budget] = NO_BUDGETS,
    ) -> Sequence[JobRecord]:
        """Store new jobs, as `Store.enqueue` does, when the block ends.

        Raises:
            Outdated: As there; none of these jobs is stored.
            Unprocessable: As there; none of these jobs is stored.
        """

    async def refuse(self, job: JobRecord, reason: str, now: int) -> None:
        """Store a job that cannot be enqueued as a dead one, with an error that says why, when the block ends.

        Args:
            job: The job; ready or scheduled.
            reason: Why it cannot be enqueued.
            now: The wall clock.
        """


@runtime_checkable
class Inbox(Protocol):
    """A store that has an inbox."""

    def posted(self, limit: int) -> AbstractAsyncContextManager[Posted]:
        """Take the first posts that nobody else has taken, for the length of a block.

        Where the block ends well they have left the inbox, and what became of them is stored; where not, all is as it
        was.

        Args:
            limit: How many at most; fewer where they are large.

        Raises:
            Unavailable: When the store cannot read or write.
        """

    async def waiting(self) -> Waiting:
        """What waits, which may take as long as there is much.

        Raises:
            Unavailable: When the store cannot read.
        """
