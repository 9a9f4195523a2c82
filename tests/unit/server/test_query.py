"""Queries as text, as what the catalog is asked, and as links."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zizq.engine.selection import EVERYTHING, Range, Selection
from zizq.errors import BadRequest
from zizq.job import Status
from zizq.policy import MAX_MILLIS
from zizq.server.http.exchange import Request
from zizq.server.http.query import Filter, PageRequest, change_filter, items, job_filter, page_request, whole_number
from zizq.wire import operations as op

ID = "0" * 24


def read(text: str) -> dict[str, str]:
    """The parameters of a query, as a handler reads them."""

    async def receive() -> dict[str, object]:
        raise AssertionError("a query has no body")

    scope = {"method": "GET", "path": "/jobs", "query_string": text.encode(), "headers": []}
    return Request(scope, receive, 0).query(op.LIST_JOBS)


def test_a_query_that_asks_for_nothing_selects_everything() -> None:
    for text in ("", "id=&status=,&queue=,,&type=&priority=&ready_at=&attempts=&budgets.key=,"):
        assert job_filter(read(text)) == Filter(EVERYTHING, None)


def test_each_parameter_becomes_a_condition() -> None:
    text = f"id={ID}a,{ID}b&status=dead&queue=a,,b&type=t&priority=1..2&ready_at=5..&attempts=..9&budgets.key=x,y"
    text += "&filter=.a+%3E%201"
    assert job_filter(read(text)) == Filter(
        Selection(
            ids=frozenset((f"{ID}a", f"{ID}b")),
            statuses=frozenset((Status.DEAD,)),
            queues=frozenset("ab"),
            types=frozenset("t"),
            priority=Range(1, 2),
            ready_at=Range(5, MAX_MILLIS),
            attempts=Range(0, 9),
            budgets=frozenset("xy"),
        ),
        ".a > 1",
    )


@pytest.mark.parametrize(
    ("text", "low", "high", "again"),
    [
        ("5", 5, 5, "5"),
        ("5..5", 5, 5, "5"),
        ("0", 0, 0, "0"),
        ("007", 7, 7, "7"),
        ("0..7", 0, 7, "..7"),
        ("..7", 0, 7, "..7"),
        ("7..", 7, 65535, "7.."),
        ("7..65535", 7, 65535, "7.."),
        ("65535..", 65535, 65535, "65535"),
        ("..", 0, 65535, "..65535"),
        ("1..2", 1, 2, "1..2"),
    ],
)
def test_a_range_is_read_and_written_in_its_shortest_form(text: str, low: int, high: int, again: str) -> None:
    found = job_filter({"priority": text})
    assert found.selection.priority == Range(low, high)
    assert found.text() == f"&priority={again}"


@pytest.mark.parametrize(
    "text", ["1..2..3", "...", ".", "1.", " 1", "+1", "1_0", "٣", "²", "1e3", "0x1", "..-1", "9" * 21]
)
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="attempts"):
        job_filter({"attempts": text})


def test_an_empty_list_is_refused_for_a_change_and_only_there() -> None:
    for name in ("id", "status", "queue", "type", "budgets.key"):
        for text in ("", ",", ",,"):
            assert job_filter({name: text}) == Filter(EVERYTHING, None)
            with pytest.raises(BadRequest, match=f"{name} is empty"):
                change_filter({name: text})
    assert change_filter({"priority": "", "queue": "a,"}).selection.queues == {"a"}


names = st.frozensets(st.text(st.characters(exclude_characters=",", codec="utf-8"), min_size=1), min_size=1)
ids = st.frozensets(st.text("0123456789abcdefghijklmnopqrstuvwxyz", min_size=25, max_size=25), min_size=1)


def spans(most: int) -> st.SearchStrategy[Range]:
    return st.tuples(st.integers(0, most), st.integers(0, most)).map(lambda ends: Range(*sorted(ends)))


filters = st.builds(
    Filter,
    st.builds(
        Selection,
        ids=st.none() | ids,
        statuses=st.none() | st.frozensets(st.sampled_from(Status), min_size=1),
        queues=st.none() | names,
        types=st.none() | names,
        priority=st.none() | spans(65535),
        ready_at=st.none() | spans(MAX_MILLIS),
        attempts=st.none() | spans(2**32 - 1),
        budgets=st.none() | names,
    ),
    st.none() | st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip),
)
pages = st.builds(
    PageRequest, st.none() | st.text(st.characters(codec="utf-8"), min_size=1), st.sampled_from(["asc", "desc"]),
    st.integers(1, 2000),
)  # fmt: skip


@settings(deadline=None)
@given(filters, pages)
def test_a_link_says_all_that_was_asked_for(wanted: Filter, page: PageRequest[str]) -> None:
    link = page.pages("/jobs", [], more=False, filter_text=wanted.text()).self_
    assert link.isascii()
    assert link.isprintable()
    assert " " not in link
    parts = urlsplit(link)
    assert (parts.path, parts.fragment) == ("/jobs", "")
    query = read(parts.query)
    assert (job_filter(query), page_request(query, str)) == (wanted, page)


def test_links_lead_on_in_the_same_order_and_back_in_the_other() -> None:
    page = PageRequest("b", "desc", 2)
    links = page.pages("/p", ["a9", "a1"], more=True, filter_text="&x=1")
    assert links.self_ == "/p?from=b&order=desc&limit=2&x=1"
    assert links.next == "/p?from=a1&order=desc&limit=2&x=1"
    assert links.prev == "/p?from=a9&order=asc&limit=2&x=1"


def test_a_first_page_has_nothing_before_it_a_last_one_nothing_after_it_and_an_empty_one_neither() -> None:
    first = PageRequest[int](None, "asc", 2)
    assert first.pages("/p", [1, 2], more=True).prev is None
    assert PageRequest(2, "asc", 2).pages("/p", [3], more=False).next is None
    empty = PageRequest(2, "asc", 2).pages("/p", [], more=True)
    assert (empty.next, empty.prev) == (None, None)


def test_items_of_a_list_are_what_is_between_the_commas() -> None:
    assert items("") == items(",,") == []
    assert items(",a,,b c,") == ["a", "b c"]


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("12", 12), ("13", None), ("", None), ("-1", None), ("1.0", None)]
)
def test_a_whole_number_is_digits_alone(text: str, number: int | None) -> None:
    assert whole_number(text, 12) == number


def test_a_query_of_raw_utf8_is_read_as_if_it_were_encoded() -> None:
    assert read("queue=ü") == read("queue=%C3%BC") == {"queue": "ü"}
    assert read("queue=%FF") == {"queue": "\ufffd"}
