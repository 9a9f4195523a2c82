"""Bindings: what queued jobs draw from budgets, changed for one job or for many (protocol.md#8.4)."""

from __future__ import annotations

from collections.abc import Mapping

from zizq.budget import Budget
from zizq.clock import Clock
from zizq.engine.changes import Rebind
from zizq.engine.selection import EVERYTHING, Selection
from zizq.errors import Conflicting, Missing, Unprocessable
from zizq.job import JobRecord, Status
from zizq.server.budgets import Budgets
from zizq.server.catalog import Catalog
from zizq.store.base import Store

_QUEUED = frozenset((Status.SCHEDULED, Status.READY))


class Bindings:
    """Changes what jobs draw from budgets.

    Args:
        store: Where jobs rest.
        clock: The time of what is changed.
        catalog: Finds and filters many jobs.
        budgets: Creates budgets that are brought along.
    """

    def __init__(self, store: Store, clock: Clock, catalog: Catalog, budgets: Budgets) -> None:
        self._store = store
        self._clock = clock
        self._catalog = catalog
        self._budgets = budgets

    async def change(self, job_id: str, rebind: Rebind, create: Mapping[str, Budget]) -> JobRecord:
        """Change what one job draws; returns it without its payload.

        Args:
            job_id: The job.
            rebind: What to change.
            create: Budgets to create where they are missing.

        Raises:
            Missing: When there is no such job, or it does not draw on the budget whose cost is to change.
            Conflicting: When it draws already on the budget that is to be added.
            Unprocessable: When it is not queued, or a budget is missing or too small.
        """
        _check(await self._find(job_id), rebind)
        await self._budgets.ensure(create.values())
        one = EVERYTHING.with_(ids=frozenset((job_id,)))
        changed = await self._store.change(one, rebind, self._clock.wall_ms())
        if changed.job is None:
            job = await self._find(job_id)
            raise Unprocessable(f"job '{job_id}' is {job.status} — only queued jobs may have their budgets changed")
        return changed.job

    async def change_all(
        self, selection: Selection, expression: str | None, rebind: Rebind, create: Mapping[str, Budget]
    ) -> tuple[int, int]:
        """Change what many jobs draw, all at once.

        Args:
            selection: Which jobs.
            expression: A jq filter on their payloads; None for all.
            rebind: What to change.
            create: Budgets to create where they are missing.

        Returns:
            How many were changed, and how many could not be: they are in flight, or draw already on a budget that is
            to be added.

        Raises:
            BadRequest: When the filter is malformed or too slow.
            Unprocessable: When a budget is missing or too small; nothing was changed.
        """
        await self._budgets.ensure(create.values())
        key = rebind.drop if rebind.put is None else rebind.put.key
        if key is not None and (rebind.drop is not None or rebind.only == "old") and selection.budgets is None:
            selection = selection.with_(budgets=frozenset((key,)))
        already = 0
        if key is not None and rebind.only == "new":
            drawing = _among(selection, _QUEUED).with_(budgets=frozenset((key,)))
            already = await self._catalog.count(drawing, expression)
        blocked = await self._catalog.count(_among(selection, frozenset((Status.IN_FLIGHT,))), expression)
        changed = await self._catalog.change(selection, expression, rebind)
        return max(0, changed - already), blocked + already

    async def _find(self, job_id: str) -> JobRecord:
        job = await self._store.get(job_id, self._clock.wall_ms())
        if job is None:
            raise Missing(f"job '{job_id}' not found")
        return job


def _check(job: JobRecord, rebind: Rebind) -> None:
    """Hold a change to what the job draws already."""
    if rebind.put is None:
        return
    key = rebind.put.key
    drawn = any(draw.key == key for draw in job.budgets or ())
    if rebind.only == "new" and drawn:
        raise Conflicting(
            f"job '{job.id}' already draws on budget '{key}'."
            " Use PUT to replace the binding, or PATCH to change its cost."
        )
    if rebind.only == "old" and not drawn:
        raise Missing(f"job '{job.id}' does not draw on budget '{key}'")


def _among(selection: Selection, statuses: frozenset[Status]) -> Selection:
    """Those of a selection that are in one of the statuses."""
    return selection.with_(statuses=statuses if selection.statuses is None else statuses & selection.statuses)
