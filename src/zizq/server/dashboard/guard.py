"""Who may look and who may act, and what browsers are told to keep others out. Nothing here knows a page.

A change is made by a POST alone, and only where three things hold: the browser says that the request came from a page
of this server, the form carries the token of this process and session, and the caller has the scope `manage`.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zizq.errors import BadRequest, BodyTooLarge, Denied, NotPermitted, UnsupportedMedia
from zizq.server.access import Caller
from zizq.server.auth import Auth
from zizq.server.dashboard.sessions import Sessions
from zizq.server.http.gate import caller_of, note_refusal
from zizq.server.http.head import headers_of
from zizq.server.http.origin import check_origin
from zizq.wire import operations as op

COOKIE = "zizq_session"
MOST_FORM = 64 * 1024
"""Bytes of a form: filters may have lists of identifiers."""
MOST_FIELDS = 100
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


@dataclass(frozen=True)
class Visit:
    """A request by somebody who may look.

    Args:
        request: The request.
        holder: Whom forms are made for: a session, a grant, or "" for everybody.
        form_token: What forms carry.
        may_act: Whether they may change anything.
        session: The identifier of their session; "" where they have none.
    """

    request: Request
    holder: str = ""
    form_token: str = ""
    may_act: bool = True
    session: str = ""


class Guard:
    """Lets requests in.

    Args:
        auth: Knows who may call.
        sessions: Knows who has logged in.
        read_only: Whether nobody may change anything.
    """

    def __init__(self, auth: Auth, sessions: Sessions, *, read_only: bool) -> None:
        self._auth = auth
        self._sessions = sessions
        self._read_only = read_only

    @property
    def is_on(self) -> bool:
        """Whether it is asked who calls."""
        return self._auth.is_on

    def look(self, request: Request) -> Visit:
        """Let somebody look.

        Raises:
            Unauthenticated: When nobody knows who they are.
            NotPermitted: When they may not.
        """
        try:
            return self.see(request)
        except Denied as refusal:
            # Who comes without anything is asked to log in, and not refused.
            if refusal.reason != "missing":
                note_refusal(self._auth, refusal, request.scope, None)
            raise

    def still_holds(self, visit: Visit) -> bool:
        """Whether somebody who was let in would be so now."""
        try:
            return self.see(visit.request).holder == visit.holder
        except Denied:
            return False

    def see(self, request: Request) -> Visit:
        """As `look`, but a refusal is not counted."""
        if not self._auth.is_on:
            return Visit(request, form_token=self._sessions.form_token(""), may_act=not self._read_only)
        caller, session = self._caller(request)
        holder = session or f"grant {caller.grant.id}"
        may_act = not self._read_only and op.Scope.MANAGE in caller.scopes
        return Visit(request, holder, self._sessions.form_token(holder), may_act, session)

    async def act(self, request: Request) -> tuple[Visit, dict[str, str]]:
        """Let somebody change something; returns what their form says.

        Raises:
            Denied: When they may not.
            BadRequest: When the form is malformed.
        """
        try:
            check_origin(headers_of(request.scope))
            visit = self.see(request)
            if not visit.may_act:
                raise NotPermitted(
                    "this dashboard is read-only: --dashboard on lets it act"
                    if self._read_only
                    else "this token has not the scope `manage` that changes need"
                ).because("scope")
            form = await read_form(request)
            if not self._sessions.is_form_token(form.pop("form_token", ""), visit.holder):
                raise NotPermitted(
                    "this page is older than the server or your session: reload it, then try again"
                ).because("form")
        except Denied as refusal:
            note_refusal(self._auth, refusal, request.scope, None)
            raise
        return visit, form

    async def log_in(self, request: Request) -> str:
        """Let somebody in who shows a token; returns the identifier of their session.

        Raises:
            Denied: When the token is not known, or not for this.
            BadRequest: When the form is malformed.
        """
        caller = None
        try:
            check_origin(headers_of(request.scope))
            form = await read_form(request)
            caller = self._auth.recognise(b"Bearer " + form.get("token", "").strip().encode(), None)
            check_reader(caller)
        except Denied as refusal:
            note_refusal(self._auth, refusal, request.scope, caller)
            raise
        return self._sessions.begin(caller)

    def log_out(self, session: str) -> None:
        """End a session."""
        self._sessions.end(session)

    def _caller(self, request: Request) -> tuple[Caller, str]:
        """Who calls, and their session; "" where they come with a token or a certificate instead."""
        session = request.cookies.get(COOKIE, "")
        caller = self._sessions.find(session)
        if caller is not None and self._auth.still_holds(caller):
            return caller, session
        self._sessions.end(session)
        caller = caller_of(self._auth, request.scope)
        check_reader(caller)
        return caller, ""


def check_reader(caller: Caller) -> None:
    """Let somebody see the dashboard.

    Raises:
        NotPermitted: When they may not read, or not all queues.
    """
    caller.check_scope(op.Scope.READ)
    caller.check_whole("the dashboard")


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form; of those that come several times, the values are joined by commas.

    Raises:
        UnsupportedMedia: When the body is no form.
        BodyTooLarge: When it is too long.
        BadRequest: When it has too many fields.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise UnsupportedMedia("the body is no form")
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_FORM:
            raise BodyTooLarge(f"the form has more than {MOST_FORM} bytes")
    return fields(body.decode("utf-8", "replace"))


def fields(text: str) -> dict[str, str]:
    """The fields of a query or a form, empty ones too; values of the same name are joined by commas.

    Raises:
        BadRequest: When there are too many.
    """
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError as error:
        raise BadRequest(f"there are more than {MOST_FIELDS} fields") from error
    found: dict[str, str] = {}
    for name, value in pairs:
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


class Shell:
    """Around all pages: the headers that every answer has.

    Args:
        asgi: The pages.
    """

    def __init__(self, asgi: ASGIApp) -> None:
        self._asgi = asgi

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                # Static files are asked for anew by their tags; pages show payloads, which belong in no cache.
                headers.setdefault("cache-control", "no-cache" if scope["path"].startswith("/static/") else "no-store")
            await send(message)

        await self._asgi(scope, receive, noted)
