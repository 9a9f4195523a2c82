"""The window on the head of the ready jobs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zizq.budget import Budget, Draw, Strategy, StrategyType
from zizq.engine.window import FIRST, LEAST, ReadySet, Window, key_of
from zizq.job import JobRecord, Status


def job(number: int, priority: int = 5, queue: str = "q") -> JobRecord:
    return JobRecord(
        id=f"{number:05}", type="t", queue=queue, priority=priority, status=Status.READY, ready_at=0, attempts=0
    )


def drain(window: Window) -> list[JobRecord]:
    return window.pop(window.count)


jobs = st.lists(st.builds(job, st.integers(0, 99_999), st.integers(0, 4)), max_size=60, unique_by=lambda job: job.id)


@given(jobs, st.integers(1, 40))
def test_a_window_holds_the_first_jobs_in_order_and_knows_where_it_ends(some: list[JobRecord], limit: int) -> None:
    window = Window()
    for one in some:
        window.insert([one], limit)
    ordered = sorted(some, key=key_of)
    edge = window.edge
    held = drain(window)
    assert held == ordered[: len(held)]
    assert len(held) == min(limit, len(some))
    assert edge == (key_of(ordered[limit]) if len(some) > limit else None)


@given(jobs, st.integers(1, 40), st.integers(1, 30))
def test_jobs_that_come_together_are_held_as_those_that_come_one_by_one(
    some: list[JobRecord], limit: int, lot: int
) -> None:
    window = Window()
    for at in range(0, len(some), lot):
        window.insert(some[at : at + lot], limit)
    ordered = sorted(some, key=key_of)
    edge = window.edge
    assert drain(window) == ordered[:limit]
    assert edge == (key_of(ordered[limit]) if len(some) > limit else None)


@given(jobs, st.data())
def test_discarded_jobs_never_come(some: list[JobRecord], data: st.DataObject) -> None:
    gone = data.draw(st.lists(st.sampled_from(some), unique_by=lambda job: job.id)) if some else []
    window = Window()
    window.insert(some, 1000)
    for one in gone:
        window.discard(one.id, one.priority)
    assert window.count == len(some) - len(gone)
    assert drain(window) == sorted([one for one in some if one not in gone], key=key_of)


def test_a_job_from_the_edge_on_is_left_to_the_store() -> None:
    window = Window(edge=(5, "00003"))
    window.insert([job(2), job(3), job(9, priority=4)], 10)
    assert [one.id for one in drain(window)] == ["00009", "00002"]


def test_a_discard_beyond_the_edge_changes_nothing() -> None:
    window = Window(edge=(5, "00003"))
    window.insert([job(1)], 10)
    window.discard("00007", 5)
    assert window.count == 1


def test_an_empty_window_with_an_edge_is_blind() -> None:
    assert Window(FIRST).blind
    assert not Window().blind


def test_a_blind_queue_stops_a_take_over_all_queues() -> None:
    ready = ReadySet()
    ready.insert([job(1, queue="a")])
    ready.open("b")
    assert ready.take((), 5, 0) == []
    assert ready.blind(()) == ["b"]
    assert [one.id for one in ready.take(("a",), 5, 0)] == ["00001"]


def test_a_paused_queue_is_passed_over_even_where_it_is_blind() -> None:
    ready = ReadySet()
    ready.insert([job(1, queue="a"), job(2, queue="b")])
    ready.pause("b", 7)
    ready.open("c")
    ready.pause("c", 8)
    assert ready.blind(()) == []
    assert [one.id for one in ready.take((), 5, 0)] == ["00001"]
    assert ready.take(("b", "c"), 5, 0) == []
    ready.resume("b")
    assert ready.paused == {"c": 8}
    assert [one.id for one in ready.take((), 5, 0)] == ["00002"]
    ready.resume("c")
    assert ready.blind(()) == ["c"]


def test_a_paused_queue_is_not_refilled_ahead_and_its_jobs_are_no_news() -> None:
    ready = ReadySet(total=LEAST, limit=LEAST)
    ready.insert([job(number) for number in range(LEAST + 1)])
    ready.take((), LEAST // 2 + 1, 0)
    ready.pause("q", 7)
    assert ready.low(()) == []
    assert ready.insert([job(99), job(1, queue="a")]) == {"a"}
    ready.resume("q")
    assert ready.low(()) == ["q"]
    assert ready.insert([job(0)]) == {"q"}


def test_a_refill_opens_a_blind_queue() -> None:
    ready = ReadySet()
    ready.open("b")
    ready.refill("b", [job(1, queue="b"), job(2, queue="b")], (5, "00003"))
    assert [one.id for one in ready.take((), 5, 0)] == ["00001", "00002"]
    assert ready.blind(()) == ["b"]
    ready.refill("b", [], None)
    assert (ready.blind(()), ready.edge("b")) == ([], None)


def test_a_take_stops_where_a_queue_runs_dry_with_more_in_the_store() -> None:
    ready = ReadySet(total=LEAST, limit=LEAST)
    ready.insert([job(number, queue="a") for number in range(LEAST + 1)])
    ready.insert([job(99, queue="b")])
    taken = ready.take((), 100, 0)
    assert [one.id for one in taken] == [f"{number:05}" for number in range(LEAST)]
    assert ready.blind(()) == ["a"]


def test_a_half_empty_window_with_more_in_the_store_is_low() -> None:
    ready = ReadySet(total=LEAST, limit=LEAST)
    ready.insert([job(number) for number in range(LEAST + 1)])
    assert ready.low(()) == []
    ready.take((), LEAST // 2 + 1, 0)
    assert ready.low(()) == ["q"]
    assert ready.low(("other",)) == []


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abc")), max_size=50), st.integers(1, 60))
def test_takes_over_queues_are_one_merge(some: list[tuple[int, str]], limit: int) -> None:
    ready = ReadySet()
    made = [job(number, priority, queue) for number, (priority, queue) in enumerate(some)]
    ready.insert(made)
    assert ready.take(("a", "c"), limit, 0) == sorted([one for one in made if one.queue != "b"], key=key_of)[:limit]


def test_windows_share_what_is_held_in_memory() -> None:
    ready = ReadySet(total=64, limit=64)
    for queue in ("a", "b", "c", "d"):
        ready.insert([job(number, queue=queue) for number in range(64)])
    held = [len(ready.take((queue,), 100, 0)) for queue in ("a", "b", "c", "d")]
    # Each was cut when it was filled, to its share among those there were.
    assert held == [64, 32, 21, 16]


BUDGETS = (
    Budget("a", 9, Strategy(StrategyType.WHILE_IN_FLIGHT), 0, 0),
    Budget("b", 7, Strategy(StrategyType.TIME_BASED, 100, 12), 0, 0),
)
DRAWS = ((Draw("a", 1),), (Draw("a", 3),), (Draw("b", 2), Draw("a", 1)), ())
# Of few kinds, so that many that draw the same follow one another.
drawing = st.lists(st.tuples(st.sampled_from("qqqr"), st.sampled_from(DRAWS)), min_size=2, max_size=3).flatmap(
    lambda kinds: st.lists(st.tuples(st.integers(0, 1), st.sampled_from(kinds)), min_size=10, max_size=30)
)


@given(drawing, st.sets(st.integers(0, 39), max_size=9), st.integers(2, 20), st.sampled_from([(), ("q",)]))
def test_jobs_pay_together_as_one_after_the_other(
    some: list[tuple[int, tuple[str, tuple[Draw, ...]]]], gone: set[int], limit: int, queues: tuple[str, ...]
) -> None:
    jobs = [
        job(number, priority, queue).with_(budgets=draws or None)
        for number, (priority, (queue, draws)) in enumerate(some)
    ]
    taken = []
    for most in (limit, 1):
        ready, ids = ReadySet(), []
        for budget in BUDGETS:
            ready.purse.put(budget, 0)
        # The second half comes when some of the first waits already.
        for now, coming in ((0, jobs[::2]), (40, jobs[1::2])):
            ready.insert(coming)
            for one in coming:
                if int(one.id) in gone:
                    ready.discard(one)
            while found := ready.take(queues, most, now):
                ids += [one.id for one in found]
        taken.append(ids)
    assert taken[0] == taken[1]


def ready_to_pay(*some: tuple[int, tuple[Draw, ...]]) -> tuple[ReadySet, list[JobRecord]]:
    """Jobs of one queue and priority, in windows with the budgets."""
    ready, jobs = ReadySet(), [job(number).with_(budgets=draws) for number, draws in some]
    for budget in BUDGETS:
        ready.purse.put(budget, 0)
    ready.insert(jobs)
    return ready, jobs


def test_nobody_pays_for_a_job_that_was_discarded_among_others() -> None:
    ready, jobs = ready_to_pay(*[(number, DRAWS[0]) for number in range(6)], (6, DRAWS[1]), (7, DRAWS[0]))
    ready.discard(jobs[1])
    assert [one.id for one in ready.take((), 20, 0)] == [one.id for one in (jobs[0], *jobs[2:])]
    # Five of one token, one of three and one of one; nine are there.
    ready.insert([job(8).with_(budgets=DRAWS[0])])
    assert ready.take((), 20, 0) == []


def test_jobs_that_pay_together_do_not_pass_one_that_waits_between_them() -> None:
    ready, [one, *_] = ready_to_pay((2, (Draw("b", 12),)), (3, DRAWS[2]))
    assert ready.take((), 20, 0) == [one]
    late = [job(number).with_(budgets=DRAWS[0]) for number in (1, 4, 5)]
    ready.insert(late)
    assert ready.take((), 20, 0) == late[:1]
