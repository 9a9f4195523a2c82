"""The outbox by itself: no loop, no clock."""

import pytest

from zizq.errors import ClientError, ConfigError, InvalidRequest, NotFound, ServerError, TransportError
from zizq.wire.messages import FailureBody
from zizq.worker.options import Reconnect
from zizq.worker.outbox import Nack, Outbox, Verdict, judge

BAD = FailureBody(message="bad")


def outbox(*acks, capacity=100, batch=100):
    box = Outbox(capacity, batch)
    for one in acks:
        box.ack(one, 0)
    return box


def test_a_batch_is_all_that_waits_up_to_the_cap():
    box = outbox("a", "b", "c", batch=2)
    assert box.next_acks() == ["a", "b"]
    assert box.next_acks() == ["c"]
    assert box.next_acks() == []


def test_a_full_batch_is_none_below_the_cap():
    box = outbox("a", batch=2)
    assert box.next_full_acks() == []
    for one in "bc":
        box.ack(one, 0)
    assert box.next_full_acks() == ["a", "b"]
    assert box.next_full_acks() == []
    assert box.next_acks() == ["c"]


def test_reports_count_until_they_are_answered():
    box = outbox("a", "b", capacity=2)
    ids = box.next_acks()
    assert box.full
    assert "a" in box
    assert box.acks_answered(ids, ()) == []
    assert len(box) == 0
    assert not box.full


def test_unanswered_acks_go_first_again():
    box = outbox("a", "b")
    ids = box.next_acks()
    box.ack("c", 0)
    box.repeat_acks(ids)
    assert box.next_acks() == ["a", "b", "c"]


def test_an_unknown_job_is_settled_and_counted():
    box = outbox("a", "b")
    assert box.acks_answered(box.next_acks(), ["b"]) == ["b"]
    assert len(box) == 0


def test_a_job_that_came_again_while_its_ack_was_too_early_is_acked_once_more():
    box = outbox("a", "b")
    ids = box.next_acks()
    assert box.covers("a", 0)
    assert box.acks_answered(ids, ["a"]) == []
    assert box.next_acks() == ["a"]
    assert box.acks_answered(["a"], ["a"]) == ["a"]


def test_a_job_that_came_again_and_was_acked_leaves_no_mark():
    box = outbox("a")
    ids = box.next_acks()
    assert box.covers("a", 0)
    box.acks_answered(ids, ())
    box.ack("a", 0)
    assert box.acks_answered(box.next_acks(), ["a"]) == ["a"]


def test_a_job_with_more_attempts_is_a_new_run():
    box = outbox()
    box.nack("a", 0, BAD)
    assert not box.covers("a", 1)
    assert box.covers("a", 0)
    assert not box.covers("b", 0)


def test_a_new_run_may_be_acked_before_the_old_failure_is_answered():
    box = outbox()
    box.nack("a", 0, BAD)
    nack = box.next_nack()
    box.ack("a", 1)
    assert box.nack_answered(nack, found=True)
    assert len(box) == 1, "an answer to the old run must not settle the new one: a flush would not wait for it"
    assert box.acks_answered(box.next_acks(), ()) == []
    assert len(box) == 0


def test_a_new_run_may_fail_before_the_old_failure_is_answered():
    box = outbox()
    box.nack("a", 0, BAD)
    old = box.next_nack()
    box.nack("a", 1, BAD)
    new = box.next_nack()
    assert not box.nack_answered(old, found=False)
    assert len(box) == 1
    assert box.nack_answered(new, found=True)
    assert len(box) == 0


def test_failures_are_sent_one_by_one_and_a_repeated_one_goes_last():
    box = outbox()
    box.nack("a", 0, BAD)
    box.nack("b", 0, BAD)
    first = box.next_nack()
    box.repeat_nack(first)
    assert [box.next_nack().job_id, box.next_nack().job_id, box.next_nack()] == ["b", "a", None]


def test_a_failure_of_an_unknown_job_is_settled_unless_the_job_came_again():
    box = outbox()
    box.nack("a", 0, BAD)
    nack = box.next_nack()
    assert box.covers("a", 0)
    assert box.nack_answered(nack, found=False)
    assert box.next_nack() == nack
    assert not box.nack_answered(nack, found=False)
    assert len(box) == 0


def test_dropped_reports_are_forgotten():
    box = outbox("a", "b")
    box.drop_acks(box.next_acks())
    assert len(box) == 0


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (TransportError("gone"), Verdict.REPEAT),
        (ServerError(500, "oh"), Verdict.REPEAT),
        (ClientError(408, "slow"), Verdict.REPEAT),
        (ClientError(429, "many"), Verdict.REPEAT),
        (NotFound(404, "who"), Verdict.SETTLED),
        (InvalidRequest(400, "what"), Verdict.DROP),
        (RuntimeError("a bug"), Verdict.DROP),
    ],
)
def test_what_an_error_means_for_a_report(error, verdict):
    assert judge(error) is verdict


def test_a_nack_counts_its_requests():
    assert Nack("a", 0, BAD).tries == 0


def test_delays_double_up_to_the_longest_and_stray_by_the_jitter():
    reconnect = Reconnect(0.5, 30, 2.0, jitter=0.1)
    assert [reconnect.delay(count, 0.5) for count in (1, 2, 3, 8, 5000)] == [0.5, 1.0, 2.0, 30, 30]
    assert reconnect.delay(1, 0.0) == pytest.approx(0.45)


@pytest.mark.parametrize("options", [{"first": 0}, {"longest": 0.1}, {"factor": 0.5}, {"jitter": 2}])
def test_a_reconnect_out_of_range_is_an_error(options):
    with pytest.raises(ConfigError):
        Reconnect(**options)


def test_a_delay_is_no_shorter_than_the_server_says():
    reconnect = Reconnect(first=0.5, longest=30)
    busy = ServerError(503, "later", retry_after=7.0)
    assert reconnect.delay(1, 0.5, busy) == 7.0
    assert reconnect.delay(5, 0.5, busy) == 8.0
    assert reconnect.delay(1, 0.5, ServerError(503, "later", retry_after=1e6)) == 30
    assert reconnect.delay(1, 0.5, TransportError("gone")) == 0.5
