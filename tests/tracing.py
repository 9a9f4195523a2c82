"""Spans that are kept in memory, and what tests ask of them."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext

from zizq.client.tracing import Tracing

PARENT = "00-11111111111111111111111111111111-2222222222222222-01"
"""The context of a span from elsewhere, as metadata has it."""


class Memory:
    """A provider of spans that keeps those that have ended."""

    def __init__(self, **how: Any) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = Tracing(provider=provider, **how)
        self.tracer = provider.get_tracer("test")

    def ended(self, name: str | None = None) -> list[ReadableSpan]:
        """The spans that have ended, in that order; those of one name, or of one operation."""
        spans = self._exporter.get_finished_spans()
        return [span for span in spans if name is None or name in (span.name, span.name.split()[0])]

    def one(self, name: str | None = None) -> ReadableSpan:
        """The only one."""
        [span] = self.ended(name)
        return span


def traceparent(span: ReadableSpan | SpanContext) -> str:
    """A span as metadata names it."""
    found = span if isinstance(span, SpanContext) else span.get_span_context()
    assert found is not None
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"


def parent_of(span: ReadableSpan) -> str | None:
    """The parent of a span, as metadata names it."""
    return None if span.parent is None else traceparent(span.parent)


def links_of(span: ReadableSpan) -> list[str]:
    """What a span links to, as metadata names it."""
    return [traceparent(link.context) for link in span.links]
