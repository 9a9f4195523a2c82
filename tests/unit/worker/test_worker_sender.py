"""Reports that meet trouble on their way."""

import asyncio

import pytest

from unit.worker.fakes import FakeClient, settle
from zizq.errors import InvalidRequest, NotFound, ServerError, TransportError
from zizq.testing.clock import LoadedDice, ManualClock
from zizq.wire.messages import FailureBody
from zizq.worker import sender as module
from zizq.worker.hooks import Surroundings
from zizq.worker.options import Reconnect, Summary
from zizq.worker.outbox import Outbox
from zizq.worker.sender import Sender

BAD = FailureBody(message="bad")


@pytest.fixture
def client():
    return FakeClient()


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(module, "_REPEAT", Reconnect(first=0.001, longest=0.001))


def sender_to(client, batch=100):
    return Sender(client, Outbox(100, batch), Surroundings(Summary(), ManualClock(), LoadedDice(0.5)))


@pytest.mark.parametrize("error", [TransportError("gone"), ServerError(503, "later"), InvalidRequest(429, "many")])
async def test_acknowledgements_are_repeated_until_they_are_taken(client, error):
    client.ack_answers.extend([error, error])
    sender = sender_to(client)
    sender.start()
    sender.ack("a", 0)
    await sender.flush(None)
    await sender.close()
    assert client.ack_requests == [["a"]] * 3
    assert client.acked == ["a"]


async def test_a_second_request_goes_while_one_is_under_way_if_it_is_full(client):
    client.ack_gate.clear()
    sender = sender_to(client, batch=2)
    sender.start()
    seen = []
    for one in "abcde":
        sender.ack(one, 0)
        await settle()
        seen.append([*client.ack_requests])
    assert seen == [[["a"]], [["a"]], [["a"], ["b", "c"]], [["a"], ["b", "c"]], [["a"], ["b", "c"]]]
    client.ack_gate.set()
    await sender.flush(None)
    await sender.close()
    assert sorted(client.acked) == list("abcde")


async def test_a_report_that_is_wanted_after_all_goes_out_whichever_request_told_so(client):
    client.ack_gate.clear()
    client.ack_answers.extend([[], ["b"]])
    sender = sender_to(client, batch=2)
    sender.start()
    for one in "abc":
        sender.ack(one, 0)
        await settle()
    assert sender.outbox.covers("b", 0)
    client.ack_gate.set()
    await sender.flush(None)
    await sender.close()
    assert client.ack_requests == [["a"], ["b", "c"], ["b"]]


async def test_nothing_is_sent_beside_a_request_that_waits_to_be_repeated(client, monkeypatch):
    monkeypatch.setattr(module, "_REPEAT", Reconnect(first=3600, longest=3600))
    client.ack_answers.append(ServerError(503, "later"))
    sender = sender_to(client, batch=2)
    sender.start()
    for one in "abcde":
        sender.ack(one, 0)
        await settle()
    await sender.close()
    assert client.ack_requests == [["a"]]


async def test_refused_acknowledgements_are_dropped_and_logged(client, caplog):
    client.ack_answers.append(InvalidRequest(400, "no"))
    sender = sender_to(client)
    sender.start()
    sender.ack("a", 0)
    await sender.flush(None)
    sender.ack("b", 0)
    await sender.flush(None)
    await sender.close()
    assert client.acked == ["b"]
    assert sender._summary.ack_dropped == 1
    assert "refuses" in caplog.text


async def test_a_failure_is_repeated_while_others_pass(client):
    client.nack_answers.append(ServerError(500, "oh"))
    sender = sender_to(client)
    sender.start()
    sender.nack("a", 0, BAD)
    sender.nack("b", 0, BAD)
    await sender.flush(None)
    await sender.close()
    assert [one.id for one in client.failed] == ["b", "a"]


async def test_a_failure_of_a_job_no_longer_in_flight_is_settled(client):
    client.nack_answers.extend([NotFound(404, "who"), InvalidRequest(400, "what")])
    sender = sender_to(client)
    sender.start()
    sender.nack("a", 0, BAD)
    sender.nack("b", 0, BAD)
    await sender.flush(None)
    await sender.close()
    assert (sender._summary.not_found, sender._summary.ack_dropped) == (1, 1)


async def test_a_success_of_a_job_no_longer_in_flight_is_warned_of_by_its_name(client, caplog):
    client.ack_answers.append(["a", "c"])
    sender = sender_to(client)
    sender.start()
    for job_id in ("a", "b", "c"):
        sender.ack(job_id, 0)
    await sender.flush(None)
    await sender.close()
    [record] = [one for one in caplog.records if one.levelname == "WARNING"]
    assert record.getMessage().startswith("2 finished jobs were no longer in flight")
    assert record.getMessage().endswith("(a, c)")


async def test_what_cannot_be_flushed_in_time_is_dropped(client):
    client.ack_gate.clear()
    sender = sender_to(client)
    sender.start()
    sender.ack("a", 0)
    await settle()
    await sender.flush(0.001)
    await sender.close()
    assert sender._summary.ack_dropped == 1


async def test_a_flush_does_not_wait_for_a_long_pause(client, monkeypatch):
    monkeypatch.setattr(module, "_REPEAT", Reconnect(first=0.001, longest=3600, factor=3_600_000))
    client.ack_answers.extend([TransportError("gone"), TransportError("gone")])
    sender = sender_to(client)
    sender.start()
    sender.ack("a", 0)
    await client.until(lambda: len(client.ack_requests) == 2)
    await settle()
    async with asyncio.timeout(5):
        await sender.flush(None)
    await sender.close()
    assert client.acked == ["a"]
