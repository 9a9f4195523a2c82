"""`GET /metrics`: what Prometheus reads, made when it asks and not before (docs/operations.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from zizq.errors import Unsupported
from zizq.server.http.admin.answers import Routes, refuse
from zizq.server.http.exchange import Response, Scope, Send, respond
from zizq.server.insight.recorder import Mark, Spread
from zizq.server.insight.service import Insights
from zizq.store.facts import StorageFacts, Times
from zizq.wire import operations as op
from zizq.wire.insight import Counts

_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
MILLISECOND_BITS = (*range(13), 14, 16, 18, 20, 22)
"""The buckets of waits and runs: below 2**n milliseconds, from 1 ms to 70 minutes."""
MICROSECOND_BITS = tuple(range(6, 23))
"""The buckets of commits: below 2**n microseconds, from 64 us to 4 s."""

Requests = Mapping[tuple[str, int], int]
"""How many requests there were, by method and class of status."""
Values = Mapping[Any, float]
"""By the values of the labels, as a tuple."""


class Figures(NamedTuple):
    """What there is to tell, at one moment."""

    version: str
    uptime_ms: int
    streams: int
    refuses_writes: bool
    marks: Mapping[str, Mark]
    counts: Mapping[str, Counts]
    oldest_ms: Mapping[str, int]
    facts: StorageFacts
    posts: tuple[int, int | None] | None
    requests: Requests
    refused: Mapping[str, int]


class MetricsHandler:
    """Answers Prometheus.

    Args:
        insights: Knows what there is to tell.
        requests: How many requests the primary API has answered.
        refused: How many were refused for who made them, by reason.
    """

    def __init__(self, insights: Insights, requests: Requests, refused: Mapping[str, int]) -> None:
        self._insights = insights
        self._requests = requests
        self._refused = refused
        self._write: Callable[[Figures], bytes] | None = None

    @property
    def routes(self) -> Routes:
        """What it answers."""
        return {("GET", "/metrics"): (self._metrics, op.Scope.READ)}

    async def _metrics(self, scope: Scope, send: Send) -> int:
        """GET /metrics."""
        try:
            self._write = self._write or _writer()
            body = self._write(await self._figures())
        except Unsupported as error:
            return await refuse(error, "not to be read just now", send)
        await respond(send, Response(200, body, _TYPE))
        return 200

    async def _figures(self) -> Figures:
        insights = self._insights
        overview = await insights.overview()
        return Figures(
            version=overview.version,
            uptime_ms=overview.uptime_ms,
            streams=overview.streams,
            refuses_writes=overview.trouble is not None,
            marks=insights.recorder.marks(),
            counts=insights.counts(),
            oldest_ms=insights.oldest_ready_ms(),
            facts=await insights.facts(),
            posts=await insights.posts(),
            requests=self._requests,
            refused=self._refused,
        )


def _writer() -> Callable[[Figures], bytes]:
    """What makes the text of figures.

    Raises:
        Unsupported: When the library for that is not installed.
    """
    try:
        from prometheus_client import ProcessCollector, generate_latest
        from prometheus_client.registry import Collector
    except ModuleNotFoundError as error:
        raise Unsupported("metrics need prometheus-client: pip install 'zizq[metrics]'") from error
    process = ProcessCollector(registry=None)

    class Scrape(Collector):
        """The figures, as the library asks for them."""

        def __init__(self, figures: Figures) -> None:
            self._figures = figures

        def collect(self) -> Iterator[Any]:
            yield from _families(self._figures)
            yield from process.collect()

    return lambda figures: generate_latest(Scrape(figures))


def _families(at: Figures) -> Iterator[Any]:
    yield from _of_jobs(at)
    yield from _of_store(at.facts, at.refuses_writes)
    if at.posts is not None:
        yield from _of_inbox(*at.posts)
    yield from _of_server(at)


def _of_jobs(at: Figures) -> Iterator[Any]:
    marks = at.marks
    enqueued = {(queue,): mark.enqueued for queue, mark in marks.items()}
    yield _counter("zizq_jobs_enqueued", "Jobs that were enqueued.", ["queue"], enqueued)
    finished = {
        (queue, outcome): getattr(mark, outcome)
        for queue, mark in marks.items()
        for outcome in ("completed", "retried", "dead")
    }
    what = "Runs that ended, by what became of the job: completed, to be tried again, or dead."
    yield _counter("zizq_jobs_finished", what, ["queue", "outcome"], finished)
    jobs = {
        (queue, status): getattr(counts, status)
        for queue, counts in at.counts.items()
        for status in Counts.__struct_fields__
    }
    yield _gauge("zizq_jobs", "Jobs there are.", ["queue", "status"], jobs)
    ages = {(queue,): ms / 1000 for queue, ms in at.oldest_ms.items()}
    yield _gauge("zizq_oldest_ready_age_seconds", "For how long the oldest ready job has been ready.", ["queue"], ages)
    waits = {queue: mark.wait for queue, mark in marks.items()}
    yield _times("zizq_job_wait_seconds", "From the moment a job was ready until it was taken.", waits)
    runs = {queue: mark.run for queue, mark in marks.items()}
    yield _times("zizq_job_run_seconds", "From the take of a job until its worker reported.", runs)


def _of_store(facts: StorageFacts, refuses_writes: bool) -> Iterator[Any]:
    yield _laps("zizq_commit_seconds", "Commits, from the first statement on.", facts.commit)
    yield _laps("zizq_fsync_seconds", "Commits that waited for the disk.", facts.fsync)
    yield _counter("zizq_commits", "Commits.", [], {(): facts.commits})
    yield _counter("zizq_commit_calls", "Calls that commits carried out.", [], {(): facts.calls})
    sizes = {("database",): facts.size, ("log",): facts.log_size, ("free",): facts.free}
    yield _gauge("zizq_store_bytes", "The store; free is the part of the database of no use just now.", ["file"], sizes)
    yield _gauge("zizq_writes_refused", "1 while the store cannot write.", [], {(): int(refuses_writes)})


def _of_inbox(posts: int, oldest_ms: int | None) -> Iterator[Any]:
    yield _gauge("zizq_inbox_posts", "Posts of applications that wait in the inbox.", [], {(): posts})
    ages = {} if oldest_ms is None else {(): oldest_ms / 1000}
    yield _gauge("zizq_oldest_post_age_seconds", "How long ago the oldest post was made.", [], ages)


def _of_server(at: Figures) -> Iterator[Any]:
    yield _gauge("zizq_take_streams", "Open take streams.", [], {(): at.streams})
    requests = {(method, f"{status}xx"): n for (method, status), n in at.requests.items()}
    yield _counter("zizq_requests", "Requests to the primary API.", ["method", "status"], requests)
    refused = {(reason,): n for reason, n in at.refused.items()}
    yield _counter("zizq_refused", "Requests refused for who made them.", ["reason"], refused)
    yield _gauge("zizq_uptime_seconds", "Since the server was started.", [], {(): at.uptime_ms / 1000})
    yield _gauge("zizq_build_info", "The version of the server.", ["version"], {(at.version,): 1})


def _counter(name: str, text: str, labels: Sequence[str], values: Values) -> Any:
    from prometheus_client.core import CounterMetricFamily

    return _filled(CounterMetricFamily(name, text, labels=labels), values)


def _gauge(name: str, text: str, labels: Sequence[str], values: Values) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    return _filled(GaugeMetricFamily(name, text, labels=labels), values)


def _filled(family: Any, values: Values) -> Any:
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


def _times(name: str, text: str, spreads: Mapping[str, Spread]) -> Any:
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(name, text, labels=["queue"])
    for queue, spread in spreads.items():
        family.add_metric([queue], _buckets(spread.counts, MILLISECOND_BITS, 1e3), spread.total_ms / 1e3)
    return family


def _laps(name: str, text: str, times: Times) -> Any:
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(name, text, labels=[])
    family.add_metric([], _buckets(times.counts, MICROSECOND_BITS, 1e6), times.total_us / 1e6)
    return family


def _buckets(counts: Sequence[int], bits: Iterable[int], per_second: float) -> list[tuple[str, float]]:
    """The counts of buckets, each with all before it."""
    limits = [(str((1 << one) / per_second), float(sum(counts[: one + 1]))) for one in bits]
    return [*limits, ("+Inf", float(sum(counts)))]
