"""Who is slow on a connection of HTTP/1.1, who leaves it, and who is not for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from trust.line import Client, Transport

from unit.server.line import GET, App, Streaming, ok, post
from zizq.server.net.http1 import READ_AHEAD, Connection
from zizq.server.net.limits import HEAD_S, IDLE_S, LINGER_S, MAX_HEAD, OPENING_S, PATIENCE_S

# ── who is slow ──


async def test_a_body_is_not_read_far_ahead() -> None:
    gate = asyncio.Event()

    async def waits(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await App()(scope, receive, send)

    client = Client(waits)
    body = b"x" * (2 * READ_AHEAD)
    asked = post(body)
    await client.send(asked[:-10])
    assert not client.transport.is_reading
    gate.set()
    await client.answer()
    assert client.transport.is_reading
    assert await client.send(asked[-10:]) == ok(body)


async def test_who_does_not_read_is_not_written_to_without_end() -> None:
    streaming = Streaming()
    client = Client(streaming)
    await client.send(GET)
    client.connection.pause_writing()
    for piece in (b"first", b"second"):
        await streaming.pieces.put(piece)
    assert b"second" not in await client.answer()
    client.connection.resume_writing()
    assert b"second" in await client.answer()


async def test_a_head_has_so_much_time_and_no_more() -> None:
    client = Client(App())
    await client.send(GET[:5])
    assert not client.pass_s(HEAD_S - 0.1)
    await client.send(GET[5:6])
    assert client.pass_s(0.1)
    assert (await client.answer()).startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert client.pass_s(LINGER_S)
    assert client.transport.is_closed


async def test_a_connection_is_opened_to_say_something() -> None:
    client = Client(App())
    assert not client.pass_s(OPENING_S - 1)
    assert client.pass_s(1)
    assert client.transport.is_closed


async def test_a_connection_may_rest_between_requests() -> None:
    client = Client(App())
    await client.send(GET)
    assert not client.pass_s(IDLE_S["primary"] - 1)
    await client.send(GET)
    assert not client.pass_s(IDLE_S["primary"] - 1)
    assert client.pass_s(1)
    assert client.transport.is_closed


async def test_silence_inside_a_body_ends_it() -> None:
    app = App()
    client = Client(app)
    await client.send(post(b"abcd")[:-2])
    assert not client.pass_s(PATIENCE_S - 1)
    await client.send(b"c")
    assert not client.pass_s(PATIENCE_S - 1)
    assert client.pass_s(1)
    await client.answer()
    assert app.heard[-1] == {"type": "http.disconnect"}
    assert client.transport.has_ended


async def test_silence_inside_a_body_that_was_sent_ahead_ends_it_too() -> None:
    client = Client(App())
    await client.send(GET + post(b"abcd")[:-4])
    assert client.transport.written.startswith(ok(b""))
    assert not client.pass_s(PATIENCE_S - 1)
    assert client.pass_s(1)
    await client.answer()
    assert client.transport.has_ended


async def test_an_answer_may_take_as_long_as_it_likes() -> None:
    client = Client(Streaming())
    await client.send(GET)
    assert not client.pass_s(1e6)


async def test_who_is_not_read_is_not_called_silent() -> None:
    streaming = Streaming()
    client = Client(streaming)
    await client.send(GET + post(b"abcd")[:-2])
    assert not client.transport.is_reading
    assert client.pass_s(PATIENCE_S)
    assert not client.transport.is_closing()
    await streaming.pieces.put(b"")
    await client.answer()
    assert client.transport.is_reading
    assert not client.pass_s(PATIENCE_S - 1)


async def test_answers_are_not_kept_without_end_for_who_does_not_read_them() -> None:
    client = Client(App())
    client.connection.pause_writing()
    for _ in range(100):
        await client.send(post(b"x"))
    assert client.transport.written == ok(b"x")
    assert not client.transport.is_reading
    client.connection.resume_writing()
    assert len(await client.answer()) > len(ok(b"x"))


async def test_what_is_left_to_send_does_not_hold_a_connection_for_ever() -> None:
    client = Client(App())
    await client.send(post(b"x", b"connection: close\r\n"))
    assert client.transport.is_closed
    assert client.pass_s(PATIENCE_S)
    assert client.transport.is_aborted


@pytest.mark.parametrize("part", [b"x: ", b"y" * 1000])
async def test_a_trailer_has_an_end(part: bytes) -> None:
    client = Client(App())
    await client.send(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nz: ")
    for _ in range(MAX_HEAD // len(part) + 2):
        await client.send(part)
    assert client.transport.has_ended


# ── who leaves ──


async def test_an_open_answer_hears_at_once_that_its_client_has_gone() -> None:
    streaming = Streaming()
    client = Client(streaming)
    await client.send(GET)
    client.connection.connection_lost(None)
    await client.answer()
    assert streaming.has_heard_end
    assert client.has_left
    await streaming.pieces.put(b"for nobody")
    await client.answer()
    assert not client.running


async def test_to_send_to_who_has_gone_is_an_error() -> None:
    errors: list[type[BaseException]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await receive()
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        except OSError as error:
            errors.append(type(error))

    client = Client(app)
    await client.send(GET)
    client.connection.connection_lost(None)
    assert await client.answer() == client.transport.written
    assert errors == [ConnectionResetError]


async def deaf() -> Client:
    """A client to whom an open answer waits to be sent."""
    streaming = Streaming()
    client = Client(streaming)
    await client.send(GET)
    client.connection.pause_writing()
    for piece in (b"x", b"y"):
        await streaming.pieces.put(piece)
    await client.answer()
    return client


async def test_who_waits_for_a_slow_reader_is_woken_by_its_end() -> None:
    client = await deaf()
    client.connection.connection_lost(None)
    await client.answer()
    assert not client.running


async def test_who_is_cut_off_while_it_does_not_read_is_gone() -> None:
    client = await deaf()
    [exchange] = client.running
    exchange.cancel()
    client.connection.connection_lost(None)
    assert client.has_left
    await client.answer()
    assert not client.running


async def test_what_is_cut_off_before_it_has_begun_is_over() -> None:
    client = Client(App())
    client.connection.data_received(GET)
    [exchange] = client.running
    exchange.cancel()
    await client.answer()
    assert not client.running


async def test_who_sends_no_more_is_still_answered() -> None:
    client = Client(App())
    client.connection.data_received(post(b"x"))
    assert client.connection.eof_received() is True
    assert await client.answer() == ok(b"x", last=True)
    assert client.transport.is_closed


async def test_an_open_stream_ends_with_what_its_client_sends() -> None:
    streaming = Streaming()
    client = Client(streaming)
    await client.send(GET)
    assert client.connection.eof_received() is True
    await client.answer()
    assert streaming.has_heard_end


async def test_who_sends_no_more_and_waits_for_nothing_is_let_go() -> None:
    assert Client(App()).connection.eof_received() is False


# ── the end of the server, and of applications ──


async def test_an_idle_connection_ends_with_the_server() -> None:
    client = Client(App())
    await client.send(GET)
    client.connection.stop_soon()
    assert client.transport.is_closed


async def test_what_was_asked_before_the_server_stops_is_answered() -> None:
    streaming = Streaming()
    client = Client(streaming)
    await client.send(GET)
    client.connection.stop_soon()
    assert not client.transport.is_closing()
    await streaming.pieces.put(b"")
    assert (await client.answer()).endswith(b"0\r\n\r\n")
    assert client.transport.is_closed


async def test_a_connection_that_comes_while_the_server_stops_is_closed() -> None:
    host = Client(App())
    connection, transport = Connection(host), Transport()
    connection.stop_soon()
    connection.connection_made(transport)  # type: ignore[arg-type]
    assert transport.is_closed


async def test_an_application_that_fails_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("no")

    client = Client(fails)
    assert await client.send(GET) == b""
    assert client.transport.is_aborted
    assert "the application failed" in caplog.text


async def test_a_connection_that_is_cut_is_gone() -> None:
    client = Client(Streaming())
    await client.send(GET)
    client.connection.cut()
    assert client.transport.is_aborted


# ── who speaks HTTP/2 ──


@pytest.mark.parametrize("width", [1, 5, 100])
async def test_http_2_is_known_by_its_first_line(width: int) -> None:
    app = App()
    client = Client(app)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    for at in range(0, 16, width):
        await client.send(preface[at : at + width])
    assert preface.startswith(client.http2)
    assert len(client.http2) >= 16
    assert not client.transport.written


async def test_a_method_that_only_begins_like_it_is_http_1() -> None:
    client = Client(App())
    await client.send(b"P")
    assert await client.send(post(b"x")[1:]) == ok(b"x")
