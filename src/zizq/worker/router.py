"""Which handler gets a job: by its type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

from zizq.client.aio import Client
from zizq.client.enqueue import Enqueue
from zizq.client.job import Job
from zizq.client.kinds import Kind, kind_of, request_for
from zizq.client.options import Duration
from zizq.errors import ConfigError, NoRouteError
from zizq.worker.executors import Executors
from zizq.worker.route import Handler, Route, enter, inferred_kind, leave, name_of, route

F = TypeVar("F", bound=Handler)


class Router:
    """Gives each job to the handler that was registered for its type, with its payload decoded.

    A handler takes an instance of a job kind, or the raw `Job`; and, if it has a second parameter, a `Context`. A
    type without a route fails with `NoRouteError`, unless there is a fallback. A payload that does not fit fails
    with `PayloadDecodeError`.

    Args:
        state: Anything; handlers find it as `Context.state`, but for those in processes, where it does not travel.
    """

    def __init__(self, state: Any = None) -> None:
        self._state = state
        self._routes: dict[str, Route] = {}
        self._crons: dict[str, tuple[str, Enqueue]] = {}
        self._fallback: Route | None = None

    @overload
    def route(self, target: F, /) -> F: ...

    @overload
    def route(
        self,
        target: str | type | None = None,
        /,
        *,
        executor: str | None = None,
        timeout: Duration | None = None,
        replace: bool = False,
        cron: str | None = None,
        cron_job: object = None,
    ) -> Callable[[F], F]: ...

    def route(
        self,
        target: Any = None,
        /,
        *,
        executor: str | None = None,
        timeout: Duration | None = None,
        replace: bool = False,
        cron: str | None = None,
        cron_job: object = None,
    ) -> Any:
        """Register a handler: bare, `@router.route`, or with arguments, `@router.route("name", timeout=5)`.

        Args:
            target: The name of a type, whose handler gets the raw job, or a job kind; None reads the kind from the
                annotation of the handler's first parameter.
            executor: `loop`, `thread` or `process`; None puts an `async def` on the loop, and a `def` in a thread.
            timeout: How long a run may take, a timedelta or seconds; then it fails as `HandlerTimeout`. None is no
                limit. A thread cannot be interrupted: it fails at once all the same, and keeps its slot until it ends.
            replace: Take the place of an earlier route; otherwise a second one for a type is an error.
            cron: When such a job is to be enqueued by the server, as a cron expression; `define_crons` tells it so.
            cron_job: The job: an instance of the kind, or an `Enqueue`. None is, for a type that is named, a job
                without a payload.

        Raises:
            ConfigError: When the type has a route, or the handler or the cron does not fit what is asked for.
        """

        def register(handler: F) -> F:
            name, kind = _named(target, handler)
            if name in self._routes and not replace:
                raise ConfigError(f"{name!r} has a route already; replace=True puts {name_of(handler)} in its place")
            firing = _firing(name, kind, cron, cron_job)
            self._routes[name] = route(handler, kind=kind, executor=executor, timeout=timeout, state=self._state)
            self._crons.pop(name, None)
            if firing is not None:
                self._crons[name] = firing
            return handler

        if target is None or isinstance(target, (str, type)):
            return register
        handler, target = target, None
        return register(handler)

    def fallback(self, handler: F) -> F:
        """Register the handler for every type that has no route; it gets the raw job.

        Raises:
            ConfigError: When there is a fallback already.
        """
        if self._fallback is not None:
            raise ConfigError("the router has a fallback already")
        self._fallback = route(handler, kind=None, state=self._state)
        return handler

    async def define_crons(
        self, client: Client, group: str, *, timezone: str | None = None, paused: bool | None = None
    ) -> None:
        """Define a cron group of all routes that have a cron, each an entry named like its type.

        The group becomes what the routes say: entries of other names in it are gone. Do it where the program is
        deployed, or where each worker starts.

        Args:
            client: Tells the server.
            group: The name of the group.
            timezone: Whose clocks are meant, as an IANA name; None is the zone of the server.
            paused: Whether the group is paused; None leaves it as it is.

        Raises:
            InvalidRequest: When the server finds an expression, the zone or a job wrong; nothing has changed.
        """
        async with client.define_cron(group, timezone=timezone, paused=paused) as crons:
            for name, (expression, request) in self._crons.items():
                crons.entry(name, expression, request)

    def find(self, job_type: str) -> Route:
        """The route of a type.

        Raises:
            NoRouteError: When it has none, and there is no fallback.
        """
        found = self._routes.get(job_type) or self._fallback
        if found is None:
            raise NoRouteError(f"no route for the job type {job_type!r}")
        return found

    async def handle(self, job: Job) -> None:
        """Run one job to its end, wherever its route says; for tests, and to put a router inside a handler.

        Raises:
            NoRouteError: When nothing is registered for its type.
            PayloadDecodeError: When its payload does not fit.
        """
        executors = Executors(1)
        token = enter(job)
        try:
            await executors.run(self.find(job.type), job)
        finally:
            leave(token)
            executors.close()


def _named(target: str | type | None, handler: Handler) -> tuple[str, Kind[Any] | None]:
    if isinstance(target, str):
        return target, None
    kind = kind_of(target) if target is not None else inferred_kind(handler)
    if kind is None:
        raise ConfigError(f"{name_of(handler)} takes any Job: name its type, @router.route('name')")
    return kind.name, kind


def _firing(name: str, kind: Kind[Any] | None, cron: str | None, job: object) -> tuple[str, Enqueue] | None:
    """When a job is to be enqueued for a route, and which."""
    if cron is None:
        if job is not None:
            raise ConfigError(f"cron_job={job!r} of {name!r} is enqueued by no cron: give cron as well, or neither")
        return None
    if job is None and kind is not None:
        raise ConfigError(f"cron={cron!r} of {name!r} has no job to enqueue: give cron_job, an instance of the kind")
    request = Enqueue(name, None) if job is None else request_for(job)
    if request.type != name:
        raise ConfigError(f"cron_job of {name!r} is a job of type {request.type!r}, which goes to another route")
    return cron, request
