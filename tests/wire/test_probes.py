"""What load balancers and orchestrators ask: whether the server lives, and whether it is ready."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from trust.disk import Disk

from wire.grants import Grants
from wire.talk import MSGPACK, PATIENCE_S, request, serving
from wire.talk2 import http2
from zizq.policy import Defaults
from zizq.server.app import App
from zizq.server.settings import Settings
from zizq.store.memory import MemoryStore
from zizq.store.sqlite import writer
from zizq.testing.clock import LoadedDice
from zizq.wire.operations import PROBES

OK = b'{"status":"ok"}'


@pytest.mark.parametrize("path", [operation.path for operation in PROBES])
async def test_a_server_that_is_well_says_so_to_anybody(path: str, tmp_path: Path) -> None:
    grants = Grants(tmp_path)
    grants.token("read")
    async with serving(auth="tokens", token_file=grants.path) as server, http2(server) as connection:
        reply = await server.ask("GET", path)
        assert (reply.status, reply.body, reply.headers["content-type"]) == (200, OK, "application/json")
        head = await server.ask("HEAD", path)
        assert (head.status, head.headers["content-length"]) == (200, str(len(OK)))
        assert (await server.ask("GET", path, accept=MSGPACK)).body == b"\x81\xa6status\xa2ok"
        assert (await connection.ask("GET", path)).body == OK
        assert (await server.ask("POST", path)).headers["allow"] == "GET, HEAD"


class Waiting(MemoryStore):
    """Enqueues nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__(Defaults(), LoadedDice())
        self.goes_on = asyncio.Event()

    async def enqueue(self, *arguments: Any, **options: Any) -> Any:
        """Wait first."""
        await self.goes_on.wait()
        return await super().enqueue(*arguments, **options)


async def test_a_server_that_has_too_much_to_do_still_answers() -> None:
    store = Waiting()
    async with serving(store=store, max_requests=1) as server:
        _, waiting = [await server.connect() for _ in range(2)]
        await waiting.send(request("POST", "/jobs", b'{"type":"t","queue":"q","payload":1}'))
        async with asyncio.timeout(PATIENCE_S):
            while (await server.ask("GET", "/queues")).status == 200:
                pass
        assert [(await server.ask("GET", operation.path)).body for operation in PROBES] == [OK] * len(PROBES)
        store.goes_on.set()
        assert (await waiting.reply()).status == 201


@pytest.mark.embedded_only("the disk is that of the database")
async def test_a_server_whose_disk_fails_lives_and_is_not_ready_until_it_is_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PROBE_S", 0.01)
    with Disk() as disk:
        async with serving(root_dir=tmp_path) as server:
            disk.fill()
            refused = await server.post("/jobs", {"type": "t", "queue": "q", "payload": 1})
            assert refused.status == 503
            reply = await server.ask("GET", "/readyz")
            assert (reply.status, reply.headers["retry-after"]) == (503, "1")
            assert reply.body.startswith(b'{"error":"writes are refused: ')
            assert (await server.ask("GET", "/livez")).body == OK
            disk.heal()
            while (await server.ask("GET", "/readyz")).status == 503:
                pass
            assert await server.enqueue()


async def test_a_server_that_stops_is_not_ready_and_says_so_while_requests_end() -> None:
    async with serving() as server:
        _, stream = await server.taken()
        server.app.end_streams()
        await stream.rest()
        reply = await server.ask("GET", "/readyz")
        assert (reply.status, reply.body) == (503, b'{"error":"the server is stopping"}')
        assert (await server.ask("GET", "/livez")).body == OK


async def test_a_server_whose_store_is_not_open_is_not_ready() -> None:
    app = App(Settings(no_admin=True), store=MemoryStore(Defaults(), LoadedDice()))
    assert app.broker.unready() == "the store is not open"
    await app.start()
    assert app.broker.unready() is None
    await app.stop()
    assert app.broker.unready() == "the store is not open"
