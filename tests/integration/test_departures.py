"""A client that leaves is noticed at once, however it leaves and however long the heartbeat is."""

from __future__ import annotations

import asyncio
import socket
import struct

import msgspec
import pytest

from zizq.engine import admit
from zizq.testing.bench import Recorder
from zizq.testing.server import RunningServer, running_server

HEARTBEAT_MS = 3_600_000  # no heartbeat helps in these tests


async def take_one(server: RunningServer) -> asyncio.StreamWriter:
    """Open a take stream by hand, and wait until its job has come."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /jobs/take HTTP/1.1\r\nhost: x\r\n\r\n")
    await reader.readuntil(b'"status":"in_flight"')
    return writer


def leave_with_fin(writer: asyncio.StreamWriter) -> None:
    writer.close()


def leave_with_rst(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


def leave_by_half(writer: asyncio.StreamWriter) -> None:
    writer.write_eof()


@pytest.mark.parametrize("leave", [leave_with_fin, leave_with_rst, leave_by_half])
async def test_a_client_that_leaves_gives_its_jobs_back_at_once(leave) -> None:  # type: ignore[no-untyped-def]
    async with running_server(heartbeat_interval=HEARTBEAT_MS) as server:
        given_back = asyncio.Event()
        heard = Recorder()
        await enqueue(server)
        writer = await take_one(server)
        server.app.broker.available = lambda queues: (heard.available(queues), given_back.set())  # type: ignore[method-assign]
        leave(writer)
        await asyncio.wait_for(given_back.wait(), 5)
        assert heard.queues == ["q"]
        writer.close()


async def test_streams_that_come_and_go_are_each_noticed() -> None:
    async with running_server(heartbeat_interval=HEARTBEAT_MS, max_worker_deaths=0) as server:
        await enqueue(server)
        # Each stream gets the descriptor of the one before; each gets the job that the one before gave back.
        for _ in range(20):
            writer = await asyncio.wait_for(take_one(server), 5)
            writer.close()


async def enqueue(server: RunningServer) -> None:
    broker = server.app.broker
    job = admit.new_job(broker.next_id(), broker.now(), type="t", queue="q", payload=msgspec.Raw(b"\xc0"))
    await broker.enqueue([job])


async def test_one_search_finds_all_streams_that_were_opened_together() -> None:
    async with running_server(heartbeat_interval=HEARTBEAT_MS) as server:
        departures = server.app._departures
        listed: list[int] = []
        find = departures._descriptors
        departures._descriptors = lambda: listed.append(1) or find()  # type: ignore[method-assign, func-returns-value]
        host, _, port = server.url.removeprefix("http://").partition(":")
        streams = await asyncio.gather(*(asyncio.open_connection(host, int(port)) for _ in range(50)))
        for _, writer in streams:
            writer.write(b"GET /jobs/take HTTP/1.1\r\nhost: x\r\n\r\n")
        for reader, _ in streams:
            await reader.readuntil(b"\r\n\r\n")
        for _, writer in streams:
            writer.close()
        async with asyncio.timeout(5):
            while server.app.broker.stream_count():  # noqa: ASYNC110 - it has no event for that
                await asyncio.sleep(0)
        assert len(listed) < 25
