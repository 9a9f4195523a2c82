"""Backups and compaction beside a busy server: nobody waits, and the copy is of one instant.

A backup must have every job that was answered before it was asked for, and of those enqueued one after the other
meanwhile exactly the first so many.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import apsw

from trust.verdict import Broken
from zizq.client.aio import Client
from zizq.client.enqueue import Enqueue

ZIZQ = [sys.executable, "-m", "zizq"]
JOBS = 1_000_000
BULK = 1000
PAUSE_S = 0.005
"""Between two questions of each of those that measure."""
QUIET_S = 10.0
PATIENCE_S = 600.0
"""How long a deletion of most of the jobs may take, on a machine with much else to do."""
STALL_MS = 50.0
"""How much longer than in a quiet spell anybody may wait."""


BACKUP_LINES = ["quiet", "backup", "file", "compact", "compacted", "restore", "restored"]
"""What a trial tells of, in this order."""


class Figures(NamedTuple):
    """The longest waits of a spell, and what it took."""

    seconds: float
    enqueue_ms: float
    health_ms: float
    enqueued: list[str]

    def line(self, name: str) -> str:
        """The figures as text."""
        return (
            f"{name}: {self.seconds:.1f} s, longest enqueue {self.enqueue_ms:.0f} ms, "
            f"longest health check {self.health_ms:.0f} ms, {len(self.enqueued)} enqueued meanwhile"
        )


@contextmanager
def serving(root: Path) -> Iterator[tuple[str, str]]:
    """A server on ports of its own; yields its address and that of its admin API."""
    ports = ["--port", "0", "--admin-port", "0"]
    command = [*ZIZQ, "serve", "--root-dir", str(root), *ports, "--log-format", "json", "--log-level", "warn"]
    environment = {**os.environ, "ZIZQ_LOG_FILTER": "warn,zizq::serve=info,zizq::upkeep=info"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        found: dict[str, str] = {}
        for line in process.stdout:
            fields = json.loads(line)["fields"]
            if "api" in fields:
                found[fields["api"]] = f"http://{fields['addr']}"
            if len(found) == 2:
                break
        yield found["primary"], found["admin"]
    finally:
        process.terminate()
        process.communicate()


async def fill(client: Client, jobs: int) -> None:
    """Enqueue so many jobs."""
    for start in range(0, jobs, BULK):
        numbers = range(start, min(jobs, start + BULK))
        await client.enqueue_bulk(
            Enqueue("fill", {"number": number, "text": os.urandom(60).hex()}, queue=f"fill-{number % 5}")
            for number in numbers
        )


async def spell(client: Client, work: Callable[[], Awaitable[None]]) -> Figures:
    """Enqueue jobs one after the other, and ask for the health, until some work is done."""
    over, began = asyncio.Event(), time.monotonic()
    ids: list[str] = []

    async def enqueue() -> None:
        ids.append((await client.enqueue_raw("steady", len(ids), queue="steady")).id)

    async def ask() -> None:
        await client.health()

    async def work_then_stop() -> None:
        try:
            await work()
        finally:
            over.set()

    async with asyncio.TaskGroup() as group:
        enqueues = group.create_task(_longest(enqueue, over))
        healths = group.create_task(_longest(ask, over))
        group.create_task(work_then_stop())
    return Figures(time.monotonic() - began, enqueues.result() * 1000, healths.result() * 1000, ids)


async def _longest(call: Callable[[], Awaitable[None]], over: asyncio.Event) -> float:
    longest = 0.0
    while not over.is_set():
        began = time.monotonic()
        await call()
        longest = max(longest, time.monotonic() - began)
        await asyncio.sleep(PAUSE_S)
    return longest


async def _changed(database: Path) -> None:
    """Wait until a change of many jobs has been carried out."""
    db = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    while db.execute("SELECT count(*) FROM bulk").get:  # noqa: ASYNC110 - it happens in another process
        await asyncio.sleep(0.1)
    db.close()


async def command(*words: str) -> None:
    """Run `zizq` with some words.

    Raises:
        Broken: When it fails.
    """
    process = await asyncio.create_subprocess_exec(*ZIZQ, *words, stderr=asyncio.subprocess.PIPE)
    _, told = await process.communicate()
    if process.returncode != 0:
        raise Broken(f"zizq {words[0]} failed: {told.decode().strip()}")


async def check_restored(url: str, filled: int, before: list[str], during: list[str]) -> str:
    """Compare a restored server with what was answered by the one that was backed up.

    Raises:
        Broken: When the backup is not of one instant, or not of one after the request.
    """
    async with Client(url) as client:
        for queue in range(5):
            share = len(range(queue, filled, 5))
            there = await client.jobs(queue=f"fill-{queue}").count()
            if there != share:
                raise Broken(f"queue fill-{queue} has {there} jobs in the backup, and {share} were enqueued before it")
        restored = [job.id async for job in client.jobs(queue="steady")]
    expected = [*before, *during][: len(restored)]
    if restored != expected or len(restored) < len(before):
        raise Broken(f"the backup has {len(restored)} of the jobs enqueued in a row, and not the first so many")
    return f"restored: {filled + len(restored):,} jobs, {len(restored) - len(before)} of them enqueued meanwhile"


def check_waits(name: str, figures: Figures, quiet: Figures, stall_ms: float) -> None:
    """Hold the longest waits of a spell against those of a quiet one.

    Raises:
        Broken: When somebody waited for much longer.
    """
    for what, waited, usual in (
        ("an enqueue", figures.enqueue_ms, quiet.enqueue_ms),
        ("a health check", figures.health_ms, quiet.health_ms),
    ):
        if waited > usual + stall_ms:
            raise Broken(f"{what} took {waited:.0f} ms during {name}, and {usual:.0f} ms at most in a quiet spell")


async def trial(folder: Path, *, jobs: int, quiet_s: float, stall_ms: float) -> AsyncIterator[str]:
    """The figures of the whole trial, in a folder on the disk to be tried.

    Raises:
        Broken: When a promise was broken.
    """
    archive = folder / "backup.tar.gz"
    with serving(folder / "root") as (url, admin):
        async with Client(url, read_timeout=PATIENCE_S) as client:
            await fill(client, jobs)
            quiet = await spell(client, lambda: asyncio.sleep(quiet_s))
            yield quiet.line("quiet")
            backup = await spell(client, lambda: command("backup", str(archive), "--url", admin))
            yield backup.line("backup")
            yield f"file: {archive.stat().st_size / 1e6:.0f} MB"
            await client.jobs(queue=["fill-0", "fill-1", "fill-2"]).delete()
            await _changed(folder / "root" / "data" / "jobs.db")
            compact = await spell(client, lambda: command("compact", "--url", admin))
            yield compact.line("compact")
            yield f"compacted: to {(folder / 'root' / 'data' / 'jobs.db').stat().st_size / 1e6:.0f} MB"
    began = time.monotonic()
    await command("restore", str(archive), "--root-dir", str(folder / "restored"))
    yield f"restore: with its check {time.monotonic() - began:.1f} s"
    with serving(folder / "restored") as (url, _):
        yield await check_restored(url, jobs, quiet.enqueued, backup.enqueued)
    check_waits("a backup", backup, quiet, stall_ms)
    check_waits("a compaction", compact, quiet, stall_ms)


def run(*, size: float, seed: int | None) -> Iterator[str]:
    """Back up and compact a store of a million jobs."""
    # Pauses of our own would look like the server's.
    gc.disable()
    try:
        with tempfile.TemporaryDirectory(prefix="zizq-trust-") as folder, asyncio.Runner() as runner:
            lines = trial(Path(folder), jobs=int(JOBS * size), quiet_s=QUIET_S * min(1.0, 2 * size), stall_ms=STALL_MS)
            while (line := runner.run(anext(lines, None))) is not None:
                yield line
    finally:
        gc.enable()
