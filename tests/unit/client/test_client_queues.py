"""What is sent about queues, and what the answers mean."""

from datetime import UTC, datetime

import pytest

from unit.client.fakes import FakeTransport, SyncFakeTransport, answer
from zizq import Client, ConfigError, Counts, DecodeError, QueueState, SyncClient

AT = 1_790_000_000_123
WHEN = datetime.fromtimestamp(AT / 1000, UTC)
COUNTS = {"scheduled": 1, "ready": 2, "in_flight": 3, "completed": 4, "dead": 5}
PAUSED = {"queue": "p/ü", "paused": True, "paused_at": AT, "counts": COUNTS}
OPEN = {"queue": "q", "paused": False, "counts": COUNTS | {"asleep": 9}, "more": 1}


def asked(*answers):
    return SyncClient(format="json", transport=SyncFakeTransport(*answers))


def sent(client):
    """The requests that were sent, as method and path."""
    return [(one.method, one.path) for one in client._transport.sent if one.body is None]


def test_the_state_of_a_queue_has_its_pause_and_its_counts():
    client = asked(answer(PAUSED))
    state = client.queue("p/ü")
    assert (state.queue, state.paused, state.paused_at, state.paused_at_ms) == ("p/ü", True, WHEN, AT)
    assert state.counts == Counts(**COUNTS)
    assert state.counts.total == 15
    assert sent(client) == [("GET", "/queues/p%2F%C3%BC")]


def test_all_states_come_with_one_call():
    client = asked(answer({"queues": ["q"], "states": [PAUSED, OPEN]}))
    first, second = client.queue_states()
    assert (first.queue, second.queue) == ("p/ü", "q")
    assert second == QueueState(queue="q", paused=False, counts=Counts(**COUNTS))
    assert second.paused_at is None
    assert sent(client) == [("GET", "/queues?states=true")]


def test_a_server_that_knows_no_states_is_told_from_one_that_has_none():
    with pytest.raises(DecodeError):
        asked(answer({"queues": ["q"]})).queue_states()
    assert asked(answer({"queues": [], "states": []})).queue_states() == []


def test_a_queue_is_paused_and_resumed():
    client = asked(answer(PAUSED), answer(OPEN))
    assert client.pause_queue("q").paused_at == WHEN
    assert not client.resume_queue("q").paused
    assert sent(client) == [("PUT", "/queues/q/pause"), ("DELETE", "/queues/q/pause")]


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_would_be_another_path_is_refused(name):
    client = asked()
    for call in (client.queue, client.pause_queue, client.resume_queue):
        with pytest.raises(ConfigError, match="is no id and no name"):
            call(name)


async def test_the_asynchronous_client_sends_the_same():
    answers = [answer(PAUSED), answer({"queues": ["q"], "states": [OPEN]}), answer({"queues": ["q"]}),
               answer(PAUSED), answer(OPEN)]  # fmt: skip

    def same(client):
        yield client.queue("q")
        yield client.queue_states()
        yield client.queues()
        yield client.pause_queue("q")
        yield client.resume_queue("q")

    blocking = asked(*answers)
    async with Client(format="json", transport=FakeTransport(*answers)) as client:
        awaited = [await one for one in same(client)]
    assert awaited == list(same(blocking))
    assert sent(client) == sent(blocking)
