"""A store that is put to all kinds of work on a recorded disk, with a journal of what was promised."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import apsw
import msgspec

from trust.disk import Disk
from zizq.budget import Budget, Draw, Strategy, StrategyType
from zizq.cron import CronEntry, CronGroup, CronJob
from zizq.engine import admit
from zizq.engine.changes import Delete, Patch, Retry
from zizq.engine.selection import Selection
from zizq.engine.window import ReadySet
from zizq.errors import ConfigError, Refusal, Unavailable
from zizq.ids import IdGenerator
from zizq.job import Failure, JobRecord, Status
from zizq.policy import Backoff, Defaults, Retention
from zizq.store.base import CommitMode, Due, Silence
from zizq.store.sqlite import changes, checkpoints, upkeep, writer
from zizq.store.sqlite.schema import PAGE_SIZE
from zizq.store.sqlite.store import SqliteStore
from zizq.testing.clock import LoadedDice, ManualClock

NOW = 1_790_000_000_000
DEFAULTS = Defaults(retry_limit=1, backoff=Backoff(1.0, 0, 0), dead_ms=5000)
TABLES = (
    "jobs", "errors", "tally", "pending", "bulk", "budgets", "draws", "crons", "cron_entries", "cron_draws"
)  # fmt: skip
BUDGETS = ("fast", "slow")
QUEUES = ("a", "b", "c")
SIZES = (20, 300, 3000, 15_000)
"""Bytes of payloads: some fit many on a page, some need several pages."""


def digest(db: apsw.Connection) -> int:
    """What all tables of a database hold."""
    return hash(tuple(tuple(db.execute(f"SELECT * FROM {table}").fetchall()) for table in TABLES))


@contextmanager
def small_parts() -> Iterator[None]:
    """So little of everything at a time that a short while has many checkpoints, trims and changes in parts."""
    small: list[tuple[ModuleType, str, float]] = [
        (checkpoints, "PAGES", 60),
        (checkpoints, "KEPT_BYTES", 50 * PAGE_SIZE),
        (checkpoints, "PIECE_PAGES", 10),
        (checkpoints, "AHEAD_PAGES", 3),
        (changes, "FEW", 7),
        (changes, "RETRY_S", 0.01),
        (upkeep, "ROOM_PAGES", 6),
        (upkeep, "TRIM_PAGES", 8),
        (writer, "PROBE_S", 0.01),
    ]
    kept = [getattr(module, name) for module, name, _ in small]
    for module, name, value in small:
        setattr(module, name, value)
    try:
        yield
    finally:
        for (module, name, _), value in zip(small, kept, strict=True):
            setattr(module, name, value)


@dataclass
class Journal:
    """What was promised, by points of the tape."""

    begun: dict[str, int] = field(default_factory=dict)
    """When the enqueue of each job began."""
    answered: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    """When it was answered, and the payload."""
    ending: dict[str, int] = field(default_factory=dict)
    """When something first began that may remove a job."""
    ended: dict[str, int] = field(default_factory=dict)
    """When it was answered that a job is completed, and so not there any more."""
    states: list[tuple[int, int]] = field(default_factory=list)
    """The digest after each commit, and when it was."""
    rounds: list[tuple[int, int]] = field(default_factory=list)
    """When all calls of a round were answered, and how many states there were."""


class Workload:
    """One store at work.

    Args:
        disk: What it works on.
        folder: Where.
        seed: Decides what it does.
        options: Those of the store.
    """

    def __init__(self, disk: Disk, folder: Path, seed: int, **options: Any) -> None:
        self.disk = disk
        self.journal = Journal()
        self.dice = Random(seed)
        self.now = NOW
        self.folder = folder
        self._options = options
        self._clock = ManualClock(NOW)
        self._next_id = IdGenerator(self._clock, LoadedDice()).next
        self._held: dict[int, list[JobRecord]] = {1: [], 2: [], 3: []}
        self._fired = 0
        self._group: CronGroup | None = None
        self.refused = 0
        """Calls that were refused since the disk would not have them."""

    @property
    def is_durable(self) -> bool:
        """Whether all that is answered is promised to survive, and not only enqueues."""
        return self._options.get("default_mode") is CommitMode.FSYNC

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """The store, at work for as long as the block lasts."""
        await self._open()
        try:
            yield
        finally:
            await self.store.close()

    async def _open(self) -> None:
        ready = ReadySet(total=30, limit=16)
        self.store = SqliteStore(self.folder, DEFAULTS, LoadedDice(), ready=ready, cache_bytes=2**17, **self._options)
        await self.store.open(Silence())
        db: apsw.Connection = self.store._writer._db
        ours = self.store._checkpoints._on_commit

        def on_commit(db: apsw.Connection, name: str, pages: int) -> int:
            # What a failed sync has dropped cannot be read as what it was.
            with suppress(apsw.Error, ValueError):
                self.journal.states.append((digest(db), len(self.disk.tape)))
            return ours(db, name, pages)

        db.set_wal_hook(on_commit)
        self.journal.states.append((await self.store._readers.read(digest), len(self.disk.tape)))

    async def run(self, rounds: int) -> None:
        """Do so many rounds of work, each of calls made at the same time."""
        for _ in range(rounds):
            calls = [self._pick() for _ in range(self.dice.choice((1, 1, 2, 4)))]
            await asyncio.gather(*[self._attempt(call) for call in calls])
            self.journal.rounds.append((len(self.disk.tape), len(self.journal.states)))
            self.now += self.dice.choice((0, 10, 400))
            self._clock.set_wall(self.now)

    async def reopen(self) -> None:
        """Close the store, and open it again; where the disk does not let it, once the disk is well."""
        await self.store.close()
        self._held = {1: [], 2: [], 3: []}
        try:
            await self._open()
        except (ConfigError, Unavailable):
            await self.store.close()
            self.disk.heal()
            await self._open()

    async def drain(self) -> int:
        """Take and complete all that is ready; returns how many jobs that were."""
        done = 0
        while jobs := await self.store.take(4, (), 100, self.now):
            self._end(job.id for job in jobs)
            done += sum(await self.store.succeed([job.id for job in jobs], self.now))
        return done

    def held(self) -> list[list[JobRecord]]:
        """The jobs in flight, by their owners."""
        return list(self._held.values())

    async def is_refused(self) -> bool:
        """Whether an enqueue is refused."""
        refused = self.refused
        await self._attempt(self._enqueue)
        return self.refused > refused

    def _pick(self) -> Callable[[], Awaitable[None]]:
        work = [self._enqueue] * 7 + [self._take] * 4 + [self._succeed] * 4 + [self._fail, self._release]
        work += [self._change, self._few, self._promote, self._reap, self._save_budget, self._save_cron, self._fire]
        return self.dice.choice(work)

    async def _attempt(self, call: Callable[[], Awaitable[None]]) -> None:
        try:
            await call()
        except Unavailable:
            self.refused += 1
        except Refusal:
            # A budget in use, a cron that has changed: nothing was promised.
            pass

    def _at(self) -> int:
        return len(self.disk.tape)

    # ── what it does ──

    def _job(self, *, bound: bool) -> JobRecord:
        dice = self.dice
        payload = msgspec.msgpack.encode(dice.randbytes(dice.choice(SIZES)))
        more: dict[str, Any] = {}
        if bound:
            more["budgets"] = (Draw(dice.choice(BUDGETS), 1),)
        if dice.random() < 0.2:
            more["ready_at"] = self.now + 500
        return admit.new_job(
            self._next_id(),
            self.now,
            type="t",
            queue=dice.choice(QUEUES),
            payload=msgspec.Raw(payload),
            priority=dice.randrange(3),
            retention=Retention(completed_ms=dice.choice((0, 0, 500))),
            **more,
        )

    async def _enqueue(self) -> None:
        bound = self.dice.random() < 0.2
        jobs = [self._job(bound=bound) for _ in range(self.dice.choice((1, 1, 3, 20)))]
        create = {key: _budget(key) for key in BUDGETS} if bound else {}
        self.journal.begun.update((job.id, self._at()) for job in jobs)
        await self.store.enqueue(jobs, self.now, create=create)
        at = self._at()
        self.journal.answered.update((job.id, (at, bytes(job.payload or b""))) for job in jobs)

    async def _take(self) -> None:
        owner = self.dice.randint(1, 3)
        self._held[owner] += await self.store.take(owner, (), self.dice.choice((1, 5, 15)), self.now)

    @contextmanager
    def _some_held(self, most: int) -> Iterator[list[JobRecord]]:
        """Some jobs that are in flight; they stay so where the block is refused."""
        held = self._held[self.dice.randint(1, 3)]
        count = min(len(held), self.dice.choice((1, 3, 12)), most)
        some = [held.pop(self.dice.randrange(len(held))) for _ in range(count)]
        self._end(job.id for job in some)
        try:
            yield some
        except Unavailable:
            held += some
            raise

    def _end(self, ids: Iterable[str], at: int | None = None) -> None:
        for job_id in ids:
            self.journal.ending.setdefault(job_id, self._at() if at is None else at)

    async def _succeed(self) -> None:
        with self._some_held(12) as jobs:
            ids = [job.id for job in jobs]
            done = await self.store.succeed(ids, self.now)
        kept = {job.id for job in jobs if job.retention is not None and job.retention.completed_ms}
        self.journal.ended.update(
            (job_id, self._at()) for job_id, was in zip(ids, done, strict=True) if was and job_id not in kept
        )

    async def _fail(self) -> None:
        with self._some_held(1) as jobs:
            for job in jobs:
                await self.store.fail(job.id, Failure(message="boom", kill=self.dice.random() < 0.3), self.now)

    async def _release(self) -> None:
        owner = self.dice.randint(1, 3)
        self._held[owner] = []
        await self.store.release(owner)

    async def _change(self) -> None:
        """A change of many: in parts, of which a crash may leave some undone."""
        dice = self.dice
        change = dice.choice((Delete(), Patch(priority=dice.randrange(5)), Patch(queue=dice.choice(QUEUES)), Retry()))
        selection = Selection(queues=frozenset(dice.choice(QUEUES)))
        if not isinstance(change, Delete):
            await self.store.change(selection, change, self.now)
            return
        at = self._at()
        try:
            await self.store.change(selection, change, self.now)
        finally:
            # What was enqueued meanwhile may be among them.
            self._end(list(self.journal.begun), at)

    async def _few(self) -> None:
        """A change of a few jobs by their names."""
        ids = self.dice.sample(sorted(self.journal.begun), min(4, len(self.journal.begun)))
        change = self.dice.choice((Delete(), Patch(priority=9)))
        if isinstance(change, Delete):
            self._end(ids)
        await self.store.change(Selection(ids=frozenset(ids)), change, self.now)

    async def _promote(self) -> None:
        await self.store.promote(self.now, 10)

    async def _reap(self) -> None:
        expired = Selection(statuses=frozenset((Status.DEAD, Status.COMPLETED)))
        self._end([job.id for job in (await self.store.page(expired, None, "asc", 1000, NOW)).jobs])
        await self.store.reap(self.now, 10)

    async def _save_budget(self) -> None:
        key = self.dice.choice(("x", "y"))
        before = next((one for one in await self.store.budgets() if one.key == key), None)
        after = None if before is not None else _budget(key)
        await self.store.save_budget(key, before, after, self.now)

    async def _save_cron(self) -> None:
        before = await self.store.cron("nightly")
        after = None if before is not None else _group(self.now)
        await self.store.save_cron("nightly", before, after, self.now)

    async def _fire(self) -> None:
        for due in await self.store.due_crons(self.now + 10_000, 3):
            after = due.entry.with_(next_enqueue_at=self.now + 1000, last_enqueue_at=self.now)
            await self._fire_one(due, after)

    async def _fire_one(self, due: Due, after: CronEntry) -> None:
        job = self._job(bound=False)
        self.journal.begun[job.id] = self._at()
        await self.store.fire(due, after, [job], self.now)
        self.journal.answered[job.id] = (self._at(), bytes(job.payload or b""))


def _budget(key: str) -> Budget:
    return Budget(key, 5, Strategy(StrategyType.WHILE_IN_FLIGHT), NOW, NOW)


def _group(now: int) -> CronGroup:
    job = CronJob(type="t", queue="a", payload=msgspec.Raw(msgspec.msgpack.encode("cron")), priority=1)
    entries = [
        CronEntry(name=name, expression="* * * * *", paused=False, job=job, next_enqueue_at=now + 1000)
        for name in ("one", "two")
    ]
    return CronGroup(name="nightly", paused=False, entries=tuple(entries))
