"""What the writer does to the database where budgets are concerned."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import apsw
import msgspec

from zizq.budget import Budget, Draw
from zizq.cron import CronJob
from zizq.engine import budgets
from zizq.engine.bucket import BucketState
from zizq.engine.changes import Change, Delete, Rebind
from zizq.errors import Refusal
from zizq.job import JobRecord
from zizq.store import rows
from zizq.store.sqlite import sql

_encode = msgspec.msgpack.Encoder().encode
_budget = msgspec.msgpack.Decoder(Budget).decode
_state = msgspec.msgpack.Decoder(BucketState).decode


class SaveBudget(NamedTuple):
    """A budget before and after; None where it is not there."""

    key: str
    before: Budget | None
    after: Budget | None
    most: int


class BudgetStatements:
    """The steps of budgets, on the writer's connection."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def load(self) -> list[tuple[Budget, BucketState | None]]:
        """All budgets, and what was written down of their tokens."""
        found: list[Any] = self._db.execute("SELECT budget, state FROM budgets").fetchall()
        return [(_budget(budget), None if state is None else _state(state)) for budget, state in found]

    def save(self, calls: Sequence[SaveBudget], under_way: Change | None) -> list[bool | Refusal]:
        """Put budgets in the place of those before; the outcome is False where another one is there.

        Args:
            calls: What to save.
            under_way: The change of many jobs that has happened and is not carried out to its end.
        """
        return [self._save(call, under_way) for call in calls]

    def note(self, calls: Sequence[Mapping[str, BucketState]]) -> list[None]:
        """Write down how many tokens there are."""
        for states in calls:
            for key, state in states.items():
                self._db.execute("UPDATE budgets SET state = ? WHERE key = ?", (_encode(state), key))
        return [None] * len(calls)

    def check(
        self, jobs: Sequence[tuple[int, JobRecord | CronJob]], create: Mapping[str, Budget], most: int
    ) -> list[Budget]:
        """Hold the draws of new jobs to what there is; returns the budgets that have to be created.

        Args:
            jobs: The jobs, and which of their request they are.
            create: What budgets are created with where they are missing.
            most: How many budgets there may be.

        Raises:
            Unprocessable: When a budget is missing or too small, or is one too many.
        """
        draws = [(index, draw) for index, job in jobs for draw in job.budgets or ()]
        known = self._known({draw.key for _, draw in draws})
        created: list[Budget] = []
        for index, draw in draws:
            budget = known.get(draw.key)
            if budget is None and draw.key in create:
                if self._count() + len(created) >= most:
                    raise budgets.too_many_budgets(draw.key, most).at(index)
                budget = known[draw.key] = create[draw.key]
                created.append(budget)
            if refusal := budgets.draw_refusal(draw, budget):
                raise refusal.at(index)
        return created

    def check_draws(self, draws: Sequence[Draw]) -> None:
        """Hold draws to the budgets that there are.

        Raises:
            Unprocessable: When one is missing or too small.
        """
        known = self._known({draw.key for draw in draws})
        for draw in draws:
            if refusal := budgets.draw_refusal(draw, known.get(draw.key)):
                raise refusal

    def bind(self, jobs: Iterable[JobRecord], created: Sequence[Budget]) -> None:
        """Note what jobs draw on, and the budgets that came with them."""
        sql.insert(self._db, "budgets", "key, budget", [(budget.key, _encode(budget)) for budget in created])
        sql.insert(self._db, "draws", rows.DRAW_COLUMNS, rows.to_draw_rows(jobs))

    def _save(self, call: SaveBudget, under_way: Change | None) -> bool | Refusal:
        stored = self._known([call.key]).get(call.key)
        if stored != call.before:
            return False
        refusal = self._objection(call, under_way)
        if refusal is not None:
            return refusal
        if call.after is None:
            self._db.execute("DELETE FROM budgets WHERE key = ?", (call.key,))
        else:
            text = "INSERT INTO budgets (key, budget) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET budget = ?2"
            self._db.execute(text, (call.key, _encode(call.after)))
        return True

    def _objection(self, call: SaveBudget, under_way: Change | None) -> Refusal | None:
        """Why a budget cannot become what it is to be; None when it can."""
        key, after = call.key, call.after
        if call.before is not None and after is not None and after.capacity >= call.before.capacity:
            # Whoever could pay still can; to see that would take a look at every draw.
            return None
        capacity = 0 if after is None else after.capacity
        if refusal := budgets.objection_of_jobs(key, after, *self._drawing(key, capacity, under_way)):
            return refusal
        if refusal := budgets.objection_of_crons(key, after, *self._crons_drawing(key, capacity)):
            return refusal
        if call.before is None and after is not None and self._count() >= call.most:
            return budgets.too_many_budgets(key, call.most)
        return None

    def _known(self, keys: Collection[str]) -> dict[str, Budget]:
        text = f"SELECT key, budget FROM budgets WHERE key IN {sql.AMONG}"  # noqa: S608 - a constant
        return {key: _budget(budget) for key, budget in sql.among(self._db, text, keys)}

    def _count(self) -> int:
        found: int = self._db.execute("SELECT count(*) FROM budgets").get
        return found

    def _drawing(self, key: str, above: int, under_way: Change | None) -> tuple[int, int]:
        """How many unfinished jobs draw more than so much, and the highest cost."""
        draws = under_way.draws if isinstance(under_way, Rebind) else ()
        coming = [draw.cost for draw in draws if draw.key == key and draw.cost > above]
        text = "SELECT count(*), coalesce(max(cost), 0) FROM draws WHERE budget = ? AND finished = 0 AND cost > ?"
        if coming or isinstance(under_way, Delete):
            text += " AND NOT EXISTS (SELECT 1 FROM pending WHERE pending.id = draws.id)"
        found: Any = self._db.execute(text, (key, above)).fetchone()
        if not coming:
            return found[0], found[1]
        pending: int = self._db.execute("SELECT count(*) FROM pending").get
        return found[0] + pending, max(found[1], *coming)

    def _crons_drawing(self, key: str, above: int) -> tuple[int, int, str]:
        """How many cron entries have jobs that draw more than so much, the highest cost, and one of the entries."""
        text = """SELECT count(*), coalesce(max(cost), 0), coalesce(min(cron || '/' || name), '')
                  FROM cron_draws INDEXED BY cron_drawing WHERE budget = ? AND cost > ?"""
        found: Any = self._db.execute(text, (key, above)).fetchone()
        return found[0], found[1], found[2]
