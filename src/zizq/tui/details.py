"""Everything there is to know of what is selected, as lines; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from zizq import words
from zizq.tui.lines import Line, Span, Style, wrapped
from zizq.tui.tables import age, error_text, rate, some_age, span
from zizq.wire.events import AdminJob
from zizq.wire.insight import BudgetInsight, CronInsight, FailureInsight, Flow, JobInsight, QueueInsight, WorkerInsight

MOST_TEXT = 64 * 1024
"""Characters of a payload that are shown: more helps nobody in a terminal, and takes long to fold into lines."""


class Entry(NamedTuple):
    """A line before it is folded: a name and its value, or a title, whose value is None."""

    name: str
    value: str | None = None
    style: Style = ""


def folded(entries: Sequence[Entry], width: int) -> list[Line]:
    """Entries as lines that are no wider than the panel."""
    name_width = max((len(entry.name) for entry in entries if entry.value is not None), default=0)
    lines: list[Line] = []
    for name, value, style in entries:
        if value is None:
            lines.append((Span(name, "strong"),))
            continue
        start = name.ljust(name_width) + "  " if name_width else ""
        texts = wrapped(value, max(width - len(start), 8))
        for number, text in enumerate(texts):
            lines.append((Span(" " * len(start) if number else start, "faint"), Span(text, style)))
    return lines


def block(text: str, width: int) -> list[Line]:
    """A longer text, as lines that are no wider than the panel."""
    shown = text[:MOST_TEXT]
    lines: list[Line] = [(Span(line),) for line in wrapped(shown, max(width, 8), indent=2)]
    if len(text) > MOST_TEXT:
        lines.append((Span(f"… {words.count(len(text) - MOST_TEXT)} more characters", "faint"),))
    return lines


# ── what is selected ─────────────────────────────────────────────────────────────────────────────────


def job_lines(
    job: AdminJob,
    gone_from: str | None,
    failure: FailureInsight | None,
    seen: JobInsight | None,
    now_at: int,
    width: int,
) -> list[Line]:
    """A job.

    Args:
        job: The job, with what the server says of it when details are asked for.
        gone_from: The list that it has left, if it has.
        failure: Why it failed last, as far as that is known.
        seen: What was asked of this one job.
        now_at: The wall clock.
        width: How wide the panel is.
    """
    entries = [Entry("id", job.id)]
    if gone_from is not None:
        entries.append(Entry("", f"is no longer {gone_from}", "bad"))
    if (error := seen.errors[0] if seen and seen.errors else failure) is not None:
        entries.append(Entry("error", error_text(error), "bad"))
    limit = "" if job.retry_limit is None else f", retried {words.count(job.retry_limit)} times at most"
    entries += [
        Entry("type", job.job_type),
        Entry("queue", job.queue),
        Entry("attempts", f"{words.count(job.attempts)}{limit}"),
        Entry("priority", str(job.priority)),
    ]
    entries += [
        Entry(name, words.instant(at, now_at))
        for name, at in (("ready", job.ready_at), ("taken", job.dequeued_at), ("failed", job.failed_at))
        if at is not None
    ]
    if job.unique_key is not None:
        entries.append(Entry("unique", f"{job.unique_key} while {job.unique_while or 'queued'}"))
    entries += [
        Entry(name, _json(value))
        for name, value in (("backoff", job.backoff), ("retention", job.retention))
        if value is not None
    ]
    return [*folded(entries, width), *_payload(job, seen, width), *_errors(seen, now_at, width)]


def _payload(job: AdminJob, seen: JobInsight | None, width: int) -> list[Line]:
    title: Line = (Span("payload", "strong"),)
    if seen is not None and not isinstance(seen.payload, UnsetType):
        return [title, *block(msgspec.json.format(bytes(seen.payload), indent=2).decode(), width)]
    if seen is not None and seen.payload_size:
        return folded([Entry("payload", f"{words.size(seen.payload_size)}: `zizq jobs show {job.id}` shows it")], width)
    return [] if job.payload is UNSET else [title, *block(pretty(job.payload), width)]


def _errors(seen: JobInsight | None, now_at: int, width: int) -> list[Line]:
    lines: list[Line] = []
    for error in seen.errors if seen is not None else ():
        lines.append((Span(f"attempt {error.attempt} failed {words.instant(error.failed_at, now_at)}", "strong"),))
        lines += block(error_text(error), width)
        lines += block(error.backtrace, width) if error.backtrace else []
    return lines


def queue_lines(queue: QueueInsight, failures: Sequence[FailureInsight], now_at: int, width: int) -> list[Line]:
    """A queue: how many jobs it has, and what goes through it."""
    counts = queue.counts
    entries = [
        Entry("queue", queue.queue),
        Entry("state", "paused: nothing is handed out" if queue.paused else "open"),
        Entry("oldest", some_age(queue.oldest_ready_ms)),
        Entry("jobs"),
        *(Entry(name.replace("_", " "), words.count(getattr(counts, name))) for name in counts.__struct_fields__),
        Entry("in the last ten seconds"),
        *_flow(queue.flow),
    ]
    return folded(entries, width)


def _flow(flow: Flow) -> Iterator[Entry]:
    yield Entry("enqueued", f"{rate(flow.enqueued_per_s)} a second")
    yield Entry("done", f"{rate(flow.completed_per_s)} a second")
    yield Entry("failed", f"{rate(flow.failed_per_s)} a second", "bad" if flow.failed_per_s else "")
    yield Entry("waited", _spread(flow.wait_p50_ms, flow.wait_p95_ms))
    yield Entry("ran", _spread(flow.run_p50_ms, flow.run_p95_ms))


def _spread(p50_ms: float | None, p95_ms: float | None) -> str:
    return "-" if p50_ms is None else f"{span(p50_ms)}, 95 of 100 at most {span(p95_ms)}"


def cron_lines(cron: CronInsight, failures: Sequence[FailureInsight], now_at: int, width: int) -> list[Line]:
    """A cron entry, and how its jobs fail."""
    entries = [
        Entry("group", cron.group),
        Entry("entry", cron.entry),
        Entry("state", "paused" if cron.paused else "fires"),
        Entry("when", cron.expression),
        Entry("time zone", cron.timezone or "of the server"),
        Entry("type", cron.type),
        Entry("queue", cron.queue),
        Entry("next", "-" if cron.next_at is None else words.instant(cron.next_at, now_at)),
        Entry("last", "-" if cron.last_at is None else words.instant(cron.last_at, now_at)),
    ]
    for failure in failures:
        if failure.type == cron.type:
            times = "once" if failure.count == 1 else f"{words.count(failure.count)} times"
            entries.append(Entry("failed", f"{times}: {error_text(failure)}", "bad"))
    return folded(entries, width)


def budget_lines(budget: BudgetInsight, failures: Sequence[FailureInsight], now_at: int, width: int) -> list[Line]:
    """A budget."""
    per = f"every {words.duration(budget.period_ms)}" if budget.period_ms else "in flight at once"
    entries = [
        Entry("key", budget.key),
        Entry("strategy", budget.strategy),
        Entry("allocation", f"{words.count(budget.allocation)} {per}"),
        Entry("left", f"{words.count(budget.available)} of {words.count(budget.capacity)}"),
    ]
    return folded(entries, width)


def worker_lines(worker: WorkerInsight, failures: Sequence[FailureInsight], now_at: int, width: int) -> list[Line]:
    """A worker, and what it holds."""
    entries = [
        Entry("worker", worker.worker_id or "has no name"),
        Entry("stream", str(worker.stream)),
        Entry("address", worker.peer or "-"),
        Entry("queues", ", ".join(worker.queues) or "all"),
        Entry("since", words.instant(worker.opened_at, now_at)),
        Entry("prefetch", words.count(worker.prefetch) if worker.prefetch else "any number"),
        Entry("at once", "-" if worker.concurrency is None else words.count(worker.concurrency)),
        Entry("held", words.count(worker.held)),
    ]
    if worker.jobs:
        entries.append(Entry("the jobs it has held longest"))
    entries += [Entry(age(now_at - job.dequeued_at), f"{job.id}  {job.type}  {job.queue}") for job in worker.jobs]
    return folded(entries, width)


def pretty(value: Any) -> str:
    """A value as JSON over several lines."""
    return msgspec.json.format(_json(value), indent=2)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
