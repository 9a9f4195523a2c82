"""Disks that fail: a store goes on through I/O errors and a full disk, and loses nothing that was answered.

A workload runs on a disk (`disk`) that fails now and then: reads, writes, syncs, cuts or openings of the database or
its log, once or for a while; or there is no room left. A sync that fails drops what it should have made certain, and
at times it cannot even be read any more. Then the disk is well again, and:

* the store takes writes again by itself, or, where committed data cannot be read any more, after a restart;
* what was answered is there, what was refused can be asked for again, and all that is ready can be taken;
* `zizq check` finds nothing wrong.

At last power cuts at points of all that (`power`): no durable answer is lost, although syncs had failed.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections import Counter
from collections.abc import Awaitable, Iterator
from multiprocessing import get_context
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TypeVar

from trust.disk import Disk, Images
from trust.power import MEMORY, Judge
from trust.verdict import Broken
from trust.workload import Workload, small_parts
from zizq.store.base import CommitMode
from zizq.store.sqlite.check import check

T = TypeVar("T")
STORMS = 300
EPISODES = 12
CUTS = 40
ENOUGH_S = 30.0
"""What waits longer after the disk is well again will wait for ever."""
KINDS = (
    ("sync",), ("sync",), ("write",), ("write", "sync"), ("read",), ("truncate",), ("open",),
    ("write", "sync", "truncate", "delete"), ("read", "write", "sync", "truncate", "delete", "open"),
)  # fmt: skip


def run(*, size: float, seed: int | None) -> Iterator[str]:
    """Let the disk of several stores fail."""
    seeds = list(range(1, max(2, round(STORMS * size)) + 1)) if seed is None else [seed]
    began = time.monotonic()
    total: Counter[str] = Counter()
    with get_context("spawn").Pool(2, _hush) as pool:
        for found in pool.imap_unordered(storm, seeds):
            total += found
    yield (
        f"{total['episodes']} faults of {len(seeds)} stores, met {total['met']} times; {total['refused']} calls "
        f"refused, {total['lost']} restarts since committed data was gone, {total['cuts']} power cuts: nothing lost"
    )
    yield f"{time.monotonic() - began:.0f} s"


def _hush() -> None:
    """Say nothing of what the stores log: they have much to complain of."""
    logging.getLogger("zizq").disabled = True
    logging.getLogger("zizq.store").disabled = True


def storm(seed: int, episodes: int = EPISODES, cuts: int = CUTS) -> Counter[str]:
    """One store whose disk fails several times; returns what happened.

    Raises:
        Broken: When it lost what was promised, or did not go on.
    """
    dice = Random(seed)
    options = {"default_mode": CommitMode.FSYNC if seed % 2 else CommitMode.BUFFERED}
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder, small_parts():
        live, image = Path(folder) / "live", Path(folder) / "image"
        try:
            with Disk() as disk:
                workload = Workload(disk, live, seed, **options)
                counts = asyncio.run(_Storm(workload, dice).run(episodes))
            # Without a crash nothing that was answered is lost at all, but for what the disk itself took back.
            _judge(live, workload, len(disk.tape), is_durable=workload.is_durable or not disk.forgot)
            images = Images(disk.tape, dice)
            for point in sorted(dice.randint(0, len(disk.tape)) for _ in range(cuts)):
                images.advance(point)
                (image / "data").mkdir(parents=True)
                images.make(image / "data")
                _judge(image, workload, point, is_durable=workload.is_durable)
                shutil.rmtree(image)
        except Broken as error:
            raise Broken(f"seed {seed}: {error}") from error
    return counts + Counter(met=len(disk.met), cuts=cuts, episodes=episodes, refused=workload.refused)


def _judge(folder: Path, workload: Workload, point: int, *, is_durable: bool) -> None:
    Judge(workload.journal, is_durable=is_durable, knows_states=False).see(folder, point, whole=False)


class _Storm:
    """A store whose disk fails, and is well again."""

    def __init__(self, workload: Workload, dice: Random) -> None:
        self._workload = workload
        self._disk = workload.disk
        self._dice = dice
        self._counts: Counter[str] = Counter()

    async def run(self, episodes: int) -> Counter[str]:
        """So many faults, one after the other; then all that is ready is worked off."""
        async with self._workload.open():
            for _ in range(episodes):
                await self._workload.run(6)
                await self._fail()
                await self._recover()
            await self._finish()
        return self._counts

    async def _fail(self) -> None:
        dice = self._dice
        if dice.random() < 0.25:
            self._disk.fill(dice.choice((0, 5000, 100_000)))
        else:
            where = dice.choice(("", "-wal", "-wal", "jobs.db"))
            times = dice.choice((1, 1, 3, None))
            self._disk.fail(*dice.choice(KINDS), where=where, times=times, forgets=dice.random() < 0.3)
        if dice.random() < 0.1:
            await self._in_time("the store does not open again", self._workload.reopen())
        rounds = asyncio.create_task(self._workload.run(8))
        # A change that has happened is answered when it is carried out, and so not before the disk is well.
        await asyncio.wait([rounds], timeout=dice.choice((0.02, 0.1)))
        self._disk.heal()
        await self._in_time("calls are not answered", rounds)

    async def _recover(self) -> None:
        """Wait until writes are taken again; restart where that cannot be."""
        for _ in range(10):  # whoever has a file open may hear of a sync that failed
            if self._workload.store._checkpoints.lost is not None:
                self._counts["lost"] += 1
                await self._in_time("the store does not open again", self._workload.reopen())
            if not await self._workload.is_refused():
                break
        else:
            raise Broken(f"writes are still refused: {self._workload.store.trouble()}")
        if self._workload.store.trouble() is not None:
            raise Broken("a write was taken, and the store still says that they are refused")

    async def _finish(self) -> None:
        finishing = self._workload.store._changes._finishing
        if finishing is not None:
            await self._in_time("a change of many is not carried out", asyncio.wait([finishing]))
        done = await self._in_time("jobs cannot be worked off", self._workload.drain())
        self._counts["drained"] += done
        text = "SELECT count(*) FROM jobs WHERE status = 1 AND budgets = ''"
        left = await self._workload.store._readers.read(lambda db: db.execute(text).get)
        held = sum(map(len, self._workload.held()))
        if left > held:
            raise Broken(f"{left} jobs are stored as ready, {held} are in flight, and no more can be taken")
        await self._workload.store.close()
        checked = check(self._workload.folder, self._workload.now, lambda text: None)
        if checked.violations:
            raise Broken(f"zizq check finds: {checked.violations[:3]}")

    async def _in_time(self, complaint: str, work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(ENOUGH_S):
                return await work
        except TimeoutError:
            raise Broken(f"{complaint}: {self._workload.store.trouble()}, met {self._disk.met[-3:]}") from None
