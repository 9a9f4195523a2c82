"""Whether a client traces, and how: the option, without any OpenTelemetry in it.

That is imported when a client that traces is made, and never otherwise; `spans` has all that is made of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zizq.client.calls import Calls
from zizq.clock import Clock
from zizq.errors import ConfigError
from zizq.wire.codec import Format

if TYPE_CHECKING:
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import TracerProvider

    from zizq.client.spans import Spans


@dataclass(frozen=True, slots=True)
class Tracing:
    """How a client traces; it needs `zizq[otel]`.

    Args:
        provider: Where spans come from; None is the global one of OpenTelemetry, whenever that is set.
        propagator: How contexts travel in the metadata of jobs; None is the global one: W3C Trace Context and Baggage.
        create_spans: Whether each job of a bulk enqueue has a span of its own that its run links to. Without, all link
            to the one span of the request, which is cheaper.
    """

    provider: TracerProvider | None = None
    propagator: TextMapPropagator | None = None
    create_spans: bool = True


def calls_for(tracing: Tracing | bool, url: str, form: Format, clock: Clock) -> tuple[Calls, Spans | None]:
    """The calls of a client, and the spans that it makes, if it traces.

    Args:
        tracing: Whether and how; True is `Tracing()`.
        url: Of the server.
        form: The format of bodies.
        clock: What delays count from.

    Raises:
        ConfigError: When OpenTelemetry is not installed, or `tracing` is nothing that says how.
    """
    if tracing is False:
        return Calls(form, clock), None
    how = Tracing() if tracing is True else tracing
    if not isinstance(how, Tracing):
        raise ConfigError(f"tracing={tracing!r} must be True, False or a zizq.Tracing")
    try:
        from zizq.client.spans import Spans
        from zizq.client.traced import TracedCalls
    except ImportError as error:
        raise ConfigError("tracing needs OpenTelemetry: pip install 'zizq[otel]'") from error
    spans = Spans(url, how.provider, how.propagator, how.create_spans)
    return TracedCalls(form, clock, spans), spans
