"""What the tables show: the columns of each tab, and how its values become rows; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zizq import words
from zizq.job import ErrorRecord
from zizq.tui.grid import Column, Row
from zizq.wire.events import AdminJob, ListName
from zizq.wire.insight import BudgetInsight, CronInsight, FailureInsight, QueueInsight, WorkerInsight

NONE = "-"
_ID = Column("ID", 0, 25)
_TYPE = Column("TYPE", 1, 12, grows=True)
_QUEUE = Column("QUEUE", 2, 10, grows=True)
_TRIES = Column("ATTEMPTS", 5, 8, is_number=True)
_PRIORITY = Column("PRIORITY", 6, 8, is_number=True)

_FAILED = Column("FAILED", 8, 7, is_number=True)
_COMMON = _ID, _QUEUE, _TYPE

JOB_COLUMNS: Mapping[ListName, Sequence[Column]] = {
    ListName.IN_FLIGHT: (
        *_COMMON, Column("RUNNING", 3, 8, is_number=True), _TRIES, _PRIORITY, Column("WAITED", 7, 7, is_number=True),
        _FAILED,
    ),
    ListName.READY: (*_COMMON, Column("WAITING", 3, 8, is_number=True), _TRIES, _PRIORITY, _FAILED),
    ListName.SCHEDULED: (*_COMMON, Column("DUE", 3, 8, is_number=True), _TRIES, _PRIORITY, _FAILED),
    ListName.DEAD: (*_COMMON, Column("DIED", 3, 8, is_number=True), _TRIES, Column("ERROR", 4, 16, grows=True)),
}  # fmt: skip
"""Of each list; `_job_texts` has the texts in this order."""
QUEUE_COLUMNS = (
    Column("QUEUE", 0, 12, grows=True),
    Column("STATE", 4, 6),
    Column("READY", 1, 9, is_number=True),
    Column("IN-FLIGHT", 2, 9, is_number=True),
    Column("SCHEDULED", 7, 9, is_number=True),
    Column("DEAD", 3, 6, is_number=True),
    Column("IN/S", 5, 7, is_number=True),
    Column("DONE/S", 6, 7, is_number=True),
    Column("FAILED/S", 8, 8, is_number=True),
    Column("OLDEST", 9, 7, is_number=True),
    Column("WAIT P95", 10, 8, is_number=True),
    Column("RUN P95", 11, 8, is_number=True),
)
CRON_COLUMNS = (
    Column("GROUP", 1, 10, grows=True),
    Column("ENTRY", 0, 12, grows=True),
    Column("EXPRESSION", 3, 14, grows=True),
    Column("NEXT", 2, 8, is_number=True),
    Column("LAST", 5, 8, is_number=True),
    Column("STATE", 4, 6),
    Column("TYPE", 6, 12, grows=True),
    Column("QUEUE", 7, 10, grows=True),
    Column("TIME ZONE", 8, 10, grows=True),
)
BUDGET_COLUMNS = (
    Column("KEY", 0, 16, grows=True),
    Column("LEFT", 1, 9, is_number=True),
    Column("OF", 2, 9, is_number=True),
    Column("", 6, 12),
    Column("ALLOCATION", 4, 10, is_number=True),
    Column("PER", 3, 9),
    Column("STRATEGY", 5, 15),
)
WORKER_COLUMNS = (
    Column("WORKER", 0, 16, grows=True),
    Column("HELD", 1, 6, is_number=True),
    Column("PREFETCH", 4, 8, is_number=True),
    Column("AT ONCE", 6, 7, is_number=True),
    Column("OLDEST", 3, 7, is_number=True),
    Column("QUEUES", 2, 12, grows=True),
    Column("SINCE", 5, 7, is_number=True),
    Column("ADDRESS", 7, 15, grows=True),
)


# ── words ────────────────────────────────────────────────────────────────────────────────────────────


def age(ms: int) -> str:
    """A time in its largest unit: `5m`; below a second it is `0s`."""
    return words.duration(max(ms, 0) // 1000 * 1000).split()[0] if ms >= 1000 else "0s"


def some_age(ms: int | None) -> str:
    """The same of a time that may not be there."""
    return NONE if ms is None else age(ms)


def span(ms: float | None) -> str:
    """A short time with what is exact enough of it: `0.4ms`, `12ms`, `1.5s`."""
    if ms is None:
        return NONE
    if ms < 10_000:
        return f"{ms:.3g}ms" if ms < 1000 else f"{ms / 1000:.2g}s"
    return age(round(ms))


def rate(per_s: float) -> str:
    """How many a second: `1,234`, `0.3`."""
    return f"{per_s:,.0f}" if per_s >= 10 or per_s == 0 else f"{per_s:.1f}"


def bar(part: int, whole: int, width: int) -> str:
    """A part of a whole, drawn."""
    full = round(width * min(max(part, 0), whole) / whole) if whole > 0 else 0
    return "█" * full + "░" * (width - full)


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────────


def job_rows(name: ListName, jobs: Sequence[AdminJob], errors: Mapping[str, FailureInsight], now_at: int) -> list[Row]:
    """Jobs of a list.

    Args:
        name: The list.
        jobs: Its jobs, or some of them.
        errors: Why jobs failed, by their identifiers, as far as it is known.
        now_at: The wall clock.
    """
    return [Row(job.id, _job_texts(name, job, errors.get(job.id), now_at)) for job in jobs]


def _job_texts(name: ListName, job: AdminJob, error: FailureInsight | None, now_at: int) -> tuple[str, ...]:
    common = job.id, job.queue, job.job_type
    tries, failed = words.count(job.attempts), some_age(_since(job.failed_at, now_at))
    if name is ListName.DEAD:
        return *common, failed, tries, error_text(error) if error else ""
    more = tries, str(job.priority)
    if name is ListName.SCHEDULED:
        due = job.ready_at - now_at
        return *common, age(due) if due >= 1000 else "now", *more, failed
    if name is ListName.READY:
        return *common, age(now_at - job.ready_at), *more, failed
    taken_at = now_at if job.dequeued_at is None else job.dequeued_at
    return *common, age(now_at - taken_at), *more, span(max(taken_at - job.ready_at, 0)), failed


def error_text(failure: FailureInsight | ErrorRecord) -> str:
    """A failure in a line."""
    return f"{failure.error_type}: {failure.message}" if failure.error_type else failure.message


def queue_row(queue: QueueInsight, now_at: int) -> Row:
    """A queue."""
    counts, flow = queue.counts, queue.flow
    texts = (
        queue.queue,
        "paused" if queue.paused else "",
        *map(words.count, (counts.ready, counts.in_flight, counts.scheduled, counts.dead)),
        *map(rate, (flow.enqueued_per_s, flow.completed_per_s, flow.failed_per_s)),
        some_age(queue.oldest_ready_ms),
        span(flow.wait_p95_ms),
        span(flow.run_p95_ms),
    )
    return Row(queue.queue, texts, "faint" if queue.paused else "")


def cron_row(cron: CronInsight, now_at: int) -> Row:
    """A cron entry."""
    next_in = None if cron.next_at is None or cron.paused else max(cron.next_at - now_at, 0)
    texts = (
        cron.group,
        cron.entry,
        cron.expression,
        some_age(next_in),
        some_age(_since(cron.last_at, now_at)),
        "paused" if cron.paused else "",
        cron.type,
        cron.queue,
        cron.timezone or "",
    )
    return Row(cron_key(cron), texts, "faint" if cron.paused else "")


def cron_key(cron: CronInsight) -> str:
    """What a cron entry is known by: names of groups and entries have no commas."""
    return f"{cron.group},{cron.entry}"


def budget_row(budget: BudgetInsight, now_at: int) -> Row:
    """A budget."""
    texts = (
        budget.key,
        words.count(budget.available),
        words.count(budget.capacity),
        bar(budget.available, budget.capacity, 12),
        words.count(budget.allocation),
        words.duration(budget.period_ms) if budget.period_ms else "in flight",
        budget.strategy,
    )
    return Row(budget.key, texts, "bad" if budget.available <= 0 else "")


def worker_row(worker: WorkerInsight, now_at: int) -> Row:
    """A worker's take stream."""
    oldest = min((job.dequeued_at for job in worker.jobs), default=None)
    texts = (
        worker.worker_id or f"stream {worker.stream}",
        words.count(worker.held),
        words.count(worker.prefetch) if worker.prefetch else "any",
        NONE if worker.concurrency is None else words.count(worker.concurrency),
        some_age(_since(oldest, now_at)),
        ", ".join(worker.queues) or "all",
        age(now_at - worker.opened_at),
        worker.peer or NONE,
    )
    return Row(str(worker.stream), texts)


def _since(at: int | None, now_at: int) -> int | None:
    return None if at is None else now_at - at
