"""What the server measures: the names that alerts and dashboard may use. `test_metrics` holds them to a live server."""

from __future__ import annotations

from typing import NamedTuple

ANY = ("",)
"""The values of a label that may have any."""
SCRAPED = {"job": ANY, "instance": ANY}
"""The labels that Prometheus gives to all that it reads."""


class Metric(NamedTuple):
    """What kind it is, and the values of each of its labels."""

    kind: str
    labels: dict[str, tuple[str, ...]]


_QUEUE = {"queue": ANY}
_STATUSES = ("scheduled", "ready", "in_flight", "completed", "dead")
_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")

METRICS = {
    "zizq_jobs_enqueued_total": Metric("counter", _QUEUE),
    "zizq_jobs_finished_total": Metric("counter", _QUEUE | {"outcome": ("completed", "retried", "dead")}),
    "zizq_jobs": Metric("gauge", _QUEUE | {"status": _STATUSES}),
    "zizq_oldest_ready_age_seconds": Metric("gauge", _QUEUE),
    "zizq_job_wait_seconds": Metric("histogram", _QUEUE),
    "zizq_job_run_seconds": Metric("histogram", _QUEUE),
    "zizq_commit_seconds": Metric("histogram", {}),
    "zizq_fsync_seconds": Metric("histogram", {}),
    "zizq_commits_total": Metric("counter", {}),
    "zizq_commit_calls_total": Metric("counter", {}),
    "zizq_take_streams": Metric("gauge", {}),
    "zizq_requests_total": Metric("counter", {"method": ANY, "status": _CLASSES}),
    "zizq_refused_total": Metric("counter", {"reason": ANY}),
    "zizq_writes_refused": Metric("gauge", {}),
    "zizq_store_bytes": Metric("gauge", {"file": ("database", "log", "free")}),
    "zizq_inbox_posts": Metric("gauge", {}),
    "zizq_oldest_post_age_seconds": Metric("gauge", {}),
    "zizq_uptime_seconds": Metric("gauge", {}),
    "zizq_build_info": Metric("gauge", {"version": ANY}),
    # Those of the package prometheus-client, on Linux.
    "process_start_time_seconds": Metric("gauge", {}),
    "process_cpu_seconds_total": Metric("counter", {}),
    "process_resident_memory_bytes": Metric("gauge", {}),
    "process_open_fds": Metric("gauge", {}),
    "process_max_fds": Metric("gauge", {}),
}


def series_of(name: str, metric: Metric) -> dict[str, dict[str, tuple[str, ...]]]:
    """The series of a metric by their names, each with its labels."""
    labels = metric.labels | SCRAPED
    if metric.kind != "histogram":
        return {name: labels}
    return {f"{name}_bucket": labels | {"le": ANY}, f"{name}_sum": labels, f"{name}_count": labels}


ON_POSTGRES = {"zizq_inbox_posts", "zizq_oldest_post_age_seconds"}
"""What a server has only whose jobs are in PostgreSQL: tests/integration/test_postgres_inbox.py has it there."""
SERIES = {series: labels for name, metric in METRICS.items() for series, labels in series_of(name, metric).items()}
SERIES["up"] = SCRAPED
