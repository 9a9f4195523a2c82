"""Lines that fit, columns that are left out, and the words in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unit.tui.recorded import NOW_AT, job
from zizq.tui.details import MOST_TEXT, block, job_lines
from zizq.tui.grid import Column, Row, fitting, table
from zizq.tui.lines import Span, cells, cut, fit, padded, plain, wrapped
from zizq.tui.tables import age, bar, rate, span

COLUMNS = (Column("A", 1, 5, grows=True), Column("B", 2, 5), Column("C", 0, 5, grows=True), Column("D", 3, 5))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@pytest.mark.parametrize(("width", "shown"), [(26, [0, 1, 2, 3]), (25, [0, 1, 2]), (18, [0, 2]), (5, [2]), (4, [])])
def test_the_least_important_column_is_left_out_first(width: int, shown: list[int]) -> None:
    assert [number for number, _ in fitting(COLUMNS, [], width)] == shown


def test_columns_grow_to_what_their_texts_need_and_share_what_there_is() -> None:
    rows = [Row("1", ("a" * 9, "b" * 50, "c" * 30, ""))]
    assert fitting(COLUMNS, rows, 100) == [(0, 9), (1, 5), (2, 30), (3, 5)]
    assert fitting(COLUMNS, rows, 36) == [(0, 5), (1, 5), (2, 15), (3, 5)]


@given(text=TEXTS, width=st.integers(0, 30))
def test_a_text_is_cut_and_padded_to_its_width(text: str, width: int) -> None:
    assert cells(cut(text, width)) <= width
    assert cells(padded(text, width)) == width


def test_wide_letters_take_two_columns_and_accents_none() -> None:
    assert (cells("一覧"), cells("e\u0301")) == (4, 1)
    assert (cut("一覧表", 5), cut("一覧表", 4)) == ("一覧…", "一…")


@given(left=TEXTS, right=TEXTS, width=st.integers(1, 60))
def test_both_ends_fit_a_line(left: str, right: str, width: int) -> None:
    line = fit([Span(left)], [Span(right)], width)
    assert cells(plain(line)) == width
    assert plain(line).startswith(cut(left, width))


@given(texts=st.lists(st.tuples(TEXTS, TEXTS, TEXTS, TEXTS), max_size=4), width=st.integers(1, 90))
def test_rows_are_as_wide_as_the_screen_whatever_is_in_them(texts: list[tuple[str, str, str, str]], width: int) -> None:
    rows = [Row(str(number), each) for number, each in enumerate(texts)]
    lines = table(COLUMNS, rows, "0", width)
    assert {cells(plain(line)) for line in lines} == {width}
    assert all(character.isprintable() for line in lines for character in plain(line))


@given(text=st.text(max_size=200), width=st.integers(4, 40))
def test_long_texts_are_folded_without_loss_or_what_a_terminal_obeys(text: str, width: int) -> None:
    lines = wrapped(text, width, indent=2)
    assert all(cells(line) <= width and line.isprintable() for line in lines)


def test_a_payload_is_shown_in_part_when_it_is_long() -> None:
    lines = block("x" * (MOST_TEXT + 5), 80)
    assert plain(lines[-1]) == "… 5 more characters"
    shown = job_lines(job(1, payload=None), None, None, None, NOW_AT, 60)
    assert [plain(line) for line in shown[-2:]] == ["payload", "null"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (age(0), "0s"),
        (age(-5000), "0s"),
        (age(59_999), "59s"),
        (age(3_600_000), "1h"),
        (span(None), "-"),
        (span(0.4213), "0.421ms"),
        (span(12.5), "12.5ms"),
        (span(1250.0), "1.2s"),
        (span(90_000.0), "1m"),
        (rate(0.0), "0"),
        (rate(0.04), "0.0"),
        (rate(9.96), "10.0"),
        (rate(1234.4), "1,234"),
        (bar(1, 4, 8), "██░░░░░░"),
        (bar(-3, 4, 4), "░░░░"),
        (bar(9, 4, 4), "████"),
        (bar(1, 0, 2), "░░"),
    ],
)
def test_numbers_are_short(text: str, wanted: str) -> None:
    assert text == wanted
