"""Identifiers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zizq.ids import IdGenerator, created_at, encode, is_id
from zizq.testing.clock import LoadedDice, ManualClock

NOW = 1_790_000_000_000


@given(st.integers(0, 2**128 - 1))
def test_the_text_is_the_number_in_base_36_of_fixed_width(number: int) -> None:
    text = encode(number)
    assert int(text, 36) == number
    assert is_id(text)


@given(st.lists(st.integers(-5000, 5000), max_size=50))
def test_identifiers_grow_whatever_the_clock_does(steps: list[int]) -> None:
    clock = ManualClock(NOW)
    next_id = IdGenerator(clock, LoadedDice(bits=7)).next
    ids = [next_id()]
    for step in steps:
        clock.set_wall(clock.wall_ms() + step)
        ids += [next_id(), next_id()]
    assert ids == sorted(set(ids))


def test_full_counters_borrow_the_next_millisecond() -> None:
    generator = IdGenerator(ManualClock(NOW), LoadedDice(bits=2**24 - 1))
    first, second = generator.next(), generator.next()
    assert first < second
    assert created_at(second) == NOW + 1


def test_an_identifier_tells_when_it_was_made() -> None:
    assert created_at(IdGenerator(ManualClock(NOW), LoadedDice()).next()) == NOW


@pytest.mark.parametrize("text", ["", "x", "A" * 25, "é" * 25, "-" * 25, "0" * 24, "0" * 26])
def test_other_texts_are_no_identifiers(text: str) -> None:
    assert not is_id(text)
    with pytest.raises(ValueError, match="not a job id"):
        created_at(text)
