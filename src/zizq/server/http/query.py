"""Queries: from their text to what the catalog is asked, and back to the links of a page. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import quote

from zizq.engine.changes import Change
from zizq.engine.selection import Range, Selection
from zizq.errors import BadRequest, Unprocessable
from zizq.job import MAX_PRIORITY, Status
from zizq.policy import MAX_MILLIS
from zizq.store.base import Order
from zizq.wire.messages import MAX_U32, MAX_U64, Pages
from zizq.wire.operations import DEFAULT_LIMIT, FILTERS, JOB_ID, MAX_LIMIT

Cursor = TypeVar("Cursor")
_LISTS = [parameter.name for parameter in FILTERS if parameter.is_list]


class Filter(NamedTuple):
    """Which jobs a call is about: conditions, and a jq expression on the payload or None."""

    selection: Selection
    expression: str | None

    def text(self) -> str:
        """The filter as the end of a query; "" where it asks for nothing."""
        chosen = self.selection
        parts = {
            # As their lives go, and not by the alphabet.
            "status": None if chosen.statuses is None else _joined(one for one in Status if one in chosen.statuses),
            "queue": None if chosen.queues is None else _joined(sorted(chosen.queues)),
            "type": None if chosen.types is None else _joined(sorted(chosen.types)),
            "id": None if chosen.ids is None else _joined(sorted(chosen.ids)),
            "priority": _range_text(chosen.priority, MAX_PRIORITY),
            "ready_at": _range_text(chosen.ready_at, MAX_MILLIS),
            "attempts": _range_text(chosen.attempts, MAX_U32),
            "budgets.key": None if chosen.budgets is None else _joined(sorted(chosen.budgets)),
            "filter": None if self.expression is None else quote(self.expression, safe=""),
        }
        return "".join(f"&{name}={value}" for name, value in parts.items() if value is not None)


@dataclass(frozen=True)
class PageRequest(Generic[Cursor]):
    """Which part of a list a call is about: so many items beyond `after`, in an order."""

    after: Cursor | None
    order: Order
    limit: int

    def pages(self, path: str, cursors: Sequence[Cursor], more: bool, filter_text: str = "") -> Pages:
        """The links of a page (protocol.md#2.6.1).

        Args:
            path: The path of the list.
            cursors: What is on the page.
            more: Whether more follows.
            filter_text: What to add to each query.
        """

        def link(after: Cursor | None, order: Order) -> str:
            start = "" if after is None else f"from={quote(str(after), safe='')}&"
            return f"{path}?{start}order={order}&limit={self.limit}{filter_text}"

        return Pages(
            self_=link(self.after, self.order),
            next=link(cursors[-1], self.order) if cursors and more else None,
            # The other way round: the page before, in reverse.
            prev=link(cursors[0], _OPPOSITE[self.order]) if cursors and self.after is not None else None,
        )


_OPPOSITE: dict[Order, Order] = {"asc": "desc", "desc": "asc"}


def page_request(query: Mapping[str, str], cursor: Callable[[str], Cursor]) -> PageRequest[Cursor]:
    """The part of a list that a query asks for; an empty value is as good as none.

    Raises:
        BadRequest: When a value is malformed.
    """
    after = query.get("from")
    return PageRequest(
        cursor(after) if after else None,
        _order(query.get("order") or "asc"),
        _limit(query.get("limit") or str(DEFAULT_LIMIT)),
    )


def job_filter(query: Mapping[str, str]) -> Filter:
    """The filter of a query (protocol.md#2.6); lists that name nothing ask for nothing.

    Raises:
        BadRequest: When a value is malformed.
    """
    selection = Selection(
        ids=_list(query, "id", _job_id),
        statuses=_list(query, "status", _status),
        queues=_list(query, "queue", str),
        types=_list(query, "type", str),
        priority=_range(query, "priority", MAX_PRIORITY),
        ready_at=_time(_range(query, "ready_at", MAX_U64)),
        attempts=_range(query, "attempts", MAX_U32),
        budgets=_list(query, "budgets.key", str),
    )
    expression = query.get("filter")
    if expression is not None and not expression.strip():
        raise BadRequest("invalid filter: the expression is empty; leave `filter` out to ask for nothing")
    return Filter(selection, expression)


def change_filter(query: Mapping[str, str]) -> Filter:
    """The filter of a query that changes jobs.

    Raises:
        BadRequest: When a value is malformed, or a list names nothing: who means no job must not hit every job
            (protocol.md#13.2).
    """
    for name in _LISTS:
        if name in query and not items(query[name]):
            raise BadRequest(f"invalid query parameters: {name} is empty; leave it out to mean all jobs")
    return job_filter(query)


def flag(query: Mapping[str, str], name: str) -> bool:
    """Whether a parameter says `true`; one that is empty or absent says `false`.

    Raises:
        BadRequest: When it says neither.
    """
    text = query.get(name) or "false"
    if text not in ("true", "false"):
        raise BadRequest(f"invalid query parameters: {name} {text!r} is neither true nor false")
    return text == "true"


def check_suits(selection: Selection, change: Change, verb: str) -> None:
    """Hold a change of many jobs to statuses that it suits, where the selection names some.

    Raises:
        Unprocessable: When it does not suit one of them.
    """
    for status in Status:
        if status in (selection.statuses or ()) and not change.suits(status):
            raise Unprocessable(f"cannot {verb} jobs in {status} status")


def number(field: str, text: str, most: int, where: str = "query parameters") -> int:
    """The whole number of a parameter.

    Raises:
        BadRequest: When it is none, or above `most`.
    """
    value = whole_number(text, most)
    if value is None:
        raise BadRequest(f"invalid {where}: {field} {text!r} is not a whole number up to {most}")
    return value


def whole_number(text: str, most: int) -> int | None:
    """The number that a parameter says, 0 to `most`; None when it says none."""
    # The length comes first: Python refuses to read thousands of digits.
    if not (text.isascii() and text.isdecimal()) or len(text) > 20 or int(text) > most:
        return None
    return int(text)


# ── reading ──

Item = TypeVar("Item", str, Status)


def items(text: str) -> list[str]:
    """The items of a list with commas between; empty ones are passed over."""
    return [item for item in text.split(",") if item]


def _list(query: Mapping[str, str], name: str, read: Callable[[str], Item]) -> frozenset[Item] | None:
    found = items(query.get(name, ""))
    return frozenset(map(read, found)) if found else None


def _job_id(text: str) -> str:
    if not re.fullmatch(JOB_ID, text):
        raise BadRequest(f'invalid job ID: "{text}" is not 25 characters of 0-9 and a-z')
    return text


def _status(text: str) -> Status:
    try:
        return Status(text)
    except ValueError:
        raise BadRequest(
            f"invalid query parameters: unknown status: {text}, expected one of {', '.join(Status)}"
        ) from None


def _range(query: Mapping[str, str], name: str, most: int) -> Range | None:
    text = query.get(name)
    if not text:
        return None
    first, dots, last = text.partition("..")
    low = whole_number(first, most) if first or not dots else 0
    high = whole_number(last, most) if last else most if dots else low
    if low is None or high is None:
        raise BadRequest(
            f"invalid query parameters: {name} {text!r} is neither a whole number up to {most} nor a range of two,"
            " such as 1..9, 1.. or ..9"
        )
    if low > high:
        raise BadRequest(f"invalid query parameters: {name} {text!r}: range lower bound exceeds upper bound")
    return Range(low, high)


def _time(span: Range | None) -> Range | None:
    """A range of instants; those beyond what is stored stand for the end of time."""
    return span and Range(min(span.low, MAX_MILLIS), min(span.high, MAX_MILLIS))


def _limit(text: str) -> int:
    limit = number("limit", text, 2**16 - 1)
    if not 1 <= limit <= MAX_LIMIT:
        raise BadRequest(f"limit must be between 1 and {MAX_LIMIT}")
    return limit


def _order(text: str) -> Order:
    if text == "asc":
        return "asc"
    if text == "desc":
        return "desc"
    raise BadRequest(f"invalid query parameters: order {text!r} is neither asc nor desc")


# ── writing ──


def _joined(values: Iterable[str]) -> str:
    return ",".join(quote(value, safe="") for value in values)


def _range_text(span: Range | None, most: int) -> str | None:
    if span is None:
        return None
    if span.low == span.high:
        return str(span.low)
    if span.low == 0:
        return f"..{span.high}"
    return f"{span.low}.." if span.high == most else f"{span.low}..{span.high}"
