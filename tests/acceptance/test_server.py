"""The server as a process: crashes, restarts, signals, and a backlog of a million jobs."""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from acceptance.processes import ZIZQ, ServerProcess
from zizq import Client, SyncClient, ZizqError

pytestmark = pytest.mark.acceptance

KILLS = 10
"""`python -m trust crash` kills a thousand times and looks at each job; here all that is left goes to a worker."""


class Load:
    """Enqueues one by one and in bulk, takes and acknowledges; remembers what was answered."""

    def __init__(self) -> None:
        self.enqueued: set[str] = set()
        self.acknowledged: set[str] = set()
        self.perhaps_acknowledged: set[str] = set()

    def answers(self) -> tuple[int, int]:
        """How many enqueues and how many acknowledgements were answered."""
        return len(self.enqueued), len(self.acknowledged)

    async def run(self, url: str) -> None:
        """Go on until the server is gone."""
        async with Client(url) as client:
            duties = [self._enqueue(client), self._enqueue(client), self._bulk(client), self._work(client)]
            await asyncio.gather(*duties, return_exceptions=True)

    async def _enqueue(self, client: Client) -> None:
        while True:
            job = await client.enqueue_raw("t", {"n": 1}, queue="one")
            self.enqueued.add(job.id)

    async def _bulk(self, client: Client) -> None:
        from zizq import Enqueue

        while True:
            jobs = await client.enqueue_bulk([Enqueue(type="t", payload=n, queue="bulk") for n in range(20)])
            self.enqueued.update(job.id for job in jobs)

    async def _work(self, client: Client) -> None:
        async with client.take(prefetch=5) as stream:
            async for jobs in stream.batches():
                ids = [job.id for job in jobs]
                self.perhaps_acknowledged.update(ids)
                missing = await client.report_success_bulk(ids)
                assert not missing
                self.acknowledged.update(ids)


async def drain(url: str) -> list[str]:
    """Take and acknowledge all that is left, until the server has no queue."""
    ids: list[str] = []
    async with Client(url) as client, client.take(prefetch=1000) as stream:
        if not await client.queues():
            return ids
        async for jobs in stream.batches():
            ids += [job.id for job in jobs]
            await client.report_success_bulk([job.id for job in jobs])
            if not await client.queues():
                return ids
    return ids


@pytest.mark.timeout(600)
def test_kill_9_at_any_moment_loses_no_answered_enqueue_and_repeats_no_answered_ack(
    tmp_path: Path, store: tuple[str, ...]
) -> None:
    server, load = ServerProcess(tmp_path, *store), Load()
    moments = random.Random(7)  # the same moments in every run
    with server:
        for _ in range(KILLS):
            goals = moments.randrange(50), moments.randrange(10)
            asyncio.run(until_killed(server, load, goals, moments.uniform(0.0, 0.02)))
            server.start()
        left = asyncio.run(drain(server.url))
    assert len(left) == len(set(left))
    assert load.enqueued <= set(left) | load.perhaps_acknowledged
    assert not load.acknowledged & set(left)
    assert len(load.enqueued) > 10 * KILLS
    assert len(load.acknowledged) > KILLS


async def until_killed(server: ServerProcess, load: Load, goals: tuple[int, int], after_s: float) -> None:
    """Kill a server under load, so long after so many enqueues and acknowledgements more were answered."""
    before = load.answers()
    running = asyncio.create_task(load.run(server.url))
    while any(now - then < goal for now, then, goal in zip(load.answers(), before, goals, strict=True)):
        assert not running.done()
        await asyncio.sleep(0.001)
    await asyncio.sleep(after_s)
    server.kill()
    await running


def test_sigterm_ends_streams_cleanly_and_exits_0(tmp_path: Path, store: tuple[str, ...]) -> None:
    with ServerProcess(tmp_path, *store) as server, SyncClient(server.url) as client:
        job = client.enqueue_raw("t", None)
        with client.take() as stream:
            assert next(iter(stream)).id == job.id
            server._process.send_signal(signal.SIGTERM)  # type: ignore[union-attr]
            assert list(stream) == []
        assert server._process is not None
        assert server._process.wait(10) == 0
        server.stop()
        server.start()
        assert client.get_job(job.id).status == "ready"


def test_a_second_server_on_the_same_folder_says_why_it_cannot(tmp_path: Path) -> None:
    with ServerProcess(tmp_path):
        second = subprocess.run(
            [*ZIZQ, "serve", "--root-dir", str(tmp_path), "--port", "0", "--no-admin"],
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert second.returncode == 1
    assert second.stderr.startswith("Error: ")
    assert "in use by another server" in second.stderr


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        server = subprocess.run(
            [*ZIZQ, "serve", "--root-dir", str(tmp_path), "--port", port, "--no-admin"],
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert server.returncode == 1
    assert f"127.0.0.1:{port}" in server.stderr


def test_a_certificate_that_is_missing_is_named_in_one_line(tmp_path: Path) -> None:
    flags = ["--root-dir", str(tmp_path), "--port", "0", "--no-admin", "--tls-cert", "no.pem", "--tls-key", "no.key"]
    ended = subprocess.run([*ZIZQ, "serve", *flags], capture_output=True, text=True, timeout=30)
    assert ended.returncode == 1
    assert "no.pem" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "ERROR" not in ended.stdout


@pytest.mark.timeout(300)
def test_a_million_queued_jobs_cost_neither_memory_nor_time_at_start(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, "--enqueue-commit-mode", "buffered") as server:
        empty = server.memory()
        asyncio.run(fill(server.url, 1_000_000))
        assert server.memory() - empty < 60 * 2**20
        server.stop()
        began = time.monotonic()
        server.start()
        with SyncClient(server.url) as client, client.take(prefetch=10) as stream:
            assert next(iter(stream)).attempts == 0
        assert time.monotonic() - began < 2 + INTERPRETER_START_S
        assert server.memory() - empty < 60 * 2**20


INTERPRETER_START_S = 1.0
"""What starting Python itself may take here, which is not the store's doing."""


async def fill(url: str, count: int) -> None:
    """Enqueue many jobs over a few connections."""
    from zizq import Enqueue

    batch = [Enqueue(type="t", payload={"x": "y" * 150}, queue="q")] * 1000
    async with Client(url) as client:
        for _ in range(count // 4000):
            await asyncio.gather(*[client.enqueue_bulk(batch) for _ in range(4)])


def test_a_client_that_cannot_reach_the_server_is_told_so() -> None:
    with pytest.raises(ZizqError, match=r"127\.0\.0\.1:1"), SyncClient("http://127.0.0.1:1") as client:
        client.health()
