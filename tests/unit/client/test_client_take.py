"""Take streams over a network that delivers what it is told."""

import asyncio

import msgspec
import pytest

from unit.client.fakes import JOB, FakeStream, FakeTransport, SyncFakeStream, SyncFakeTransport
from zizq.client import Client, SyncClient
from zizq.errors import ConfigError, DecodeError, NotFound, StreamIdleTimeout, TransportError, ZizqError


def frame(number: int = 0, **fields) -> bytes:
    body = msgspec.msgpack.encode(JOB | {"id": str(number) * 25, "payload": number} | fields)
    return len(body).to_bytes(4, "big") + body


BAD = b"\0\0\0\1\xc1"
BEAT = b"\0\0\0\0"


def take_all(*chunks, form="msgpack"):
    """What both clients make of the chunks: they must agree."""
    streams = SyncFakeStream(list(chunks)), FakeStream(list(chunks))
    found = []

    def sync():
        with SyncClient(format=form, transport=SyncFakeTransport(stream=streams[0])).take() as stream:
            return list(stream)

    async def asynchronous():
        async with Client(format=form, transport=FakeTransport(stream=streams[1])).take() as stream:
            return [job async for job in stream]

    for run in (sync, lambda: asyncio.run(asynchronous())):
        try:
            found.append([(job.id[0], job.payload) for job in run()])
        except ZizqError as error:
            found.append((type(error), str(error)))
    assert found[0] == found[1]
    assert all(stream.closed for stream in streams)
    if isinstance(found[0], tuple):
        raise found[0][0](found[0][1])
    return found[0]


def test_jobs_come_in_order_whatever_the_chunks():
    data = BEAT + frame(1) + frame(2) + BEAT + frame(3)
    jobs = [("1", 1), ("2", 2), ("3", 3)]
    assert take_all(data) == jobs
    assert take_all(*[data[at : at + 1] for at in range(len(data))]) == jobs


def test_jobs_come_as_lines_in_json():
    line = msgspec.json.encode(JOB | {"payload": {"a": "\n"}})
    assert take_all(b"\n" + line + b"\n\n", line[:9], line[9:] + b"\n", form="json") == [("0", {"a": "\n"})] * 2


def test_a_bad_frame_is_logged_and_skipped(caplog):
    assert take_all(frame(1) + BAD + BAD, frame(2) + BAD) == [("1", 1), ("2", 2)]
    assert {record.name for record in caplog.records} == {"zizq"}
    assert {record.fields["size"] for record in caplog.records} == {len(BAD) - 4}


def test_three_bad_frames_in_a_row_end_the_stream():
    with pytest.raises(DecodeError, match="cannot be read"):
        take_all(frame(1) + BAD, BEAT + BAD, BAD, frame(2))


def test_a_good_frame_forgives_the_bad_ones_before_it():
    assert take_all(BAD + BAD, frame(1), BAD + BAD, frame(2)) == [("1", 1), ("2", 2)]


@pytest.mark.parametrize("error", [TransportError, StreamIdleTimeout])
def test_a_broken_connection_is_raised_to_the_caller(error):
    with pytest.raises(error, match="it broke"):
        take_all(frame(1), error("it broke"))


def test_an_end_inside_a_frame_is_an_error():
    with pytest.raises(DecodeError, match="inside a frame"):
        take_all(frame(1) + b"\0\0")


def test_batches_are_the_jobs_of_each_chunk_and_never_empty():
    stream = SyncFakeStream([frame(1) + frame(2), BEAT, frame(3)])
    with SyncClient(transport=SyncFakeTransport(stream=stream)).take() as take:
        assert [len(jobs) for jobs in take.batches()] == [2, 1]


def test_asynchronous_batches_are_the_same():
    async def run():
        stream = FakeStream([frame(1) + frame(2), BEAT, frame(3)])
        async with Client(transport=FakeTransport(stream=stream)).take() as take:
            return [len(jobs) async for jobs in take.batches()]

    assert asyncio.run(run()) == [2, 1]


def test_a_refused_stream_is_raised_on_entering_and_closed():
    streams = (
        SyncFakeStream([b'{"error":', b'"no"}'], 404, "application/json"),
        FakeStream([b'{"error":', b'"no"}'], 404, "application/json"),
    )

    async def asynchronous():
        async with Client(transport=FakeTransport(stream=streams[1])).take():
            pytest.fail("it opened")

    with pytest.raises(NotFound, match="404: no"), SyncClient(transport=SyncFakeTransport(stream=streams[0])).take():
        pytest.fail("it opened")
    with pytest.raises(NotFound, match="404: no"):
        asyncio.run(asynchronous())
    assert all(stream.closed for stream in streams)


def test_a_stream_outside_its_block_says_so():
    take = SyncClient(transport=SyncFakeTransport()).take()
    with pytest.raises(ZizqError, match="`with` block"):
        next(take)

    async def asynchronous():
        async for _ in Client(transport=FakeTransport()).take():
            pytest.fail("it was open")

    with pytest.raises(ZizqError, match="`with` block"):
        asyncio.run(asynchronous())


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({}, "/jobs/take?prefetch=1"),
        ({"queues": "a"}, "/jobs/take?prefetch=1&queue=a"),
        ({"queues": ["a b", "ü/&"], "prefetch": 0}, "/jobs/take?prefetch=0&queue=a%20b,%C3%BC%2F%26"),
        (
            {"job_timeout": 1.5, "concurrency": 3, "stream": "a&b"},
            "/jobs/take?prefetch=1&timeout_ms=1500&concurrency=3&stream=a%26b",
        ),
    ],
)
def test_the_request_names_queues_and_prefetch(arguments, path):
    transport = SyncFakeTransport(stream=SyncFakeStream([]))
    with SyncClient(transport=transport).take(**arguments, worker_id="w1"):
        pass
    assert transport.sent[0].path == path
    assert transport.sent[0].headers == {"accept": "application/vnd.zizq.msgpack-stream", "worker-id": "w1"}


@pytest.mark.parametrize(
    "arguments",
    [{"queues": ["a,b"]}, {"queues": [""]}, {"prefetch": -1}, {"concurrency": 0}, {"job_timeout": 0}],
)
def test_a_wrong_argument_is_refused(arguments):
    with pytest.raises(ConfigError):
        SyncClient(transport=SyncFakeTransport()).take(**arguments)
