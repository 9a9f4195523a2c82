"""Requests over HTTP/1.1 come to the application and answers back; what is no request does not."""

from __future__ import annotations

import re

import pytest
from trust.line import DATE, Client

from unit.server.line import GET, App, Streaming, ok, post
from zizq.server.net.http1 import AHEAD
from zizq.server.net.limits import LINGER_S, MAX_FIELDS, MAX_HEAD

REFUSAL = b"HTTP/1.1 400 Bad Request\r\n" + DATE + b"content-length: 0\r\nconnection: close\r\n\r\n"

# ── requests and answers ──


async def test_a_request_comes_to_the_application_and_its_answer_back() -> None:
    app = App()
    client = Client(app)
    asked = (
        b"POST /jobs/a%20b%2Fc?x=%20y HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\ncontent-length: 2\r\n\r\nhi"
    )
    assert await client.send(asked) == ok(b"hi")
    [scope] = app.scopes
    assert (scope["method"], scope["path"], scope["raw_path"]) == ("POST", "/jobs/a b/c", b"/jobs/a%20b%2Fc")
    assert (scope["query_string"], scope["http_version"]) == (b"x=%20y", "1.1")
    assert scope["headers"] == [(b"host", b"x"), (b"content-type", b"text/plain"), (b"content-length", b"2")]
    assert (scope["client"], scope["server"]) == (("10.0.0.9", 4000), ("10.0.0.1", 7890))
    assert not client.running


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [(b"http://other:1/jobs?a=b", "/jobs", b"a=b"), (b"http://other", "/", b""), (b"*", "*", b"")],
)
async def test_a_target_may_name_the_server(target: bytes, path: str, query: bytes) -> None:
    app = App()
    await Client(app).send(b"OPTIONS " + target + b" HTTP/1.1\r\nhost: x\r\n\r\n")
    assert [(scope["path"], scope["query_string"]) for scope in app.scopes] == [(path, query)]


async def test_one_connection_carries_one_request_after_another() -> None:
    client = Client(App())
    for number in range(3):
        assert await client.send(post(b"%d" % number)) == ok(b"%d" % number)
    assert not client.transport.is_closing()


async def test_a_request_may_come_byte_by_byte() -> None:
    client = Client(App())
    for byte in post(b"hello"):
        await client.send(bytes([byte]))
    assert client.transport.written == ok(b"hello")


async def test_a_body_in_chunks_is_read_without_its_trailers() -> None:
    app = App()
    client = Client(app)
    asked = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nx-late: 1\r\n\r\n"
    assert await client.send(asked) == ok(b"abcde")
    assert app.scopes[0]["headers"] == [(b"transfer-encoding", b"chunked")]
    assert await client.send(post(b"next")) == ok(b"next")


async def test_answers_come_in_the_order_of_requests_that_were_sent_ahead() -> None:
    client = Client(App())
    assert await client.send(post(b"1") + post(b"2") + post(b"3")) == ok(b"1") + ok(b"2") + ok(b"3")
    assert client.transport.is_reading


async def test_nobody_reads_on_while_a_request_waits_for_the_one_before_it() -> None:
    streaming = Streaming()
    client = Client(streaming)
    await client.send(GET)
    assert client.transport.is_reading
    await client.send(GET)
    assert not client.transport.is_reading
    await streaming.pieces.put(b"")
    await client.answer()
    assert client.transport.is_reading


async def test_a_client_that_sends_too_far_ahead_is_answered_that_far() -> None:
    client = Client(App())
    answered = await client.send(b"".join(post(b"%d" % number) for number in range(AHEAD + 5)))
    bodies = re.findall(rb"\r\n\r\n(\d+)", answered)
    assert bodies == [b"%d" % number for number in range(AHEAD + 1)]
    assert answered.count(b"connection: close") == 1
    # What it sent beyond that must not take the answers from it.
    assert client.transport.has_ended
    assert not client.transport.is_closed


async def test_an_answer_without_a_length_comes_in_chunks() -> None:
    streaming = Streaming()
    client = Client(streaming)
    head = b"HTTP/1.1 200 OK\r\n" + DATE + b"transfer-encoding: chunked\r\n\r\n"
    assert await client.send(GET) == head
    before = len(head)
    await streaming.pieces.put(b"0123456789abcdef")
    assert await client.answer(before) == b"10\r\n0123456789abcdef\r\n"
    await streaming.pieces.put(b"")
    assert (await client.answer(before)).endswith(b"cdef\r\n0\r\n\r\n")
    assert not client.transport.is_closing()


async def test_http_1_0_gets_an_answer_to_the_end_of_the_connection() -> None:
    client = Client(App(headers=((b"x", b"y"),)))
    answer = await client.send(b"POST / HTTP/1.0\r\ncontent-length: 2\r\n\r\nhi")
    assert answer == b"HTTP/1.1 200 OK\r\n" + DATE + b"x: y\r\nconnection: close\r\n\r\nhi"
    assert client.transport.is_closed


@pytest.mark.parametrize(
    ("method", "status", "line"),
    [(b"HEAD", 200, b"200 OK"), (b"GET", 204, b"204 No Content"), (b"GET", 304, b"304 Not Modified")],
)
async def test_what_has_no_body_gets_none(method: bytes, status: int, line: bytes) -> None:
    client = Client(App(status, ((b"x", b"y"),)))
    answer = await client.send(method + b" / HTTP/1.1\r\nhost: x\r\n\r\n")
    assert answer == b"HTTP/1.1 " + line + b"\r\n" + DATE + b"x: y\r\n\r\n"
    assert not client.transport.is_closing()


async def test_connection_close_ends_it_after_the_answer() -> None:
    client = Client(App())
    assert await client.send(post(b"x", b"connection: close\r\n")) == ok(b"x", last=True)
    assert client.transport.is_closed
    assert await client.send(GET) == b""


async def test_who_asks_to_switch_is_answered_as_if_not() -> None:
    app = App()
    client = Client(app)
    asked = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    assert await client.send(asked) == ok(b"", last=True)
    assert client.transport.is_closed


async def test_to_continue_is_said_to_who_waits_for_it() -> None:
    client = Client(App())
    head, body = post(b"hi", b"expect: 100-continue\r\n")[:-2], b"hi"
    assert await client.send(head) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert await client.send(body) == ok(b"hi")


async def test_to_continue_is_not_said_where_the_body_is_not_wanted() -> None:
    client = Client(App(413, reads=False))
    answer = await client.send(post(b"hi", b"expect: 100-continue\r\n")[:-2])
    assert answer.startswith(b"HTTP/1.1 413 Request Entity Too Large\r\n")


@pytest.mark.parametrize("body", [b"", b"content-length: 5\r\n"])
async def test_to_continue_is_not_said_inside_an_answer(body: bytes) -> None:
    client = Client(Streaming())
    answer = await client.send(b"POST / HTTP/1.1\r\n" + body + b"expect: 100-Continue\r\n\r\n")
    assert b"100" not in answer


async def test_a_long_body_before_a_head_is_no_part_of_it() -> None:
    client = Client(App())
    body = b"x" * MAX_HEAD
    asked = post(body) + GET
    await client.send(asked[:100])
    assert b"431" not in await client.send(asked[100:-4])
    assert (await client.send(asked[-4:])).endswith(ok(b""))


async def test_a_target_counts_as_a_part_of_the_head() -> None:
    client = Client(App())
    assert (await client.send(b"GET /" + b"x" * MAX_HEAD + b" HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 431 ")


# ── what is refused ──


@pytest.mark.parametrize("coding", [b"gzip", b"xchunked", b"gzip, chunked", b"chunked;q=1", b"identity"])
async def test_a_body_in_a_coding_that_is_not_read_is_refused_and_nothing_is_done(coding: bytes) -> None:
    app = App()
    client = Client(app)
    answer = await client.send(
        b"DELETE /jobs HTTP/1.1\r\nhost: x\r\ntransfer-encoding: " + coding + b"\r\n\r\n0\r\n\r\n"
    )
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 "))
    assert app.scopes == []


async def test_chunked_may_be_written_in_capitals() -> None:
    asked = b"POST / HTTP/1.1\r\nhost: x\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
    assert await Client(App()).send(asked) == ok(b"a")


@pytest.mark.parametrize(
    "junk",
    [
        b"no http at all\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: a\x00b\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_refused(junk: bytes) -> None:
    app = App()
    client = Client(app)
    assert await client.send(junk) == REFUSAL
    assert client.transport.has_ended
    assert not app.scopes
    assert await client.send(GET) == b""


async def test_a_request_before_junk_is_still_answered_and_then_the_junk() -> None:
    client = Client(App())
    assert await client.send(post(b"x") + b"junk\r\n\r\n") == ok(b"x") + REFUSAL
    assert client.transport.has_ended


async def test_junk_behind_the_last_request_is_nothing() -> None:
    client = Client(App())
    assert await client.send(post(b"x", b"connection: close\r\n") + b"junk\r\n\r\n") == ok(b"x", last=True)
    assert client.transport.has_ended


async def test_a_body_that_turns_into_junk_is_cut_off() -> None:
    app = App()
    client = Client(app)
    await client.send(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await client.send(b"no length\r\n")
    assert [message["type"] for message in app.heard] == ["http.request", "http.disconnect"]


@pytest.mark.parametrize("width", [1000, 10 * MAX_HEAD])
async def test_a_head_has_so_many_bytes_and_no_more(width: int) -> None:
    app = App()
    client = Client(app)
    head = b"GET / HTTP/1.1\r\nx: " + b"y" * MAX_HEAD + b"\r\n\r\n"
    for at in range(0, len(head), width):
        await client.send(head[at : at + width])
    assert client.transport.written.startswith(b"HTTP/1.1 431 ")
    assert not app.scopes


@pytest.mark.parametrize(("count", "status"), [(MAX_FIELDS, b"200"), (MAX_FIELDS + 1, b"431")])
async def test_a_head_has_so_many_fields_and_no_more(count: int, status: bytes) -> None:
    client = Client(App())
    answer = await client.send(b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * count + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 " + status)


async def test_a_refused_body_is_not_read_but_its_client_has_time_to_hear_why() -> None:
    client = Client(App(413, reads=False))
    answer = await client.send(post(b"x" * 50)[:-20])
    assert b"connection: close" in answer
    assert client.transport.has_ended
    assert not client.transport.is_closed
    assert await client.send(b"x" * 20 + GET) == b""
    assert not client.pass_s(LINGER_S - 0.1)
    assert client.pass_s(0.1)
    assert client.transport.is_closed
