"""The messages of the events, as they stand on the wire."""

from __future__ import annotations

import pytest

from unit.tui.recorded import ID
from zizq.tui.messages import read_event, total, write_request
from zizq.wire import events
from zizq.wire.events import ListName

SERVER = (
    '"server":{"version":"0.7.4","uptime_ms":5,"tier":"free","total_ready":1,"total_in_flight":2,"total_scheduled":3}'
)
JOB = '{"id":"a","queue":"q","job_type":"t","priority":1,"ready_at":2,"attempts":0}'
WINDOW = f'{{"items":[{JOB}],"first_position":4,"total":9,"resolved_anchor":{{"kind":"head"}}}}'
EMPTY = '{"items":[],"first_position":0,"total":0}'


def test_a_snapshot_is_read_with_what_this_version_does_not_know() -> None:
    event = read_event(
        f'{{{SERVER},"event":"job_snapshot","ready":{WINDOW},"in_flight":{EMPTY},"scheduled":{EMPTY},"later":1}}'
    )
    assert isinstance(event, events.JobSnapshot)
    assert (event.ready.first_position, event.ready.total, event.ready.items[0].job_type) == (4, 9, "t")
    assert event.dead is None
    assert total(event.server, ListName.SCHEDULED) == 3
    assert total(event.server, ListName.DEAD) is None


def test_changes_and_results_are_read() -> None:
    change = read_event(f'{{{SERVER},"event":"job_changed","id":"a","status":"ready","job":{JOB}}}')
    assert isinstance(change, events.JobChanged)
    assert change.job is not None
    found = read_event(f'{{{SERVER},"event":"find_result","list":"ready","matched_position":null,"window":{EMPTY}}}')
    assert isinstance(found, events.FindResult)
    assert found.matched_position is None
    assert isinstance(read_event(f'{{{SERVER},"event":"heartbeat"}}'), events.Heartbeat)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"event":"news"}', f'{{{SERVER},"event":"job_snapshot"}}', b"\xff"])
def test_what_cannot_be_read_is_no_event(text: str | bytes) -> None:
    assert read_event(text) is None


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (
            events.Subscribe(list=ListName.IN_FLIGHT, anchor=events.Around("a"), limit=5),
            '{"type":"subscribe","list":"in_flight","anchor":{"kind":"around","id":"a","fallback":"nowhere"},"limit":5}',
        ),
        (
            events.Subscribe(list=ListName.READY, anchor=events.Offset(7), limit=5),
            '{"type":"subscribe","list":"ready","anchor":{"kind":"offset","offset":7},"limit":5}',
        ),
        (
            events.Subscribe(list=ListName.SCHEDULED, anchor=events.Head(), limit=5),
            '{"type":"subscribe","list":"scheduled","anchor":{"kind":"head"},"limit":5}',
        ),
        (
            events.Subscribe(list=ListName.DEAD, anchor=events.Tail(), limit=5),
            '{"type":"subscribe","list":"dead","anchor":{"kind":"tail"},"limit":5}',
        ),
        (events.SetDetailLevel(True), '{"type":"set_detail_level","detail":true}'),
        (events.DeleteJob(ID.format(1)), f'{{"type":"delete_job","id":"{ID.format(1)}"}}'),
        (events.RetryJob("a"), '{"type":"retry_job","id":"a"}'),
        (events.PauseQueue("q"), '{"type":"pause_queue","queue":"q"}'),
        (events.ResumeQueue("q"), '{"type":"resume_queue","queue":"q"}'),
        (
            events.Find(
                list=ListName.READY,
                anchor=events.JobIdAnchor("a"),
                direction="backward",
                query=events.Query(queues=["e"], types=[]),
                limit=9,
            ),
            '{"type":"find","list":"ready","anchor":{"kind":"job_id","id":"a"},"direction":"backward","limit":9,'
            '"query":{"queues":["e"],"types":[]}}',
        ),
    ],
)
def test_a_request_stands_on_the_wire_as_the_protocol_says(request_: events.Wish, text: str) -> None:
    assert write_request(request_) == text
