"""Searching the lists of jobs: what is typed, and what to ask the server next; pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from zizq.tui.listing import PAGE
from zizq.wire.events import End, Find, JobIdAnchor, ListName, Query, Start

HINT = "part of a type, or queue:NAME"
_QUEUE = ("queue:", "q:")
_TYPE = ("type:", "t:")


def read_query(text: str) -> Query:
    """What is typed: words are parts of types, those after `queue:` are parts of queues' names."""
    queues: list[str] = []
    types: list[str] = []
    for word in text.split():
        prefix = next((prefix for prefix in (*_QUEUE, *_TYPE) if word.startswith(prefix)), "")
        rest = word.removeprefix(prefix)
        if rest:
            (queues if prefix in _QUEUE else types).append(rest)
    return Query(queues, types)


@dataclass(frozen=True)
class Search:
    """A search of one list.

    Args:
        text: What was typed.
        list: The list that is searched.
        is_forward: Whether towards the tail.
        is_around: Whether it has begun anew at the other end.
    """

    text: str
    list: ListName
    is_forward: bool
    is_around: bool = False

    def request(self, from_job: str | None, limit: int = PAGE) -> Find:
        """What to ask.

        Args:
            from_job: The job to search from; None searches from the end that lies behind.
            limit: How many neighbours of what is found are wanted.
        """
        start = Start() if self.is_forward else End()
        anchor = start if from_job is None or self.is_around else JobIdAnchor(from_job)
        direction = "forward" if self.is_forward else "backward"
        return Find(list=self.list, anchor=anchor, direction=direction, query=read_query(self.text), limit=limit)  # type: ignore[arg-type]

    def around(self) -> Search | None:
        """The search begun anew at the other end; None when it has been."""
        return None if self.is_around else replace(self, is_around=True)
