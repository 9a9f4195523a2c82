"""Walks through long lists, page by page, without any I/O.

The links of a page are not followed: the next request is made from the last item that came. So no server can send a
client to another place, and names that some servers put into their links unescaped do no harm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from zizq.errors import ConfigError, DecodeError
from zizq.wire.operations import MAX_LIMIT

T = TypeVar("T")
C = TypeVar("C")

Order = Literal["asc", "desc"]
PAGE_SIZE = 500
"""Large enough that the requests do not show, small enough that a page is soon there."""


class Page(NamedTuple, Generic[T]):
    """Some items of a list, and whether more follow."""

    items: list[T]
    more: bool


class Walk(Generic[T, C]):
    """A walk through a list: says which call comes next, and takes the page that it brings.

    Args:
        ask: Makes the call for a page: from after which place, and how many items at most.
        place: The place of an item, by which the list is sorted.
        order: Whether places ascend or descend.
        limit: How many items at most, over all pages; None for all.
        page_size: How many items a page has at most.
        after: Begin beyond this place; None for the beginning.
    """

    def __init__(
        self,
        ask: Callable[[Any, int], C],
        place: Callable[[T], Any],
        order: Order,
        limit: int | None,
        page_size: int = PAGE_SIZE,
        after: Any = None,
    ) -> None:
        self._ask = ask
        self._place = place
        self._order = check_order(order)
        self._left = float("inf") if limit is None else check_limit(limit)
        self._page_size = page_size
        self._after = after
        self._more = True

    def next_call(self) -> C | None:
        """The call for the next page; None at the end."""
        if not self._more or not self._left:
            return None
        return self._ask(self._after, int(min(self._left, self._page_size)))

    def feed(self, page: Page[T]) -> list[T]:
        """The items of the page that came.

        Raises:
            DecodeError: When the page does not lead on, for then the walk would have no end.
        """
        for item in page.items:
            self._advance(self._place(item))
        if page.more and not page.items:
            raise DecodeError(f"the server says that more follow after {self._after!r}, and sends an empty page")
        self._more = page.more
        items = page.items if self._left >= len(page.items) else page.items[: int(self._left)]
        self._left -= len(items)
        return items

    def _advance(self, place: Any) -> None:
        before = self._after
        if before is not None and not (place > before if self._order == "asc" else place < before):
            raise DecodeError(f"the server's page is out of order: {place!r} comes after {before!r}")
        self._after = place


def check_order(order: Order) -> Order:
    """The order, if it is one.

    Raises:
        ConfigError: When it is neither `asc` nor `desc`.
    """
    if order not in ("asc", "desc"):
        raise ConfigError(f"order={order!r} is none: choose 'asc', oldest first, or 'desc'")
    return order


def check_limit(limit: int) -> int:
    """The limit, if it is one.

    Raises:
        ConfigError: When it is no whole number from 0.
    """
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        raise ConfigError(f"limit={limit!r} is none: give a whole number from 0")
    return limit


def check_page_size(size: int) -> int:
    """The size of a page, if it is one.

    Raises:
        ConfigError: When it is no whole number from 1 to 2000.
    """
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= MAX_LIMIT:
        raise ConfigError(f"page_size={size!r} is out of range: give a whole number from 1 to {MAX_LIMIT}")
    return size
