"""Spans of OpenTelemetry for the calls of a client, as its conventions for messaging have them.

Nothing imports OpenTelemetry but this and `worker.spans`, and nobody imports them who does not trace. `Spans` says
which spans there are and how they hang together; docs/decisions/traces.md has the choices.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from types import TracebackType
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec
from opentelemetry import context, propagate, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, TracerProvider

from zizq.client.enqueue import Enqueue, check_metadata
from zizq.client.failure import type_name
from zizq.client.job import Job
from zizq.job import MAX_METADATA, MAX_METADATA_BYTES, MAX_METADATA_NAME

T = TypeVar("T")
RELATION, LINK = "zizq-trace", "link"
"""The entry of the metadata by which a producer says that runs are to link to its span (protocol.md#14.5)."""

_NAME = "messaging.operation.name"
_TYPE = "messaging.operation.type"
_QUEUE = "messaging.destination.name"
_ID = "messaging.message.id"
_COUNT = "messaging.batch.message_count"
_MOST_LINKS = 128
"""Links of a span: more are dropped by the SDK, unless it is told otherwise, and each costs a microsecond."""
_MOST_KNOWN = 10_000
"""Jobs whose spans are remembered until they are settled: some 5 MB. Beyond it, the oldest settle without links."""
_EMPTY = Context()


class Known(NamedTuple):
    """What the span that settles a job has to know of it.

    Args:
        queue: Its queue.
        made: The span that it was made in, if that is known.
        run: The span of its run, if it ran in a worker.
    """

    queue: str
    made: SpanContext | None
    run: SpanContext | None = None


class Operation(Generic[T]):
    """One span, as a block in which it is current; what the block raises has failed it.

    Args:
        span: Begun already; it ends with the block.
        note: Told the value of a call that succeeded.
        beside: Spans that end with it.
    """

    __slots__ = ("_beside", "_note", "_token", "span")

    def __init__(self, span: Span, note: Callable[[T], object], beside: Sequence[Span] = ()) -> None:
        self.span = span
        self._note = note
        self._beside = beside

    def __enter__(self) -> Callable[[T], T]:
        self._token = context.attach(trace.set_span_in_context(self.span))
        return self._answered

    def __exit__(self, kind: object, error: BaseException | None, traceback: TracebackType | None) -> None:
        context.detach(self._token)
        self.end(error)

    def end(self, error: BaseException | None = None) -> None:
        """End the span, as a failed one where there is an error."""
        if error is not None:
            record_error(self.span, error)
        for one in self._beside:
            one.end()
        self.span.end()

    def _answered(self, value: T) -> T:
        self._note(value)
        return value


def record_error(span: Span, error: BaseException) -> None:
    """Say in a span that it failed, and of what."""
    kind = type_name(type(error))
    try:
        span.record_exception(error)
        text = str(error)
    except Exception:  # a broken __str__ must not put another error in the place of this one
        text = kind
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, text))


class Spans:
    """Makes the spans of one client, and of the workers that use it.

    Args:
        url: Of the server.
        provider: As for `Tracing`, as all that follows.
        propagator: As there.
        create_spans: As there.
    """

    def __init__(
        self, url: str, provider: TracerProvider | None, propagator: TextMapPropagator | None, create_spans: bool
    ) -> None:
        self._tracer = trace.get_tracer("zizq", version("zizq"), provider)
        self._propagator = propagator
        self._has_create_spans = create_spans
        place = urlsplit(url)
        self._common: dict[str, Any] = {"messaging.system": "zizq", "server.address": place.hostname or ""}
        self._common["server.port"] = place.port or (443 if place.scheme == "https" else 80)
        self._known: OrderedDict[str, Known] = OrderedDict()

    @property
    def propagator(self) -> TextMapPropagator:
        """How contexts travel."""
        # The global one is asked for each time: a program may set it after it has made its client.
        return self._propagator or propagate.get_global_textmap()

    def start(
        self,
        name: str,
        kind: SpanKind,
        queue: str | None,
        *,
        type: str | None = None,
        parent: Context | None = None,
        links: Sequence[SpanContext] = (),
        **more: Any,
    ) -> Span:
        """Begin a span.

        Args:
            name: Of the operation.
            kind: As the conventions have it.
            queue: The queue that all its jobs are in; None where there is no such queue.
            type: Of the operation, where it is not its name.
            parent: The context that it is a child in; None is the current one.
            links: Other spans that it has to do with; `_MOST_LINKS` at most are taken.
            more: Attributes beside those that all spans have, with `__` for each dot.
        """
        attributes = {**self._common, _NAME: name, _TYPE: type or name}
        if queue is not None:
            attributes[_QUEUE] = queue
            name = f"{name} {queue}"
        for key, value in more.items():
            attributes["messaging." + key.replace("__", ".")] = value
        linked = [Link(one) for one in links[:_MOST_LINKS]]
        return self._tracer.start_span(name, parent, kind, attributes, linked)

    # ── enqueueing ───────────────────────────────────────────────────────────────────────────────────

    def send(self, request: Enqueue) -> tuple[Enqueue, Operation[Job]]:
        """The span of an enqueue, and the request with its context."""
        given = self._given_in(request)
        kind = SpanKind.PRODUCER if given is None else SpanKind.CLIENT
        links = () if given is None else (given,)
        span = self.start("send", kind, request.queue, links=links, zizq__job__type=request.type)
        if given is None:
            request = _with(request, self._carried(span))
        return request, Operation(span, lambda job: _note_job(span, job))

    def send_bulk(self, requests: Sequence[Enqueue]) -> tuple[list[Enqueue], Operation[list[Job]]]:
        """The spans of a bulk enqueue, and the requests with the contexts that their runs link to."""
        given = [self._given_in(request) for request in requests]
        created: dict[int, Span] = {}
        if self._has_create_spans:
            created = {index: self._create(requests[index]) for index, one in enumerate(given) if one is None}
        made = [*filter(None, given), *(span.get_span_context() for span in created.values())]
        kind = SpanKind.CLIENT if len(made) == len(requests) else SpanKind.PRODUCER
        queue = _same(request.queue for request in requests)
        span = self.start("send", kind, queue, links=made, batch__message_count=len(requests))
        shared = {} if kind is SpanKind.CLIENT else self._carried(span)
        sent = []
        for index, request in enumerate(requests):
            own = {} if given[index] else self._carried(created[index]) if index in created else shared
            sent.append(_with(request, {RELATION: LINK} | own) if own else request)

        def note(jobs: Sequence[Job]) -> None:
            for index, one in created.items():
                _note_job(one, jobs[index])

        return sent, Operation(span, note, tuple(created.values()))

    def _given_in(self, request: Enqueue) -> SpanContext | None:
        """The context that a caller gives a job itself; what is no metadata is refused as ever."""
        return None if request.metadata is None else self.made_in(check_metadata(request.metadata))

    def _create(self, request: Enqueue) -> Span:
        return self.start("create", SpanKind.PRODUCER, request.queue, zizq__job__type=request.type)

    def _carried(self, span: Span) -> dict[str, str]:
        carrier: dict[str, str] = {}
        self.propagator.inject(carrier, trace.set_span_in_context(span))
        return carrier

    # ── from the other side ──────────────────────────────────────────────────────────────────────────

    def context_in(self, metadata: Mapping[str, str] | None) -> Context:
        """The context that a job brings along."""
        return self.propagator.extract(metadata, _EMPTY) if metadata else _EMPTY

    def made_in(self, metadata: Mapping[str, str] | None) -> SpanContext | None:
        """The span that a job was made in, as far as its metadata says so."""
        return span_of(self.context_in(metadata)) if metadata else None

    def received(self, jobs: Sequence[Job], *, single: bool = False) -> None:
        """Make the span of jobs that are handed over by a take stream.

        It has no length: how long a stream waited for jobs says nothing of them.
        """
        made = [self.made_in(job.metadata) for job in jobs]
        for job, one in zip(jobs, made, strict=True):
            self.remember(job.id, Known(job.queue, one))
        about = {"message__id": jobs[0].id} if single else {"batch__message_count": len(jobs)}
        queue = _same(job.queue for job in jobs)
        self.start("receive", SpanKind.CLIENT, queue, links=[*filter(None, made)], **about).end()

    def remember(self, job_id: str, known: Known) -> None:
        """Keep what the span that settles a job has to know."""
        self._known[job_id] = known
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)

    # ── settling ─────────────────────────────────────────────────────────────────────────────────────

    def settle(self, name: str, job_id: str) -> Operation[Any]:
        """The span of the report of one job."""
        return Operation(self._settling(name, [job_id], message__id=job_id), lambda _: self._forget([job_id]))

    def settle_bulk(self, name: str, ids: Sequence[str]) -> Operation[list[str]]:
        """The span of a report of many jobs."""
        span = self._settling(name, ids, batch__message_count=len(ids))

        def note(missed: Sequence[str]) -> None:
            self._forget(ids)
            if missed:
                span.set_attribute("messaging.zizq.not_found_count", len(missed))

        return Operation(span, note)

    def _settling(self, name: str, ids: Sequence[str], **about: Any) -> Span:
        """A span with links to where jobs were made, or else to their runs. That of one job is a child of its run."""
        known = [self._known.get(job_id) for job_id in ids]
        queue = _same(None if one is None else one.queue for one in known)
        links = [linked for one in known if one is not None and (linked := one.made or one.run) is not None]
        run = known[0].run if len(known) == 1 and known[0] is not None else None
        parent = None if run is None else context_of(run)
        return self.start(name, SpanKind.CLIENT, queue, type="settle", parent=parent, links=links, **about)

    def _forget(self, ids: Iterable[str]) -> None:
        for job_id in ids:
            self._known.pop(job_id, None)


def span_of(found: Context) -> SpanContext | None:
    """The span in a context; None where there is none."""
    span = trace.get_current_span(found).get_span_context()
    return span if span.is_valid else None


def context_of(span: SpanContext) -> Context:
    """A context in which a span from elsewhere is the current one."""
    return trace.set_span_in_context(trace.NonRecordingSpan(span), _EMPTY)


def _note_job(span: Span, job: Job) -> None:
    span.set_attribute(_ID, job.id)
    for name in ("duplicate", "folded"):
        if getattr(job, name):
            span.set_attribute(f"messaging.zizq.job.{name}", True)


def _same(queues: Iterable[str | None]) -> str | None:
    """The queue that all of them are; None where they differ."""
    distinct = set(queues)
    return distinct.pop() if len(distinct) == 1 else None


def _with(request: Enqueue, carried: Mapping[str, str]) -> Enqueue:
    """A request with more metadata, as far as there is room: no enqueue must fail because it is traced."""
    if not carried:
        return request
    metadata = dict(request.metadata or {})
    room = MAX_METADATA_BYTES - sum(map(_size, (*metadata, *metadata.values())))
    for name, value in carried.items():
        room -= _size(name) + _size(value)
        if room < 0 or len(metadata) == MAX_METADATA or len(name) > MAX_METADATA_NAME:
            break
        metadata.setdefault(name, value)
    return msgspec.structs.replace(request, metadata=metadata)


def _size(text: str) -> int:
    # A lone surrogate cannot be sent, which is said where the request is encoded.
    return len(text.encode("utf-8", "surrogatepass"))
