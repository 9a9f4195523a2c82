"""All other pages: what the server tells of itself, and the pausing of queues and crons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Any, TypeVar

import msgspec
from starlette.responses import RedirectResponse, Response

from zizq.engine.cron.rules import GroupPatch
from zizq.errors import BadRequest, Missing
from zizq.server.crontab import Crontab
from zizq.server.dashboard import present
from zizq.server.dashboard.guard import Visit
from zizq.server.dashboard.ports import Insights, Pauses
from zizq.server.dashboard.views import Views
from zizq.wire.insight import Overview, Point, QueueInsight

MOST_ROWS = 500
"""Rows of a table; with more, a page says how many there are and lets one search."""
MOST_GROUPS = 200
"""Cron groups on a page."""
OLDEST = 10
"""Queues whose oldest ready job the overview shows."""

Row = TypeVar("Row")


class Feed(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent to all who watch, each second."""

    overview: Overview
    point: Point | None
    queues: Sequence[QueueInsight]


class Boards:
    """The pages on everything but jobs.

    Args:
        insights: What there is to tell.
        crontab: Knows the crons, and pauses them.
        pauses: Pauses queues.
        views: Makes pages.
    """

    def __init__(self, insights: Insights, crontab: Crontab, pauses: Pauses, views: Views) -> None:
        self._insights = insights
        self._crontab = crontab
        self._pauses = pauses
        self._views = views

    # ── look ──

    async def overview(self, visit: Visit) -> Response:
        """GET /: all of it at a glance."""
        overview, queues = await self._insights.glance()
        return self._views.page(visit, "overview", overview=overview, oldest=oldest(queues))

    async def queues(self, visit: Visit) -> Response:
        """GET /queues."""
        wanted = visit.request.query_params.get("q", "")
        found = sorted((one for one in await self._insights.queues() if wanted in one.queue), key=attrgetter("queue"))
        return self._views.page(visit, "queues", **_cut(found), wanted=wanted)

    async def failures(self, visit: Visit) -> Response:
        """GET /failures."""
        return self._views.page(visit, "failures", **_cut(await self._insights.failures()))

    async def workers(self, visit: Visit) -> Response:
        """GET /workers."""
        return self._views.page(visit, "workers", **_cut(await self._insights.workers()))

    async def crons(self, visit: Visit) -> Response:
        """GET /crons."""
        names = await self._crontab.names()
        groups = []
        for name in names[:MOST_GROUPS]:
            # One may be deleted while the others are read.
            with suppress(Missing):
                groups.append(await self._crontab.get(name))
        return self._views.page(visit, "crons", groups=groups, total=len(names))

    async def budgets(self, visit: Visit) -> Response:
        """GET /budgets."""
        return self._views.page(visit, "budgets", **_cut(await self._insights.budgets()))

    async def storage(self, visit: Visit) -> Response:
        """GET /storage."""
        return self._views.page(visit, "storage", storage=await self._insights.storage())

    async def history(self, visit: Visit) -> Response:
        """GET /history: the points of the charts, as JSON."""
        step = visit.request.query_params.get("step")
        if step not in ("second", "minute"):
            raise BadRequest(f"step {present.clip(str(step), 40)!r} is neither second nor minute")
        points = await self._insights.history("second" if step == "second" else "minute")
        return Response(msgspec.json.encode(points), media_type="application/json")

    async def names(self, visit: Visit) -> Response:
        """GET /names: the queues, for the palette, as JSON."""
        names = sorted(one.queue for one in await self._insights.queues())[:MOST_ROWS]
        return Response(msgspec.json.encode(names), media_type="application/json")

    async def sample(self) -> bytes:
        """What is sent to all who watch, as a server-sent event."""
        points = await self._insights.history("second")
        overview, queues = await self._insights.glance()
        feed = Feed(overview=overview, point=points[-1] if points else None, queues=oldest(queues))
        return b"data: " + msgspec.json.encode(feed) + b"\n\n"

    # ── act ──

    async def pause_queue(self, visit: Visit, form: Mapping[str, str]) -> Response:
        """POST /queues/pause."""
        if _is_pause(form):
            await self._pauses.pause_queue(_named(form, "queue"))
        else:
            await self._pauses.resume_queue(_named(form, "queue"))
        return _see("/queues", form)

    async def pause_cron(self, visit: Visit, form: Mapping[str, str]) -> Response:
        """POST /crons/pause: an entry, or a whole group."""
        group, paused = _named(form, "group"), _is_pause(form)
        if entry := form.get("entry"):
            await self._crontab.pause_entry(group, entry, paused)
        else:
            await self._crontab.patch(group, GroupPatch(paused=paused))
        return _see("/crons", form)


def oldest(queues: Sequence[QueueInsight]) -> list[QueueInsight]:
    """The queues whose jobs have been ready for longest."""
    waiting = [one for one in queues if one.oldest_ready_ms is not None]
    return sorted(waiting, key=lambda one: (-(one.oldest_ready_ms or 0), one.queue))[:OLDEST]


def _cut(rows: Sequence[Row]) -> dict[str, Any]:
    return {"rows": rows[:MOST_ROWS], "total": len(rows)}


def _named(form: Mapping[str, str], field: str) -> str:
    value = form.get(field, "")
    if not value:
        raise BadRequest(f"the form has no {field}")
    return value


def _is_pause(form: Mapping[str, str]) -> bool:
    paused = form.get("paused")
    if paused not in ("0", "1"):
        raise BadRequest("paused is neither 0 nor 1")
    return paused == "1"


def _see(path: str, form: Mapping[str, str]) -> Response:
    return RedirectResponse(f"{path}?done={'paused' if _is_pause(form) else 'resumed'}&n=1", 303)
