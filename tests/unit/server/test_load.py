"""What the server has in hand, and whom it turns away."""

from __future__ import annotations

import pytest

from zizq.errors import TooMany, TooSlow, Unavailable
from zizq.server.http.load import GRACE_S, PACE, Load
from zizq.testing.clock import ManualClock

A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"


def load(**most: int) -> Load:
    return Load(ManualClock(0), **most)


def test_a_client_may_have_half_of_all_requests() -> None:
    here = load(requests=4)
    here.enter(A)
    here.enter(A)
    with pytest.raises(TooMany, match=r"2 requests of this client wait .* share of --max-requests is 2"):
        here.enter(A)
    here.enter(B)
    here.leave(A, 1, 0)
    here.enter(A)


def test_when_all_requests_together_are_too_many_nobody_gets_in_until_one_leaves() -> None:
    here = load(requests=4)
    for client in (A, A, B, B):
        here.enter(client)
    with pytest.raises(Unavailable, match="4 requests wait for their answer"):
        here.enter(C)
    here.leave(B, 1, 0)
    here.enter(C)


def test_bodies_take_memory_until_the_answer() -> None:
    here = load(memory=1000)
    here.hold(A, 500)
    with pytest.raises(TooMany, match="take 500B, and its share of --max-body-memory is 500B"):
        here.hold(A, 1)
    here.hold(B, 400)
    with pytest.raises(Unavailable, match="bodies on their way take 900B of 1kB"):
        here.hold(C, 101)
    here.leave(A, 0, 500)
    here.hold(C, 101)


def test_streams_are_counted_while_they_are_open() -> None:
    here = load(streams=1)
    with here.stream(), pytest.raises(Unavailable, match="1 take streams are open"), here.stream():
        pass
    with here.stream():
        pass


def test_nothing_is_too_much_where_there_is_no_limit() -> None:
    here = load()
    for _ in range(10_000):
        here.enter(A)
        here.hold(A, 2**40)


def test_a_body_may_take_its_time_and_must_then_come_at_a_pace() -> None:
    clock = ManualClock(0)
    here, began_s = Load(clock), 0.0
    clock.advance(GRACE_S * 1000)
    here.check_pace(began_s, 1)
    clock.advance(10_000)
    here.check_pace(began_s, 10 * PACE)
    with pytest.raises(TooSlow, match="send at least 16KiB a second"):
        here.check_pace(began_s, 10 * PACE - 1)
