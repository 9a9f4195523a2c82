"""What the screen knows, and what it asks the server."""

from __future__ import annotations

import msgspec
import pytest

from unit.tui.recorded import (
    ID,
    INSIGHTS,
    NOW_AT,
    TOTALS,
    URL,
    changed,
    job,
    listed,
    server,
    snapshot,
    tell,
    told,
    window,
)
from zizq.tui.cursor import Edge
from zizq.tui.model import RELOOK_S, RESYNC_S, TABS, Model, Tab
from zizq.wire import events
from zizq.wire.events import FindResult, ListName, ShownWindow
from zizq.wire.insight import Counts, Flow, QueueInsight

EMPTY = ShownWindow(items=[], first_position=0, total=0)


def selected_id(model: Model) -> str | None:
    """The selected job of this tab."""
    assert model.job_list is not None
    return model.job_list.selected.id if model.job_list.selected else None


def found(name: ListName, position: int | None) -> FindResult:
    """What a search of a list came to."""
    first = max((position or 0) - 100, 0)
    part = EMPTY if position is None else window(name, first, 200, TOTALS[name])
    return FindResult(server=server(), list=name, matched_position=position, window=part)


def ready(first: int = 0) -> Model:
    """A model that shows what is ready, and has been told of it."""
    model = told(first)
    model.choose_tab(Tab.READY)
    model.tick(1001.0)
    model.hear(snapshot(first))
    model.take_requests()
    return model


# ── the connection ───────────────────────────────────────────────────────────────────────────────────


def test_with_the_connection_all_lists_are_asked_for() -> None:
    model = Model(URL, "0.7.0", 0.0)
    model.connected(1.0)
    requests = model.take_requests()
    assert [one.list for one in requests if isinstance(one, events.Subscribe)] == list(ListName)
    assert model.take_requests() == []


def test_after_a_break_the_user_is_where_they_were() -> None:
    model = ready()
    model.move(30)
    model.toggle_detail()
    model.disconnected("refused", 1010.0)
    assert (model.link.is_up, model.link.since_s) == (False, 1010.0)
    model.disconnected("refused", 1020.0)
    assert model.link.since_s == 1010.0
    model.connected(1030.0)
    requests = model.take_requests()
    assert requests[0] == events.SetDetailLevel(True)
    assert events.Subscribe(list=ListName.READY, anchor=events.Around(ID.format(30)), limit=200) in requests
    assert events.Subscribe(list=ListName.SCHEDULED, anchor=events.Head(), limit=200) in requests
    model.hear(snapshot())
    assert selected_id(model) == ID.format(30)


def test_what_waits_to_be_sent_when_the_connection_breaks_is_not_sent_later() -> None:
    model = ready()
    model.delete(job(1))
    model.disconnected("refused", 1010.0)
    model.connected(1011.0)
    assert not any(isinstance(one, events.DeleteJob) for one in model.take_requests())


def test_without_a_connection_nothing_is_deleted() -> None:
    model = ready()
    model.disconnected("refused", 1010.0)
    model.delete(job(1))
    assert model.take_requests() == []
    assert model.notice == "not connected: nothing was asked"


def test_a_server_that_gives_less_is_asked_for_less() -> None:
    model = ready()
    model.hear(events.Heartbeat(server=server(subscription_limit=10)))
    model.connected(1020.0)
    assert {one.limit for one in model.take_requests() if isinstance(one, events.Subscribe)} == {10}


# ── changes ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_job_that_is_taken_moves_from_list_to_list() -> None:
    model = told()
    taken = listed(ListName.IN_FLIGHT, 400)
    model.hear(changed("ready_removed", 0, total_ready=TOTALS[ListName.READY] - 1))
    model.hear(changed("in_flight", 400, taken, total_ready=TOTALS[ListName.READY] - 1, total_in_flight=25))
    assert ID.format(0) not in model.lists[ListName.READY].keys
    assert model.lists[ListName.IN_FLIGHT].keys[-1] == taken.id
    assert (model.total(ListName.READY), model.total(ListName.IN_FLIGHT)) == (TOTALS[ListName.READY] - 1, 25)


def test_a_list_is_asked_for_anew_when_the_user_would_run_out_of_it_though_not_too_often() -> None:
    model = ready()
    for number in range(190):
        model.hear(changed("ready_removed", number))
    model.tick(1001.5)
    assert model.take_requests() == []
    model.tick(1001.0 + RESYNC_S)
    [request] = model.take_requests()
    assert request == events.Subscribe(list=ListName.READY, anchor=events.Head(), limit=200)
    model.tick(1004.0)
    assert model.take_requests() == [], "while the answer is awaited"


def test_positions_far_from_the_head_are_asked_for_now_and_then() -> None:
    model = ready()
    model.move(190)
    model.tick(1002.0)
    model.hear(snapshot(first=90))
    model.take_requests()
    model.tick(1002.0 + RELOOK_S - 0.1)
    assert model.take_requests() == []
    model.tick(1002.0 + RELOOK_S)
    assert len(model.take_requests()) == 1


def test_a_failure_may_be_a_death() -> None:
    model = told()
    model.choose_tab(Tab.DEAD)
    model.tick(1001.0)
    model.hear(snapshot())
    model.take_requests()
    model.hear(changed("dead", 9))
    model.tick(1003.0)
    assert model.take_requests() == [events.Subscribe(list=ListName.DEAD, anchor=events.Head(), limit=200)]


def test_a_tab_is_up_to_date_as_soon_as_it_is_shown() -> None:
    model = told()
    model.choose_tab(Tab.SCHEDULED)
    model.tick(1000.1)
    assert model.take_requests() == [events.Subscribe(list=ListName.SCHEDULED, anchor=events.Head(), limit=200)]


def test_after_the_last_tab_comes_the_first() -> None:
    model = told()
    model.next_tab(-1)
    assert model.tab is TABS[-1]
    model.next_tab(1)
    assert model.tab is TABS[0]


def test_going_on_asks_for_the_neighbours_at_once() -> None:
    model = ready()
    model.move(185)
    model.tick(1001.01)
    assert model.take_requests() == [
        events.Subscribe(list=ListName.READY, anchor=events.Around(ID.format(185)), limit=200)
    ]
    model.hear(snapshot(first=85))
    assert selected_id(model) == ID.format(185)
    model.move(19)
    assert selected_id(model) == ID.format(204)


def test_the_tail_is_asked_for_and_shown() -> None:
    model = ready()
    model.go(Edge.TAIL)
    model.tick(1001.01)
    assert model.take_requests() == [events.Subscribe(list=ListName.READY, anchor=events.Tail(), limit=200)]
    total = TOTALS[ListName.READY]
    model.hear(snapshot(first=total - 200))
    assert model.job_list is not None
    assert model.job_list.position == total - 1


def test_only_answers_to_the_user_are_worth_more_than_a_tick() -> None:
    model = ready()
    model.has_answer = False
    model.hear(snapshot())
    model.hear(changed("ready_removed", 0))
    assert not model.has_answer
    model.move(190)
    model.tick(1001.1)
    model.hear(snapshot(first=90))
    assert model.has_answer


def test_a_row_of_the_screen_is_selected_by_the_mouse() -> None:
    model = ready()
    model.move(100)
    top = model.cursor.top
    model.select(3)
    assert selected_id(model) == ID.format(top + 3)


# ── searching ────────────────────────────────────────────────────────────────────────────────────────


def test_a_search_selects_what_it_finds_and_asks_for_its_neighbours() -> None:
    model = ready()
    model.move(3)
    model.find("queue:bill card")
    assert model.take_requests() == [
        events.Find(
            list=ListName.READY,
            anchor=events.JobIdAnchor(ID.format(3)),
            direction="forward",
            query=events.Query(queues=["bill"], types=["card"]),
            limit=200,
        )
    ]
    model.hear(found(ListName.READY, 5000))
    assert selected_id(model) == ID.format(5000)
    model.tick(1003.0)
    assert model.take_requests() == [
        events.Subscribe(list=ListName.READY, anchor=events.Around(ID.format(5000)), limit=200)
    ]


def test_what_was_asked_for_before_a_search_does_not_lead_back() -> None:
    model = ready()
    model.find("card")
    model.hear(found(ListName.READY, 5000))
    model.hear(snapshot())
    assert selected_id(model) == ID.format(5000)


def test_the_next_and_the_one_before_are_searched_for_from_the_selected_job() -> None:
    model = ready()
    model.find("card")
    model.hear(found(ListName.READY, 50))
    model.take_requests()
    model.find_next(False)
    [request] = model.take_requests()
    assert isinstance(request, events.Find)
    assert (request.direction, request.anchor) == ("backward", events.JobIdAnchor(ID.format(50)))


def test_a_search_begins_anew_at_the_other_end_once() -> None:
    model = ready()
    model.find("card")
    model.take_requests()
    model.hear(found(ListName.READY, None))
    [again] = model.take_requests()
    assert isinstance(again, events.Find)
    assert again.anchor == events.Start()
    model.hear(found(ListName.READY, None))
    assert model.take_requests() == []
    assert model.notice == "/card: nothing matches in Ready"


def test_a_search_that_the_server_gave_up_is_not_begun_anew() -> None:
    model = ready()
    model.find("rare")
    model.take_requests()
    model.hear(msgspec.structs.replace(found(ListName.READY, None), incomplete=True))
    assert model.take_requests() == []
    assert "queue:NAME" in model.notice


def test_a_search_that_is_asked_for_during_another_begins_where_that_one_leads() -> None:
    model = ready()
    model.find("card")
    model.find_next(True)
    model.find_next(False)
    assert len(model.take_requests()) == 1
    model.hear(found(ListName.READY, 50))
    model.hear(found(ListName.READY, 60))
    anchors = [one.anchor for one in model.take_requests() if isinstance(one, events.Find)]
    assert anchors == [events.JobIdAnchor(ID.format(50)), events.JobIdAnchor(ID.format(60))]


def test_an_empty_search_repeats_the_last() -> None:
    model = ready()
    model.find("  ")
    assert (model.take_requests(), model.notice) == ([], "nothing was searched for yet: type / and a text")
    model.find("card")
    [first] = model.take_requests()
    model.hear(found(ListName.READY, 0))
    model.find("")
    assert model.take_requests() == [first]


def test_tables_that_are_here_are_searched_here() -> None:
    model = told()
    model.choose_tab(Tab.QUEUES)
    model.find("ME")
    assert model.cursor.key == "media"
    model.find("bill")
    assert model.cursor.key == "billing"
    model.find("nobody")
    assert (model.cursor.key, model.notice) == ("billing", "/nobody: nothing matches in Queues")
    model.take_requests()


# ── pauses ───────────────────────────────────────────────────────────────────────────────────────────


def test_in_a_pause_the_screen_stands_still() -> None:
    model = ready()
    model.toggle_pause()
    model.hear(changed("ready_removed", 0))
    model.hear(snapshot(first=500))
    model.hear(events.Heartbeat(server=server(total_ready=5)))
    tell(model)
    assert (selected_id(model), model.total(ListName.READY)) == (ID.format(0), TOTALS[ListName.READY])
    assert model.wanted() == []
    model.tick(2000.0)
    assert model.take_requests() == []


def test_in_a_pause_the_user_can_go_on_and_search() -> None:
    model = ready()
    model.toggle_pause()
    model.move(190)
    model.tick(1002.0)
    assert len(model.take_requests()) == 1
    model.hear(snapshot(first=90))
    model.move(20)
    assert selected_id(model) == ID.format(210)
    model.find("card")
    model.hear(found(ListName.READY, 5000))
    assert selected_id(model) == ID.format(5000)


def test_after_a_pause_the_screen_shows_what_is_true() -> None:
    model = ready()
    model.toggle_pause()
    model.toggle_pause()
    model.tick(1001.1)
    assert model.take_requests() == [events.Subscribe(list=ListName.READY, anchor=events.Head(), limit=200)]


# ── details and changes ──────────────────────────────────────────────────────────────────────────────


def test_details_are_of_the_selected_job_and_have_its_payload() -> None:
    model = ready()
    model.toggle_detail()
    assert model.take_requests() == [events.SetDetailLevel(True)]
    items = [job(number, payload={"to": number}) for number in range(200)]
    model.hear(snapshot(ready=ShownWindow(items=items, first_position=0, total=TOTALS[ListName.READY])))
    assert model.detailed is not None
    assert model.detailed.payload == {"to": 0}
    model.hear(changed("ready", 0, job(0, attempts=7)))
    assert model.detailed.payload == {"to": 0}
    model.move(1)
    assert model.detailed.id == ID.format(1)
    model.toggle_detail()
    assert model.take_requests() == [events.SetDetailLevel(False)]


def test_a_job_that_is_read_of_stays_there_when_it_leaves_its_list() -> None:
    model = ready()
    model.toggle_detail()
    model.hear(changed("ready_removed", 0))
    assert model.detailed is not None
    assert (model.detailed.id, model.has_left, selected_id(model)) == (ID.format(0), True, ID.format(1))
    target = model.target()
    assert target is not None
    assert target.id == ID.format(0)


def test_the_job_that_is_read_of_is_asked_for_once_and_again_when_it_has_failed() -> None:
    model = ready()
    assert model.wanted() == ["overview"]
    model.toggle_detail()
    name = f"job?id={ID.format(0)}"
    assert model.wanted() == [name, "overview", "failures"]
    model.read(name, b'{"id":"%s","payload":[1],"payload_size":2}' % ID.format(0).encode())
    assert model.inspected is not None
    assert model.wanted() == ["overview", "failures"]
    model.hear(changed("ready", 0, job(0, attempts=7)))
    assert model.wanted()[0] == name
    model.refused(name, "gone")
    assert model.wanted() == ["overview", "failures"]
    model.toggle_pause()
    assert model.wanted() == []
    model.move(1)
    assert model.wanted() == [f"job?id={ID.format(1)}"]


def test_at_an_edge_the_details_go_with_the_selection() -> None:
    model = ready()
    model.toggle_detail()
    model.go(Edge.TAIL)
    model.hear(snapshot(first=TOTALS[ListName.READY] - 200))
    assert model.detailed is not None
    assert (model.detailed.id, model.has_left) == (selected_id(model), False)


def test_jobs_are_deleted_and_retried() -> None:
    model = ready()
    model.delete(job(1))
    model.retry(job(2))
    assert model.take_requests() == [events.DeleteJob(ID.format(1)), events.RetryJob(ID.format(2))]


def test_a_paused_queue_goes_on_and_many_queues_in_a_row_are_left_alone() -> None:
    model = told()
    model.choose_tab(Tab.QUEUES)
    queues = [
        QueueInsight(queue=name, counts=Counts(), flow=Flow(), paused=name == "b") for name in ("(other)", "a", "b")
    ]
    model.read("queues", msgspec.json.encode(queues))
    assert model.queue is None
    wanted = []
    for _ in range(2):
        model.move(1)
        assert model.queue is not None
        model.take_requests()
        model.pause_queue(model.queue)
        wanted += model.take_requests()
    assert wanted == [events.PauseQueue("a"), events.ResumeQueue("b")]


def test_only_jobs_can_be_deleted() -> None:
    model = told()
    model.choose_tab(Tab.BUDGETS)
    assert model.target() is None


def test_a_failed_job_is_told_with_its_error() -> None:
    model = told()
    failure = model.failure_of(job(0))
    assert failure is not None
    assert failure.error_type == "CardError"
    assert model.failure_of(job(1)) is None


# ── insights ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("tab", "wanted"),
    [
        (Tab.READY, ["overview"]),
        (Tab.QUEUES, ["overview", "queues"]),
        (Tab.CRON, ["overview", "crons"]),
        (Tab.WORKERS, ["overview", "workers"]),
        (Tab.BUDGETS, ["overview", "budgets"]),
        (Tab.DEAD, ["overview", "failures"]),
    ],
)
def test_only_what_is_shown_is_asked_for(tab: Tab, wanted: list[str]) -> None:
    model = told()
    model.choose_tab(tab)
    assert model.wanted() == wanted


def test_a_queue_stays_selected_while_others_come() -> None:
    model = told()
    model.choose_tab(Tab.QUEUES)
    model.move(2)
    assert model.cursor.key == "emails"
    queues = INSIGHTS["queues"]
    assert isinstance(queues, list)
    model.read("queues", msgspec.json.encode([msgspec.structs.replace(queues[0], queue="a"), *queues]))
    assert (model.cursor.key, model.cursor.row) == ("emails", 3)


def test_an_insight_that_cannot_be_read_changes_nothing() -> None:
    model = told()
    with pytest.raises(msgspec.DecodeError):
        model.read("queues", b'[{"queue": 5}]')
    assert len(model.shelves["queues"].values) == 4


def test_every_tab_has_rows_with_a_text_for_each_column() -> None:
    model = told()
    for tab in TABS:
        model.choose_tab(tab)
        rows = model.rows(NOW_AT)
        assert rows
        assert {len(row.texts) for row in rows} == {len(model.columns)}
