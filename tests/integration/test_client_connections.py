"""How many connections a client has for coroutines, and who waits for one."""

import asyncio
import dataclasses
from contextlib import asynccontextmanager

import pytest

from integration.test_client_network import free_port
from zizq import Client, ConfigError, TransportError, ZizqError


class Slow:
    """A server that answers when it is let: it counts its connections, and is told of each request."""

    def __init__(self, *, keeps=True):
        self.keeps = keeps
        self.open = self.most = self.asked = 0
        self.changed = asyncio.Condition()
        self.answers = asyncio.Semaphore(0)

    async def __call__(self, reader, writer):
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            while await reader.readline():
                await reader.readuntil(b"\r\n\r\n")
                async with self.changed:
                    self.asked += 1
                    self.changed.notify_all()
                await self.answers.acquire()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\n")
                writer.write(b"" if self.keeps else b"connection: close\r\n")
                writer.write(b'content-type: application/json\r\n\r\n{"status":"ok"}')
                if not self.keeps:
                    return
        finally:
            self.open -= 1
            writer.close()

    async def until_asked(self, count):
        async with asyncio.timeout(5), self.changed:
            await self.changed.wait_for(lambda: self.asked == count)


@asynccontextmanager
async def slow(client_options, **options):
    """A server that is slow, and a client of it."""
    answer = Slow(**options)
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with Client(url, format="json", **client_options) as client:
            yield answer, client


def calls(client, count):
    return [asyncio.create_task(client.health()) for _ in range(count)]


@pytest.mark.parametrize("keeps", [True, False])
async def test_calls_beyond_the_connections_wait_for_their_turn(keeps):
    async with slow({"max_connections": 3}, keeps=keeps) as (server, client):
        tasks = calls(client, 10)
        for done in range(8):
            await server.until_asked(3 + done)
            server.answers.release()
        for _ in range(2):
            server.answers.release()
        assert await asyncio.gather(*tasks) == ["ok"] * 10
        assert server.most == 3
        assert server.asked == 10


async def test_a_call_that_waits_too_long_for_a_connection_was_not_sent():
    async with slow({"max_connections": 1, "read_timeout": 60}) as (server, client):
        first, second = calls(client, 1), calls(client, 1)
        await server.until_asked(1)
        pool = next(iter(client._transport._transport._pools.values()))
        pool._settings = dataclasses.replace(pool._settings, read_timeout=0.05)
        third = calls(client, 1)
        with pytest.raises(TransportError, match=r"none of the 1 connections .* was free within 0.05 s"):
            await third[0]
        for _ in range(2):
            server.answers.release()
        assert await asyncio.gather(*first, *second) == ["ok"] * 2
        assert server.asked == 2


@pytest.mark.parametrize("is_told", [True, False])
async def test_a_call_that_is_cancelled_while_it_waits_leaves_the_connection_to_the_next(is_told):
    async with slow({"max_connections": 1}) as (server, client):
        first, waits, told, last = calls(client, 4)
        await server.until_asked(1)
        waits.cancel()
        pool = next(iter(client._transport._transport._pools.values()))
        give = pool.give

        def give_and_cancel(connection):
            """Cancel a call just before or after it is told of a connection."""
            pool.give = give
            if is_told:
                give(connection)
            told.cancel()
            if not is_told:
                give(connection)

        pool.give = give_and_cancel
        for _ in range(2):
            server.answers.release()
        assert await asyncio.gather(first, last) == ["ok"] * 2
        assert waits.cancelled()
        assert told.cancelled()
        assert server.asked == 2


async def test_a_call_gets_a_connection_where_others_could_not_be_opened():
    url = f"http://127.0.0.1:{free_port()}"
    async with Client(url, max_connections=1) as client:
        errors = await asyncio.gather(*calls(client, 5), return_exceptions=True)
        assert [str(error).split(":")[0] for error in errors] == ["cannot connect to http"] * 5


async def test_a_client_that_is_closed_lets_nobody_wait():
    async with slow({"max_connections": 1}) as (server, client):
        first, second = calls(client, 2)
        await server.until_asked(1)
        await client.close()
        with pytest.raises(ZizqError, match="the client is closed"):
            await second
        server.answers.release()
        assert await first == "ok"


def test_a_client_without_a_connection_is_refused():
    with pytest.raises(ConfigError, match="max_connections=0 leaves no connection"):
        Client(max_connections=0)
