"""How lists, counts and changes find their rows: by an index, never by looking at all of them."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from zizq.budget import Budget, Draw, Strategy, StrategyType
from zizq.engine.admit import new_job
from zizq.engine.changes import Delete, Patch, Retry
from zizq.engine.decide import Settled
from zizq.engine.lists import JobList
from zizq.engine.selection import EVERYTHING, Selection
from zizq.job import Batch, Status
from zizq.policy import Defaults
from zizq.store.sqlite import pages, sql, windows
from zizq.store.sqlite.budget_statements import BudgetStatements
from zizq.store.sqlite.change_statements import ApplyCall, ChangeCall, ChangeStatements
from zizq.store.sqlite.cron_statements import CronStatements, SaveCron
from zizq.store.sqlite.key_statements import AdmitCall, KeyStatements
from zizq.store.sqlite.pages import Instant
from zizq.store.sqlite.schema import open_database
from zizq.store.sqlite.store import SqliteStore
from zizq.testing.bench import NOW, Recorder
from zizq.testing.clock import LoadedDice
from zizq.testing.cron_conformance import entry, group

ROWS = 50_000
FILL = f"""
    WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS - 1})
    INSERT INTO jobs (id, queue, type, priority, status, ready_at, payload, purge_at)
    SELECT printf('%025d', i), 'q' || (i % 3), 't' || (i % 5), i % 2,
           CASE WHEN i % 100 < 4 THEN i % 4 ELSE 1 END, 0, x'c0',
           CASE WHEN i % 100 IN (2, 3) THEN {NOW + 9} END
    FROM n
"""
SOME = frozenset(f"{n:025d}" for n in range(0, ROWS, 999))


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> apsw.Connection:
    db = open_database(tmp_path_factory.mktemp("pages") / "jobs.db", 2**20)
    db.execute(FILL)
    return db


class Plans:
    """Collects the plans of all statements that run on a connection."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self.steps: list[str] = []
        self._asking = False
        db.exec_trace = self._note

    def _note(self, cursor: apsw.Cursor, sql: str, bindings: Any) -> bool:
        if not self._asking and not sql.lstrip().startswith(("BEGIN", "ROLLBACK", "PRAGMA", "EXPLAIN")):
            self._asking = True
            self.steps += [row[3] for row in self._db.execute(f"EXPLAIN QUERY PLAN {sql}", bindings)]
            self._asking = False
        return True

    def scans(self) -> list[str]:
        """Steps that look at every row of the jobs, or sort what they found."""
        bad = re.compile(r"SCAN (jobs|errors)(?! USING PRIMARY KEY)|USE TEMP B-TREE FOR ORDER BY|AUTOMATIC")
        return [step for step in self.steps if bad.search(step)]


def instant(db: apsw.Connection, leaving: Counter[Any] | None = None) -> Instant:
    return Instant(db, {}, leaving, NOW)


SELECTIONS = {
    "ids": Selection(ids=SOME),
    "status": Selection(statuses=frozenset((Status.DEAD,))),
    "statuses": Selection(statuses=frozenset((Status.IN_FLIGHT, Status.SCHEDULED))),
    "queue": Selection(queues=frozenset(("q1",))),
    "type": Selection(types=frozenset(("t1", "t3"))),
    "queue and status": Selection(queues=frozenset(("q1",)), statuses=frozenset((Status.READY,))),
    "all three": Selection(
        queues=frozenset(("q1",)), types=frozenset(("t3",)), statuses=frozenset((Status.SCHEDULED, Status.DEAD))
    ),
}


@pytest.mark.parametrize("leaving", [None, Counter()], ids=["", "while jobs leave"])
@pytest.mark.parametrize("name", SELECTIONS)
def test_lists_and_counts_never_look_at_all_rows(db: apsw.Connection, name: str, leaving: Counter[Any] | None) -> None:
    plans = Plans(db)
    at = instant(db, leaving)
    found = pages.page(at, SELECTIONS[name], None, "asc", 50)
    pages.page(at, SELECTIONS[name], f"{ROWS // 2:025d}", "desc", 50)
    counted = pages.count(at, SELECTIONS[name])
    pages.ids(at, SELECTIONS[name], f"{ROWS // 2:025d}", 50)
    assert plans.scans() == []
    assert found.more == (counted > 50)
    assert counted == len(pages.page(at, SELECTIONS[name], None, "asc", ROWS).jobs) > 0


def test_a_list_of_everything_reads_no_more_than_its_page(db: apsw.Connection) -> None:
    plans = Plans(db)
    pages.page(instant(db), EVERYTHING, f"{ROWS // 2:025d}", "desc", 50)
    assert plans.scans() == []
    assert any("SEARCH jobs USING PRIMARY KEY" in step for step in plans.steps)


def test_changes_never_look_at_all_rows(db: apsw.Connection) -> None:
    statements = ChangeStatements(db, BudgetStatements(db))
    ids = sorted(SOME)
    db.execute("BEGIN")
    plans = Plans(db)
    try:
        for change in (Patch(queue="q9", ready_at=NOW + 1), Retry(), Delete()):
            statements.change([ChangeCall(ids[:20], EVERYTHING, change, NOW, {})])
            statements.collect([ChangeCall(ids[20:], EVERYTHING, change, NOW, {})])
            statements.arm([(change, NOW)])
            statements.apply([ApplyCall(change, NOW, {}, 9)])
            statements.clear([None])
        assert plans.scans() == []
        assert any("SEARCH jobs" in step for step in plans.steps)
    finally:
        db.execute("ROLLBACK")


def test_what_is_among_many_names_is_found_by_each_of_them(db: apsw.Connection) -> None:
    budgets = BudgetStatements(db)
    changes, crons = ChangeStatements(db, budgets), CronStatements(db, budgets)
    keys = KeyStatements(db, changes, budgets, crons)
    budget = Budget("b", 9, Strategy(StrategyType.WHILE_IN_FLIGHT), NOW, NOW)
    some = {"now": NOW, "type": "t", "queue": "q", "payload": msgspec.Raw(b"\xc0")}
    jobs = [
        new_job("z0", unique_key="k", budgets=(Draw("b", 1),), **some),
        new_job("z1", batch=Batch("k", "true", "."), **some),
    ]
    db.execute("BEGIN")
    plans = Plans(db)
    try:
        keys.admit([AdmitCall(jobs, (), {"k": None}, NOW, {"b": budget}, 9)])
        crons.save([SaveCron("g", None, before := group(entry("a"), entry("b")), {}, 9)])
        crons.save([SaveCron("g", before, group(entry("a")), {}, 9)])
        windows.window(instant(db), JobList.READY, 0, 5)
        changes.collect([ChangeCall(["z0"], EVERYTHING, Delete(), NOW, {})])
        changes.arm([(Delete(), NOW)])
        assert changes.overtake([Settled(job, kept=False) for job in jobs]) == [Settled(jobs[1], kept=False)]
        changes.apply([ApplyCall(Delete(), NOW, {}, 9)])
    finally:
        db.execute("ROLLBACK")
    lists = [n for n, step in enumerate(plans.steps) if step.startswith("LIST SUBQUERY")]
    assert {plans.steps[n - 1] for n in lists} == {
        "SEARCH jobs USING PRIMARY KEY (id=?)",
        "SEARCH jobs USING INDEX keyed (key=?)",
        "SEARCH jobs USING INDEX keyed (key=? AND status=?)",
        "SEARCH pending USING PRIMARY KEY (id=?)",
        "SEARCH budgets USING PRIMARY KEY (key=?)",
        "SEARCH cron_entries USING PRIMARY KEY (cron=? AND name=?)",
    }
    assert {plans.steps[n + 1] for n in lists} == {"SCAN carray VIRTUAL TABLE INDEX 1:"}


@pytest.mark.parametrize("names", [[], ["b"], ["b", "a", "b"], ["\0", "é\0", ""], [str(n) for n in range(10_000)] * 2])
def test_rows_among_many_names_are_found_once_each(names: list[str]) -> None:
    db = apsw.Connection(":memory:")
    db.execute("CREATE TABLE named (name TEXT PRIMARY KEY) WITHOUT ROWID")
    sql.insert(db, "named", "name", [(name,) for name in {*names, "other", "é"}])
    text = f"SELECT name FROM named WHERE name IN {sql.AMONG} ORDER BY name"
    assert [name for (name,) in sql.among(db, text, names)] == sorted(set(names))
    sql.delete(db, "named", "name", names)
    assert db.execute("SELECT name FROM named").fetchall() == [("other",), ("é",)]


def test_the_check_itself_finds_a_scan(db: apsw.Connection) -> None:
    plans = Plans(db)
    db.execute("SELECT count(*) FROM jobs WHERE attempts = ?", (1,)).fetchall()
    assert plans.scans() != []


def test_a_count_by_queue_and_status_reads_the_tally_alone(db: apsw.Connection) -> None:
    plans = Plans(db)
    pages.count(instant(db), SELECTIONS["queue and status"])
    assert not any("jobs" in step and "purge" not in step for step in plans.steps)


async def test_a_list_that_is_cancelled_leaves_its_connection_free_of_any_transaction(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, Defaults(), LoadedDice())
    await store.open(Recorder())
    try:
        await store.count(EVERYTHING, NOW)  # a connection is there from now on, so that few turns lead to the writer
        for turns in range(8):
            call = asyncio.ensure_future(store.count(EVERYTHING, NOW))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            # Answered after all that the writer had been asked before.
            await store.promote(NOW, 1)
            assert [db.in_transaction for db in store._listers._idle] == [False] * len(store._listers._idle)
        # As many as there are connections, all at once: none was lost.
        assert await asyncio.gather(*[store.count(EVERYTHING, NOW) for _ in range(5)]) == [0] * 5
    finally:
        await store.close()
