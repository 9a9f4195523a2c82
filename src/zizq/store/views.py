"""What a store shows of what it holds: the part of the store port that insight stands on.

Nothing here waits for a commit or holds one up, and nothing here costs the event loop more than a moment, however many
jobs there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from zizq.engine.lists import JobList, ListQuery, first_of
from zizq.job import JobRecord, Status
from zizq.store.facts import StorageFacts


class Tallied(NamedTuple):
    """A queue, a type, and a status as it truly is: a job in flight is not ready."""

    queue: str
    type: str
    status: Status


class Window(NamedTuple):
    """Some jobs of a list in its order, without payloads; the position of the first, and how many the list has."""

    jobs: list[JobRecord]
    first: int
    total: int


class Found(NamedTuple):
    """A job that was looked for in a list: its position, and the window around it."""

    position: int
    window: Window


def _nothing() -> None:
    """Nobody wants to know."""


class Views(Protocol):
    """The calls that only show."""

    async def tally(self, now: int) -> dict[Tallied, int]:
        """How many jobs there are of each queue, type and status at one instant, expired ones left out.

        What there is none of is left out. Reads no job, however many there are.
        """

    async def oldest_ready(self, now: int) -> dict[str, int]:
        """By queue: the `ready_at` of the ready job with the smallest identifier."""

    async def held(self, owner: int, limit: int) -> list[JobRecord]:
        """The jobs that an owner holds, those it has held longest first, `limit` at most, without payloads."""

    async def tokens(self, now: int) -> dict[str, int]:
        """How many tokens each budget has; fewer than none are a debt."""

    async def window(
        self, of: JobList, place: int | str, limit: int, now: int, heard: Callable[[], None] = _nothing
    ) -> Window | None:
        """A part of a list; expired jobs are not in it.

        Args:
            of: Which list.
            place: The position of the first job, drawn back where the list would end too soon; or the identifier of a
                job, to have as many on both sides of it.
            limit: How many at most.
            now: The wall clock.
            heard: Called on the event loop at the instant that is shown: what the listener has heard of by then is in
                the window, and what it hears of after that is not.

        Returns:
            None where the job that was named is not in the list.
        """

    async def find(
        self, of: JobList, query: ListQuery, beside: str | None, backward: bool, limit: int, now: int
    ) -> Found | None:
        """The next job of a list that a query lets through.

        Args:
            of: Which list.
            query: What is looked for.
            beside: The identifier of the job where the search begins, which is left out; None for the head of the
                list, or for its end where it goes backward.
            backward: Whether it goes towards the head of the list.
            limit: How many jobs the window around it has at most.
            now: The wall clock.

        Returns:
            None where there is none, or the job to begin with is not in the list.
        """

    async def storage(self) -> StorageFacts:
        """What the store knows of its files and its commits."""


def window_in(jobs: Sequence[JobRecord], place: int | str, limit: int) -> Window | None:
    """As `Views.window`, for a list that is in memory, in its order."""
    if isinstance(place, str):
        position = next((position for position, job in enumerate(jobs) if job.id == place), None)
        if position is None:
            return None
        place = position - limit // 2
    first = first_of(place, limit, len(jobs))
    return Window([job.with_(payload=None) for job in jobs[first : first + limit]], first, len(jobs))


def find_in(
    jobs: Sequence[JobRecord], query: ListQuery, beside: str | None, backward: bool, limit: int
) -> Found | None:
    """As `Views.find`, for a list that is in memory, in its order."""
    start = len(jobs) if backward else -1
    if beside is not None:
        start = next((position for position, job in enumerate(jobs) if job.id == beside), -2)
        if start == -2:
            return None
    for position in range(start - 1, -1, -1) if backward else range(start + 1, len(jobs)):
        job = jobs[position]
        if query.lets_in(job.queue, job.type) and (window := window_in(jobs, job.id, limit)) is not None:
            return Found(position, window)
    return None
