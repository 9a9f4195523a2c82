"""The tokens of a budget: what can be taken, from when on, and what an edit makes of it."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zizq.budget import Budget, Strategy, StrategyType
from zizq.engine.bucket import Bucket, BucketState
from zizq.policy import MAX_MILLIS

NOW = 1000


def rate(allocation: int, duration_ms: int, burst: int | None = None) -> Budget:
    return Budget("k", allocation, Strategy(StrategyType.TIME_BASED, duration_ms, burst), 0, 0)


def at_once(allocation: int) -> Budget:
    return Budget("k", allocation, Strategy(StrategyType.WHILE_IN_FLIGHT), 0, 0)


def limits_rate(budget: Budget) -> bool:
    return budget.strategy.type is StrategyType.TIME_BASED


amounts = st.integers(1, 12)
rates = st.builds(rate, amounts, st.integers(1, 40), st.none() | amounts)
budgets = rates | st.builds(at_once, amounts)
steps = st.integers(0, 30)


class Slow:
    """A bucket of time_based tokens that goes from millisecond to millisecond, with fractions."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.level = Fraction(budget.capacity)
        self.at = NOW

    def tokens(self, now: int) -> int:
        while self.at < now:
            self.at += 1
            drip = Fraction(self.budget.allocation, self.budget.strategy.duration_ms)
            self.level = min(Fraction(self.budget.capacity), self.level + drip)
        return floor(self.level)

    def take(self, cost: int) -> None:
        self.level -= cost

    def refund(self, cost: int) -> None:
        self.level = min(Fraction(self.budget.capacity), self.level + cost)

    def change(self, budget: Budget) -> None:
        self.level += budget.capacity - self.budget.capacity
        if budget.strategy.duration_ms != self.budget.strategy.duration_ms:
            self.level = Fraction(floor(self.level))
        self.budget = budget


# ── time_based ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("burst", [None, 2, 9])
def test_a_rate_starts_full_and_never_holds_more(burst: int | None) -> None:
    bucket = Bucket(budget := rate(5, 10, burst), NOW)
    assert bucket.tokens(NOW) == bucket.tokens(NOW + 1000) == budget.capacity
    assert bucket.affords(budget.capacity, NOW)
    bucket.take(1, NOW)
    assert not bucket.affords(budget.capacity, NOW)


def test_tokens_drip_and_the_fraction_is_carried() -> None:
    bucket = Bucket(rate(3, 10), NOW)
    bucket.take(3, NOW)
    assert [bucket.tokens(NOW + ms) for ms in (3, 4, 6, 7, 9, 10, 11)] == [0, 1, 1, 2, 2, 3, 3]


def test_a_full_bucket_drops_the_fraction() -> None:
    bucket = Bucket(rate(3, 10), NOW)
    bucket.take(1, NOW)
    # 6 ms bring 1.8 tokens, of which one has room.
    bucket.take(1, NOW + 6)
    assert [bucket.tokens(NOW + ms) for ms in (9, 10)] == [2, 3]


def test_a_clock_that_goes_back_stalls_the_drip() -> None:
    bucket = Bucket(rate(1, 10), NOW)
    bucket.take(1, NOW)
    assert bucket.affordable_at(1, NOW - 500) == NOW + 10
    assert [bucket.tokens(NOW + ms) for ms in (5, -500, 9, 10)] == [0, 0, 0, 1]


def test_a_job_that_ends_brings_nothing_back_to_a_rate() -> None:
    bucket = Bucket(rate(5, 10), NOW)
    bucket.take(4, NOW)
    bucket.give_back(4)
    assert bucket.tokens(NOW) == 1


def test_a_void_claim_is_refunded_up_to_the_capacity() -> None:
    bucket = Bucket(rate(5, 10), NOW)
    bucket.take(4, NOW)
    # 5 ms bring 2.5 tokens; with the refund the bucket is full, and the half is gone.
    assert bucket.tokens(NOW + 5) == 3
    bucket.refund(4)
    assert bucket.state(NOW + 5) == BucketState(tokens=5, remainder=0, at=NOW + 5)


def test_a_cost_above_the_capacity_takes_a_full_bucket_and_leaves_a_debt() -> None:
    bucket = Bucket(rate(5, 10), NOW)
    bucket.take(1, NOW)
    assert not bucket.affords(7, NOW)
    assert bucket.affordable_at(7, NOW) == NOW + 2
    bucket.take(7, NOW + 2)
    assert bucket.tokens(NOW + 2) == -2
    assert bucket.affordable_at(1, NOW + 2) == NOW + 8


def test_an_instant_past_all_instants_is_the_last_one() -> None:
    bucket = Bucket(rate(1, 2**64 - 1), NOW)
    bucket.take(1, NOW)
    assert bucket.affordable_at(1, NOW) == MAX_MILLIS


moves = st.one_of(
    st.tuples(st.just("step"), st.integers(-10, 30)),
    st.tuples(st.sampled_from(("take", "refund")), amounts),
    st.tuples(st.just("change"), rates),
)


@given(rates, st.lists(moves, max_size=30))
def test_a_rate_is_as_a_slow_one_that_counts_each_millisecond(budget: Budget, course: list[tuple[str, object]]) -> None:
    bucket, slow, now = Bucket(budget, NOW), Slow(budget), NOW
    for name, value in course:
        if name == "step":
            now += value
            continue
        slow.tokens(now)
        if name == "take" and bucket.affords(value, now):
            bucket.take(value, now)
            slow.take(value)
        elif name == "refund":
            bucket.refund(value)
            slow.refund(value)
        elif name == "change":
            bucket.change(value, now)
            slow.change(value)
        assert bucket.tokens(now) == slow.tokens(now)


@given(rates, st.lists(st.tuples(steps, amounts), max_size=25))
def test_no_window_lets_through_more_than_its_share(budget: Budget, wishes: list[tuple[int, int]]) -> None:
    bucket, now = Bucket(budget, NOW), NOW
    taken: list[tuple[int, int]] = []
    for step, cost in wishes:
        now += step
        if cost <= budget.capacity and bucket.affords(cost, now):
            bucket.take(cost, now)
            taken.append((now, cost))
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            elapsed = taken[last][0] - taken[first][0]
            share = budget.capacity + Fraction(budget.allocation * elapsed, budget.strategy.duration_ms)
            assert sum(cost for _, cost in taken[first : last + 1]) <= share


@given(budgets, st.lists(st.tuples(steps, amounts), max_size=10), amounts, steps)
def test_a_cost_is_paid_as_often_as_one_payment_after_the_other(
    budget: Budget, wishes: list[tuple[int, int]], cost: int, step: int
) -> None:
    bucket, now = Bucket(budget, NOW), NOW
    for wait, some in wishes:
        now += wait
        bucket.take(some, now)
        if wait % 2:
            bucket.give_back(some)
    times, paid = bucket.times(cost, now := now + step), 0
    while bucket.affords(cost, now):
        bucket.take(cost, now)
        paid += 1
    assert times == paid


@given(rates, st.lists(st.tuples(steps, amounts), max_size=10), amounts, steps)
def test_the_instant_from_which_a_cost_is_affordable_is_exact(
    budget: Budget, wishes: list[tuple[int, int]], cost: int, step: int
) -> None:
    bucket, now = Bucket(budget, NOW), NOW
    for wait, some in wishes:
        now += wait
        bucket.take(some, now)
    at = bucket.affordable_at(cost, now := now + step)
    assert at is not None
    if at == now:
        assert bucket.affords(cost, at)
    else:
        assert not bucket.affords(cost, at - 1)
        assert bucket.affords(cost, at)


# ── while_in_flight ──────────────────────────────────────────────────────────────────────────────────


def test_tokens_are_held_until_the_job_leaves() -> None:
    bucket = Bucket(at_once(5), NOW)
    bucket.take(4, NOW)
    assert bucket.tokens(NOW + 10**9) == 1
    bucket.give_back(4)
    assert bucket.tokens(NOW) == 5


def test_only_a_job_that_leaves_makes_room() -> None:
    bucket = Bucket(at_once(5), NOW)
    bucket.take(4, NOW)
    assert [bucket.affordable_at(cost, NOW) for cost in (1, 2, 6)] == [NOW, None, None]


def test_a_void_claim_frees_what_it_held() -> None:
    bucket = Bucket(at_once(5), NOW)
    bucket.take(4, NOW)
    bucket.refund(4)
    assert bucket.state(NOW) == BucketState(tokens=5, remainder=0, at=NOW)


def test_what_was_never_taken_makes_no_room() -> None:
    bucket = Bucket(at_once(5), NOW)
    bucket.give_back(3)
    bucket.take(1, NOW)
    assert bucket.tokens(NOW) == 4


# ── both ─────────────────────────────────────────────────────────────────────────────────────────────


@given(budgets, st.lists(st.tuples(steps, amounts), max_size=10), amounts)
def test_a_refund_leaves_no_trace(budget: Budget, wishes: list[tuple[int, int]], cost: int) -> None:
    bucket, now = Bucket(budget, NOW), NOW
    for wait, some in wishes:
        now += wait
        bucket.take(some, now)
    before = bucket.state(now)
    bucket.take(cost, now)
    assert bucket.tokens(now) == before.tokens - cost
    bucket.refund(cost)
    assert bucket.state(now) == before


# ── edits ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("before", "after", "tokens"),
    [
        (at_once(5), at_once(9), 5),
        (at_once(5), at_once(4), 0),
        (at_once(5), at_once(2), -2),
        (rate(5, 10), rate(9, 10), 5),
        (rate(5, 10), rate(4, 10), 0),
        (rate(5, 10), rate(2, 10), -2),
        (rate(5, 10), rate(5, 10, 9), 5),
        (rate(5, 10, 5), rate(9, 10, 5), 1),
        (rate(5, 10), rate(5, 99), 1),
        (rate(9, 10), at_once(7), 3),
        (rate(5, 10), at_once(2), -2),
        (at_once(9), rate(7, 10), 5),
        (at_once(9), rate(3, 10), 3),
    ],
)
def test_an_edit_takes_effect_at_once(before: Budget, after: Budget, tokens: int) -> None:
    bucket = Bucket(before, NOW)
    bucket.take(4, NOW)
    bucket.change(after, NOW)
    assert bucket.tokens(NOW) == tokens


def test_a_debt_is_worked_off_as_jobs_finish() -> None:
    bucket = Bucket(at_once(5), NOW)
    bucket.take(2, NOW)
    bucket.take(3, NOW)
    bucket.change(at_once(3), NOW)
    bucket.give_back(2)
    assert not bucket.affords(1, NOW)
    bucket.give_back(3)
    assert bucket.tokens(NOW) == 3


def test_a_debt_is_worked_off_with_time() -> None:
    bucket = Bucket(rate(5, 10), NOW)
    bucket.take(5, NOW)
    bucket.change(rate(2, 10), NOW)
    assert bucket.affordable_at(1, NOW) == NOW + 20


def test_time_before_an_edit_counts_at_the_old_rate() -> None:
    bucket = Bucket(rate(5, 10), NOW)
    bucket.take(5, NOW)
    bucket.change(rate(5, 1000), NOW + 6)
    assert bucket.tokens(NOW + 6) == 3


@pytest.mark.parametrize(("after", "remainder"), [(rate(7, 10), 5), (rate(5, 11), 0), (at_once(5), 0)])
def test_only_a_new_allocation_keeps_the_fraction(after: Budget, remainder: int) -> None:
    bucket = Bucket(rate(5, 10), NOW)
    bucket.take(5, NOW)
    # 3 ms bring 1.5 tokens.
    bucket.change(after, NOW + 3)
    assert bucket.state(NOW + 3).remainder == remainder


def test_time_spent_while_in_flight_counts_for_no_rate() -> None:
    bucket = Bucket(at_once(5), NOW)
    bucket.take(5, NOW)
    bucket.tokens(NOW + 500)
    bucket.change(rate(5, 10), NOW + 1000)
    assert bucket.tokens(NOW + 1000) == 0
    assert bucket.tokens(NOW + 1010) == 5


def test_what_is_in_flight_counts_from_the_change_to_while_in_flight() -> None:
    bucket = Bucket(rate(5, 10), NOW)
    bucket.take(2, NOW)
    bucket.give_back(2)
    bucket.take(3, NOW)
    bucket.change(at_once(5), NOW)
    assert bucket.tokens(NOW) == 2
    bucket.give_back(3)
    assert bucket.tokens(NOW) == 5


edits = st.one_of(
    st.tuples(st.just("step"), st.integers(-10, 30)),
    st.tuples(st.just("take"), amounts),
    st.tuples(st.sampled_from(("give_back", "refund")), st.integers(0, 99)),
    st.tuples(st.just("change"), budgets),
)


def follow(bucket: Bucket, course: list[tuple[str, object]], now: int, held: list[int]) -> int:
    """Go through a course, checking all that must always be so; returns the time at its end."""
    for name, value in course:
        if name == "step":
            now += value
        elif name == "take":
            if bucket.affords(value, now):
                bucket.take(value, now)
                held.append(value)
        elif name == "change":
            bucket.change(value, now)
        elif held:
            getattr(bucket, name)(held.pop(value % len(held)))
        tokens, capacity = bucket.tokens(now), bucket.budget.capacity
        assert tokens <= capacity
        assert limits_rate(bucket.budget) or tokens == capacity - sum(held)
    return now


@given(budgets, st.lists(edits, max_size=30))
def test_no_course_of_edits_breaks_a_bucket(budget: Budget, course: list[tuple[str, object]]) -> None:
    bucket, held = Bucket(budget, NOW), []
    now = follow(bucket, course, NOW, held)
    state = bucket.state(now)
    assert state.held == sum(held)
    assert 0 <= state.remainder < (bucket.budget.strategy.duration_ms or 1)
    assert state.tokens < bucket.budget.capacity or state.remainder == 0


# ── kept ─────────────────────────────────────────────────────────────────────────────────────────────


@given(budgets, st.lists(edits, max_size=15), st.lists(edits, max_size=15))
def test_a_restored_bucket_goes_on_as_the_one_it_was(
    budget: Budget, first: list[tuple[str, object]], then: list[tuple[str, object]]
) -> None:
    bucket, held = Bucket(budget, NOW), []
    now = follow(bucket, first, NOW, held)
    kept = msgspec.json.decode(msgspec.json.encode(bucket.state(now)), type=BucketState)
    restored = Bucket.restored(bucket.budget, kept)
    assert restored.state(now) == bucket.state(now)
    end = follow(bucket, then, now, list(held))
    assert follow(restored, then, now, list(held)) == end
    assert restored.state(end) == bucket.state(end)


@pytest.mark.parametrize(
    ("budget", "tokens"),
    [(rate(3, 10), 3), (rate(9, 10), 4), (rate(9, 1), 4), (at_once(9), 7), (at_once(1), -1)],
)
def test_a_bucket_is_restored_into_what_its_budget_became(budget: Budget, tokens: int) -> None:
    kept = BucketState(tokens=4, remainder=9, at=NOW, held=2)
    bucket = Bucket.restored(budget, kept)
    assert bucket.tokens(NOW) == tokens
    assert bucket.state(NOW).remainder == (9 if budget == rate(9, 10) else 0)


def test_a_small_state_stays_small() -> None:
    assert msgspec.json.encode(Bucket(rate(3, 10), NOW).state(NOW)) == b'{"tokens":3,"remainder":0,"at":1000}'
