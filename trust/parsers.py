"""Every parser that reads what comes from outside, as a function of bytes that fails when a promise is broken.

A parser may refuse its input, with the error that it documents; any other exception is a defect. What it takes must
hold what it says. `trust.fuzz` feeds these by coverage, and the tests by Hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import quote, unquote_to_bytes

import msgspec

from trust.http1 import feed as http1
from zizq.client.call import Response, raise_refusal
from zizq.client.job import JobReader
from zizq.engine.cron import grammar
from zizq.errors import BadRequest, ConfigError, DecodeError, NotAcceptable, Refusal, ResponseError, UnsupportedMedia
from zizq.ids import created_at, encode, is_id
from zizq.server.http import bodies, query
from zizq.server.http.exchange import Request
from zizq.server.http.head import Head
from zizq.server.http.peer import peer_name
from zizq.server.logs import parse_filter
from zizq.wire import codec, framing
from zizq.wire import operations as op
from zizq.wire.codec import Body, Format
from zizq.wire.framing import Splitter, StreamFormat
from zizq.wire.messages import Enqueue
from zizq.words import duration, parse_duration, parse_size, size
from zizq.zones import zone

NOW = 1_790_000_000_000
ID = "03gwrj487tb5hvwrkxt8ch88w"
_FORMS = (Format.JSON, Format.MSGPACK)
_STREAMS = (StreamFormat.NDJSON, StreamFormat.MSGPACK)
_BODIES = [Body(one.body) for one in op.OPERATIONS if one.body is not None]
_ANSWERS = [Body(shape) for one in op.OPERATIONS for shape in one.answers.values() if shape is not None]
_ENQUEUE = Body(Enqueue)
_ZONES = [
    zone(name) for name in ("UTC", "Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Africa/Casablanca")
]


class Parser(NamedTuple):
    """One parser: how to feed it, and what to begin with."""

    feed: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


def _split(data: bytes) -> tuple[int, bytes]:
    """A small number to choose by, and the rest."""
    return (data[0] if data else 0), data[1:]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def request_body(data: bytes) -> None:
    """Bodies of all calls, in both formats."""
    choice, raw = _split(data)
    form = _FORMS[choice % 2]
    try:
        _BODIES[choice // 2 % len(_BODIES)].read(raw, form)
    except BadRequest:
        return


def new_job(data: bytes) -> None:
    """Bodies of enqueues, up to the job that is stored and its way out again."""
    choice, raw = _split(data)
    form = _FORMS[choice % 2]
    try:
        job = bodies.new_job(ID, NOW, _ENQUEUE.read(raw, form), form)
    except Refusal:
        return
    for answer in _FORMS:
        sent = codec.encode(codec.job_to_send(job, answer), answer)
        assert JobReader(answer).one(sent).id == ID


def payload(data: bytes) -> None:
    """Payloads: what is stored is the same however it comes back."""
    choice, raw = _split(data)
    form = _FORMS[choice % 2]
    try:
        stored = codec.payload_to_store(msgspec.Raw(raw), form)
    except BadRequest:
        return
    value = codec.read_payload(stored, Format.MSGPACK)
    as_json = codec.payload_to_send(stored, Format.JSON)
    again = codec.payload_to_store(as_json, Format.JSON)
    # JSON has neither infinities nor NaN, and nothing is equal to NaN.
    if b"null" not in bytes(as_json):
        assert codec.read_payload(again, Format.MSGPACK) == value, (value, bytes(as_json))


def answer(data: bytes) -> None:
    """Answers, as the client reads them."""
    choice, raw = _split(data)
    form = _FORMS[choice % 2]
    with suppress(BadRequest):
        _ANSWERS[choice // 2 % len(_ANSWERS)].read(raw, form)
    with suppress(DecodeError):
        JobReader(form).one(raw)
    with suppress(ResponseError):
        raise_refusal(Response(400 + choice, form.value, raw))


def frames(data: bytes) -> None:
    """Take streams: the same frames whatever the pieces they come in."""
    choice, raw = _split(data)
    form = _STREAMS[choice % 2]
    step = 1 + choice // 2 % 16

    def cut(pieces: list[bytes]) -> tuple[list[bytes], bool]:
        splitter, found = Splitter(form, max_frame=1000), []
        try:
            for piece in pieces:
                found += splitter.feed(piece)
            splitter.finish()
        except DecodeError:
            return found, False
        return found, True

    whole, pieces = cut([raw]), cut([raw[at : at + step] for at in range(0, len(raw), step)])
    assert whole == pieces or not (whole[1] or pieces[1]), (whole, pieces)
    for frame in whole[0]:
        with suppress(DecodeError):
            JobReader(form.body).one(frame)


def query_string(data: bytes) -> None:
    """Query strings of all calls; a filter that was read says itself again."""
    choice, raw = _split(data)
    operation = op.OPERATIONS[choice % len(op.OPERATIONS)]
    try:
        found = Request(_scope(raw), _nothing, 0).query(operation)
        query.page_request(found, str)
        query.change_filter(found)
        chosen = query.job_filter(found)
    except BadRequest:
        return
    again = Request(_scope(chosen.text()[1:].encode()), _nothing, 0).query(op.COUNT_JOBS)
    assert query.job_filter(again) == chosen, (found, chosen.text())


def _scope(query: bytes, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"method": "GET", "path": "/", "query_string": query, "headers": headers}


async def _nothing() -> Any:
    raise AssertionError("nothing is received here")


def headers(data: bytes) -> None:
    """Headers that choose formats, and names in certificates."""
    raw = data.decode("latin-1")
    text = Head(_scope(b"", (b"accept", data))).header(b"accept")
    for choose, error in (
        (codec.response_format, NotAcceptable),
        (codec.request_format, UnsupportedMedia),
        (framing.stream_format, NotAcceptable),
    ):
        with suppress(error):
            choose(text)
    peer_name({"extensions": {"tls": {"client_cert_name": raw}}})


def identifier(data: bytes) -> None:
    """Identifiers."""
    text = _text(data)
    try:
        at = created_at(text)
    except ValueError:
        assert not is_id(text)
        return
    assert at >= 0
    number = int(text, 36)
    assert encode(number % 2**128) == text or number >= 2**128


def path(data: bytes) -> None:
    """Segments of paths: what a client writes is what the server reads."""
    text = _text(data)
    assert unquote_to_bytes(op.GET_JOB.at(text).removeprefix("/jobs/")) == text.encode("utf-8", "replace")
    assert "/" not in quote(text, safe="")


def cron(data: bytes) -> None:
    """Cron expressions, and the next five times that they name."""
    choice, raw = _split(data)
    try:
        schedule = grammar.parse(_text(raw))
    except BadRequest:
        return
    assert grammar.parse(schedule.text) == schedule
    at: int | None = NOW + choice * 86_400_000
    for _ in range(5):
        before = at
        at = schedule.next_after(before, _ZONES[choice % len(_ZONES)])
        if at is None:
            return
        assert at > before


def word(data: bytes) -> None:
    """Durations, sizes and log filters of options."""
    text = _text(data)
    for read, show in ((parse_duration, duration), (parse_size, size)):
        try:
            number = read(text)
        except ValueError:
            continue
        assert number >= 0
        assert show(number)
    with suppress(ConfigError):
        parse_filter(text)


_JOB = (
    b'{"type":"t","queue":"q","payload":{"n":[1,2.5,null,"x"]},"priority":3,"ready_at":1790000000000,"retry_limit":2,'
)
_JOB += b'"backoff":{"exponent":2,"base_ms":1,"jitter_ms":1},"retention":{"completed_ms":1},"unique_key":"k",'
_JOB += (
    b'"budgets":[{"key":"b","cost":2,"create_with":{"allocation":5,"strategy":{"type":"rate","duration_ms":1000}}}]}'
)


def _both(*documents: bytes) -> tuple[bytes, ...]:
    """Documents in JSON, each in both formats, with the byte before them that chooses."""
    return tuple(
        bytes((choice,)) + (document if choice % 2 == 0 else msgspec.msgpack.encode(msgspec.json.decode(document)))
        for document in documents
        for choice in (0, 1, 2, 3)
    )


PARSERS = {
    "request_body": Parser(request_body, _both(_JOB, b'{"jobs":[%s]}' % _JOB, b'{"ids":["%s"]}' % ID.encode())),
    "new_job": Parser(new_job, _both(_JOB, b'{"type":"t","queue":"q","payload":[[[{}]]]}')),
    "payload": Parser(payload, _both(b'{"b":1,"a":[18446744073709551615,-1,1e300]}', b'"x"', b"[[[[]]]]")),
    "answer": Parser(answer, _both(b'{"id":"%s","type":"t","queue":"q","priority":1}' % ID.encode(), b'{"error":"x"}')),
    "frames": Parser(frames, (b'\0{"a":1}\n\n{"b":2}\n', b"\1\0\0\0\1x\0\0\0\0\0\0\0\2yz", b"\3\xff\xff\xff\xff")),
    "http1": Parser(
        http1,
        tuple(
            bytes((cut, more)) + sent
            for cut, more in ((0, 0), (6, 20), (1, 3))
            for sent in (
                b"GET /a%20b?c HTTP/1.1\r\nhost: x\r\n\r\nPOST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc",
                b"POST http://x/y HTTP/1.1\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n"
                b"3;e=1\r\nabc\r\n0\r\nt: 1\r\n\r\nHEAD / HTTP/1.0\r\n\r\n",
                b"GET / HTTP/1.1\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                b"POST / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer zq_a_b\r\ncontent-length: 3\r\n\r\nabc",
                b"\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n",
                b"GET / HTTP/1.1\r\n\r\njunk\r\n\r\n",
                b"OPTIONS * HTTP/1.1\r\nconnection: close\r\n\r\n" + b"GET / HTTP/1.1\r\n\r\n" * 2,
                b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\nno length\r\n",
                # Each of these has an end that may be sent again and again.
                b"GET /" + b"x",
                b"GET / HTTP/1.1\r\nx: y",
                b"POST / HTTP/1.1\r\ncontent-length: 99999999\r\n\r\nabc",
                b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1;e",
            )
        ),
    ),
    "query_string": Parser(
        query_string,
        tuple(bytes((at,)) + b"status=ready,dead&queue=a%2Cb&priority=1..9&limit=5&from=x" for at in range(12)),
    ),
    "headers": Parser(headers, (b"application/json, */*", b"text/event-stream\t", b"CN=a\\2cb,O=x+OU=y")),
    "identifier": Parser(identifier, (ID.encode(), b"z" * 25, b"0" * 25)),
    "path": Parser(path, (b"a/b", b"%2F..", "ü?#".encode())),
    "cron": Parser(
        cron,
        (b"\0*/5 0 LW jan-mar 5#2,6l", b"\1@daily", b"\x020 0 30 2 *", b"\x030 0 29 2 * 5000",
         b"\x042 30 2 ? * +mon 2026"),
    ),
    "word": Parser(word, (b"1h 30m", b"1.5s", b"256MiB", b"warn,zizq::take=debug", b"9" * 400 + b"y")),
}  # fmt: skip
"""All parsers, by name."""
