"""The span of the run of a job, as a middleware; imported by workers whose client traces, and by no others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import context, propagate, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from zizq.client.job import Job
from zizq.client.spans import LINK, RELATION, Known, Spans, record_error, span_of
from zizq.errors import Cancel, RetryLater
from zizq.ids import created_at
from zizq.wire.messages import FailureBody
from zizq.worker.failures import HandlerFailed

_OUTCOME = "messaging.zizq.job.outcome"


class Runs:
    """Makes the spans of runs.

    Args:
        spans: Those of the client.
    """

    def __init__(self, spans: Spans) -> None:
        self._spans = spans

    async def run(self, job: Job, call_next: Callable[[Job], Awaitable[Any]]) -> Any:
        """Run a job inside a span: the middleware around all others."""
        span, inside = self._start(job)
        token = context.attach(inside)
        try:
            return await call_next(job)
        except BaseException as error:
            _judge(span, error)
            raise
        finally:
            context.detach(token)
            span.end()

    def _start(self, job: Job) -> tuple[Span, context.Context]:
        """The span of a run, and the context of its handler."""
        brought = self._spans.context_in(job.metadata)
        made = span_of(brought)
        # What was current where the worker was started has nothing to do with this job, so it is no parent.
        parent = trace.set_span_in_context(trace.INVALID_SPAN, brought) if is_apart(job) else brought
        span = self._spans.start(
            "process",
            SpanKind.CONSUMER,
            job.queue,
            parent=parent,
            links=() if made is None else (made,),
            message__id=job.id,
            zizq__job__type=job.type,
            zizq__job__attempt=job.attempts + 1,
        )
        self._spans.remember(job.id, Known(job.queue, made, span_of(trace.set_span_in_context(span))))
        return span, trace.set_span_in_context(span, brought)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A block in which no span is current: what a worker reports belongs to no trace of whoever started it."""
        token = context.attach(trace.set_span_in_context(trace.INVALID_SPAN))
        try:
            yield
        finally:
            context.detach(token)

    def carrier(self) -> dict[str, str]:
        """The current context, for a handler in another process."""
        carrier: dict[str, str] = {}
        self._spans.propagator.inject(carrier)
        return carrier


def is_apart(job: Job) -> bool:
    """Whether the run of a job is a trace of its own: it was made among many, was for later, or has failed before."""
    if job.attempts or job.metadata.get(RELATION) == LINK:
        return True
    try:
        return job.ready_at_ms > created_at(job.id)
    except ValueError:  # the identifier of a server that is not ours
        return False


@contextmanager
def resumed(carrier: Mapping[str, str]) -> Iterator[None]:
    """A block inside the span of a run that is made in another process."""
    token = context.attach(propagate.extract(carrier))
    try:
        yield
    finally:
        context.detach(token)


def _judge(span: Span, error: BaseException) -> None:
    """Say how a run ended that raised.

    `Cancel` and `RetryLater` are decisions and no errors, unless they say that they were raised from one.
    """
    if isinstance(error, HandlerFailed):
        _judge_elsewhere(span, error.failure)
        return
    if isinstance(error, (Cancel, RetryLater)):
        span.set_attribute(_OUTCOME, "cancel" if isinstance(error, Cancel) else "retry_later")
        if error.__cause__ is not None:
            record_error(span, error.__cause__)
        return
    record_error(span, error)


def _judge_elsewhere(span: Span, failure: FailureBody) -> None:
    """The same of a run in another process, where exceptions do not travel but as texts."""
    if failure.kill or failure.retry_at is not None:
        span.set_attribute(_OUTCOME, "cancel" if failure.kill else "retry_later")
        return
    kind = failure.error_type or ""
    told = {"type": kind, "message": failure.message, "stacktrace": failure.backtrace or ""}
    span.add_event("exception", {f"exception.{name}": text for name, text in told.items()})
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, failure.message))
