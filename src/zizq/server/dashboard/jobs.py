"""The pages on jobs: lists by filter, one job, and what can be done to one or to all that match."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import urlencode

from starlette.responses import RedirectResponse, Response

from zizq.clock import Clock
from zizq.engine.changes import Delete, Retry
from zizq.errors import BadRequest, Missing
from zizq.ids import is_id
from zizq.job import JobRecord
from zizq.server.catalog import Catalog
from zizq.server.dashboard import present
from zizq.server.dashboard.guard import Visit, fields
from zizq.server.dashboard.views import Views
from zizq.server.http.query import Filter, change_filter, check_suits, job_filter
from zizq.store.base import Order
from zizq.wire.operations import FILTERS

PAGE = 50
"""Jobs on a page."""
SAMPLE = 10
"""Jobs that a preview shows."""
ERRORS = 20
"""Failures of a job that its page shows."""
PATIENCE_S = 20.0
"""Seconds that a search may take: a jq filter may have to read everything that there is."""
_OPPOSITE: dict[Order, Order] = {"asc": "desc", "desc": "asc"}
NAMES = tuple(parameter.name for parameter in FILTERS)


class Row(NamedTuple):
    """A job in a list."""

    job: JobRecord
    excerpt: str


class JobPages:
    """The pages on jobs.

    Args:
        catalog: Knows the jobs.
        clock: The time that changes are reckoned from.
        views: Makes pages.
    """

    def __init__(self, catalog: Catalog, clock: Clock, views: Views) -> None:
        self._catalog = catalog
        self._clock = clock
        self._views = views

    # ── look ──

    async def listed(self, visit: Visit) -> Response:
        """GET /jobs: a page of those that a filter lets through, the newest first unless asked otherwise."""
        query = fields(visit.request.url.query)
        wanted = {name: query[name] for name in NAMES if query.get(name)}
        chosen = job_filter(wanted)
        order: Order = "asc" if query.get("order") == "asc" else "desc"
        after, back = query.get("from") or None, query.get("back") == "1"
        async with _patience():
            jobs, more = await self._catalog.page(*chosen, after, _OPPOSITE[order] if back else order, PAGE)
            total = await self._total(chosen, query.get("count") == "1")
        if back:
            jobs.reverse()
        return self._views.page(
            visit, "jobs",
            rows=[Row(job, present.excerpt(job.payload)) for job in jobs],
            wanted=wanted, chosen=chosen.text(), order=order, total=total,
            count_link=_link("/jobs", wanted, order=order, count="1"),
            first=_link("/jobs", wanted, order=order) if after else None,
            newer=_link("/jobs", wanted, order=order, back="1", **{"from": jobs[0].id})
            if jobs and (more if back else after) else None,
            older=_link("/jobs", wanted, order=order, **{"from": jobs[-1].id}) if jobs and (more or back) else None,
        )  # fmt: skip

    async def _total(self, chosen: Filter, asked: bool) -> int | None:
        """How many jobs match, where the store keeps count of that or somebody asks; None elsewhere."""
        if asked or (chosen.expression is None and chosen.selection.is_tallied):
            return await self._catalog.count(*chosen)
        return None

    async def found(self, visit: Visit) -> Response:
        """GET /jobs/{id}: all about a job."""
        job_id = visit.request.path_params["id"]
        job = await self._job(job_id)
        after = visit.request.query_params.get("before", "")
        beyond = int(after) if after.isascii() and after.isdecimal() and len(after) < 12 else None
        errors = await self._catalog.errors(job_id, beyond, "desc", ERRORS)
        return self._views.page(
            visit, "job",
            job=job, payload=present.payload(job.payload, job_id), facts=present.facts(job), errors=errors,
            steps=present.timeline(job, errors[::-1], self._clock.wall_ms()),
            can_retry=Retry().suits(job.status), can_edit=present.can_edit(job.status),
            older=errors[-1].attempt if len(errors) == ERRORS and errors[-1].attempt > 1 else None,
        )  # fmt: skip

    async def _job(self, job_id: str) -> JobRecord:
        if not is_id(job_id):
            raise Missing(f"{present.clip(job_id, 40)!r} is no job: an identifier has 25 characters of 0-9 and a-z")
        return await self._catalog.get(job_id)

    # ── one job ──

    async def retry(self, visit: Visit, form: Mapping[str, str]) -> Response:
        """POST /jobs/{id}/retry."""
        job = await self._catalog.retry(visit.request.path_params["id"])
        return _see(f"/jobs/{job.id}", "retry", 1)

    async def edit(self, visit: Visit, form: Mapping[str, str]) -> Response:
        """POST /jobs/{id}/edit: another time, queue or priority."""
        patch = present.patch(form, self._clock.wall_ms())
        job = await self._catalog.patch(visit.request.path_params["id"], patch)
        return _see(f"/jobs/{job.id}", "patch", 1)

    async def delete(self, visit: Visit, form: Mapping[str, str]) -> Response:
        """POST /jobs/{id}/delete."""
        await self._catalog.delete(visit.request.path_params["id"])
        return _see("/jobs", "delete", 1)

    # ── all that match ──

    async def preview(self, visit: Visit) -> Response:
        """GET /jobs/all: what an action would be done to, before it is."""
        query = fields(visit.request.url.query)
        chosen, action = change_filter(_filters(query)), query.get("action", "")
        change = present.DRAFTS.get(action)
        if change is None:
            raise BadRequest(f"action {present.clip(action, 40)!r} is none of {', '.join(present.DRAFTS)}")
        check_suits(chosen.selection, change, action)
        suited = present.suited(chosen.selection, change)
        async with _patience():
            total = await self._catalog.count(suited, chosen.expression)
            jobs, _ = await self._catalog.page(suited, chosen.expression, None, "asc", SAMPLE)
        return self._views.page(
            visit, "preview",
            action=action, total=total, rows=[Row(job, present.excerpt(job.payload)) for job in jobs],
            wanted=_filters(query), back=_link("/jobs", _filters(query)), queues=await self._catalog.queues(),
        )  # fmt: skip

    async def change_all(self, visit: Visit, form: Mapping[str, str]) -> Response:
        """POST /jobs/all: do it."""
        wanted = _filters(form)
        chosen = change_filter(wanted)
        change, verb = present.change(form, self._clock.wall_ms())
        check_suits(chosen.selection, change, verb)
        number = await self._catalog.change(*chosen, change)
        # What was deleted is not to be found any more, and what was changed may not match any more.
        return _see("/jobs", verb, number, {} if isinstance(change, Delete) else wanted)


def _filters(query: Mapping[str, str]) -> dict[str, str]:
    """Those members of a query that say which jobs it is about, empty ones too: they are refused for changes."""
    return {name: query[name] for name in NAMES if name in query}


def _link(path: str, wanted: Mapping[str, str], **more: str) -> str:
    query = urlencode({**wanted, **more})
    return f"{path}?{query}" if query else path


def _see(path: str, what: str, number: int, wanted: Mapping[str, str] | None = None) -> Response:
    """Lead to a page that says what was done."""
    return RedirectResponse(_link(path, wanted or {}, done=what, n=str(number)), 303)


@asynccontextmanager
async def _patience() -> AsyncIterator[None]:
    """Give up a search that takes too long.

    Raises:
        BadRequest: When it does.
    """
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield
    except TimeoutError:
        raise BadRequest(
            f"the search took more than {PATIENCE_S:.0f} s: narrow it by status, queue or type, or use `zizq jobs`"
        ) from None
