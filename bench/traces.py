"""What traces cost the process that makes them: processor time for each job that it enqueues, and that it works."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from statistics import median

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import zizq
from bench.enqueuer import TYPE
from bench.programs import serving
from bench.report import Table

JOBS = 20_000
BULK = 100
REQUEST = zizq.Enqueue(TYPE, {"n": 1, "text": "x" * 150}, queue="bench")


class Nowhere(SpanExporter):
    """Takes spans and drops them: what a real one costs is not ours."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Drop them."""
        return SpanExportResult.SUCCESS


def _recording(**how: bool) -> zizq.Tracing:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    return zizq.Tracing(provider=provider, **how)


KINDS: dict[str, Callable[[], zizq.Tracing | bool]] = {
    "no tracing": lambda: False,
    "tracing, but nothing provides spans": lambda: True,
    "all spans dropped by the sampler": lambda: zizq.Tracing(provider=TracerProvider(sampler=ALWAYS_OFF)),
    "all spans recorded": _recording,
    "all recorded, without spans for jobs of a bulk": lambda: _recording(create_spans=False),
}


def run(command: str, *, rounds: int, size: float, modes: object = None) -> Table:
    """Enqueue one by one, in bulk, and drain, for each kind in turn. `modes` is of no use: no server is measured."""
    jobs = max(1000, int(JOBS * size))
    samples: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind, tracing in KINDS.items():
            with serving("buffered") as server:
                samples[kind].append(asyncio.run(_measure(server.url, tracing(), jobs)))
    rows = [
        [kind, *(f"{median(column):.1f}" for column in zip(*taken, strict=True))] for kind, taken in samples.items()
    ]
    header = ["µs of processor time a job", "enqueue", "enqueue in bulk", "run and report"]
    return Table("traces", command, header, rows, samples)


async def _measure(url: str, tracing: zizq.Tracing | bool, jobs: int) -> list[float]:
    async with zizq.Client(url, tracing=tracing) as client:

        async def single() -> None:
            for _ in range(jobs):
                await client.enqueue(REQUEST)

        async def bulk() -> None:
            for _ in range(jobs // BULK):
                await client.enqueue_bulk([REQUEST] * BULK)

        return [
            await _spent(one, count) for one, count in ((single, jobs), (bulk, jobs), (_drain(client, jobs), 2 * jobs))
        ]


def _drain(client: zizq.Client, jobs: int) -> Callable[[], Awaitable[object]]:
    left, done = jobs * 2, asyncio.Event()

    async def handler(job: zizq.Job) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    return lambda: zizq.Worker(client, handler, concurrency=16, prefetch=256).run(done.wait())


async def _spent(call: Callable[[], Awaitable[object]], jobs: int) -> float:
    began = time.process_time()
    await call()
    return (time.process_time() - began) / jobs * 1e6
