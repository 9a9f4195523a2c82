import msgspec
import pytest

from zizq.clock import SystemClock, SystemDice
from zizq.errors import DecodeError, NotAcceptable
from zizq.ids import IdGenerator
from zizq.job import JobRecord, Status
from zizq.wire.codec import Format, encode
from zizq.wire.framing import Splitter, StreamFormat, join, stream_format

BEATS = {StreamFormat.MSGPACK: b"\0\0\0\0", StreamFormat.NDJSON: b"\n"}
FORMS = list(BEATS)


def records(count: int, form: StreamFormat) -> list[JobRecord]:
    ids = IdGenerator(SystemClock(), SystemDice())
    payload = msgspec.Raw(encode({"line": "a\nb"}, form.body))
    return [
        JobRecord(
            id=ids.next(),
            type="t",
            queue="q",
            priority=1,
            status=Status.IN_FLIGHT,
            payload=payload,
            ready_at=5,
            attempts=0,
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("form", FORMS)
def test_frames_fed_whole_come_out_in_order_without_heartbeats(form):
    parts = [join([record], form) for record in records(3, form)]
    frames = Splitter(form).feed(BEATS[form] + BEATS[form].join(parts) + BEATS[form])
    assert len(frames) == 3
    assert [len(frame) for frame in frames] == [len(part) - len(BEATS[form]) for part in parts]


@pytest.mark.parametrize("form", FORMS)
def test_frames_fed_byte_by_byte_are_the_same_as_fed_whole(form):
    data = BEATS[form] + join(records(3, form), form) + BEATS[form]
    splitter = Splitter(form)
    drops = [frame for at in range(len(data)) for frame in splitter.feed(data[at : at + 1])]
    assert drops == Splitter(form).feed(data)
    splitter.finish()


@pytest.mark.parametrize("form", FORMS)
def test_rubbish_after_a_frame_is_reported_at_the_end(form):
    splitter = Splitter(form)
    assert len(splitter.feed(join(records(1, form), form) + b"\x01\x02\x03")) == 1
    with pytest.raises(DecodeError, match="inside a frame"):
        splitter.finish()


@pytest.mark.parametrize("form", FORMS)
def test_a_frame_over_the_limit_is_refused_before_it_is_there(form):
    head = b"\0\0\1\0" if form is StreamFormat.MSGPACK else b"x" * 101
    with pytest.raises(DecodeError, match="over the limit of 100"):
        Splitter(form, max_frame=100).feed(head)


@pytest.mark.parametrize("form", FORMS)
def test_a_stream_of_heartbeats_alone_ends_in_good_order(form):
    splitter = Splitter(form)
    assert splitter.feed(BEATS[form] * 5) == []
    splitter.finish()


def test_jobs_joined_for_sse_are_data_lines():
    text = join(records(2, StreamFormat.SSE), StreamFormat.SSE)
    assert text.count(b"data: {") == 2
    assert text.endswith(b"}\n\n")


def test_a_job_without_payload_is_joined_without_one():
    (record,) = records(1, StreamFormat.NDJSON)
    (frame,) = Splitter(StreamFormat.NDJSON).feed(join([record.with_(payload=None)], StreamFormat.NDJSON))
    assert "payload" not in msgspec.json.decode(frame)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, StreamFormat.NDJSON),
        ("*/*", StreamFormat.NDJSON),
        ("application/json", StreamFormat.NDJSON),
        ("application/msgpack", StreamFormat.MSGPACK),
        ("application/vnd.zizq.msgpack-stream", StreamFormat.MSGPACK),
        ("text/event-stream, */*", StreamFormat.SSE),
    ],
)
def test_the_stream_format_follows_the_accept_header(accept, form):
    assert stream_format(accept) is form


def test_an_unknown_stream_format_is_not_acceptable():
    with pytest.raises(NotAcceptable):
        stream_format("text/html")


@pytest.mark.parametrize("form", StreamFormat)
def test_each_stream_format_has_a_heartbeat_and_a_body_format(form):
    assert form.heartbeat.startswith((b"\0", b"\n", b":"))
    assert form.body in Format
