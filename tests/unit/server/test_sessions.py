"""Sessions of the dashboard."""

from __future__ import annotations

from itertools import count

from zizq.server.access import Caller, Grant
from zizq.server.dashboard.sessions import LASTS_S, MOST, Sessions
from zizq.testing.clock import ManualClock
from zizq.wire.operations import Scope

CALLER = Caller(Grant(id="a", name="a", scopes=(Scope.READ,), created_at=0, certificate="a"))


def sessions(clock: ManualClock | None = None) -> Sessions:
    numbers = count(1)
    return Sessions(clock or ManualClock(), lambda size: next(numbers).to_bytes(size))


def test_a_session_is_found_by_its_identifier_until_it_ends() -> None:
    known = sessions()
    one, other = known.begin(CALLER), known.begin(CALLER)
    assert known.find(one) is CALLER
    known.end(one)
    known.end(one)
    assert known.find(one) is None
    assert known.find(other) is CALLER


def test_a_session_is_over_after_its_time() -> None:
    clock = ManualClock()
    known = sessions(clock)
    session = known.begin(CALLER)
    clock.advance(LASTS_S * 1000 - 1)
    assert known.find(session) is CALLER
    clock.advance(1)
    assert known.find(session) is None


def test_there_are_only_so_many_and_the_oldest_goes_first() -> None:
    known = sessions()
    first = known.begin(CALLER)
    rest = [known.begin(CALLER) for _ in range(MOST)]
    assert known.find(first) is None
    assert all(known.find(one) is CALLER for one in rest)


def test_the_token_of_a_form_is_for_one_holder_and_one_process() -> None:
    known, other = sessions(), Sessions(ManualClock(), lambda size: b"x" * size)
    token = known.form_token("a")
    assert known.is_form_token(token, "a")
    assert not known.is_form_token(token, "b")
    assert not other.is_form_token(token, "a")
    assert not known.is_form_token("", "a")
