"""A server whose disk fails: writes are refused and say why, all else goes on, and so do they once the disk is well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest
from trust.disk import Disk

from wire.talk import NOW, PATIENCE_S, Talk, serving
from zizq.engine.window import ReadySet
from zizq.policy import Defaults
from zizq.server import duties
from zizq.store.opening import check_store
from zizq.store.sqlite import changes, checkpoints, takes, writer
from zizq.store.sqlite.store import SqliteStore
from zizq.testing.clock import LoadedDice

pytestmark = pytest.mark.embedded_only("the disk is that of the database")
FAULTS: dict[str, Callable[[Disk], None]] = {
    "full": lambda disk: disk.fill(),
    "write": lambda disk: disk.fail("write", where="-wal"),
    "sync": lambda disk: disk.fail("sync", where="-wal"),
}


@pytest.fixture(autouse=True)
def _soon_full_and_impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((duties, "RETRY_S"), (changes, "RETRY_S"), (writer, "PROBE_S")):
        monkeypatch.setattr(module, name, 0.01)
    # A disk that is full has no room behind the log either.
    monkeypatch.setattr(checkpoints, "AHEAD_PAGES", 0)


@asynccontextmanager
async def on_disk(place: Path, **settings: Any) -> AsyncIterator[tuple[Talk, Disk]]:
    """A server with its store on a disk that can fail; in the end all is as it should be in its files."""
    with Disk() as disk:
        async with serving(root_dir=place, **settings) as server:
            yield server, disk
    assert check_store(place, NOW).violations == []


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Ask until it is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():
            pass


def full_at(server: Talk, disk: Disk, begin: str) -> apsw.Connection:
    """Let the disk be full once the writer comes to a statement that begins so; returns its connection."""

    def fill(cursor: apsw.Cursor, sql: str, bindings: Any) -> bool:
        if sql.startswith(begin):
            disk.fill()
        return True

    database: apsw.Connection = server.app.broker._store._writer._db
    database.exec_trace = fill
    return database


async def is_well(server: Talk) -> bool:
    return "writes_refused" not in (await server.ask("GET", "/health")).value


async def succeeds(server: Talk, job_id: str) -> int:
    return (await server.ask("POST", f"/jobs/{job_id}/success")).status


@pytest.mark.parametrize("fault", FAULTS)
async def test_writes_are_refused_and_reads_and_health_go_on(fault: str, tmp_path: Path) -> None:
    async with on_disk(tmp_path) as (server, disk):
        held, stream = await server.taken(queue="held")
        waiting = await server.enqueue(queue="later", ready_at=NOW + 1000)
        FAULTS[fault](disk)
        for method, target, body in (
            ("POST", "/jobs", b'{"type": "t", "queue": "q", "payload": 1}'),
            ("POST", "/jobs/bulk", b'{"jobs": [{"type": "t", "queue": "q", "payload": 1}]}'),
            ("POST", f"/jobs/{held}/success", None),
            ("POST", f"/jobs/{held}/failure", b'{"message": "boom"}'),
            ("PATCH", f"/jobs/{waiting}", b'{"priority": 3}'),
            ("DELETE", f"/jobs/{waiting}", None),
        ):
            reply = await server.ask(method, target, body, content_type="application/json")
            assert (reply.status, reply.headers["retry-after"]) == (503, "1"), (method, target, reply)
            assert "cannot write just now" in reply.value["error"]
            assert "Error: " in reply.value["error"]
        assert (await server.get(held))["status"] == "in_flight"
        assert [job["id"] for job in (await server.ask("GET", "/jobs")).value["jobs"]] == [held, waiting]
        assert (await server.ask("GET", "/jobs/count")).value == {"count": 2}
        health = await server.ask("GET", "/health")
        assert (health.status, health.value["status"]) == (200, "ok")
        assert "Error: " in health.value["writes_refused"]
        disk.heal()
        await until(lambda: is_well(server))
        assert await succeeds(server, held) == 204
        new = await server.enqueue(queue="held")
        assert (await stream.job())["id"] == new
        assert [job["id"] for job in (await server.ask("GET", "/jobs")).value["jobs"]] == [waiting, new]


async def test_a_stream_goes_on_where_the_windows_cannot_be_refilled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takes, "REFILL_MOST", 8)
    ready = ReadySet(total=16, limit=16)
    with Disk() as disk:
        store = SqliteStore(tmp_path, Defaults(), LoadedDice(), ready=ready, cache_bytes=1024)
        async with serving(store=store) as server:
            ids = [await server.enqueue("x" * 3000) for _ in range(60)]
            disk.fail("read")
            stream = await server.take("?prefetch=100")
            first = [(await stream.job())["id"] for _ in range(16)]
            await stream.is_silent()
            assert disk.met
            disk.heal()
            assert first + [(await stream.job())["id"] for _ in range(44)] == ids


async def test_a_pause_that_the_disk_refuses_holds_nothing_back(tmp_path: Path) -> None:
    async with on_disk(tmp_path) as (server, disk):
        stream = await server.take("?prefetch=9")
        first, second = await server.enqueue(), await server.enqueue(queue="p")
        assert [job["id"] for job in await stream.jobs(2)] == [first, second]
        assert (await server.ask("PUT", "/queues/p/pause")).status == 200
        third = await server.enqueue(queue="p")
        disk.fail("write", where="-wal")
        for method, path in (("PUT", "/queues/q/pause"), ("DELETE", "/queues/p/pause")):
            assert (await server.ask(method, path)).status == 503
        states = (await server.ask("GET", "/queues?states=true")).value["states"]
        assert [(state["queue"], state["paused"]) for state in states] == [("p", True), ("q", False)]
        await stream.is_silent()
        disk.heal()
        assert (await server.ask("DELETE", "/queues/p/pause")).status == 200
        assert (await stream.job())["id"] == third


async def test_duties_go_on_once_the_disk_is_well(tmp_path: Path) -> None:
    settings = {"reaper_check_interval": 10, "default_completed_job_retention": 500}
    async with on_disk(tmp_path, **settings) as (server, disk):
        done, _ = await server.taken(queue="done")
        assert await succeeds(server, done) == 204
        due = await server.enqueue(queue="due", ready_at=NOW + 1000)
        entry = {"name": "e", "expression": "* * * * * *", "job": {"type": "t", "queue": "cron", "payload": 1}}
        assert (await server.put("/crons/c", {"entries": [entry]})).status == 200
        disk.fail("write", where="-wal")
        server.clock.advance(2000)

        async def three_failed() -> bool:
            await server.ask("GET", "/health")
            return len(disk.met) > 3

        await until(three_failed)
        disk.heal()

        async def all_done() -> bool:
            queues = (await server.ask("GET", "/queues")).value["queues"]
            return (await server.get(due))["status"] == "in_flight" and queues == ["cron", "due"]

        await until(all_done)


async def test_the_log_grows_while_it_cannot_be_copied_and_is_copied_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "PAGES", 20)
    async with on_disk(tmp_path) as (server, disk):
        disk.fail("write", where="jobs.db")
        ids = []
        while len(disk.met) < 2:
            ids.append(await server.enqueue())
        assert await is_well(server)
        disk.heal()
        before = sum(
            op.kind == "sync" and op.file == disk.names[str(tmp_path / "data" / "jobs.db")] for op in disk.tape
        )

        async def copied() -> bool:
            ids.append(await server.enqueue())
            file = disk.names[str(tmp_path / "data" / "jobs.db")]
            return sum(op.kind == "sync" and op.file == file for op in disk.tape) > before

        await until(copied)
        assert (await server.ask("GET", "/jobs/count")).value == {"count": len(ids)}


async def test_a_change_of_many_is_held_up_and_answered_when_the_disk_is_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "FEW", 10)
    async with on_disk(tmp_path) as (server, disk):
        ids = [await server.enqueue() for _ in range(35)]
        database = full_at(server, disk, "SELECT id FROM pending ORDER BY id")
        patch = asyncio.create_task((await server.connect()).ask("PATCH", "/jobs", b'{"priority": 7}'))

        async def held_up() -> bool:
            return (await server.ask("GET", "/jobs/count")).status == 503

        await until(held_up)
        # One job is shown as it will be; to list some would show a part of the change.
        assert (await server.get(ids[0]))["id"] == ids[0]
        refusal = await server.ask("GET", "/jobs")
        assert (refusal.status, "half carried out" in refusal.value["error"]) == (503, True)
        assert (await server.ask("DELETE", "/jobs?queue=q")).status == 503
        assert not patch.done()
        database.exec_trace = None
        disk.heal()
        assert ((await patch).status, (await patch).value) == (200, {"patched": 35})
        assert (await server.ask("GET", "/jobs/count?priority=7")).value == {"count": 35}


async def test_a_change_of_many_that_could_not_be_made_certain_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "FEW", 10)
    async with on_disk(tmp_path) as (server, disk):
        ids = [await server.enqueue() for _ in range(35)]
        database = full_at(server, disk, "INSERT INTO bulk")
        assert (await server.ask("DELETE", "/jobs")).status == 503
        assert (await server.ask("GET", "/jobs/count")).value == {"count": 35}
        database.exec_trace = None
        disk.heal()
        stream = await server.take("?prefetch=100")
        assert [(await stream.job())["id"] for _ in range(35)] == ids
