"""The dashboard as an ASGI application: a table of paths, and what each does."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from zizq.clock import Clock
from zizq.errors import Denied, Refusal, Unauthenticated
from zizq.server.auth import Auth
from zizq.server.catalog import Catalog
from zizq.server.crontab import Crontab
from zizq.server.dashboard.boards import Boards
from zizq.server.dashboard.guard import COOKIE, Guard, Shell, Visit
from zizq.server.dashboard.jobs import JobPages
from zizq.server.dashboard.live import Live
from zizq.server.dashboard.ports import Insights, Pauses
from zizq.server.dashboard.sessions import LASTS_S, Sessions
from zizq.server.dashboard.views import FOLDER, Views
from zizq.wire.faults import STATUS

log = logging.getLogger("zizq.dashboard")

Page = Callable[[Visit], Awaitable[Response]]
Action = Callable[[Visit, Mapping[str, str]], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]

TITLES = {
    400: "That cannot be done",
    401: "Log in",
    403: "Not allowed",
    404: "Not found",
    405: "Not like this",
    422: "That cannot be done",
    503: "Not just now",
}


class Dashboard:
    """The pages, and who is let in.

    Args:
        insights: What the server tells of itself.
        catalog: Reads and changes jobs.
        crontab: Reads and pauses crons.
        pauses: Pauses queues.
        auth: Knows who may call.
        clock: The time for everything.
        read_only: Whether nobody may change anything.
    """

    def __init__(
        self,
        insights: Insights,
        catalog: Catalog,
        crontab: Crontab,
        pauses: Pauses,
        auth: Auth,
        clock: Clock,
        *,
        read_only: bool = False,
    ) -> None:
        self._guard = Guard(auth, Sessions(clock, os.urandom), read_only=read_only)
        self._views = Views(clock)
        self._boards = Boards(insights, crontab, pauses, self._views)
        self._jobs = JobPages(catalog, clock, self._views)
        self._live = Live(self._boards.sample)
        self._asgi = Shell(
            Starlette(
                routes=self._routes(),
                exception_handlers={Refusal: self._refused, HTTPException: self._failed, Exception: self._failed},
            )
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI request."""
        try:
            await self._asgi(scope, receive, send)
        except Exception:
            # At the task's root; Starlette has answered already.
            log.exception("a page of the dashboard failed", extra={"fields": {"path": scope["path"]}})

    def close(self) -> None:
        """End all live feeds, which have no end of their own."""
        self._live.close()

    def _routes(self) -> list[Route | Mount]:
        boards, jobs = self._boards, self._jobs
        pages: dict[str, Page] = {
            "/": boards.overview,
            "/queues": boards.queues,
            "/jobs": jobs.listed,
            "/jobs/all": jobs.preview,
            "/jobs/{id}": jobs.found,
            "/failures": boards.failures,
            "/workers": boards.workers,
            "/crons": boards.crons,
            "/budgets": boards.budgets,
            "/storage": boards.storage,
            "/history": boards.history,
            "/names": boards.names,
            "/live": self._events,
        }
        actions: dict[str, Action] = {
            "/queues/pause": boards.pause_queue,
            "/crons/pause": boards.pause_cron,
            "/jobs/all": jobs.change_all,
            "/jobs/{id}/retry": jobs.retry,
            "/jobs/{id}/edit": jobs.edit,
            "/jobs/{id}/delete": jobs.delete,
            "/logout": self._log_out,
        }
        return [
            Route("/login", self._log_in, methods=["GET", "POST"]),
            *[Route(path, self._looked(page), methods=["GET"]) for path, page in pages.items()],
            *[Route(path, self._acted(action), methods=["POST"]) for path, action in actions.items()],
            Mount("/static", StaticFiles(directory=FOLDER / "static")),
        ]

    # ── who comes ──

    def _looked(self, page: Page) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            return await page(self._guard.look(request))

        return endpoint

    def _acted(self, action: Action) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            return await action(*await self._guard.act(request))

        return endpoint

    async def _log_in(self, request: Request) -> Response:
        """GET /login shows the form, POST /login takes a token."""
        if not self._guard.is_on:
            return RedirectResponse("/", 303)
        if request.method != "POST":
            return self._views.page(None, "login", error="")
        try:
            session = await self._guard.log_in(request)
        except Denied as refusal:
            return self._views.page(None, "login", STATUS[type(refusal)], error=str(refusal))
        response = RedirectResponse(_own_path(request.query_params.get("next", "/")), 303)
        response.set_cookie(
            COOKIE, session, LASTS_S, httponly=True, samesite="strict", secure=request.url.scheme == "https"
        )
        return response

    async def _log_out(self, visit: Visit, form: Mapping[str, str]) -> Response:
        self._guard.log_out(visit.session)
        response = RedirectResponse("/login", 303)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response

    async def _events(self, visit: Visit) -> Response:
        """GET /live: what changes each second, as server-sent events."""
        # nginx would keep figures back until it has some KiB of them.
        headers = {"x-accel-buffering": "no"}
        feed = self._live.watch(lambda: self._guard.still_holds(visit))
        return StreamingResponse(feed, media_type="text/event-stream", headers=headers)

    # ── what goes wrong ──

    async def _refused(self, request: Request, error: Exception) -> Response:
        """Say why, or ask who it is."""
        status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
        # A program that shows a token is told that it is wrong.
        is_browser = request.method == "GET" and "authorization" not in request.headers
        if isinstance(error, Unauthenticated) and is_browser:
            query = f"?{request.url.query}" if request.url.query else ""
            return RedirectResponse(f"/login?next={quote(request.url.path + query, safe='')}", 303)
        return self._error(request, status, str(error))

    async def _failed(self, request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            return self._error(request, error.status_code, error.detail)
        return self._error(request, 500, "The server failed to make this page; its log says why.")

    def _error(self, request: Request, status: int, text: str) -> Response:
        try:
            visit = self._guard.see(request)
        except Denied:
            visit = None
        title = TITLES.get(status, "Something went wrong")
        return self._views.page(visit, "error", status, code=status, title=title, text=text)


def _own_path(path: str) -> str:
    """A path of this server; "/" for what would lead elsewhere."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() else "/"
