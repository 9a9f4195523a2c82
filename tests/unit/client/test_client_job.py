"""Jobs as the application sees them."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from unit.client.fakes import JOB
from zizq.client.job import JobReader
from zizq.client.options import Backoff, Retention
from zizq.errors import DecodeError
from zizq.job import Status
from zizq.wire.codec import Format, encode


def read(form=Format.MSGPACK, **fields):
    return JobReader(form).one(encode(JOB | fields, form))


@pytest.mark.parametrize("form", Format)
@pytest.mark.parametrize("payload", [None, 0, "x", {"a": [1, None]}])
def test_a_payload_is_decoded_when_it_is_asked_for(form, payload):
    assert read(form, payload=payload).payload == payload


def test_a_job_without_payload_has_none():
    job = read()
    assert job.payload is None
    assert bytes(job.raw_payload) == b""


def test_instants_are_aware_datetimes():
    job = read(dequeued_at=0, failed_at=1000, completed_at=2000, purge_at=3000)
    assert job.ready_at == datetime(2026, 9, 21, 14, 13, 20, 123_000, tzinfo=UTC)
    assert [when.second for when in (job.dequeued_at, job.failed_at, job.completed_at, job.purge_at)] == [0, 1, 2, 3]
    assert read().completed_at is None


def test_policies_are_in_the_units_of_python():
    job = read(backoff={"exponent": 4.099999904632568, "base_ms": 1500, "jitter_ms": 0}, retention={"dead_ms": 1000})
    assert job.backoff == Backoff(timedelta(seconds=1.5), 4.1, timedelta(0))
    assert job.retention == Retention(dead=timedelta(seconds=1))
    assert (read().backoff, read().retention) == (None, None)


def test_statuses_compare_equal_to_the_enum_and_unknown_ones_survive():
    assert read(status="in_flight").status == Status.IN_FLIGHT
    assert read(status="resting").status == "resting"


@pytest.mark.parametrize("form", Format)
def test_fields_of_a_newer_server_are_kept_aside(form):
    assert read(form, payload=1, colour={"r": 1}).extra == {"colour": {"r": 1}}
    assert read(form, payload=1).extra == {}


@pytest.mark.parametrize("form", Format)
def test_a_bulk_answer_is_jobs_with_frames_of_their_own(form):
    sent = [JOB | {"x": 1, "payload": "a"}, JOB | {"x": 2}]
    jobs = JobReader(form).many(encode({"jobs": sent}, form))
    assert [job.extra for job in jobs] == [{"x": 1}, {"x": 2}]
    assert [job.payload for job in jobs] == ["a", None]
    assert [job.frame for job in jobs] == [encode(one, form) for one in sent]
    assert [job.format for job in jobs] == [form, form]


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x01", msgspec.msgpack.encode({"id": "x"})])
def test_bytes_that_are_no_job_are_a_decode_error(body):
    reader = JobReader(Format.MSGPACK)
    for read_body in (reader.one, reader.many):
        with pytest.raises(DecodeError, match="cannot be read"):
            read_body(body)


def test_a_job_is_shown_briefly():
    assert repr(read(payload="x" * 1000)) == f"<Job {JOB['id']} 'send' queue='emails' ready attempts=2>"
