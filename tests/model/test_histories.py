"""Random histories run on the embedded store and on the oracle side by side, compared after each step."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from zizq.budget import Budget, Draw, Strategy, StrategyType
from zizq.engine import admit
from zizq.engine.changes import Change, Delete, Patch, Rebind, RetentionPatch, Retry
from zizq.engine.selection import Range, Selection
from zizq.engine.window import ReadySet
from zizq.ids import IdGenerator
from zizq.job import Batch, Failure, JobRecord, Status
from zizq.policy import Backoff, Defaults, Retention
from zizq.store.base import Silence, Store
from zizq.store.memory import MemoryStore
from zizq.store.sqlite import changes as sqlite_changes
from zizq.store.sqlite.store import SqliteStore
from zizq.testing.bench import selection as selecting
from zizq.testing.clock import LoadedDice, ManualClock

DEFAULTS = Defaults(retry_limit=1, backoff=Backoff(1.0, 0, 0), dead_ms=5000)
NOW = 1_790_000_000_000
PAYLOAD = msgspec.Raw(msgspec.msgpack.encode({"n": 1}))
QUEUES = ("a", "b", "c")
TYPES = ("t", "u")

CHUNK = 7
"""Jobs that are changed in one commit: so few that most changes take several."""


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), st.none(), strategy)


def ranges(low: int, high: int) -> st.SearchStrategy[Range]:
    return st.tuples(st.integers(low, high), st.integers(low, high)).map(lambda pair: Range(min(pair), max(pair)))


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
    {"budgets": (Draw("x", 1),)},
    {"budgets": (Draw("x", 3),)},
    {"budgets": (Draw("y", 1), Draw("x", 1))},
    {"budgets": (Draw("z", 2),)},
)
rebinds = st.one_of(
    st.builds(
        Rebind, put=st.sampled_from((Draw("x", 2), Draw("y", 1), Draw("z", 1))), only=st.sampled_from((None, "new"))
    ),
    st.builds(Rebind, drop=st.sampled_from("xyz")),
    st.just(Rebind(all=())),
)
selections = st.builds(
    dict,
    numbers=maybe(st.lists(st.integers(0, 400), max_size=20)),
    statuses=maybe(st.frozensets(st.sampled_from(list(Status)), max_size=3)),
    queues=maybe(st.frozensets(st.sampled_from(QUEUES), max_size=2)),
    types=maybe(st.frozensets(st.sampled_from(TYPES), max_size=2)),
    priority=maybe(ranges(0, 4)),
    ready_at=maybe(ranges(NOW, NOW + 5000)),
    attempts=maybe(ranges(0, 2)),
    budgets=maybe(st.frozensets(st.sampled_from("xyz"), max_size=2)),
)
unset = st.just(UNSET)
patches = st.builds(
    Patch,
    queue=unset | st.sampled_from(QUEUES),
    priority=unset | st.integers(0, 3),
    ready_at=unset | st.none() | st.integers(NOW, NOW + 5000),
    retry_limit=unset | st.none() | st.integers(0, 2),
    backoff=unset | st.none() | st.just(Backoff(1.0, 9, 0)),
    retention=unset | st.none() | st.builds(RetentionPatch, completed_ms=unset | st.none() | st.just(99)),
)
changes = st.one_of(st.just(Delete()), patches, patches, st.just(Retry()), rebinds)
queue_sets = st.sets(st.sampled_from(QUEUES), max_size=2)
steps = st.one_of(
    st.tuples(
        st.just("enqueue"),
        st.lists(
            st.tuples(
                st.sampled_from(QUEUES), st.integers(0, 3), st.sampled_from((0, 0, 0, 1500)), st.sampled_from(BOUND)
            ),
            max_size=30,
        ),
    ),
    st.tuples(st.just("take"), st.integers(1, 3), queue_sets, st.integers(1, 25)),
    st.tuples(st.just("release"), st.integers(1, 3)),
    st.tuples(st.just("succeed"), st.lists(st.integers(0, 400), max_size=12)),
    st.tuples(st.just("fail"), st.integers(0, 400), st.booleans()),
    st.tuples(st.just("change"), selections, changes),
    st.tuples(st.just("change"), selections, changes, st.just(True)),
    st.tuples(st.just("pass"), st.integers(1, 3000)),
    st.tuples(st.just("promote"), st.integers(1, 10)),
    st.tuples(st.just("reap"), st.integers(1, 10)),
    st.tuples(st.just("batch"), st.sampled_from("mn"), st.integers(0, 9), st.booleans()),
    st.tuples(st.just("batch"), st.sampled_from("mn"), st.integers(0, 9), st.booleans()),
    st.tuples(st.just("reopen")),
)


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
        expected, found = await call(self.oracle), await call(self.store)
        assert found == expected

    async def run(self, step: tuple[Any, ...]) -> None:
        await getattr(self, step[0])(*step[1:])

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
        for conditions in (
            {},
            {"statuses": frozenset(("ready",))},
            {"types": frozenset("t")},
            {"queues": frozenset("ab")},
        ):
            selection = selecting(**conditions)
            await self.both(lambda store, chosen=selection: store.count(chosen, self.now))
            await self.both(lambda store, chosen=selection: self.page(store, chosen, "asc"))
        for job_id in self.ids[-60:]:
            mine, theirs = await self.store.get(job_id, self.now), await self.oracle.get(job_id, self.now)
            assert (mine is None) == (theirs is None)
            if mine is not None and theirs is not None:
                hidden = {"payload": None, "dequeued_at": None}
                assert mine.with_(**hidden) == theirs.with_(**hidden)

    async def _changed(self, store: Store, selection: Selection, change: Change) -> tuple[int, JobRecord | None]:
        jobs, job = await store.change(selection, change, self.now)
        return jobs, job and job.with_(dequeued_at=None)

    async def page(self, store: Store, selection: Selection, order: Any) -> tuple[list[Any], bool]:
        jobs, more = await store.page(selection, None, order, 20, self.now)
        return [(job.with_(payload=None, dequeued_at=None), bytes(job.payload or b"")) for job in jobs], more

    async def pass_time(self, ms: int) -> None:
        self.now += ms


setattr(History, "pass", History.pass_time)


async def _play(history: list[tuple[Any, ...]]) -> None:
    with TemporaryDirectory() as folder:
        both = History(Path(folder))
        await both.store.open(Silence())
        try:
            for budget in BUDGETS:
                await both.both(lambda store, one=budget: store.save_budget(one.key, None, one, NOW))
            for step in history:
                await both.run(step)
            await both.compare()
            await both.reopen()
            await both.compare()
            await both.take(1, set(), 1000)
        finally:
            await both.store.close()


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_changes, "FEW", CHUNK)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(steps, min_size=5, max_size=60))
def test_the_embedded_store_equals_the_oracle(history: list[tuple[Any, ...]]) -> None:
    asyncio.run(_play(history))
