"""How the lists that are shown are read: by ranges of an index, and sorted nowhere."""

from __future__ import annotations

import apsw
import pytest

from zizq.engine.lists import JobList, ListQuery
from zizq.store.sqlite import windows
from zizq.store.sqlite.change_statements import ready_lanes
from zizq.store.sqlite.pages import Instant
from zizq.store.sqlite.schema import MIGRATIONS

NOW = 1_790_000_000_000
STORED = {JobList.READY: 1, JobList.SCHEDULED: 0, JobList.DEAD: 3}


def database(count, queues=3):
    db = apsw.Connection(":memory:")
    for script in MIGRATIONS:
        db.execute(script)
    rows = [
        (f"{status}{n:024}", f"q{n % queues}", f"t{n % 2}", n * 7 % 5, status, NOW - n)
        for status in STORED.values()
        for n in range(count)
    ]
    columns = "id, queue, type, priority, status, ready_at, payload"
    db.executemany(f"INSERT INTO jobs ({columns}) VALUES (?, ?, ?, ?, ?, ?, x'c0')", rows)
    return db


class Heard:
    """The statements that a connection is given, and what SQLite means to do about each."""

    def __init__(self, db):
        self.db, self.plans = db, []

    def execute(self, text, values=()):
        plan = [row[3] for row in self.db.execute(f"EXPLAIN QUERY PLAN {text}", values)]
        self.plans.append((text, plan))
        return self.db.execute(text, values)


@pytest.mark.parametrize("of", STORED)
def test_no_window_is_sorted_or_looks_at_whole_tables(of, monkeypatch):
    # So few as here would be searched one and all, and sorted.
    monkeypatch.setattr(windows, "FEW", 0)
    heard = Heard(database(30))
    at = Instant(heard, {}, None, NOW)
    for place in (0, 15, 10**9, f"{STORED[of]}{7:024}"):
        assert windows.window(at, of, place, 5).total == 30
    found = windows.find(at, of, ListQuery(("q1",), ("t1",)), None, False, 5)
    assert found is not None
    windows.oldest_ready(at)
    for text, plan in heard.plans:
        if "tally" in text or "purge_at <= ?" in text:
            continue
        told = [line for line in plan if "TEMP B-TREE" in line or line.startswith("SCAN jobs")]
        # The index of scheduled jobs is the list itself.
        assert [line for line in told if not line.endswith("INDEX due")] == [], text


def test_each_lane_is_found_by_a_step_in_the_index():
    heard = Heard(database(30))
    assert ready_lanes(heard) == [("q0", ""), ("q1", ""), ("q2", "")]
    for _, [plan] in heard.plans:
        assert plan.endswith(("(queue=? AND budgets>?)", "(queue>?)"))


@pytest.mark.parametrize("of", STORED)
def test_a_list_of_very_many_parts_is_read_as_one(of, monkeypatch):
    at = Instant(database(30), {}, None, NOW)
    places = [(place, limit) for place in range(0, 30, 3) for limit in (1, 4, 40)]
    merged = [windows.window(at, of, *one) for one in places]
    monkeypatch.setattr(windows, "MOST_PARTS", 2)
    assert [windows.window(at, of, *one) for one in places] == merged
