"""Questions about jobs, put together; and what they have in common.

The planner of PostgreSQL guesses by what it last counted. Where a wrong guess would walk over the backlog, there is
nothing to guess: a part of an index is asked for in the order of its first column and its last ones, which no other
index has; and whether a job is in flight is a set that is read once, never a join.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from zizq.engine import decide
from zizq.engine.selection import Selection
from zizq.job import JobRecord, Status
from zizq.store import rows

LEASED = "fence IN (SELECT fence FROM zizq.servers)"
"""A condition on `flight`: that the job is held by a server that there is."""
FLYING = f"SELECT id FROM zizq.flight WHERE {LEASED}"  # noqa: S608 - constants
"""The identifiers of the jobs in flight."""
HELD = f"(SELECT f.dequeued_at FROM zizq.flight AS f WHERE f.id = jobs.id AND f.{LEASED})"  # noqa: S608
"""When a job in flight was taken; NULL of any other."""
WHOLE = f"{rows.WHOLE}, {HELD} AS held"
BARE = f"{rows.BARE}, {HELD} AS held"
KIND = {"queue": "kinds.queue", "type": "kinds.type", "status": "kinds.status"}
"""The first columns of the index `place`, as a row of `kinds` has them."""

_READY = rows.STATUS[Status.READY]
_MOST = {"priority": 2**31 - 1, "ready_at": 2**63 - 1, "attempts": 2**31 - 1}


class Question:
    """A statement in the making: its parts name the values that go with it."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def put(self, value: Any) -> str:
        """Add a value; returns how the text names it."""
        self.values.append(value)
        return f"${len(self.values)}"

    def texts(self, names: Iterable[str]) -> str:
        """Add a set of texts; those that no database can hold are left out."""
        return f"{self.put(sorted(filter(_can_be, names)))}::text[]"


class Span(NamedTuple):
    """A part of an index: a condition, and the order in which it is read."""

    condition: str
    order: str


def span(fixed: Mapping[str, str], key: Sequence[str], start: Sequence[str], way: str) -> Span:
    """A part of an index, from a place on.

    Args:
        fixed: The first columns of the index, and what each must be.
        key: Its other columns.
        start: What the key must be beyond; nothing where it may be anything.
        way: In which order, `ASC` or `DESC`.
    """
    # An array keeps the planner from leaving the column out of the order as being always the same.
    conditions = [
        f"{column} = {value}" if number else f"{column} = ANY(ARRAY[{value}])"
        for number, (column, value) in enumerate(fixed.items())
    ]
    if start:
        # Compared as a row it is where the scan begins; there is no such comparison to say where it ends.
        conditions.append(f"({', '.join(key)}) {'>' if way.upper() == 'ASC' else '<'} ({', '.join(start)})")
    return Span(" AND ".join(conditions), ", ".join(f"{column} {way}" for column in (*[*fixed][:1], *key)))


def to_true_job(row: rows.Row) -> JobRecord:
    """The job in a row of `WHOLE` or `BARE`."""
    job = rows.to_job(row)
    return job if row[13] is None else decide.on_take(job, row[13])


def beyond(text: str) -> str:
    """A text that a database can hold, and that stands to all identifiers as another one does."""
    return text if _can_be(text) else text.partition("\0")[0] + "\1"


def named(q: Question, selection: Selection) -> str:
    """A condition on the queue and the type of a job."""
    wanted = {"queue": selection.queues, "type": selection.types}
    return "".join(f" AND {column} = ANY({q.texts(names)})" for column, names in wanted.items() if names is not None)


def conditions(q: Question, selection: Selection, now: int) -> str:
    """What must hold for each row of `jobs`: it is not expired, and selected."""
    text = f"(purge_at IS NULL OR purge_at > {q.put(now)})" + named(q, selection)
    if selection.ids is not None:
        text += f" AND id = ANY({q.texts(selection.ids)})"
    if selection.budgets is not None:
        drawn = q.texts(selection.budgets)
        text += f" AND EXISTS (SELECT FROM zizq.draws AS d WHERE d.id = jobs.id AND d.budget = ANY({drawn}))"
    if selection.statuses is not None:
        text += f" AND {_in_status(q, selection.statuses)}"
    for name, most in _MOST.items():
        bounds = getattr(selection, name)
        if bounds is not None:
            text += f" AND {name} BETWEEN {q.put(min(bounds.low, most))} AND {q.put(min(bounds.high, most))}"
    return text


def stored(statuses: Iterable[Status]) -> list[int]:
    """How statuses are stored."""
    return sorted({rows.STATUS[status] for status in statuses})


def tells_flying(statuses: frozenset[Status] | None) -> bool:
    """Whether it matters which jobs are in flight: one of the two that are stored alike is wanted."""
    return statuses is not None and (Status.READY in statuses) != (Status.IN_FLIGHT in statuses)


def _in_status(q: Question, statuses: frozenset[Status]) -> str:
    text = f"status = ANY({q.put(stored(statuses))}::smallint[])"
    if not tells_flying(statuses):
        return text
    flying = f"id {'NOT IN' if Status.READY in statuses else 'IN'} ({FLYING})"
    return f"{text} AND {flying}" if len(statuses) == 1 else f"{text} AND (status <> {_READY} OR {flying})"


def _can_be(text: str) -> bool:
    return "\0" not in text
