"""Deadlines of jobs in flight, against the plainest way to keep them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zizq.engine.deadlines import Deadlines

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.sampled_from("abcdef"), st.integers(0, 20)),
        st.tuples(st.just("drop"), st.sampled_from("abcdef"), st.just(0)),
        st.tuples(st.just("pop"), st.sampled_from("123"), st.integers(0, 20)),
    ),
    max_size=300,
)


@given(STEPS)
def test_they_come_in_order_whatever_was_moved_and_dropped(steps: list[tuple[str, str, int]]) -> None:
    deadlines, plain = Deadlines(), dict[str, int]()
    for step, name, at in steps:
        if step == "set":
            deadlines.set(name, at)
            plain[name] = at
        elif step == "drop":
            deadlines.drop(name)
            plain.pop(name, None)
        else:
            due = sorted((when, job) for job, when in plain.items() if when <= at)[: int(name)]
            assert deadlines.pop(at, int(name)) == [job for _, job in due]
            plain = {job: when for job, when in plain.items() if (when, job) not in due}
        assert deadlines.next() == min(plain.values(), default=None)
        assert len(deadlines) == len(plain)


def test_jobs_that_are_done_long_before_their_time_leave_nothing_behind() -> None:
    deadlines = Deadlines()
    for number in range(10_000):
        deadlines.set(str(number), 10**12 + number)
        deadlines.drop(str(number))
    assert len(deadlines._heap) < 100
