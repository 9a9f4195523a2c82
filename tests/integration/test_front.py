"""The front of the server: both versions of HTTP on one port, and who is let in."""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wire.talk2 import http2
from zizq.errors import ConfigError
from zizq.server.net import front
from zizq.server.net.endpoint import Endpoint
from zizq.server.net.native import NativeServer
from zizq.server.net.relay import End, proxy_line
from zizq.server.settings import Address, Settings


class App:
    """Says who asks; under /hang it says nothing more, until it is ended."""

    def __init__(self) -> None:
        self.hangs = asyncio.Event()
        self.ended = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        told = f"{scope['http_version']} {scope['client'][0]}:{scope['client'][1]}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": told, "more_body": True})
        try:
            if scope["path"] == "/hang":
                self.hangs.set()
                await asyncio.get_running_loop().create_future()
            await send({"type": "http.response.body", "body": b"\n"})
        finally:
            self.ended.set()


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[Any]:
    """A front, its application and where it is."""
    app = App()
    one = Endpoint(Address("primary", "127.0.0.1", 0), app, Settings(**({"drain_timeout": 100} | settings)))
    await one.start()
    host, _, port = one.addr.partition(":")
    talk = SimpleNamespace(address=(host, int(port)), app=app, endpoint=one, front=one._server)
    try:
        yield talk
    finally:
        one.stop_soon()
        await one.stopped()


async def ask(talk: Any, path: str = "/") -> tuple[str, str]:
    """What an HTTP/1.1 client is told, and who it is."""
    reader, writer = await asyncio.open_connection(*talk.address)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    mine = writer.get_extra_info("sockname")
    try:
        told = (await reader.readuntil(b"0\r\n\r\n")).decode()
    finally:
        writer.close()
    return told, f"{mine[0]}:{mine[1]}"


async def test_both_versions_are_spoken_on_one_port_and_know_their_client() -> None:
    async with serving() as talk, http2(talk) as client:
        reply = await client.ask("GET", "/")
        mine = client._writer.get_extra_info("sockname")
        assert bytes(reply.body) == f"2 {mine[0]}:{mine[1]}\n".encode()
        told, me = await ask(talk)
        assert f"1.1 {me}" in told


async def test_small_pieces_are_sent_at_once() -> None:
    async with serving() as talk:
        asking = asyncio.ensure_future(ask(talk, "/hang"))
        await talk.app.hangs.wait()
        [connection] = talk.front._open
        opened = connection.transport.get_extra_info("socket")
        assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        connection.cut()
        with pytest.raises((OSError, EOFError)):
            await asking


async def test_http_2_is_served_by_somebody_else_only_when_somebody_speaks_it() -> None:
    async with serving() as talk:
        await ask(talk)
        assert talk.front._http2._starting is None
        async with http2(talk) as client:
            await client.ask("GET", "/")
        assert talk.front._http2._starting.done()


def names_in(folder: Path) -> list[str]:
    return [one.name for one in folder.iterdir()]


def open_below(folder: Path) -> list[str]:
    """The names of the files below a folder that are open here."""
    links = [one for one in Path("/proc/self/fd").iterdir() if one.is_symlink()]
    return [path.name for path in map(Path.readlink, links) if path.is_relative_to(folder)]


@pytest.mark.skipif(sys.platform != "linux", reason="no other system reaches a socket without its name")
async def test_nothing_is_on_the_disk_of_what_serves_http_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with serving() as talk:
        for _ in range(2):
            async with http2(talk) as client:
                assert (await client.ask("GET", "/")).status == 200
        assert names_in(tmp_path) == []
        assert open_below(tmp_path) == ["http2 (deleted)"]
    assert open_below(tmp_path) == []


async def test_where_a_name_is_needed_it_is_in_a_folder_of_ours_and_gone_at_the_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("zizq.server.net.front.OWN_FILES", tmp_path / "none")
    async with serving() as talk:
        async with http2(talk) as client:
            assert (await client.ask("GET", "/")).status == 200
        folder = Path(await talk.front._http2.path()).parent
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


async def test_clients_that_come_at_once_share_what_serves_http_2() -> None:
    async def one(talk: Any) -> int:
        async with http2(talk) as client:
            return (await client.ask("GET", "/")).status

    async with serving() as talk:
        assert await asyncio.gather(*(one(talk) for _ in range(20))) == [200] * 20


async def test_where_http_2_cannot_be_served_its_client_is_let_go_and_the_next_tries_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(self: NativeServer) -> None:
        raise ConfigError("no room")

    async with serving() as talk:
        with monkeypatch.context() as broken:
            broken.setattr(NativeServer, "start", fails)
            async with http2(talk) as client:
                with pytest.raises((AssertionError, ConnectionError)):
                    await client.ask("GET", "/")
        assert "HTTP/2 cannot be served" in caplog.text
        async with http2(talk) as client:
            assert (await client.ask("GET", "/")).status == 200


async def test_a_client_of_http_2_counts_for_the_descriptors_it_takes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as talk:
        monkeypatch.setattr(talk.front, "_descriptors", 3)
        async with http2(talk) as client:
            assert (await client.ask("GET", "/")).status == 200
            asking = asyncio.ensure_future(ask(talk))
            await client.ask("GET", "/")
            assert not asking.done()
        told, me = await asking
        assert f"1.1 {me}" in told
        monkeypatch.setattr(talk.front, "_descriptors", 2)
        async with http2(talk) as client:
            with pytest.raises((AssertionError, ConnectionError)):
                await client.ask("GET", "/")
        assert "a client of HTTP/2 is not let in" in caplog.text


async def test_a_client_of_http_2_that_does_not_leave_holds_up_no_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "LINGER_S", 0.0)
    monkeypatch.setattr(front, "LOOK_S", 0.01)
    async with serving(drain_timeout=20_000) as talk, http2(talk) as client:
        await client.ask("GET", "/")
        talk.endpoint.stop_soon()
        await asyncio.wait_for(talk.endpoint.stopped(), 10)


@pytest.mark.parametrize("version", [1, 2])
async def test_what_does_not_end_is_cut_off_when_its_time_is_up(version: int) -> None:
    async with AsyncExitStack() as stack:
        async with serving(drain_timeout=50) as talk:
            if version == 1:
                asking = asyncio.ensure_future(ask(talk, "/hang"))
            else:
                client = await stack.enter_async_context(http2(talk))
                asking = asyncio.ensure_future(client.ask("GET", "/hang"))
            await talk.app.hangs.wait()
        assert talk.app.ended.is_set()
        with pytest.raises((AssertionError, OSError, EOFError)):
            await asking


async def test_where_descriptors_are_short_the_next_one_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Short:
        """A listener that has no descriptor for the first that comes."""

        def __init__(self, listener: Any) -> None:
            self._listener, self.refused = listener, 0

        def accept(self) -> Any:
            if not self.refused:
                self.refused += 1
                raise OSError(errno.EMFILE, "Too many open files")
            return self._listener.accept()

        def fileno(self) -> int:
            return int(self._listener.fileno())

    monkeypatch.setattr(front, "SHORT_S", 0)
    async with serving() as talk:
        talk.front._accept_no_more()
        talk.front._listener = short = Short(talk.front._listener)
        talk.front._accept_more()
        told, me = await ask(talk)
        assert f"1.1 {me}" in told
        assert short.refused == 1
        assert "nobody is let in for a moment" in caplog.text


async def test_silent_connections_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "LOOK_S", 0.001)
    monkeypatch.setattr("zizq.server.net.http1.OPENING_S", 0.0)
    async with serving() as talk:
        reader, writer = await asyncio.open_connection(*talk.address)
        assert await reader.read() == b""
        writer.close()


def test_a_client_is_named_to_who_does_not_see_it() -> None:
    assert proxy_line(("10.0.0.9", 4000), ("10.0.0.1", 7890)) == b"PROXY TCP4 10.0.0.9 10.0.0.1 4000 7890\r\n"
    assert proxy_line(("::1", 1), ("::2", 2)) == b"PROXY TCP6 ::1 ::2 1 2\r\n"
    assert proxy_line(None, ("::2", 2)) == b"PROXY UNKNOWN\r\n"


class Pipe:
    """A transport that keeps what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def is_closing(self) -> bool:
        return ("close",) in self.asked

    def __getattr__(self, name: str) -> Any:
        return lambda *what: self.asked.append((name, *what))


def test_two_ends_are_as_one() -> None:
    left: list[End] = []
    ends, pipes = (End(left.append), End(left.append)), (Pipe(), Pipe())
    for end, pipe in zip(ends, pipes, strict=True):
        end.connection_made(pipe)  # type: ignore[arg-type]
    ends[0].join(ends[1])
    ends[0].data_received(b"there")
    ends[1].data_received(b"back")
    ends[1].pause_writing()
    ends[1].resume_writing()
    ends[0].connection_lost(None)
    ends[1].data_received(b"for nobody")
    assert left == [ends[0]]
    ends[1].close()
    ends[1].finish(1.0)
    assert pipes[1].asked == [("write", b"there"), ("close",)]
    assert pipes[0].asked == [("write", b"back"), ("pause_reading",), ("resume_reading",)]


def test_an_end_that_is_finished_is_still_read_for_a_while() -> None:
    end, pipe = End(lambda end: None), Pipe()
    end.connection_made(pipe)  # type: ignore[arg-type]
    end.finish(7.0)
    assert (end.due_at, pipe.asked) == (7.0, [("write_eof",)])
    end.expire()
    assert pipe.asked[1:] == [("abort",)]


async def test_a_client_reads_why_http_2_was_refused_while_it_still_sends() -> None:
    async with serving() as talk:
        reader, writer = await asyncio.open_connection(*talk.address)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"junk" * 10_000)
        assert await reader.read()
        writer.close()
