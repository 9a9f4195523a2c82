"""The endpoint of a worker process: what it lets in, and how long it waits."""

from __future__ import annotations

import asyncio
import logging
import socket
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from zizq.errors import ConfigError
from zizq.worker import probes
from zizq.worker.health import MAX_HEAD, WorkerHealth
from zizq.worker.probes import Address, Subject, probed, probed_apart

HEALTH = WorkerHealth(connected=True, stopping=False, running=0, concurrency=1, processed=0, failed=0)
LOCAL = Address("127.0.0.1", 0)
SUBJECT = Subject(lambda: HEALTH)


def port_of(caplog: pytest.LogCaptureFixture) -> int:
    [record] = [one for one in caplog.records if one.message == "listening for health checks"]
    return int(record.fields["addr"].rpartition(":")[2])  # type: ignore[attr-defined]


@asynccontextmanager
async def endpoint(caplog: pytest.LogCaptureFixture) -> AsyncIterator[int]:
    with caplog.at_level(logging.INFO, "zizq"):
        async with probed(LOCAL, SUBJECT):
            yield port_of(caplog)


async def exchange(port: int, *pieces: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    return answer


async def test_a_request_is_answered_however_it_comes_and_the_connection_ends(caplog):
    request = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"
    async with endpoint(caplog) as port:
        whole = await exchange(port, request)
        assert whole.startswith(b"HTTP/1.1 200 OK\r\n")
        assert await exchange(port, *(request[n : n + 1] for n in range(len(request)))) == whole
        assert await exchange(port, request + request) == whole


async def test_a_head_that_is_too_large_is_refused(caplog):
    async with endpoint(caplog) as port:
        answer = await exchange(port, b"GET /livez HTTP/1.1\r\nx: " + b"y" * 2 * MAX_HEAD)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b"8 KiB" in answer


async def test_who_says_nothing_is_cut_off(caplog, monkeypatch):
    monkeypatch.setattr(probes, "PATIENCE_S", 0.01)
    async with endpoint(caplog) as port:
        assert await exchange(port, b"GET /livez HTTP/1.1\r\n") == b""


async def test_there_is_no_room_for_a_crowd(caplog, monkeypatch):
    monkeypatch.setattr(probes, "MOST", 1)
    monkeypatch.setattr(probes, "PATIENCE_S", 60.0)
    async with endpoint(caplog) as port:
        _, first = await asyncio.open_connection("127.0.0.1", port)
        first.write(b"GET ")
        second, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(5):
            assert await second.read() == b""
        writer.close()
        first.close()
        while not (await exchange(port, b"GET /livez HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n"):
            pass


async def test_the_end_cuts_off_who_is_there_and_frees_the_port(caplog):
    async with endpoint(caplog) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET ")
        await exchange(port, b"GET /livez HTTP/1.1\r\n\r\n")
    assert await reader.read() == b""
    writer.close()
    socket.create_server(("127.0.0.1", port)).close()


def test_from_a_thread_it_is_the_same(caplog):
    with caplog.at_level(logging.INFO, "zizq"), probed_apart(LOCAL, Subject(lambda: HEALTH, lambda: "hangs")):
        url = f"http://127.0.0.1:{port_of(caplog)}"
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
            assert answer.status == 200
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{url}/livez", timeout=5)
    assert refused.value.code == 503
    assert refused.value.read() == b'{"error":"hangs"}'
    refused.value.close()


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        with (
            pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{address.port} .*--health-port"),
            probed_apart(address, SUBJECT),
        ):
            pass


async def test_without_an_address_nobody_is_answered():
    with probed_apart(None, SUBJECT):
        async with probed(None, SUBJECT):
            pass
