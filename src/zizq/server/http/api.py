"""The ASGI application: finds the handler of a request, and turns refusals into responses.

The checks run in the order of protocol.md#1.1: Accept, path and query, content type and body, then the call itself.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

from zizq.clock import Clock
from zizq.errors import Denied, NotAcceptable, NotPermitted, Refusal, Unavailable
from zizq.server.auth import Auth
from zizq.server.bindings import Bindings
from zizq.server.broker import Broker
from zizq.server.budgets import Budgets
from zizq.server.catalog import Catalog
from zizq.server.crontab import Crontab
from zizq.server.http.bindings import BindingHandlers
from zizq.server.http.budgets import BudgetHandlers
from zizq.server.http.crons import CronHandlers
from zizq.server.http.departures import Departures
from zizq.server.http.exchange import (
    NO_CONTENT,
    PIECE,
    Receive,
    Request,
    Response,
    Scope,
    Send,
    broken,
    refused,
    respond,
    target,
)
from zizq.server.http.gate import Gate, note_refusal
from zizq.server.http.jobs import JobHandlers
from zizq.server.http.listing import ListHandlers
from zizq.server.http.load import Load
from zizq.server.http.lots import EnqueueLots
from zizq.server.http.origin import check_origin
from zizq.server.http.queues import QueueHandlers
from zizq.server.http.take import TakeHandler
from zizq.server.payloads import Payloads
from zizq.wire import framing, openapi
from zizq.wire import operations as op
from zizq.wire.codec import Format
from zizq.wire.messages import ErrorBody, Health, Ok, Version

log = logging.getLogger("zizq.api.primary")

Handler = Callable[..., Awaitable[Response]]
Target = tuple[op.Operation, Handler]


METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class Api:
    """The primary API.

    Args:
        broker: What handlers call to enqueue, take and settle.
        catalog: What handlers call to read and change what is queued.
        crontab: What handlers call to read and change crons.
        budgets: What handlers call to read and change budgets.
        bindings: What handlers call to change what jobs draw from budgets.
        auth: Knows who may call.
        clock: Measures silence and latency.
        departures: Says when the client of a stream has gone.
        version: What GET /version answers.
        heartbeat_ms: Silence on a take stream after which a heartbeat is sent.
        max_body: The largest request body, in bytes.
        load: Says when there is too much to do.
        payloads: Reads payloads.
        may_reset: Whether POST /reset is carried out.
    """

    def __init__(  # noqa: PLR0913 - the API is on this many parts
        self,
        broker: Broker,
        catalog: Catalog,
        crontab: Crontab,
        budgets: Budgets,
        bindings: Bindings,
        auth: Auth,
        clock: Clock,
        departures: Departures,
        version: str,
        *,
        heartbeat_ms: int,
        max_body: int,
        load: Load,
        payloads: Payloads,
        may_reset: bool = True,
    ) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        """How many requests were answered, by method and class of status."""
        self._broker = broker
        self._clock = clock
        self._version = version
        self._max_body = max_body
        self._load = load
        self._may_reset = may_reset
        self._auth = auth
        self._gate = Gate(auth, catalog, broker) if auth.is_on else None
        self._lots = {
            (body_form, form): EnqueueLots(broker, self._gate, load, self.requests, body_form, form)
            for body_form in Format
            for form in Format
        }
        self._take = TakeHandler(broker, clock, auth, departures, load, payloads, heartbeat_ms)
        own = self._handlers(JobHandlers(broker, catalog, payloads), ListHandlers(catalog, payloads))
        self._routes = Routes(
            own
            | QueueHandlers(catalog).routes
            | CronHandlers(crontab, broker, payloads).routes
            | BudgetHandlers(budgets).routes
            | BindingHandlers(bindings, clock).routes
        )

    def _handlers(self, jobs: JobHandlers, lists: ListHandlers) -> dict[op.Operation, Handler]:
        return {
            op.HEALTH: self._health,
            op.LIVE: self._live,
            op.READY: self._ready,
            op.VERSION: self._get_version,
            op.OPENAPI: self._openapi,
            op.RESET: self._reset,
            op.ENQUEUE: jobs.enqueue,
            op.ENQUEUE_BULK: jobs.enqueue_bulk,
            op.LIST_JOBS: lists.list_jobs,
            op.COUNT_JOBS: lists.count_jobs,
            op.PATCH_JOBS: lists.patch_jobs,
            op.DELETE_JOBS: lists.delete_jobs,
            op.RETRY_JOBS: lists.retry_jobs,
            op.SUCCEED_BULK: jobs.succeed_bulk,
            op.RELEASE: jobs.release,
            op.GET_JOB: jobs.get,
            op.PATCH_JOB: jobs.patch,
            op.DELETE_JOB: jobs.delete,
            op.RETRY_JOB: jobs.retry,
            op.SUCCEED: jobs.succeed,
            op.FAIL: jobs.fail,
            op.LIST_ERRORS: lists.list_errors,
            op.GET_ERROR: jobs.get_error,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await _greet(scope, receive, send)
            return
        request = Request(scope, receive, self._max_body, self._load)
        began = self._clock.mono_s() if log.isEnabledFor(logging.DEBUG) else None
        method = scope["method"]
        try:
            if scope["path"] == op.TAKE.path and method in ("GET", "HEAD"):
                response = await self._stream(request, send)
            else:
                response = await self._answer(request)
            if response is not None:
                await respond(send, response, with_body=method != "HEAD")
        except OSError:
            # The client has gone, and that is no failure of ours to be told of on standard error.
            return
        finally:
            request.leave()
        status = 200 if response is None else response.status
        self.requests[method if method in METHODS else "OTHER", status // 100] += 1
        if began is not None:
            _log_request(scope, status, self._clock.mono_s() - began)

    async def _stream(self, request: Request, send: Send) -> Response | None:
        """Serve a take stream; a response means that it was refused."""
        try:
            check_origin(request.head.headers)
            if self._gate is not None:
                await self._gate.admit(request, op.TAKE)
            await self._take.stream(request, send)
        except NotAcceptable as refusal:
            return refused(refusal, Format.JSON, framing.STREAMS)
        except Refusal as refusal:
            return self._refuse(request, refusal, Format.JSON)
        return None

    def _refuse(self, request: Request, refusal: Refusal, form: Format) -> Response:
        if isinstance(refusal, Denied):
            note_refusal(self._auth, refusal, request.scope, request.caller)
        return refused(refusal, form)

    async def _answer(self, request: Request) -> Response:
        request.form = Format.JSON
        try:
            request.form = request.head.form
            route = self._routes.find(request.head.method, request.head.path)
            if isinstance(route, Response):
                return route if route.status == 405 else request.answer(404, ErrorBody("not found"))
            operation, handler, arguments = route
            if operation.scope is not None:
                check_origin(request.head.headers)
            if self._gate is not None:
                await self._gate.admit(request, operation, arguments)
            if operation.body is None and operation not in op.PROBES:
                request.enter()
            response = await handler(request, *arguments)
            if operation is op.ENQUEUE and not log.isEnabledFor(logging.DEBUG):
                # Nothing in this head is refused but the caller, and nothing has to be told of each.
                request.head.together = self._lots[request.body_form, request.form].add
            if len(response.body) > PIECE and not response.rest:
                # Refused only where nothing was done: who hears 503 or 429 does it again.
                hold = request.hold if operation.method == "GET" else request.hold_anyway
                hold(len(response.body))
            return response
        except Refusal as refusal:
            return self._refuse(request, refusal, request.form)
        except Exception:
            log.exception("request failed", extra={"fields": {"path": target(request.scope)}})
            return broken(request.form)

    # ── small calls (protocol.md#9) ──

    async def _health(self, request: Request) -> Response:
        return request.answer(200, Health("ok", self._broker.trouble()))

    async def _live(self, request: Request) -> Response:
        return request.answer(200, Ok())

    async def _ready(self, request: Request) -> Response:
        reason = self._broker.unready()
        if reason is not None:
            raise Unavailable(reason)
        return request.answer(200, Ok())

    async def _get_version(self, request: Request) -> Response:
        return request.answer(200, Version(self._version))

    async def _openapi(self, request: Request) -> Response:
        return Response(200, openapi.encoded(self._version, request.form), request.form.value.encode())

    async def _reset(self, request: Request) -> Response:
        if not self._may_reset:
            raise NotPermitted("POST /reset is disabled here: it takes a server with --reset enabled").because("reset")
        await self._broker.reset()
        return NO_CONTENT


class Routes:
    """From method and path to handler, made from the table of operations.

    Paths are few and shallow, so a path with variables is found by the shape of its segments: variables become
    "*", fixed segments win over them (protocol.md#1.4).
    """

    def __init__(self, handlers: dict[op.Operation, Handler]) -> None:
        self._fixed: dict[str, dict[str, Target]] = {}
        self._shaped: dict[tuple[str, ...], dict[str, Target]] = {}
        for operation, handler in handlers.items():
            segments = tuple("*" if part.startswith("{") else part for part in operation.path.split("/"))
            methods = (
                self._shaped.setdefault(segments, {}) if "*" in segments else self._fixed.setdefault(operation.path, {})
            )
            methods[operation.method] = (operation, handler)
            if operation.method == "GET":
                methods["HEAD"] = (operation, handler)
        # Where two shapes fit a path, the one that is fixed earlier wins.
        self._shaped = dict(sorted(self._shaped.items(), key=lambda item: [part == "*" for part in item[0]]))
        self._fixed.setdefault(op.TAKE.path, {})

    def find(self, method: str, path: str) -> tuple[op.Operation, Handler, tuple[str, ...]] | Response:
        """The operation, its handler and the values of the path's variables, or a 404 or 405."""
        methods = self._fixed.get(path)
        arguments: tuple[str, ...] = ()
        if methods is None:
            methods, arguments = self._find_shaped(path)
        if methods is None:
            return Response(404)
        target = methods.get(method)
        if target is None:
            allowed = ", ".join(sorted(methods or ("GET", "HEAD")))
            return Response(405, headers=((b"allow", allowed.encode()),))
        return *target, arguments

    def _find_shaped(self, path: str) -> tuple[dict[str, Target] | None, tuple[str, ...]]:
        parts = path.split("/")
        for shape, methods in self._shaped.items():
            if len(shape) == len(parts) and all(s == p or (s == "*" and p) for s, p in zip(shape, parts, strict=True)):
                return methods, tuple(unquote(p) for s, p in zip(shape, parts, strict=True) if s == "*")
        return None, ()


def _log_request(scope: Scope, status: int, seconds: float) -> None:
    spent_ms = round(seconds * 1000, 3)
    fields = {"method": scope["method"], "path": target(scope), "status": status, "latency_ms": spent_ms}
    log.debug("request", extra={"fields": fields})


async def _greet(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer what is no request."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close"})


async def _lifespan(receive: Receive, send: Send) -> None:
    """Say yes to start and stop: the broker is started and stopped by `server.app`, not by the ASGI server."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
