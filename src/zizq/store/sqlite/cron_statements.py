"""What the writer does to the database where crons are concerned, and what readers ask of it.

Each entry is a row of its own, so that a firing writes one row however many there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import apsw

from zizq.budget import Budget
from zizq.cron import CronEntry, CronGroup
from zizq.errors import Refusal
from zizq.store import cron_rows
from zizq.store.base import Due
from zizq.store.cron_rows import Stored
from zizq.store.sqlite import sql
from zizq.store.sqlite.budget_statements import BudgetStatements


class SaveCron(NamedTuple):
    """A cron group before and after, None where it is not there; and the budgets that may be created for it."""

    name: str
    before: CronGroup | None
    after: CronGroup | None
    create: Mapping[str, Budget]
    most_budgets: int


class Firing(NamedTuple):
    """A cron entry that is due, and what it becomes."""

    due: Due
    after: CronEntry


class CronStatements:
    """The steps of crons, on the writer's connection."""

    def __init__(self, db: apsw.Connection, budgets: BudgetStatements) -> None:
        self._db = db
        self._budgets = budgets

    def save(self, calls: Sequence[SaveCron]) -> list[list[Budget] | Refusal | None]:
        """Put groups in the place of those before.

        The outcome is the budgets that were missing, or None where another group is there.
        """
        outcomes: list[list[Budget] | Refusal | None] = []
        for call in calls:
            try:
                outcomes.append(self._save(call))
            except Refusal as refusal:
                outcomes.append(refusal)
        return outcomes

    def clear(self, calls: Sequence[None]) -> list[int]:
        """Delete all groups; the outcome is how many there were."""
        outcomes: list[int] = []
        for _ in calls:
            self._db.execute("DELETE FROM cron_entries")
            self._db.execute("DELETE FROM crons")
            outcomes.append(self._db.changes())
        return outcomes

    def check(self, firing: Firing) -> None:
        """Hold an entry and its group to what they are thought to be.

        Raises:
            Conflicting: When one is not so.
        """
        group, entry = firing.due
        text = """SELECT crons.settings, entry FROM crons JOIN cron_entries ON cron = crons.name
                  WHERE cron = ? AND cron_entries.name = ?"""
        stored: Any = self._db.execute(text, (group.name, entry.name)).fetchone()
        cron_rows.hold(firing.due, stored)

    def advance(self, firing: Firing) -> None:
        """Put an entry in the place of the one that was due."""
        after = firing.after
        text = "UPDATE cron_entries SET next_at = ?, entry = ? WHERE cron = ? AND name = ?"
        self._db.execute(text, (*cron_rows.entry_row(after), firing.due.group.name, after.name))

    def _save(self, call: SaveCron) -> list[Budget] | None:
        stored, after = self._stored(call.name), Stored.of(call.after)
        if stored != Stored.of(call.before):
            return None
        new = cron_rows.new_entries(call.after, stored)
        # Nothing is written before all is known to be right: the other calls of the commit go on.
        created = self._budgets.check([(0, entry.job) for entry in new], call.create, call.most_budgets)
        self._budgets.bind([], created)
        self._delete_entries(call.name, stored.without(after))
        _insert_entries(self._db, call.name, new)
        if after.settings is None:
            self._db.execute("DELETE FROM crons WHERE name = ?", (call.name,))
        elif after.settings != stored.settings:
            text = "INSERT INTO crons (name, settings) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET settings = ?2"
            self._db.execute(text, (call.name, after.settings))
        return created

    def _stored(self, name: str) -> Stored:
        settings: bytes | None = self._db.execute("SELECT settings FROM crons WHERE name = ?", (name,)).get
        rows: Any = self._db.execute("SELECT name, next_at, entry FROM cron_entries WHERE cron = ?", (name,))
        return Stored(settings, {name: tuple(row) for name, *row in rows})

    def _delete_entries(self, cron: str, names: Sequence[str]) -> None:
        text = f"DELETE FROM cron_entries WHERE cron = ? AND name IN {sql.AMONG}"  # noqa: S608 - a constant
        sql.among(self._db, text, names, cron)


def put(db: apsw.Connection, group: CronGroup) -> None:
    """Add a group that is not there."""
    db.execute("INSERT INTO crons (name, settings) VALUES (?, ?)", (group.name, cron_rows.settings(group)))
    _insert_entries(db, group.name, group.entries)


def names(db: apsw.Connection) -> list[str]:
    """The names of all groups."""
    return [row[0] for row in db.execute("SELECT name FROM crons ORDER BY name")]


def group(db: apsw.Connection, name: str) -> CronGroup | None:
    """A group with its entries."""
    # One statement, and so one instant.
    text = """SELECT settings, entry FROM crons LEFT JOIN cron_entries ON cron = crons.name
              WHERE crons.name = ? ORDER BY cron_entries.name"""
    found: Any = db.execute(text, (name,)).fetchall()
    return cron_rows.to_group(found) if found else None


def due(db: apsw.Connection, now: int, limit: int) -> list[Due]:
    """The entries whose time has come."""
    text = """SELECT settings, entry FROM cron_entries INDEXED BY next_firing JOIN crons ON crons.name = cron
              WHERE next_at <= ? ORDER BY next_at, cron, cron_entries.name LIMIT ?"""
    return [cron_rows.to_due(*row) for row in db.execute(text, (now, limit))]


def next_at(db: apsw.Connection) -> int | None:
    """The earliest next time of all entries."""
    found: int | None = db.execute("SELECT min(next_at) FROM cron_entries INDEXED BY next_firing WHERE next_at > 0").get
    return found


def _insert_entries(db: apsw.Connection, cron: str, entries: Sequence[CronEntry]) -> None:
    rows = [(cron, entry.name, *cron_rows.entry_row(entry)) for entry in entries]
    sql.insert(db, "cron_entries", "cron, name, next_at, entry", rows)
    draws = [(cron, *row) for row in cron_rows.draw_rows(entries)]
    sql.insert(db, "cron_draws", "cron, name, budget, cost", draws)
