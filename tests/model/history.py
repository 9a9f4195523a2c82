"""A store and the oracle side by side: told the same things, they must say the same things."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, tzinfo
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from zizq.budget import Budget, Draw, Strategy, StrategyType
from zizq.cron import CronGroup, CronJob
from zizq.engine import admit
from zizq.engine.changes import Change
from zizq.engine.cron import rules
from zizq.engine.selection import Selection
from zizq.engine.window import ReadySet
from zizq.errors import Refusal
from zizq.ids import IdGenerator
from zizq.job import Batch, Failure, JobRecord
from zizq.policy import Backoff, Defaults, Retention
from zizq.store.base import Due, Silence, Store
from zizq.store.memory import MemoryStore
from zizq.store.postgres import check as postgres_check
from zizq.store.postgres.database import Database
from zizq.store.postgres.store import PostgresStore
from zizq.store.sqlite.check import examine
from zizq.store.sqlite.schema import open_for_reading
from zizq.store.sqlite.store import SqliteStore
from zizq.testing.bench import selection as selecting
from zizq.testing.clock import LoadedDice, ManualClock

DEFAULTS = Defaults(retry_limit=1, backoff=Backoff(1.0, 0, 0), dead_ms=5000, max_worker_deaths=1)
NOW = 1_790_000_000_000
PAYLOAD = msgspec.Raw(msgspec.msgpack.encode({"n": 1}))
QUEUES = ("a", "b", "c")
TYPES = ("t", "u")
GROUPS = ("g", "h")

FLIGHT = Strategy(StrategyType.WHILE_IN_FLIGHT)
BUDGETS = (
    Budget("x", 4, FLIGHT, NOW, NOW),
    Budget("y", 2, FLIGHT, NOW, NOW),
    Budget("z", 3, Strategy(StrategyType.TIME_BASED, 900, 5), NOW, NOW),
)
BOUND: tuple[dict[str, Any], ...] = (
    *[{}] * 6,
    {"unique_key": "k", "unique_while": "queued"},
    {"unique_key": "k", "unique_while": "active"},
    {"unique_key": "l", "unique_while": "queued", "timeout_ms": 900},
    {"unique_key": "l", "unique_while": "exists"},
    {"metadata": {"a": "b"}},
    {"budgets": (Draw("x", 1),), "metadata": {"c": ""}},
    {"budgets": (Draw("x", 3),)},
    {"budgets": (Draw("y", 1), Draw("x", 1))},
    {"budgets": (Draw("z", 2),)},
    {"budgets": (Draw("z", 1),), "unique_key": "k", "unique_while": "queued", "timeout_ms": 400},
)
GroupRule = Callable[[CronGroup | None, int], CronGroup]
"""What a group becomes of the one that is there."""


def zone(name: str | None) -> tzinfo:
    """All zones are one: what clocks do is tried elsewhere."""
    return UTC


def batch_of(key: str) -> Batch:
    return Batch(key, "true", "$new")


async def _outcome(call: Any, store: Store) -> Any:
    try:
        return await call(store)
    except Refusal as error:
        return type(error), str(error)


class History:
    """Two stores that are told the same things."""

    def __init__(self) -> None:
        self.now = NOW
        self.ids: list[str] = []
        self.flying: list[str] = []
        """The jobs in flight."""
        self.next: dict[str, int] = {}
        """When something is to be done next, by the duty that does it; left out where there is nothing."""
        self._next_id = IdGenerator(ManualClock(NOW), LoadedDice()).next
        self.oracle = MemoryStore(DEFAULTS, LoadedDice())
        self.store = self.make()

    def make(self) -> Store:
        """The store that is tried, as its place has it; not open."""
        raise NotImplementedError

    async def examine(self) -> list[str]:
        """What is wrong with what is stored."""
        raise NotImplementedError

    async def open(self) -> None:
        """Open the store, and whatever looks at what it has stored."""
        await self.store.open(Silence())

    async def close(self) -> None:
        await self.store.close()

    async def both(self, call: Any) -> None:
        """Ask both stores; what one of them answers or refuses, the other must too."""
        expected, found = await _outcome(call, self.oracle), await _outcome(call, self.store)
        assert found == expected, f"the store says {found}, the oracle {expected}"

    async def enqueue(self, jobs: list[tuple[str, int, int, dict[str, Any]]]) -> None:
        made = [
            admit.new_job(
                self._next_id(),
                self.now,
                type=TYPES[priority % 2],
                queue=queue,
                payload=PAYLOAD,
                priority=priority,
                ready_at=self.now + delay if delay else None,
                retention=Retention(completed_ms=4000) if priority == 3 else None,
                **bound,
            )
            for queue, priority, delay, bound in jobs
        ]
        self.ids += [job.id for job in made]

        async def enqueue(store: Store) -> list[str]:
            return [job.id for job in await store.enqueue(made, self.now)]

        await self.both(enqueue)

    async def batch(self, key: str, value: int, fold: bool, delay: int) -> None:
        """Fold into the job that waits under a key, as an enqueue would; or let a new one wait in its place.

        One that is for later neither waits nor is folded.
        """
        new = admit.new_job(
            self._next_id(),
            self.now,
            type="t",
            queue="a",
            payload=msgspec.Raw(msgspec.msgpack.encode(value)),
            priority=1,
            ready_at=self.now + delay if delay else None,
            batch=batch_of(key),
        )

        async def enqueue(store: Store) -> list[str]:
            if delay:
                return [job.id for job in await store.enqueue([new], self.now)]
            jobs, folds, pending = await self._folded(store, new, fold)
            return [job.id for job in await store.enqueue(jobs, self.now, folds, pending)]

        self.ids.append(new.id)
        await self.both(enqueue)

    async def _folded(
        self, store: Store, new: JobRecord, fold: bool
    ) -> tuple[list[JobRecord], list[JobRecord], dict[str, str | None]]:
        """What to store of a job with a batch key: itself, or the one that waits with its payload."""
        assert new.batch is not None
        waiting = (await store.pending([new.batch.key])).get(new.batch.key)
        expected = {new.batch.key: waiting and waiting.id}
        if waiting is not None and fold:
            return [], [waiting.with_(payload=new.payload)], expected
        return [new], [], expected

    async def waiting(self, store: Store) -> list[tuple[str, str, bytes]]:
        """The jobs that wait under batch keys."""
        found = await store.pending(["m", "n"])
        return sorted((key, job.id, bytes(job.payload or b"")) for key, job in found.items())

    async def take(self, owner: int, queues: set[str], limit: int, timeout_ms: int | None = None) -> None:
        async def take(store: Store) -> list[Any]:
            jobs: list[JobRecord] = []
            # The store may hand out fewer where a window ends; whoever takes asks again until there is none.
            while len(jobs) < limit:
                more = await store.take(owner, queues, limit - len(jobs), self.now, timeout_ms)
                if not more:
                    break
                jobs += more
            return [(job.with_(payload=None), bytes(job.payload or b"")) for job in jobs]

        await self.both(take)

    async def release(self, owner: int, died: bool, running: int | None) -> None:
        died_at = self.now if died else None
        await self.both(lambda store: store.release(owner, died_at=died_at, running=running))

    async def release_jobs(self, numbers: list[int], owners: set[int] | None) -> None:
        await self.both(lambda store: store.release_jobs(self._pick(numbers, self.flying), owners))

    async def fail_overdue(self) -> None:
        """Fail what was held for too long, as the timekeeper does; which go first is left open, so all of them go."""
        await self.both(lambda store: store.fail_overdue(self.now, 1000))

    def is_due(self, duty: str) -> bool:
        """Whether a duty has something to do."""
        return self.next.get(duty, self.now + 1) <= self.now

    def pass_time(self, ms: int) -> None:
        """Let time go on: for so long, or for 0 until the next thing is to be done."""
        ahead = [at for at in self.next.values() if at > self.now]
        self.now = min(ahead) if ahead and not ms else self.now + max(1, ms)

    def _pick(self, numbers: list[int], among: list[str] | None = None) -> list[str]:
        """Some jobs; one of eight is any, where they are to be among others."""
        pools = [among or self.ids] * 7 + [self.ids]
        picked = [pools[n % 8][n // 8 % len(pools[n % 8])] for n in numbers] if self.ids else []
        return list(dict.fromkeys(picked))

    async def succeed(self, numbers: list[int]) -> None:
        await self.both(lambda store: store.succeed(self._pick(numbers, self.flying), self.now))

    async def fail(self, number: int, kill: bool) -> None:
        job_id = next(iter(self._pick([number], self.flying)), "none")
        await self.both(lambda store: store.fail(job_id, Failure(message="m", kill=kill), self.now))

    def _select(self, conditions: dict[str, Any]) -> Selection:
        given = dict(conditions)
        numbers = given.pop("numbers")
        return Selection(ids=None if numbers is None else frozenset(self._pick(numbers)), **given)

    async def change(self, conditions: dict[str, Any], change: Change, reopen: bool = False) -> None:
        selection = self._select(conditions)
        await self.both(lambda store: store.count(selection, self.now))
        await self.both(lambda store: self._changed(store, selection, change))
        if reopen:
            # Most likely in the middle of it: what was answered must go on all the same.
            await self.reopen()
        await self.both(lambda store: self.page(store, selection, "desc"))

    async def promote(self, limit: int) -> None:
        await self.both(lambda store: store.promote(self.now, limit))

    async def reap(self, limit: int) -> None:
        # Which of several expired jobs go first is left open, so all of them go.
        for store in (self.oracle, self.store):
            while await store.reap(self.now, limit):
                pass

    async def reopen(self) -> None:
        await self.close()
        self.store = self.make()
        await self.open()
        for owner in (1, 2, 3):
            await self.oracle.release(owner)

    async def compare(self) -> None:
        """All that a reader can see is the same, but for `dequeued_at`, which a crash may forget; and all is whole."""
        assert await self.examine() == []
        await self._compare_duties()
        await self.both(lambda store: store.queues(self.now))
        await self.both(lambda store: store.budgets())
        await self.both(self.waiting)
        await self.both(lambda store: store.due_crons(self.now, 100))
        for group in GROUPS:
            await self.both(lambda store, name=group: store.cron(name))
        for conditions in (
            {},
            {"statuses": frozenset(("ready",)), "types": frozenset("t")},
            {"queues": frozenset("ab"), "budgets": frozenset("x")},
        ):
            selection = selecting(**conditions)
            await self.both(lambda store, chosen=selection: store.count(chosen, self.now))
            await self.both(lambda store, chosen=selection: self.page(store, chosen, "asc"))
        for job_id in self.ids[-3:]:
            mine, theirs = await self.store.get(job_id, self.now), await self.oracle.get(job_id, self.now)
            assert (mine is None) == (theirs is None)
            if mine is not None and theirs is not None:
                hidden = {"payload": None, "dequeued_at": None}
                assert mine.with_(**hidden) == theirs.with_(**hidden)

    async def _compare_duties(self) -> None:
        """What is to be done next, and what is in flight, is the same."""
        await self.both(lambda store: store.next_overdue())
        await self.both(lambda store: store.next_cron())
        flying = selecting(statuses=("in_flight",))
        await self.both(lambda store: self.page(store, flying, "asc"))
        self.flying = [job.id for job in (await self.oracle.page(flying, None, "asc", 2000, self.now)).jobs]
        # When budgets can pay, one store only knows of those that were asked.
        promote, fire = await self.oracle.next_due(), await self.oracle.next_cron()
        duties = {"promote": promote, "fire": fire, "fail": await self.oracle.next_overdue()}
        self.next = {duty: at for duty, at in duties.items() if at is not None}

    async def _changed(self, store: Store, selection: Selection, change: Change) -> tuple[int, JobRecord | None]:
        jobs, job = await store.change(selection, change, self.now)
        return jobs, job and job.with_(dequeued_at=None)

    async def page(self, store: Store, selection: Selection, order: Any) -> tuple[list[Any], bool]:
        jobs, more = await store.page(selection, None, order, 2000, self.now)
        return [(job.with_(payload=None, dequeued_at=None), bytes(job.payload or b"")) for job in jobs], more

    # ── crons ──

    async def change_cron(self, group: str, rule: GroupRule | None) -> None:
        """Let a rule make a group of the one that is there; None deletes it."""

        async def save(store: Store) -> bool:
            before = await store.cron(group)
            return await store.save_cron(group, before, rule and rule(before, self.now), self.now)

        await self.both(save)

    async def fire(self, fold: bool) -> None:
        """Fire what is due, as the ticker does."""
        made: dict[tuple[str, str], JobRecord] = {}

        async def fire_one(store: Store, due: Due) -> Any:
            name = (due.group.name, due.entry.name)
            job = made.setdefault(name, rules.job_of(due.entry.job, self._next_id(), self.now))
            after = rules.fire(*due, self.now, zone)
            if rules.is_paused(*due):
                return [one.id for one in await store.fire(due, after, [], self.now)]
            if job.batch is not None:
                jobs, folds, pending = await self._folded(store, job, fold)
                return [one.id for one in await store.fire(due, after, jobs, self.now, folds, pending)]
            return [one.id for one in await store.fire(due, after, [job], self.now)]

        async def fire(store: Store) -> list[Any]:
            due = sorted(await store.due_crons(self.now, 100), key=lambda one: (one.group.name, one.entry.name))
            return [await _outcome(partial(fire_one, due=one), store) for one in due]

        await self.both(fire)
        self.ids += [job.id for job in made.values()]

    async def save_budget(self, key: str, allocation: int, strategy: Strategy | None = None) -> None:
        """Change a budget; one of no strategy is as in `BUDGETS`, and an allocation of 0 deletes it."""

        async def save(store: Store) -> bool:
            before = next((budget for budget in await store.budgets() if budget.key == key), None)
            meant = strategy or {budget.key: budget.strategy for budget in BUDGETS}[key]
            after = Budget(key, allocation, meant, NOW, self.now) if allocation else None
            return await store.save_budget(key, before, after, self.now)

        await self.both(save)


class OnSqlite(History):
    """The embedded store."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        super().__init__()

    def make(self) -> SqliteStore:
        # Windows so small that trims, blind queues and refills happen all the time.
        return SqliteStore(self._folder, DEFAULTS, LoadedDice(), ready=ReadySet(total=30, limit=16))

    async def open(self) -> None:
        await super().open()
        self._file = open_for_reading(self._folder / "data" / "jobs.db", 2**20)

    async def examine(self) -> list[str]:
        return examine(self._file, self.now).violations

    async def close(self) -> None:
        self._file.close()
        await super().close()


class OnPostgres(History):
    """The store that servers share."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._database = Database(url)
        super().__init__()

    def make(self) -> PostgresStore:
        return PostgresStore(self._url, DEFAULTS, LoadedDice())

    async def open(self) -> None:
        await super().open()
        await self._database.open()

    async def examine(self) -> list[str]:
        async with self._database.reading() as db:
            return (await postgres_check.examine(db, self.now)).violations

    async def close(self) -> None:
        await self._database.close()
        await super().close()


def template(queue: str, **bound: Any) -> CronJob:
    """What an entry enqueues."""
    return CronJob(type="t", queue=queue, payload=PAYLOAD, priority=1, **bound)
