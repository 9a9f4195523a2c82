"""The calls of a client with spans around them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar, Unpack

from msgspec.structs import replace

from zizq.client.call import Call
from zizq.client.calls import Calls
from zizq.client.enqueue import Enqueue, Options
from zizq.client.job import Job
from zizq.client.kinds import request_for
from zizq.client.spans import Operation, Spans
from zizq.clock import Clock
from zizq.wire.codec import Format

T = TypeVar("T")


class TracedCalls(Calls):
    """The API in one format; calls that enqueue or settle carry the span that the client opens around them.

    Args:
        form: The format of bodies, in both directions.
        clock: What delays count from.
        spans: Makes them.
    """

    def __init__(self, form: Format, clock: Clock, spans: Spans) -> None:
        super().__init__(form, clock)
        self._spans = spans

    def enqueue(self, source: object, **options: Unpack[Options]) -> Call[Job]:
        """Enqueue one job: an instance of a kind, or a request."""
        request, span = self._spans.send(request_for(source, **options))
        return _within(span, partial(super().enqueue, request))

    def enqueue_raw(self, type: str, payload: Any, **options: Unpack[Options]) -> Call[Job]:
        """Enqueue one job by the name of its type."""
        return self.enqueue(Enqueue(type, payload).with_(**options))

    def enqueue_bulk(self, sources: Iterable[object]) -> Call[list[Job]]:
        """Enqueue many jobs, all or none."""
        requests, span = self._spans.send_bulk([request_for(source) for source in sources])
        return _within(span, partial(super().enqueue_bulk, requests))

    def report_success(self, job_id: str) -> Call[None]:
        """Say that a job succeeded."""
        return _within(self._spans.settle("succeed", job_id), partial(super().report_success, job_id))

    def report_success_bulk(self, ids: Sequence[str]) -> Call[list[str]]:
        """Say that many jobs succeeded; the value is the ids that were not in flight."""
        return _within(self._spans.settle_bulk("succeed", ids), partial(super().report_success_bulk, ids))

    def release(self, ids: Sequence[str], stream: str | None) -> Call[list[str]]:
        """Give jobs back; the value is the ids that were not in flight."""
        if not ids:
            return super().release(ids, stream)
        return _within(self._spans.settle_bulk("release", ids), partial(super().release, ids, stream))

    def report_failure(self, job_id: str, error: str | BaseException, **details: Any) -> Call[Job]:
        """Say that a job failed."""
        return _within(self._spans.settle("fail", job_id), partial(super().report_failure, job_id, error, **details))


def _within(span: Operation[T], make: Callable[[], Call[T]]) -> Call[T]:
    """A call with its span, which has failed where there is no such call."""
    try:
        return replace(make(), span=span)
    except BaseException as error:
        span.end(error)
        raise
