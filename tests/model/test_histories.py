"""Random histories: after each step the store, its indexes and its lists agree with the oracle."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import UNSET

from model.history import BOUND, BUDGETS, GROUPS, NOW, PAYLOAD, QUEUES, TYPES, History
from zizq.budget import Draw
from zizq.cron import CronEntry, CronJob
from zizq.engine.changes import Change, Delete, Patch, Rebind, RetentionPatch, Retry
from zizq.engine.selection import Range
from zizq.job import Status
from zizq.policy import Backoff
from zizq.store.base import Silence
from zizq.store.sqlite import changes as sqlite_changes

CHUNK = 7
"""Jobs that are changed in one commit: so few that most changes take several."""


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), st.none(), strategy)


def ranges(low: int, high: int) -> st.SearchStrategy[Range]:
    return st.tuples(st.integers(low, high), st.integers(low, high)).map(lambda pair: Range(min(pair), max(pair)))


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
new_jobs = st.tuples(
    st.sampled_from(QUEUES), st.integers(0, 3), st.sampled_from((0, 0, 0, 1500)), st.sampled_from(BOUND)
)
cron_jobs = st.sampled_from(
    [
        CronJob(type="t", queue=queue, payload=PAYLOAD, priority=1, **bound)
        for queue in QUEUES
        for bound in ({}, {"unique_key": "k", "unique_while": "queued"}, {"budgets": (Draw("x", 1),)})
    ]
)
entries = st.builds(
    CronEntry,
    name=st.sampled_from("ef"),
    expression=st.just("* * * * *"),
    paused=st.booleans(),
    job=cron_jobs,
    next_enqueue_at=maybe(st.integers(NOW, NOW + 5000)),
)
some_entries = st.lists(entries, max_size=2, unique_by=attrgetter("name"))
owners = st.integers(1, 3)


class Histories(RuleBasedStateMachine):
    """Steps of all kinds, in any order, on both stores."""

    def __init__(self) -> None:
        super().__init__()
        self._chunk, sqlite_changes.FEW = sqlite_changes.FEW, CHUNK
        self._folder = TemporaryDirectory()
        self._runner = asyncio.Runner()
        self._history = History(Path(self._folder.name))

    def _run(self, step: Coroutine[Any, Any, None]) -> None:
        self._runner.run(step)

    @initialize()
    def begin(self) -> None:
        self._run(self._history.store.open(Silence()))
        for budget in BUDGETS:
            self._run(self._history.save_budget(budget.key, budget.allocation))

    @rule(jobs=st.lists(new_jobs, min_size=1, max_size=30))
    def enqueue(self, jobs: list[tuple[str, int, int, dict[str, Any]]]) -> None:
        self._run(self._history.enqueue(jobs))

    @rule(key=st.sampled_from("mn"), value=st.integers(0, 9), fold=st.booleans())
    def batch(self, key: str, value: int, fold: bool) -> None:
        self._run(self._history.batch(key, value, fold))

    @rule(owner=owners, queues=st.sets(st.sampled_from(QUEUES), max_size=2), limit=st.integers(1, 25))
    def take(self, owner: int, queues: set[str], limit: int) -> None:
        self._run(self._history.take(owner, queues, limit))

    @rule(owner=owners)
    def release(self, owner: int) -> None:
        self._run(self._history.release(owner))

    @precondition(lambda self: self._history.ids)
    @rule(numbers=st.lists(st.integers(0, 400), min_size=1, max_size=12))
    def succeed(self, numbers: list[int]) -> None:
        self._run(self._history.succeed(numbers))

    @precondition(lambda self: self._history.ids)
    @rule(number=st.integers(0, 400), kill=st.booleans())
    def fail(self, number: int, kill: bool) -> None:
        self._run(self._history.fail(number, kill))

    @rule(conditions=selections, change=changes, reopen=st.sampled_from((False, False, True)))
    def change(self, conditions: dict[str, Any], change: Change, reopen: bool) -> None:
        self._run(self._history.change(conditions, change, reopen))

    @rule(
        group=st.sampled_from(GROUPS),
        entries=st.lists(entries, max_size=2, unique_by=attrgetter("name")),
        paused=st.booleans(),
    )
    def save_cron(self, group: str, entries: Collection[CronEntry], paused: bool) -> None:
        self._run(self._history.save_cron(group, entries, paused))

    @rule(delay=st.sampled_from((1, 700, 3000)))
    def fire(self, delay: int) -> None:
        self._run(self._history.fire(delay))

    @rule(key=st.sampled_from("xyz"), allocation=st.integers(0, 5))
    def save_budget(self, key: str, allocation: int) -> None:
        self._run(self._history.save_budget(key, allocation))

    @rule(ms=st.integers(1, 3000))
    def pass_time(self, ms: int) -> None:
        self._history.now += ms

    @rule(limit=st.integers(1, 10))
    def promote(self, limit: int) -> None:
        self._run(self._history.promote(limit))

    @rule(limit=st.integers(1, 10))
    def reap(self, limit: int) -> None:
        self._run(self._history.reap(limit))

    @rule()
    def reopen(self) -> None:
        self._run(self._history.reopen())

    @invariant()
    def agree(self) -> None:
        self._run(self._history.compare())

    def teardown(self) -> None:
        sqlite_changes.FEW = self._chunk
        with self._folder, self._runner:
            self._run(self._end())

    async def _end(self) -> None:
        try:
            await self._history.reopen()
            await self._history.compare()
            await self._history.take(1, set(), 1000)
        finally:
            await self._history.store.close()


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=80,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
