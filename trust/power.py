"""Power cuts: at any moment the disk keeps what was synced and any part of the rest, and the store loses no promise.

A workload runs on a recorded disk (`disk`). Then images are made of what a power cut at some point of the tape may
have left, and each is opened and held to:

* it opens, and SQLite finds no damage in it;
* it is exactly what it was after one of the commits, and after none that is older than what was promised;
* every enqueue that was answered is there with its payload, unless something was asked for that removes it;
* there is no job that nobody enqueued;
* where all writes are durable, no job that was completed is back.

Of every twentieth image `zizq check` finds nothing wrong; the power may fail again while it is opened; and the whole
store opens, and works.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from bisect import bisect_right
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import apsw

from trust.disk import Disk, Images
from trust.verdict import Broken
from trust.workload import DEFAULTS, NOW, Journal, Workload, digest, small_parts
from zizq.errors import ConfigError
from zizq.store.base import CommitMode, Silence
from zizq.store.sqlite.check import check
from zizq.store.sqlite.schema import open_database
from zizq.store.sqlite.store import SqliteStore
from zizq.testing.clock import LoadedDice

POINTS = 10_000
WORKLOADS = 40
ROUNDS = 120
AGAIN = 3
"""How often the power fails while such an image is opened."""
WHOLE = 20
"""Of so many images, one is opened with all of the store."""
MEMORY = Path("/dev/shm")  # images need no real disk


def run(*, size: float, seed: int | None) -> Iterator[str]:
    """Cut the power at many points of several workloads."""
    workloads = max(2, round(WORKLOADS * size))
    points = max(1, round(POINTS * size / workloads))
    seeds = list(range(1, workloads + 1)) if seed is None else [seed]
    began = time.monotonic()
    with get_context("spawn").Pool(2) as pool:
        counts = [0, 0, 0]
        for found in pool.imap_unordered(_try, [(one, points if seed is None else points * 4) for one in seeds]):
            counts = [sum(pair) for pair in zip(counts, found, strict=True)]
    took = time.monotonic() - began
    cuts, commits, writes = counts
    yield f"{cuts} power cuts in {len(seeds)} workloads of {commits} commits and {writes} writes: nothing lost"
    yield f"{took:.0f} s, {1000 * took / max(1, cuts):.1f} ms a cut"


def _try(order: tuple[int, int]) -> tuple[int, int, int]:
    seed, points = order
    return cut(seed, points)


def cut(
    seed: int, points: int, *, rounds: int = ROUNDS, is_honest: bool = True, **options: Any
) -> tuple[int, int, int]:
    """One workload, and power cuts at so many points of it.

    Args:
        seed: Decides everything.
        points: How many power cuts.
        rounds: How long the workload is.
        is_honest: Whether the disk syncs what it says it has synced.
        options: Those of the store; where there are none, the seed says whether all writes are durable.

    Raises:
        Broken: When one of them lost what was promised.
    """
    dice = Random(seed)
    if not options:
        options = {"default_mode": CommitMode.FSYNC if seed % 2 else CommitMode.BUFFERED}
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder, small_parts():
        live = Path(folder) / "live"
        with Disk(is_honest) as disk:
            workload = Workload(disk, live, seed, **options)
            asyncio.run(_work(workload, rounds))
        judge = Judge(workload.journal, is_durable=workload.is_durable)
        images = Images(disk.tape, dice)
        for number, point in enumerate(_points(disk, dice, points)):
            images.advance(point)
            image = Path(folder) / "image"
            (image / "data").mkdir(parents=True)
            images.make(image / "data")
            try:
                judge.see(image, point, whole=number % WHOLE == 0)
            except Broken as error:
                raise Broken(f"seed {seed}, cut {number} of {points}, after {point} things done: {error}") from error
            shutil.rmtree(image)
    return points, len(workload.journal.states), len(disk.tape)


async def _work(workload: Workload, rounds: int) -> None:
    async with workload.open():
        await workload.run(rounds // 2)
        await workload.reopen()
        await workload.run(rounds // 2)


def _points(disk: Disk, dice: Random, count: int) -> list[int]:
    """Where to cut: half of them anywhere, half of them about where something is synced, cut or deleted."""
    tape = disk.tape
    edges = [number for number, op in enumerate(tape) if op.kind != "write"] or [0]
    anywhere = [dice.randint(0, len(tape)) for _ in range(count - count // 2)]
    near = [min(len(tape), max(0, dice.choice(edges) + dice.randint(-2, 2))) for _ in range(count // 2)]
    return sorted(anywhere + near)


class Judge:
    """Holds images to what was promised.

    Args:
        journal: What was promised.
        is_durable: Whether all that was answered was promised to survive.
        knows_states: Whether an image must be what it was after a commit. Not so where writes were refused: one that
            was may be there after a power cut all the same.
    """

    def __init__(self, journal: Journal, *, is_durable: bool, knows_states: bool = True) -> None:
        self._journal = journal
        self._is_durable = is_durable
        self._knows_states = knows_states
        self._made = [at for _, at in journal.states]
        self._numbers: dict[int, list[int]] = {}
        for number, (state, _) in enumerate(journal.states):
            self._numbers.setdefault(state, []).append(number)
        self._ends = [at for at, _ in journal.rounds]

    def see(self, image: Path, point: int, *, whole: bool) -> None:
        """Open an image, and hold it to what was promised up to a point of the tape.

        Raises:
            Broken: When something is not so.
        """
        try:
            db = open_database(image / "data" / "jobs.db", 2**20)
        except ConfigError as error:
            raise Broken(f"the store does not open: {error}") from error
        try:
            problems = [row[0] for row in db.execute("PRAGMA integrity_check(3)")]
            if problems != ["ok"]:
                raise Broken(f"the file is damaged: {problems}")
            self._see_jobs(dict(db.execute("SELECT id, payload FROM jobs")), point)
            if self._knows_states:
                self._see_state(digest(db), point)
        except apsw.Error as error:
            raise Broken(f"the store cannot be read: {type(error).__name__}: {error}") from error
        finally:
            db.close()
        if whole:
            self._see_whole(image, point)

    def _see_jobs(self, jobs: dict[str, bytes], point: int) -> None:
        journal = self._journal
        for job_id, (at, payload) in journal.answered.items():
            if at > point or journal.ending.get(job_id, point) < point:
                continue
            if jobs.get(job_id) != payload:
                there = "is lost" if job_id not in jobs else "has another payload"
                raise Broken(f"job {job_id}, whose enqueue was answered after {at} things done, {there}")
        if unknown := [job_id for job_id in jobs if journal.begun.get(job_id, point) >= point]:
            raise Broken(f"jobs {unknown} were not enqueued by then")
        if self._is_durable:
            back = [job_id for job_id in jobs if journal.ended.get(job_id, point + 1) <= point]
            if back:
                raise Broken(f"jobs {back} were completed by then, and are back")

    def _see_state(self, state: int, point: int) -> None:
        # The last one may have been written and not noted yet.
        latest = bisect_right(self._made, point)
        earliest = 0
        if self._is_durable:
            rounds = bisect_right(self._ends, point)
            earliest = self._journal.rounds[rounds - 1][1] - 1 if rounds else 0
        found = self._numbers.get(state)
        if found is None and point >= self._made[0]:
            raise Broken("the store is not as it was after any commit")
        if found is not None and not any(earliest <= number <= latest for number in found):
            raise Broken(f"the store is as after commits {found}, and {earliest} to {latest} can be")

    def _see_whole(self, image: Path, point: int) -> None:
        checked = check(image, NOW, lambda text: None)
        if checked.violations:
            raise Broken(f"zizq check finds: {checked.violations[:3]}")
        with Disk() as disk:
            disk.adopt(image / "data")
            start = len(disk.tape)
            asyncio.run(_use(image, 0))
        dice = Random(point)
        images = Images(disk.tape, dice)
        for number, second in enumerate(sorted(dice.randint(start, len(disk.tape)) for _ in range(AGAIN))):
            images.advance(second)
            again = image / f"again{number}"
            (again / "data").mkdir(parents=True)
            images.make(again / "data")
            # What was only begun may be forgotten by then, so it need not be as after a commit any more.
            Judge(self._journal, is_durable=self._is_durable, knows_states=False).see(again, point, whole=False)
        asyncio.run(_use(image, 1000))


async def _use(image: Path, most: int) -> None:
    """Open the store, and take and complete jobs, so many at a time."""
    store = SqliteStore(image, DEFAULTS, LoadedDice())
    try:
        await store.open(Silence())
    except ConfigError as error:
        raise Broken(f"the store does not open: {error}") from error
    try:
        while most and (jobs := await store.take(1, (), most, NOW + 10_000)):
            if not all(await store.succeed([job.id for job in jobs], NOW)):
                raise Broken("a job that was taken cannot be completed")
    finally:
        await store.close()
