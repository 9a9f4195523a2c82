"""Who may call what, where the server asks who calls: before a body is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from zizq.errors import Denied, Missing
from zizq.server.access import Caller, Reach, reach
from zizq.server.auth import Auth
from zizq.server.broker import Broker
from zizq.server.catalog import Catalog
from zizq.server.http.exchange import Request, Scope, target
from zizq.server.http.head import headers_of
from zizq.server.http.origin import check_origin
from zizq.server.http.peer import peer_name
from zizq.server.http.query import items
from zizq.wire import operations as op
from zizq.wire.messages import DrawBody, Enqueue, PatchBody
from zizq.wire.operations import Operation

NOT_IN_FLIGHT = "job not found in in-flight set"


class Gate:
    """Lets requests in that may be made, and no others.

    Args:
        auth: Knows who calls.
        catalog: Knows the queues of jobs.
        broker: Knows those of jobs in flight.
    """

    def __init__(self, auth: Auth, catalog: Catalog, broker: Broker) -> None:
        self._auth = auth
        self._catalog = catalog
        self._broker = broker

    async def admit(self, request: Request, operation: Operation, arguments: Sequence[str] = ()) -> None:
        """Let a request in, and note in it who calls.

        Args:
            request: The request.
            operation: What it asks for.
            arguments: The values of the variables in its path.

        Raises:
            Unauthenticated: When nobody knows who calls.
            NotPermitted: When they may not do that.
            Missing: When it is about a job in a queue that is not theirs.
            BadRequest: When the query is malformed.
        """
        if operation.scope is None:
            return
        caller = request.caller = caller_of(self._auth, request.scope)
        caller.check_scope(operation.scope)
        if not caller.is_limited:
            return
        request.limits = caller
        kind = reach(operation)
        if kind is Reach.NAMED:
            caller.check_queues(items(request.query(operation).get("queue", "")))
        elif kind is Reach.PATH:
            caller.check_queues(arguments[:1])
        elif kind is Reach.JOB:
            await self._check_job(caller, operation, arguments[0])
        elif kind is Reach.SERVER:
            caller.check_whole(f"{operation.method} {operation.path}")

    def enqueuer(self, scope: Scope) -> Caller:
        """Who makes a request to enqueue; a refusal counts only where `admit` says it.

        Raises:
            Unauthenticated: When nobody knows who calls.
            NotPermitted: When they may not enqueue.
        """
        caller = caller_of(self._auth, scope)
        caller.check_scope(op.Scope.ENQUEUE)
        return caller

    async def _check_job(self, caller: Caller, operation: Operation, job_id: str) -> None:
        """Behave as if jobs of other queues were not there.

        One that moves to another queue just now is changed as if the call had come a moment sooner.
        """
        if operation.scope is op.Scope.WORK:
            found = (await self._broker.in_flight([job_id])).get(job_id)
            # One that is not in flight yet may be so, in anybody's queue, by the time that the body is there.
            if found is None or not caller.may_use(found.queue):
                raise Missing(NOT_IN_FLIGHT)
        elif not caller.may_use((await self._catalog.get(job_id)).queue):
            raise Missing("job not found")


def caller_of(auth: Auth, scope: Scope) -> Caller:
    """Who makes a request.

    Raises:
        Unauthenticated: When it is nobody that is known.
    """
    authorization = headers_of(scope).get(b"authorization")
    return auth.recognise(authorization, None if authorization is not None else peer_name(scope))


def check_admin(auth: Auth, scope: Scope, needed: op.Scope = op.Scope.ADMIN) -> Caller | None:
    """Let a request to the admin API be made; all of it is about the whole server.

    Args:
        auth: Knows who calls.
        scope: The request.
        needed: The scope that its caller must have.

    Returns:
        Who calls; None where the server does not ask.

    Raises:
        Denied: When it may not be made; that is counted already.
    """
    caller = None
    try:
        check_origin(headers_of(scope))
        if not auth.is_on:
            return None
        caller = caller_of(auth, scope)
        caller.check_scope(needed)
        caller.check_whole(f"{scope.get('method', 'GET')} {_path(scope)}")
    except Denied as refusal:
        note_refusal(auth, refusal, scope, caller)
        raise
    return caller


def note_refusal(auth: Auth, refusal: Denied, scope: Scope, caller: Caller | None) -> None:
    """Count a refused request, and log it now and then."""
    host, _ = scope["client"] or ("", 0)
    # Without the query: somebody may have put their token there.
    auth.note(refusal, caller, {"method": scope.get("method", "GET"), "path": _path(scope), "peer": host})


def _path(scope: Scope) -> str:
    return target(scope).partition("?")[0]


# ── what only a body tells ──


def check_new(caller: Caller, jobs: Iterable[Enqueue]) -> None:
    """Let somebody who has patterns enqueue jobs.

    Raises:
        NotPermitted: When one is for a queue that is not theirs, has a batch, or brings a budget along.
    """
    for job in jobs:
        caller.check_queues([job.queue])
        if job.batch is not None:
            # Whoever has the key of another queue's batch could have its payloads folded into a job of their own.
            caller.check_whole("a batch key")
        check_draws(caller, job.budgets or ())


def check_draws(caller: Caller, draws: Iterable[DrawBody]) -> None:
    """Let somebody who has patterns have jobs draw on budgets.

    Raises:
        NotPermitted: When a budget is to be created, for it would hold for all queues.
    """
    if any(draw.create_with is not None for draw in draws):
        caller.check_whole("a budget (`create_with`)")


def check_move(caller: Caller, patch: PatchBody) -> None:
    """Let somebody who has patterns patch jobs.

    Raises:
        NotPermitted: When they are to move to a queue that is not theirs.
    """
    if isinstance(patch.queue, str):
        caller.check_queues([patch.queue])
