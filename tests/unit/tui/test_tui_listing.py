"""A list of jobs of which a part is here: it stays where the user is, and is true to the server's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from unit.tui.recorded import ID, job, listed, window
from zizq.tui.cursor import Cursor, Edge
from zizq.tui.listing import JobList
from zizq.wire import events
from zizq.wire.events import AdminJob, ListName, ShownWindow

TOTAL = 1_000_000


def ready(first: int = 0, count: int = 200, height: int = 10, total: int = TOTAL) -> JobList:
    """A list of which a window is here."""
    jobs = JobList(ListName.READY)
    jobs.cursor.height = height
    jobs.load(window(ListName.READY, first, count, total))
    return jobs


def on_screen(jobs: JobList) -> int:
    """The line of the screen that the selected row is on."""
    return jobs.cursor.row - jobs.cursor.top


def test_the_selected_job_stays_selected_and_at_its_place_when_others_come_before_it() -> None:
    jobs = ready()
    jobs.cursor.move(50, jobs.keys)
    line = on_screen(jobs)
    for number in range(5):
        jobs.put(job(900 + number, priority=1))
    assert jobs.selected is not None
    assert jobs.selected.id == ID.format(50)
    assert (jobs.position, on_screen(jobs)) == (55, line)


def test_the_selected_job_stays_selected_when_those_before_it_go() -> None:
    jobs = ready()
    jobs.cursor.move(50, jobs.keys)
    line = on_screen(jobs)
    for number in range(20):
        jobs.remove(ID.format(number))
    assert jobs.selected is not None
    assert jobs.selected.id == ID.format(50)
    assert (jobs.position, on_screen(jobs), jobs.total) == (30, line, TOTAL - 20)


def test_a_selected_job_that_goes_gives_way_to_the_next() -> None:
    jobs = ready()
    jobs.cursor.move(50, jobs.keys)
    jobs.remove(ID.format(50))
    assert jobs.selected is not None
    assert jobs.selected.id == ID.format(51)


def test_the_last_job_gives_way_to_the_one_before() -> None:
    jobs = ready(count=3, total=3)
    jobs.cursor.move(2, jobs.keys)
    jobs.remove(ID.format(2))
    assert jobs.selected is not None
    assert jobs.selected.id == ID.format(1)


def test_at_the_head_the_first_job_is_selected_whichever_it_is() -> None:
    jobs = ready()
    jobs.put(job(900, priority=1))
    assert jobs.selected is not None
    assert jobs.selected.id == ID.format(900)


def test_at_the_tail_the_last_job_is_selected_whichever_it_is() -> None:
    jobs = ready(count=3, total=3)
    jobs.cursor.go(Edge.TAIL, jobs.keys)
    jobs.put(job(7))
    assert jobs.selected is not None
    assert jobs.selected.id == ID.format(7)


def test_a_job_that_is_patched_stays_selected_where_it_belongs_now() -> None:
    jobs = ready(count=10, total=10)
    jobs.cursor.move(5, jobs.keys)
    jobs.put(job(5, priority=1))
    assert jobs.selected is not None
    assert (jobs.selected.id, jobs.position, jobs.total) == (ID.format(5), 0, 10)


def test_a_job_beyond_the_window_only_moves_numbers() -> None:
    jobs = ready(first=1000)
    jobs.put(job(1, priority=1))
    assert (jobs.first, len(jobs.jobs), jobs.total) == (1001, 200, TOTAL + 1)
    jobs.put(job(9000))
    assert (jobs.first, len(jobs.jobs), jobs.total) == (1001, 200, TOTAL + 2)
    assert not jobs.is_stale


def test_a_job_that_goes_from_nobody_knows_where_makes_the_list_stale() -> None:
    jobs = ready(first=1000)
    jobs.remove(ID.format(5))
    assert jobs.is_stale


def test_where_the_user_is_a_job_at_the_end_of_what_is_here_may_only_have_fallen_out() -> None:
    jobs = ready()
    jobs.cursor.move(199, jobs.keys)
    jobs.remove(ID.format(199))
    assert jobs.selected is not None
    assert (jobs.selected.id, jobs.is_stale) == (ID.format(199), True)
    assert jobs.anchor == events.Around(ID.format(199))


def test_the_neighbours_of_the_selected_job_are_asked_for() -> None:
    jobs = ready()
    assert jobs.anchor == events.Head()
    jobs.cursor.move(150, jobs.keys)
    assert not jobs.is_short
    jobs.cursor.move(40, jobs.keys)
    assert jobs.is_short
    assert jobs.anchor == events.Around(ID.format(190))
    jobs.cursor.go(Edge.TAIL, jobs.keys)
    assert jobs.anchor == events.Tail()


def test_a_window_that_answers_an_older_question_is_not_taken() -> None:
    jobs = ready()
    jobs.cursor.move(190, jobs.keys)
    jobs.load(window(ListName.READY, 5000, 200, TOTAL))
    assert jobs.selected is not None
    assert jobs.selected.id == ID.format(190)
    assert jobs.is_stale


def test_where_the_selected_job_is_gone_its_place_is_asked_for_and_taken() -> None:
    jobs = ready()
    jobs.cursor.move(150, jobs.keys)
    jobs.load(ShownWindow(items=[], first_position=0, total=TOTAL))
    assert jobs.anchor == events.Offset(50)
    others = [job(2000 + number) for number in range(200)]
    jobs.load(ShownWindow(items=others, first_position=50, total=TOTAL))
    assert jobs.position == 150
    assert not jobs.is_stale


def test_a_list_that_is_empty_now_is_shown_empty() -> None:
    jobs = ready(count=3, total=3)
    jobs.cursor.move(1, jobs.keys)
    for _ in range(2):
        jobs.load(ShownWindow(items=[], first_position=0, total=0))
    assert (jobs.jobs, jobs.selected, jobs.is_short) == ([], None, False)


def test_a_backlog_is_walked_through_without_being_loaded() -> None:
    jobs = ready()
    most = 0
    for _ in range(2000):
        jobs.cursor.move(9, jobs.keys)
        if jobs.is_short:
            anchor = jobs.anchor
            assert isinstance(anchor, events.Around)
            first = max(int(anchor.id[21:]) - 100, 0)
            jobs.load(window(ListName.READY, first, 200, TOTAL))
        most = max(most, len(jobs.jobs))
    assert (jobs.position, most) == (18_000, 200)


def test_a_window_does_not_grow_without_end() -> None:
    jobs = ready()
    for number in range(1000):
        jobs.put(job(5000 + number, priority=1))
    assert len(jobs.jobs) == 400


STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "remove", "move"]), st.integers(0, 60), st.integers(0, 3)), max_size=60
)


@given(steps=STEPS, height=st.integers(1, 12), limit=st.integers(1, 30))
def test_what_is_here_is_always_the_head_of_the_true_list(
    steps: list[tuple[str, int, int]], height: int, limit: int
) -> None:
    truth: dict[str, AdminJob] = {one.id: one for one in map(job, range(20))}
    jobs = JobList(ListName.READY)
    jobs.cursor.height = height
    order = sorted(truth.values(), key=lambda one: (one.priority, one.id))
    jobs.load(ShownWindow(items=order[:limit], first_position=0, total=len(order)))
    for verb, number, priority in steps:
        if verb == "put":
            truth[ID.format(number)] = job(number, priority=priority)
            jobs.put(truth[ID.format(number)])
        elif verb == "remove":
            if truth.pop(ID.format(number), None):
                jobs.remove(ID.format(number))
        else:
            jobs.cursor.move(number - 30, jobs.keys)
        jobs.total = len(truth)
        order = sorted(truth.values(), key=lambda one: (one.priority, one.id))
        while jobs.is_stale:
            # Where the user is a job may only have fallen out of what the server tells of: it is asked once more.
            jobs.load(ShownWindow(items=order[:limit], first_position=0, total=len(order)))
        assert jobs.jobs == order[: len(jobs.jobs)]
        assert not jobs.keys or jobs.cursor.key == jobs.keys[jobs.cursor.row]
        assert 0 <= jobs.cursor.top <= jobs.cursor.row < jobs.cursor.top + height
        assert jobs.is_short or len(jobs.jobs) >= min(len(truth), jobs.cursor.row + height)


def test_lists_have_the_servers_orders() -> None:
    for name in (ListName.IN_FLIGHT, ListName.SCHEDULED):
        jobs = JobList(name)
        jobs.load(ShownWindow(items=[], first_position=0, total=0))
        for number in (3, 1, 2):
            jobs.put(listed(name, number))
        assert jobs.keys == [ID.format(number) for number in (1, 2, 3)]


def test_a_row_keeps_its_line_of_the_screen_when_others_come_before_it() -> None:
    cursor = Cursor()
    cursor.height = 10
    keys = [f"key {number}" for number in range(100)]
    cursor.move(50, keys)
    cursor.move(-3, keys)
    cursor.settle([*(f"new {number}" for number in range(5)), *keys])
    assert (cursor.key, cursor.row, cursor.row - cursor.top) == ("key 47", 52, 6)
