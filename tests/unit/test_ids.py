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


@given(st.lists(st.tuples(st.integers(-5000, 5000), st.integers(1, 20)), max_size=20))
def test_lots_of_identifiers_grow_as_single_ones_do(steps: list[tuple[int, int]]) -> None:
    clock = ManualClock(NOW)
    lots, singles = IdGenerator(clock, LoadedDice(bits=7)), IdGenerator(clock, LoadedDice(bits=7))
    ids = []
    for step, count in steps:
        clock.set_wall(clock.wall_ms() + step)
        some = lots.some(count)
        assert some == [singles.next() for _ in range(count)]
        ids += some
    assert ids == sorted(set(ids))


def test_a_lot_may_be_of_none() -> None:
    generator = IdGenerator(ManualClock(NOW), LoadedDice())
    assert generator.some(0) == []
    assert created_at(generator.next()) == NOW


def test_a_lot_goes_on_where_counters_are_full_and_where_digits_carry() -> None:
    ids = IdGenerator(ManualClock(NOW), LoadedDice(bits=2**32 - 1)).some(3)
    assert ids == sorted(set(ids))
    assert [created_at(one) - NOW for one in ids] == [0, 1, 1]
    for bits in (0, 2**23, 2**24 - 60_000):
        # Of so many the digits carry that are kept, whatever they begin with.
        some = IdGenerator(ManualClock(NOW), LoadedDice(bits=bits)).some(60_000)
        wanted = [NOW << 80 | bits << 56 | low << 32 | bits for low in range(bits, bits + 60_000)]
        assert [int(one, 36) for one in some] == wanted


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
