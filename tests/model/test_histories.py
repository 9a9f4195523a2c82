"""Random histories: after each step the store, its indexes and its lists agree with the oracle."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from functools import partial
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec import UNSET

from model.history import (
    BOUND,
    BUDGETS,
    GROUPS,
    NOW,
    QUEUES,
    TYPES,
    History,
    OnPostgres,
    OnSqlite,
    batch_of,
    template,
    zone,
)
from postgres import Databases
from zizq.budget import Draw, Strategy
from zizq.cron import CronGroup
from zizq.engine.changes import Change, Delete, Patch, Rebind, RetentionPatch, Retry
from zizq.engine.cron import rules
from zizq.engine.cron.rules import GroupPatch, NewEntry, NewGroup
from zizq.engine.purse import Purse
from zizq.engine.selection import Range
from zizq.job import Status
from zizq.policy import Backoff
from zizq.store import rows
from zizq.store.postgres import budget_rows
from zizq.store.postgres import changes as postgres_changes
from zizq.store.sqlite import changes as sqlite_changes
from zizq.store.sqlite.budget_statements import BudgetStatements
from zizq.store.sqlite.key_statements import KeyStatements

STRATEGIES = tuple({budget.strategy for budget in BUDGETS})
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
        template(queue, **bound)
        for queue in QUEUES
        for bound in (
            {},
            {"unique_key": "k", "unique_while": "queued"},
            {"budgets": (Draw("x", 1),)},
            {"batch": batch_of("m")},
        )
    ]
)
# Every second, every other, every minute; and in a year that has passed.
EXPRESSIONS = ("* * * * * *", "*/2 * * * * *", "* * * * *", "0 0 1 1 * * 2020")
entries = st.builds(
    NewEntry,
    name=st.sampled_from("ef"),
    expression=st.sampled_from(EXPRESSIONS),
    paused=st.sampled_from((None, None, False, True)),
    job=cron_jobs,
)
some_entries = st.lists(entries, max_size=2, unique_by=attrgetter("name"))
groups = st.builds(NewGroup, entries=some_entries.map(tuple), paused=st.sampled_from((None, None, False, True)))
CronRule = Callable[[str, CronGroup | None, int], CronGroup]


def put(new: NewGroup) -> CronRule:
    return lambda name, before, now: rules.replace(before, name, new, now, zone)


def pause(entry: str | None, paused: bool) -> CronRule:
    if entry is None:
        return lambda name, before, now: rules.patch(before, name, GroupPatch(paused=paused), now, zone)
    return lambda name, before, now: rules.pause_entry(before, name, entry, paused, now, zone)


def leave_out(entry: str) -> CronRule:
    return lambda name, before, now: rules.without_entry(before, name, entry)


cron_rules = st.one_of(
    groups.map(put),
    groups.map(put),
    st.builds(pause, maybe(st.sampled_from("ef")), st.booleans()),
    st.sampled_from("ef").map(leave_out),
    st.none(),
)
owners = st.integers(1, 3)
some_numbers = st.lists(st.integers(0, 800), min_size=1, max_size=12)


def seldom(steps: int) -> Callable[[Any], Any]:
    """A step that is taken once in so many steps: those that change little would else take all the room."""
    return precondition(lambda self: self.steps % steps == 0)


class Histories(RuleBasedStateMachine):
    """Steps of all kinds, in any order, on both stores."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0
        self._runner = asyncio.Runner()
        self._history = self.make()

    def make(self) -> History:
        """The two stores."""
        raise NotImplementedError

    def _run(self, step: Coroutine[Any, Any, None]) -> None:
        self._runner.run(step)

    @initialize(jobs=st.lists(new_jobs, min_size=5, max_size=30), new=groups)
    def begin(self, jobs: list[tuple[str, int, int, dict[str, Any]]], new: NewGroup) -> None:
        self._run(self._history.open())
        for budget in BUDGETS:
            self._run(self._history.save_budget(budget.key, budget.allocation))
        self.enqueue(jobs)
        self._run(self._history.change_cron("g", partial(put(new), "g")))

    @rule(jobs=st.lists(new_jobs, min_size=1, max_size=30))
    def enqueue(self, jobs: list[tuple[str, int, int, dict[str, Any]]]) -> None:
        self._run(self._history.enqueue(jobs))

    @rule(key=st.sampled_from("mn"), value=st.integers(0, 9), fold=st.booleans(), delay=st.sampled_from((0, 0, 0, 700)))
    def batch(self, key: str, value: int, fold: bool, delay: int) -> None:
        self._run(self._history.batch(key, value, fold, delay))

    @rule(
        owner=owners,
        queues=st.sets(st.sampled_from(QUEUES), max_size=2),
        limit=st.integers(1, 25),
        timeout_ms=st.sampled_from((None, None, 600)),
    )
    def take(self, owner: int, queues: set[str], limit: int, timeout_ms: int | None) -> None:
        self._run(self._history.take(owner, queues, limit, timeout_ms))

    @rule(owner=owners, limit=st.integers(1, 5), running=st.sampled_from((None, 2)))
    def crash(self, owner: int, limit: int, running: int | None) -> None:
        """A worker dies of what it has just taken."""
        self._run(self._history.take(owner, set(), limit))
        self._run(self._history.release(owner, True, running))

    @precondition(lambda self: self._history.flying)
    @rule(owner=owners, died=st.booleans())
    def release(self, owner: int, died: bool) -> None:
        self._run(self._history.release(owner, died, None))

    @precondition(lambda self: self._history.flying)
    @rule(numbers=some_numbers, owners=maybe(st.sets(owners, max_size=2)))
    def release_jobs(self, numbers: list[int], owners: set[int] | None) -> None:
        self._run(self._history.release_jobs(numbers, owners))

    @precondition(lambda self: self._history.is_due("fail"))
    @rule()
    def fail_overdue(self) -> None:
        self._run(self._history.fail_overdue())

    @precondition(lambda self: self._history.flying)
    @rule(numbers=some_numbers)
    def succeed(self, numbers: list[int]) -> None:
        self._run(self._history.succeed(numbers))

    @precondition(lambda self: self._history.flying)
    @rule(number=st.integers(0, 400), kill=st.booleans())
    def fail(self, number: int, kill: bool) -> None:
        self._run(self._history.fail(number, kill))

    @rule(conditions=selections, change=changes, reopen=st.sampled_from((False, False, True)))
    def change(self, conditions: dict[str, Any], change: Change, reopen: bool) -> None:
        self._run(self._history.change(conditions, change, reopen))

    @seldom(3)
    @rule(group=st.sampled_from(GROUPS), rule=cron_rules)
    def change_cron(self, group: str, rule: CronRule | None) -> None:
        self._run(self._history.change_cron(group, rule and partial(rule, group)))

    @precondition(lambda self: self._history.is_due("fire"))
    @rule(fold=st.booleans())
    def fire(self, fold: bool) -> None:
        self._run(self._history.fire(fold))

    @seldom(4)
    @rule(key=st.sampled_from("xyz"), allocation=st.integers(0, 5), strategy=maybe(st.sampled_from(STRATEGIES)))
    def save_budget(self, key: str, allocation: int, strategy: Strategy | None) -> None:
        self._run(self._history.save_budget(key, allocation, strategy))

    @rule(fold=st.booleans())
    def tick(self, fold: bool) -> None:
        """The next thing is due, and is done."""
        self._history.pass_time(0)
        for duty, carry_out in (
            ("promote", partial(self.promote, 100)), ("fire", partial(self.fire, fold)), ("fail", self.fail_overdue)
        ):  # fmt: skip
            if self._history.is_due(duty):
                carry_out()

    @rule(ms=st.just(0) | st.integers(1, 3000))
    def pass_time(self, ms: int) -> None:
        self._history.pass_time(ms)

    @precondition(lambda self: self._history.is_due("promote"))
    @rule(limit=st.integers(1, 10))
    def promote(self, limit: int) -> None:
        self._run(self._history.promote(limit))

    @seldom(5)
    @rule(limit=st.integers(1, 10))
    def reap(self, limit: int) -> None:
        self._run(self._history.reap(limit))

    @seldom(7)
    @rule()
    def reopen(self) -> None:
        self._run(self._history.reopen())

    @invariant()
    def agree(self) -> None:
        self.steps += 1
        self._run(self._history.compare())

    def teardown(self) -> None:
        with self._runner:
            self._run(self._end())

    async def _end(self) -> None:
        try:
            await self._history.reopen()
            await self._history.compare()
            await self._history.take(1, set(), 1000)
        finally:
            await self._history.close()


class SqliteHistories(Histories):
    """The embedded store."""

    def make(self) -> History:
        self._chunk, sqlite_changes.FEW = sqlite_changes.FEW, CHUNK
        self._folder = TemporaryDirectory()
        return OnSqlite(Path(self._folder.name))

    def teardown(self) -> None:
        sqlite_changes.FEW = self._chunk
        with self._folder:
            super().teardown()


class PostgresHistories(Histories):
    """The store that servers share."""

    databases: ClassVar[Databases]
    kind: ClassVar[type[OnPostgres]] = OnPostgres

    def make(self) -> History:
        self._chunk, postgres_changes.FEW = postgres_changes.FEW, CHUNK
        return self.kind(self.databases.fresh())

    def teardown(self) -> None:
        postgres_changes.FEW = self._chunk
        super().teardown()


HISTORIES = int(os.environ.get("HISTORIES", "0"))
"""So many histories, other ones in each run, in place of the few that are always the same."""

FEW = settings(
    max_examples=HISTORIES or 20,
    stateful_step_count=50,
    derandomize=not HISTORIES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestHistories = pytest.mark.timeout(600 + 10 * HISTORIES)(SqliteHistories.TestCase)
TestHistories.settings = FEW


@pytest.mark.timeout(600 + 60 * HISTORIES)
def test_histories_on_postgres(databases: Databases) -> None:
    # A step costs ten times what it does in a file.
    PostgresHistories.databases = databases
    run_state_machine_as_test(PostgresHistories, settings=settings(FEW, max_examples=HISTORIES or 3))


def _keep_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Purse, "give_back", lambda *_: None)


def _fold_into_what_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KeyStatements, "seal", lambda self, calls: [None] * len(calls))


def _overlook_a_unique_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "unique_names", lambda key: [])


def _note_no_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BudgetStatements, "bind", lambda *_: None)


@pytest.mark.timeout(300)
def test_a_defect_of_postgres_is_found(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    async def bind(*_: object) -> None:
        """Note no draws."""

    monkeypatch.setattr(budget_rows, "bind", bind)
    PostgresHistories.databases = databases
    with pytest.raises(AssertionError):
        run_state_machine_as_test(PostgresHistories, settings=settings(FEW, phases=[Phase.generate]))


@pytest.mark.parametrize("defect", [_keep_tokens, _fold_into_what_was_taken, _overlook_a_unique_key, _note_no_draws])
def test_a_defect_is_found(defect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    defect(monkeypatch)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(SqliteHistories, settings=settings(FEW, phases=[Phase.generate]))
