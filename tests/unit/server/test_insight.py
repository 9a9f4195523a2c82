"""What is counted, what is kept of it, and what is shown of lists: the pure parts of insight."""

from __future__ import annotations

import random

import pytest

from zizq.engine.lists import JobList
from zizq.engine.transitions import Cause
from zizq.job import ErrorRecord, JobRecord, Status
from zizq.server.insight.failures import MOST_GROUPS, MOST_IDS, Failures
from zizq.server.insight.history import MINUTES, SECONDS, History
from zizq.server.insight.keeping import Keeping
from zizq.server.insight.listview import ListView, turns
from zizq.server.insight.recorder import MOST_QUEUES, NOTHING, Mark, Recorder, Spread, together
from zizq.store.views import window_in
from zizq.wire.insight import OTHERS, Counts

NOW = 1_790_000_040_000
MINUTE = 60_000


def job(number=0, *, queue="q", status=Status.READY, **fields):
    defaults = {"type": "t", "priority": 5, "ready_at": NOW, "attempts": 0}
    return JobRecord(id=f"{number:025}", queue=queue, status=status, **defaults | fields)


# ── recorder ──


def test_times_are_noted_by_their_bits():
    recorder = Recorder()
    recorder.taken([job(ready_at=NOW - ms) for ms in (0, 1, 2, 3, 1000)], NOW)
    spread = recorder.marks()["q"].wait
    assert [(bits, count) for bits, count in enumerate(spread.counts) if count] == [(0, 1), (1, 1), (2, 2), (10, 1)]
    assert spread.total_ms == 1006


@pytest.mark.parametrize("count", [1, 63, 64, 65, 500, 1001])
def test_of_a_large_batch_the_count_is_exact_and_the_times_are_near(count):
    recorder = Recorder()
    recorder.taken([job(ready_at=NOW - (ms % 100)) for ms in range(count)], NOW)
    spread = recorder.marks()["q"].wait
    assert sum(spread.counts) == count
    assert min(spread.counts) == 0
    if count > 100:
        assert 40 * count < spread.total_ms < 60 * count


def test_a_clock_that_was_set_back_makes_no_time_negative():
    recorder = Recorder()
    recorder.taken([job(ready_at=NOW + 10)], NOW)
    assert recorder.marks()["q"].wait.total_ms == 0


def test_moves_are_counted_by_queue():
    recorder = Recorder()
    recorder.moved(Cause.ENQUEUE, [job(queue="a"), job(queue="b"), job(queue="a")], NOW)
    recorder.moved(Cause.SUCCEED, [job(queue="a", dequeued_at=NOW - 8)], NOW)
    failed = [job(queue="a", status=status, dequeued_at=NOW - 1) for status in (Status.DEAD, Status.SCHEDULED)]
    recorder.moved(Cause.FAIL, failed, NOW)
    recorder.moved(Cause.DELETE, None, NOW)
    a, b = recorder.marks()["a"], recorder.marks()["b"]
    assert (a.enqueued, a.completed, a.retried, a.dead, a.failed) == (2, 1, 1, 1, 2)
    assert (b.enqueued, b.completed) == (1, 0)
    assert (sum(a.run.counts), a.run.total_ms) == (3, 10)


def test_too_many_queues_are_one():
    recorder = Recorder()
    for number in range(MOST_QUEUES + 5):
        recorder.moved(Cause.ENQUEUE, [job(queue=f"q{number}")], NOW)
    marks = recorder.marks()
    assert len(marks) == MOST_QUEUES + 1
    assert marks[OTHERS].enqueued == 5
    assert recorder.name("q0") == "q0"
    assert recorder.name("new") == OTHERS


def test_marks_are_the_same_as_long_as_nothing_happens():
    recorder = Recorder()
    recorder.moved(Cause.ENQUEUE, [job()], NOW)
    marks = recorder.marks()
    assert recorder.marks() is marks
    recorder.moved(Cause.PROMOTE, [job()], NOW)
    assert recorder.marks() is not marks


@pytest.mark.parametrize(
    ("counts", "half", "most"),
    [({0: 4}, 0.5, 0.95), ({1: 1}, 1.5, 1.95), ({3: 2, 10: 2}, 8.0, 972.8), ({}, None, None)],
)
def test_quantiles_lie_inside_the_bits_that_they_fall_on(counts, half, most):
    spread = Spread(tuple(counts.get(bits, 0) for bits in range(64)))
    assert (spread.quantile(0.5), spread.quantile(0.95)) == (half, most)


def test_marks_add_up():
    marks = [Mark(1, 2, 3, 4, Spread((1,) * 64, 5), Spread((0,) * 64, 6)), Mark(10, 20, 30, 40)]
    both = together(marks)
    assert both[:4] == (11, 22, 33, 44)
    assert (both.wait, both.run) == (marks[0].wait, marks[0].run)
    assert together([]) == NOTHING
    assert both.less(marks[1]) == marks[0]


# ── history ──


def test_a_minute_has_what_its_seconds_had():
    history = History()
    for second in range(130):
        history.add(NOW - NOW % MINUTE + second * 1000, Mark(enqueued=second + 1), Counts(ready=second), None)
    seconds, minutes = history.seconds(), history.minutes()
    assert [point.enqueued for point in seconds] == [1] * 130
    assert [(point.at % MINUTE, point.enqueued, point.counts.ready) for point in minutes] == [
        (0, 60, 59), (0, 60, 119), (0, 10, 129),
    ]  # fmt: skip


def test_a_history_is_bounded():
    history = History()
    for second in range(SECONDS + 5):
        history.add(NOW + second * 1000, NOTHING, Counts(), None)
    assert len(history.seconds()) == SECONDS
    for minute in range(MINUTES + 5):
        history.add(NOW + (minute + 10) * MINUTE, NOTHING, Counts(), None)
    assert len(history.minutes()) == MINUTES


def test_a_history_goes_on_in_the_minute_in_which_the_server_was_restarted():
    history = History()
    history.add(NOW, Mark(enqueued=3), Counts(ready=3), None)
    again = History(history.minutes())
    again.add(NOW + 1000, Mark(enqueued=2), Counts(ready=5), None)
    [point] = again.minutes()
    assert (point.enqueued, point.counts.ready) == (5, 5)


def test_a_clock_that_was_set_back_leaves_no_point_in_the_future():
    history = History()
    for at in (NOW, NOW + 5 * MINUTE, NOW + 10 * MINUTE, NOW + 2 * MINUTE):
        history.add(at, NOTHING, Counts(), None)
    assert [point.at for point in history.minutes()] == [NOW // MINUTE * MINUTE, (NOW + 2 * MINUTE) // MINUTE * MINUTE]


async def test_a_history_is_kept_in_a_file(tmp_path):
    history = History()
    history.add(NOW, Mark(enqueued=3), Counts(ready=3), 7)
    keeping = Keeping(tmp_path / "h")
    assert await keeping.load() == []
    await keeping.save(history.minutes())
    assert await keeping.load() == history.minutes()
    assert [path.name for path in tmp_path.iterdir()] == ["h"]


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\x81\xa6format\x01", b"\x82\xa6format\x02\xa7minutes\x90", b"\0" * 5_000_000]
)
async def test_a_file_that_is_none_of_ours_is_passed_over(tmp_path, content):
    path = tmp_path / "h"
    path.write_bytes(content)
    assert await Keeping(path).load() == []


async def test_a_file_that_cannot_be_written_ends_nothing(tmp_path, caplog):
    keeping = Keeping(tmp_path / "nowhere" / "h")
    await keeping.save([])
    await keeping.save([])
    assert len(caplog.records) == 1


# ── failures ──


def error(message="boom", at=NOW, error_type="E"):
    return ErrorRecord(attempt=1, message=message, error_type=error_type, dequeued_at=at, failed_at=at)


def test_messages_that_differ_in_numbers_are_one_group():
    failures = Failures()
    for number in range(3):
        failures.note(job(number, status=Status.DEAD), error(f"user {number} of 7\nrest", NOW + number))
    failures.note(job(9), error("other"))
    other, users = failures.groups()
    assert (users.message, users.count, users.dead, users.first_at, users.last_at) == (
        "user 2 of 7",
        3,
        3,
        NOW,
        NOW + 2,
    )
    assert users.ids == [job(n).id for n in (2, 1, 0)]
    assert (other.count, other.dead) == (1, 0)


def test_type_and_error_type_part_groups():
    failures = Failures()
    failures.note(job(type="a"), error())
    failures.note(job(type="b"), error())
    failures.note(job(type="b"), error(error_type=None))
    assert len(failures.groups()) == 3


def test_groups_are_bounded_and_the_one_not_seen_for_longest_goes():
    failures = Failures()
    for number in range(MOST_GROUPS):
        failures.note(job(type=f"t{number}"), error())
    failures.note(job(type="t0"), error())
    failures.note(job(type="new"), error("x" * 10_000))
    groups = failures.groups()
    assert len(groups) == MOST_GROUPS
    assert [group.type for group in groups[:2]] == ["new", "t0"]
    assert "t1" not in [group.type for group in groups]
    assert (len(groups[0].message), groups[0].message[-1]) == (200, "…")
    for number in range(50):
        failures.note(job(number, type="new"), error("x" * 10_000))
    assert len(failures.groups()[0].ids) == MOST_IDS


# ── windows ──


def view_of(jobs, of, place, limit):
    view = ListView(of, limit)
    view.keeps_tail = place > len(jobs)
    view.load(window_in(jobs, place, limit))
    return view


@pytest.mark.parametrize("of", [JobList.READY, JobList.DEAD])
@pytest.mark.parametrize("seed", range(40))
def test_a_window_stays_true_whatever_comes_and_goes(seed, of):
    dice = random.Random(seed)
    status = of.status
    jobs = [job(n, priority=dice.randrange(3), status=status) for n in range(0, 60, 2)]

    def in_order():
        return sorted(jobs, key=lambda one: (one.priority if of is JobList.READY else 0, one.id), reverse=of.descends)

    view = view_of(in_order(), of, dice.choice([0, 0, 7, 20, 1000]), dice.choice([1, 5, 12, 100]))
    shown = {one.id for one in view.jobs}
    for _ in range(200):
        if dice.random() < 0.5 or not jobs:
            new = job(dice.randrange(1, 10**6), priority=dice.randrange(3), status=status)
            if new in jobs:
                continue
            jobs.append(new)
            changes = view.come(new)
        else:
            gone = jobs.pop(dice.randrange(len(jobs)))
            changes = view.go(gone)
        for turn in changes:
            (shown.add if turn.came else shown.discard)(turn.job.id)
        order = [one.id for one in in_order()]
        now = [one.id for one in view.jobs]
        assert set(now) == shown
        assert view.total == len(order)
        assert len(now) <= view.limit
        if now:
            assert now == order[view.first : view.first + len(now)]
        if view.is_worn:
            changes = view.reload(window_in(in_order(), 1000 if view.keeps_tail else view.first, view.limit))
            for turn in changes:
                (shown.add if turn.came else shown.discard)(turn.job.id)
            assert not view.is_short


def test_a_window_at_the_head_lets_its_last_job_go_for_a_better_one():
    view = view_of([job(2), job(3), job(4)], JobList.READY, 0, 2)
    assert [(turn.job.id[-1], turn.came) for turn in view.come(job(1))] == [("1", True), ("3", False)]
    assert [(turn.job.id[-1], turn.came) for turn in view.come(job(9))] == []
    assert (view.first, view.total) == (0, 5)


def test_a_window_at_the_end_goes_with_it():
    view = view_of([job(2), job(3), job(4)], JobList.READY, 99, 2)
    assert [(turn.job.id[-1], turn.came) for turn in view.come(job(5))] == [("5", True), ("3", False)]
    assert (view.first, view.total) == (2, 4)


def test_a_job_that_comes_twice_is_there_once():
    view = view_of([job(2)], JobList.READY, 0, 5)
    assert view.come(job(2, priority=5)) == []
    assert view.total == 1


@pytest.mark.parametrize(
    ("cause", "status", "left", "reached"),
    [
        (Cause.ENQUEUE, Status.READY, None, "ready"),
        (Cause.ENQUEUE, Status.SCHEDULED, None, "scheduled"),
        (Cause.PROMOTE, Status.READY, "scheduled", "ready"),
        (Cause.TAKE, Status.IN_FLIGHT, "ready", "in_flight"),
        (Cause.SUCCEED, Status.IN_FLIGHT, "in_flight", None),
        (Cause.SUCCEED, Status.COMPLETED, "in_flight", None),
        (Cause.FAIL, Status.SCHEDULED, "in_flight", "scheduled"),
        (Cause.FAIL, Status.DEAD, "in_flight", None),
        (Cause.RELEASE, Status.READY, "in_flight", "ready"),
        (Cause.RETRY, Status.READY, "dead", "ready"),
        (Cause.DELETE, Status.SCHEDULED, "scheduled", None),
        (Cause.DELETE, Status.COMPLETED, None, None),
        (Cause.REAP, Status.DEAD, "dead", None),
    ],
)
def test_each_move_leaves_a_list_and_reaches_one(cause, status, left, reached):
    moved = job(1, status=status, dequeued_at=NOW)
    views = []
    for of in JobList:
        view = ListView(of, 5)
        if of.value == left:
            view.come(moved)
        views.append(view)
    changes = [(turn.of.value, turn.came) for turn in turns(views, cause, moved)]
    assert changes == [(of, came) for of, came in ((left, False), (reached, True)) if of is not None]
