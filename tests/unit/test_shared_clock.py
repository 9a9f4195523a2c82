"""The clock of a database, as a machine with a wrong one knows it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zizq.clock import SharedClock
from zizq.testing.clock import ManualClock

NOW = 1_790_000_000_000
MINUTE = 60_000


def ask(shared: SharedClock, own: ManualClock, there_ms: float, way_ms: int = 0, back_ms: int = 0) -> None:
    """Ask a database whose clock is that far ahead of the manual clock, where it was right at first."""
    asked = own.mono_s()
    own.advance(way_ms)
    told = NOW + own.mono_s() * 1000 + there_ms
    own.advance(back_ms)
    shared.heard(asked, own.mono_s(), told)


def test_it_is_the_machines_own_before_it_hears_another() -> None:
    own = ManualClock(NOW)
    assert SharedClock(own).wall_ms() == NOW


def test_machines_whose_clocks_are_a_minute_apart_agree() -> None:
    owns = ManualClock(NOW - MINUTE), ManualClock(NOW + MINUTE)
    clocks = [SharedClock(own) for own in owns]
    for clock, own in zip(clocks, owns, strict=True):
        ask(clock, own, 5)
        own.advance(1000)
    assert [clock.wall_ms() for clock in clocks] == [NOW + 1005] * 2
    assert [clock.own_lead_ms() for clock in clocks] == [-MINUTE - 5, MINUTE - 5]


def test_setting_the_machines_clock_changes_nothing() -> None:
    own = ManualClock(NOW)
    shared = SharedClock(own)
    ask(shared, own, 0)
    own.set_wall(NOW - 3_600_000)
    assert shared.wall_ms() == NOW


def test_a_slow_answer_does_not_disturb_what_is_known() -> None:
    own = ManualClock(NOW)
    shared = SharedClock(own)
    ask(shared, own, 0)
    ask(shared, own, 0, way_ms=0, back_ms=900)
    assert shared.wall_ms() == NOW + 900


def test_a_clock_that_was_set_there_is_followed() -> None:
    own = ManualClock(NOW)
    shared = SharedClock(own)
    ask(shared, own, 0)
    ask(shared, own, MINUTE, way_ms=1, back_ms=1)
    assert shared.wall_ms() == pytest.approx(NOW + MINUTE + 2, abs=1)
    ask(shared, own, -MINUTE, way_ms=1, back_ms=1)
    assert shared.wall_ms() == pytest.approx(NOW - MINUTE + 4, abs=1)


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1))
def test_it_is_as_right_as_the_quickest_answer(ways: list[tuple[int, int]]) -> None:
    own = ManualClock(NOW)
    shared = SharedClock(own)
    for way, back in ways:
        ask(shared, own, 0, way, back)
    there = NOW + own.mono_s() * 1000
    assert abs(shared.wall_ms() - there) <= min(way + back for way, back in ways) + 1
