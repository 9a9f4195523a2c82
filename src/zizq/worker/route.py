"""From a function to a route: what it wants to be given, where it runs, and what it may ask while it does."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextvars import ContextVar, Token
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, get_type_hints, runtime_checkable

from zizq.client.job import Job
from zizq.client.kinds import Kind, kind_of
from zizq.client.options import Duration, seconds
from zizq.errors import ConfigError

Handler = Callable[..., Any]
ELSEWHERE = object()
"""The state of a router as a handler in another process has it: not at all."""

_current: ContextVar[Job] = ContextVar("zizq_current_job")

enter: Callable[[Job], Token[Job]] = _current.set
leave: Callable[[Token[Job]], None] = _current.reset


def current_job() -> Job:
    """The job whose handler is running here: in a coroutine, a thread or a process of a worker.

    Raises:
        LookupError: Outside a handler.
    """
    try:
        return _current.get()
    except LookupError:
        raise LookupError("current_job() has an answer only inside the handler of a job") from None


class Context:
    """The second argument of a handler that asks for one.

    Args:
        job: The job as it came.
        state: What the router was made with.
    """

    __slots__ = ("_state", "job")

    def __init__(self, job: Job, state: Any) -> None:
        self.job = job
        self._state = state

    @property
    def state(self) -> Any:
        """What the router was made with: the same object for all handlers on the loop and in threads.

        Raises:
            ConfigError: In a handler that runs in a process: state does not travel there.
        """
        if self._state is ELSEWHERE:
            raise ConfigError(
                "a router's state does not travel to a handler in a process: make what it needs in its own module"
            )
        return self._state

    @property
    def attempt(self) -> int:
        """Which run of the job this is: 1 for the first."""
        return self.job.attempts + 1


@runtime_checkable
class JobHandler(Protocol):
    """Anything that handles jobs: an object with this method. A callable that takes a job will do as well."""

    async def handle(self, job: Job) -> None:
        """Run one job. Returning completes it; raising fails it."""


class Place(StrEnum):
    """Where a handler runs."""

    LOOP = "loop"
    THREAD = "thread"
    PROCESS = "process"


@dataclass(frozen=True, slots=True)
class Route:
    """One handler, ready to be given jobs."""

    call: Handler
    kind: Kind[Any] | None
    wants_context: bool
    place: Place
    timeout: float | None
    state: Any

    def begin(self, job: Job) -> Any:
        """Call the handler: a coroutine from an `async def`, else its result.

        Raises:
            PayloadDecodeError: When the payload does not fit the kind.
        """
        given = job if self.kind is None else self.kind.decode(job.raw_payload, job.format)
        return self.call(given, Context(job, self.state)) if self.wants_context else self.call(given)


def route(
    handler: Handler,
    *,
    kind: Kind[Any] | None,
    executor: str | None = None,
    timeout: Duration | None = None,
    state: Any = None,
) -> Route:
    """A route to a handler.

    Args:
        handler: A function, or any callable that takes a job or an instance of `kind`, and maybe a `Context`.
        kind: What payloads are decoded to; None gives the handler the raw job.
        executor: `loop`, `thread` or `process`; None puts an `async def` on the loop, and a `def` in a thread.
        timeout: How long a run may take, a timedelta or seconds; None is no limit.
        state: Handed out as `Context.state`.

    Raises:
        ConfigError: When these do not go together.
    """
    is_async = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)
    place = _place(handler, executor, is_async)
    limit = seconds("timeout", timeout)
    if limit == 0:
        raise ConfigError(f"timeout={timeout!r} must be greater than 0 (None is no limit)")
    call = handler if is_async or place is not Place.LOOP else _on_loop(handler)
    return Route(call, kind, _wants_context(handler), place, limit, state)


def _place(handler: Handler, executor: str | None, is_async: bool) -> Place:
    if executor is None:
        return Place.LOOP if is_async else Place.THREAD
    if executor not in list(Place):
        raise ConfigError(f"executor={executor!r} must be one of {', '.join(Place)}")
    place = Place(executor)
    if is_async and place is not Place.LOOP:
        raise ConfigError(f"{name_of(handler)} is async and runs on the loop; only a plain def goes to a {place}")
    if place is Place.PROCESS:
        import_path(handler)
    return place


def import_path(target: Any) -> str:
    """Where another process finds a function or class: `package.module:name`.

    Raises:
        ConfigError: When it cannot be imported from there.
    """
    module, name = getattr(target, "__module__", None), getattr(target, "__qualname__", "<unnamed>")
    if module is None or "<" in name:
        raise ConfigError(f"{name} must stand at the top of a module, for another process to import it")
    return f"{module}:{name}"


def name_of(handler: Handler) -> str:
    """A handler as messages call it."""
    return getattr(handler, "__qualname__", None) or repr(handler)


def _on_loop(handler: Handler) -> Handler:
    async def call(*args: Any) -> Any:
        result = handler(*args)
        return await result if isinstance(result, Awaitable) else result

    return call


def _parameters(handler: Handler) -> list[inspect.Parameter]:
    try:
        parameters = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError):  # some built-ins have no signature
        return []
    return [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]


def _wants_context(handler: Handler) -> bool:
    second = _parameters(handler)[1:2]
    if not second or second[0].default is not inspect.Parameter.empty:
        return bool(second) and _hints(handler).get(second[0].name) is Context
    return True


def _hints(handler: Handler) -> dict[str, Any]:
    target = handler if inspect.isroutine(handler) else type(handler).__call__
    try:
        return get_type_hints(target)
    except (NameError, TypeError, AttributeError):
        return {}


def inferred_kind(handler: Handler) -> Kind[Any] | None:
    """The kind that the first parameter of a handler is annotated with; None for a raw `Job`.

    Raises:
        ConfigError: When there is no annotation, or it is neither.
    """
    parameters = _parameters(handler)
    hint = _hints(handler).get(parameters[0].name) if parameters else None
    if hint is Job:
        return None
    if not isinstance(hint, type):
        raise ConfigError(f"annotate the first parameter of {name_of(handler)} with a job kind, or give route() one")
    return kind_of(hint)
