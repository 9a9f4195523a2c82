"""The embedded store and the oracle side by side: told the same things, they must say the same things."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec

from zizq.budget import Budget, Draw, Strategy, StrategyType
from zizq.cron import CronEntry, CronGroup
from zizq.engine import admit
from zizq.engine.changes import Change
from zizq.engine.cron import rules
from zizq.engine.selection import Selection
from zizq.engine.window import ReadySet
from zizq.errors import Refusal
from zizq.ids import IdGenerator
from zizq.job import Batch, Failure, JobRecord
from zizq.policy import Backoff, Defaults, Retention
from zizq.store.base import Silence, Store
from zizq.store.memory import MemoryStore
from zizq.store.sqlite.store import SqliteStore
from zizq.testing.bench import selection as selecting
from zizq.testing.clock import LoadedDice, ManualClock

DEFAULTS = Defaults(retry_limit=1, backoff=Backoff(1.0, 0, 0), dead_ms=5000)
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
    {"unique_key": "k"},
    {"unique_key": "k", "unique_while": "active"},
    {"unique_key": "l", "unique_while": "exists"},
    {"metadata": {"a": "b"}},
    {"budgets": (Draw("x", 1),), "metadata": {"c": ""}},
    {"budgets": (Draw("x", 3),)},
    {"budgets": (Draw("y", 1), Draw("x", 1))},
    {"budgets": (Draw("z", 2),)},
)


async def _outcome(call: Any, store: Store) -> Any:
    try:
        return await call(store)
    except Refusal as error:
        return type(error), str(error)


class History:
    """Two stores that are told the same things."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = NOW
        self.ids: list[str] = []
        self._next_id = IdGenerator(ManualClock(NOW), LoadedDice()).next
        self.oracle = MemoryStore(DEFAULTS, LoadedDice())
        self.store = self._make()

    def _make(self) -> SqliteStore:
        # Windows so small that trims, blind queues and refills happen all the time.
        return SqliteStore(self.folder, DEFAULTS, LoadedDice(), ready=ReadySet(total=30, limit=16))

    async def both(self, call: Any) -> None:
        """Ask both stores; what one of them answers or refuses, the other must too."""
        expected, found = await _outcome(call, self.oracle), await _outcome(call, self.store)
        assert found == expected

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

    async def batch(self, key: str, value: int, fold: bool) -> None:
        """Fold into the job that waits under a key, as an enqueue would; or let a new one wait in its place."""
        payload = msgspec.Raw(msgspec.msgpack.encode(value))
        batch = Batch(key, "true", "$new")
        new = admit.new_job(self._next_id(), self.now, type="t", queue="a", payload=payload, priority=1, batch=batch)

        async def enqueue(store: Store) -> list[str]:
            waiting = (await store.pending([key])).get(key)
            expected = {key: waiting and waiting.id}
            if waiting is not None and fold:
                folded = waiting.with_(payload=payload)
                return [job.id for job in await store.enqueue([], self.now, [folded], expected)]
            return [job.id for job in await store.enqueue([new], self.now, (), expected)]

        self.ids.append(new.id)
        await self.both(enqueue)

    async def waiting(self, store: Store) -> list[tuple[str, str, bytes]]:
        """The jobs that wait under batch keys."""
        found = await store.pending(["m", "n"])
        return sorted((key, job.id, bytes(job.payload or b"")) for key, job in found.items())

    async def take(self, owner: int, queues: set[str], limit: int) -> None:
        async def take(store: Store) -> list[Any]:
            jobs = await store.take(owner, queues, limit, self.now)
            # The store may hand out fewer where a window ends; whoever takes asks again until there is none.
            while len(jobs) < limit and (more := await store.take(owner, queues, limit - len(jobs), self.now)):
                jobs += more
            return [(job.with_(payload=None), bytes(job.payload or b"")) for job in jobs]

        await self.both(take)

    async def release(self, owner: int) -> None:
        await self.both(lambda store: store.release(owner))

    def _pick(self, numbers: list[int]) -> list[str]:
        return list(dict.fromkeys(self.ids[n % len(self.ids)] for n in numbers)) if self.ids else []

    async def succeed(self, numbers: list[int]) -> None:
        await self.both(lambda store: store.succeed(self._pick(numbers), self.now))

    async def fail(self, number: int, kill: bool) -> None:
        job_id = next(iter(self._pick([number])), "none")
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
        await self.store.close()
        self.store = self._make()
        await self.store.open(Silence())
        for owner in (1, 2, 3):
            await self.oracle.release(owner)

    async def compare(self) -> None:
        """All that a reader can see is the same, but for `dequeued_at`, which a crash may forget."""
        await self.both(lambda store: store.queues(self.now))
        await self.both(lambda store: store.budgets())
        await self.both(self.waiting)
        await self.both(lambda store: store.due_crons(self.now, 100))
        await self.both(lambda store: store.next_cron())
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

    async def _changed(self, store: Store, selection: Selection, change: Change) -> tuple[int, JobRecord | None]:
        jobs, job = await store.change(selection, change, self.now)
        return jobs, job and job.with_(dequeued_at=None)

    async def page(self, store: Store, selection: Selection, order: Any) -> tuple[list[Any], bool]:
        jobs, more = await store.page(selection, None, order, 2000, self.now)
        return [(job.with_(payload=None, dequeued_at=None), bytes(job.payload or b"")) for job in jobs], more

    # ── crons ──

    async def save_cron(self, group: str, entries: Collection[CronEntry], paused: bool) -> None:
        """Put a group in the place of the one that is there; of no entries, delete it."""
        after = CronGroup(name=group, paused=paused, entries=tuple(entries)) if entries else None

        async def save(store: Store) -> bool:
            return await store.save_cron(group, await store.cron(group), after, self.now)

        await self.both(save)

    async def fire(self, delay: int) -> None:
        """Fire what is due, as the ticker does."""
        made: dict[tuple[str, str], JobRecord] = {}

        async def fire(store: Store) -> list[list[str]]:
            fired = []
            for due in await store.due_crons(self.now, 5):
                name = (due.group.name, due.entry.name)
                job = made.setdefault(name, rules.job_of(due.entry.job, self._next_id(), self.now))
                after = due.entry.with_(next_enqueue_at=self.now + delay, last_enqueue_at=self.now)
                jobs = [] if rules.is_paused(*due) else [job]
                fired.append([one.id for one in await store.fire(due, after, jobs, self.now)])
            return fired

        await self.both(fire)
        self.ids += [job.id for job in made.values()]

    async def save_budget(self, key: str, allocation: int) -> None:
        """Widen or narrow a budget, or try to delete it with an allocation of 0."""

        async def save(store: Store) -> bool:
            before = next((budget for budget in await store.budgets() if budget.key == key), None)
            strategy = {budget.key: budget.strategy for budget in BUDGETS}[key]
            after = Budget(key, allocation, strategy, NOW, self.now) if allocation else None
            return await store.save_budget(key, before, after, self.now)

        await self.both(save)
