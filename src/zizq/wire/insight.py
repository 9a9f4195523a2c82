"""What the server tells of itself: the values that terminal, dashboard, metrics and command line all show.

One read-only service makes them (`server.insight`). They travel as JSON on the admin port, under `/insight/`.
Instants are Unix milliseconds; ages and times end in their unit.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from zizq.job import ErrorRecord

OTHERS = "(other)"
"""What the queues are called together that are too many to be told of one by one. A queue of this very name would be
counted with them."""


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs by status."""

    scheduled: int = 0
    ready: int = 0
    in_flight: int = 0
    completed: int = 0
    dead: int = 0

    @property
    def total(self) -> int:
        """How many there are in all."""
        return self.scheduled + self.ready + self.in_flight + self.completed + self.dead


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """What went through, over the last ten seconds; times are None where nothing did.

    Args:
        enqueued_per_s: Jobs that were enqueued.
        completed_per_s: Jobs that succeeded.
        failed_per_s: Failures, whatever became of the job.
        wait_p50_ms: From the moment a job was ready until it was taken.
        wait_p95_ms: The same; 95 of 100 waited no longer.
        run_p50_ms: From the take until the worker reported.
        run_p95_ms: The same.
    """

    enqueued_per_s: float = 0.0
    completed_per_s: float = 0.0
    failed_per_s: float = 0.0
    wait_p50_ms: float | None = None
    wait_p95_ms: float | None = None
    run_p50_ms: float | None = None
    run_p95_ms: float | None = None


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """The server as a whole.

    Args:
        version: Of the server.
        uptime_ms: Since it was started.
        counts: All jobs.
        flow: What goes through.
        queues: How many there are.
        streams: Open take streams.
        oldest_ready_ms: Age of the job that has been ready for longest; None where none is.
        trouble: Why writes are refused; None when they are not.
    """

    version: str
    uptime_ms: int
    counts: Counts
    flow: Flow
    queues: int = 0
    streams: int = 0
    oldest_ready_ms: int | None = None
    trouble: str | None = None


class QueueInsight(msgspec.Struct, frozen=True, kw_only=True):
    """One queue. `oldest_ready_ms` is as in `Overview`; a paused queue hands out nothing."""

    queue: str
    counts: Counts
    flow: Flow
    oldest_ready_ms: int | None = None
    paused: bool = False


class RunningJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job that a worker holds."""

    id: str
    type: str
    queue: str
    dequeued_at: int


class JobInsight(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One job in full.

    Args:
        id: The job.
        payload: What it is to be done with; not there when it is too large to be shown.
        payload_size: How many bytes it takes in the store.
        errors: Its last failures, the newest first; long backtraces are cut.
    """

    id: str
    payload: msgspec.Raw | UnsetType = UNSET
    payload_size: int = 0
    errors: list[ErrorRecord] = []


class WorkerInsight(msgspec.Struct, frozen=True, kw_only=True):
    """One take stream.

    Args:
        stream: Its number, as long as the server runs.
        worker_id: What its worker calls itself.
        peer: The address it comes from.
        queues: What it takes from; empty for all.
        prefetch: How many jobs it may hold; 0 for any number.
        concurrency: How many it runs at once, where it says so.
        opened_at: When it began.
        held: How many jobs it holds.
        jobs: The ones it has held longest, a hundred at most.
    """

    stream: int
    worker_id: str | None = None
    peer: str | None = None
    queues: list[str] = []
    prefetch: int = 0
    concurrency: int | None = None
    opened_at: int
    held: int = 0
    jobs: list[RunningJob] = []


class FailureInsight(msgspec.Struct, frozen=True, kw_only=True):
    """Failures that look alike: of jobs of one type, with one error type, and messages that differ in numbers alone.

    Args:
        type: Of the jobs.
        error_type: Of the error, where the worker said it.
        message: The last one; its first line.
        count: How many there were.
        dead: How many of these jobs went to dead.
        first_at: When it first happened.
        last_at: When it last did.
        ids: The last jobs that failed so, the newest first.
    """

    type: str
    error_type: str | None = None
    message: str
    count: int
    dead: int = 0
    first_at: int
    last_at: int
    ids: list[str] = []


class StorageInsight(msgspec.Struct, frozen=True, kw_only=True):
    """The store and its disk; sizes are in bytes.

    Args:
        size: The database.
        log_size: The write-ahead log beside it.
        free: How much of the database is of no use just now.
        commits: Commits since the start.
        calls_per_commit: How many calls shared one, in the mean of the last ten seconds.
        commit_p50_ms: How long a commit took, of the last ones.
        commit_p99_ms: The same.
        fsync_p99_ms: How long those took that waited for the disk.
        checkpoint_at: When the log was last copied into the database.
        trouble: Why writes are refused.
    """

    size: int = 0
    log_size: int = 0
    free: int = 0
    commits: int = 0
    calls_per_commit: float | None = None
    commit_p50_ms: float | None = None
    commit_p99_ms: float | None = None
    fsync_p99_ms: float | None = None
    checkpoint_at: int | None = None
    trouble: str | None = None


class CronInsight(msgspec.Struct, frozen=True, kw_only=True):
    """One cron entry; `paused` is also true where its group is paused."""

    group: str
    entry: str
    expression: str
    timezone: str | None = None
    type: str
    queue: str
    paused: bool = False
    next_at: int | None = None
    last_at: int | None = None


class BudgetInsight(msgspec.Struct, frozen=True, kw_only=True):
    """One budget.

    Args:
        key: Its key.
        strategy: `time_based` or `while_in_flight`.
        allocation: Tokens, for each period or at once.
        period_ms: The period of a time-based one.
        capacity: How many tokens it holds at most.
        available: How many it has now; below 0 while a debt is worked off.
    """

    key: str
    strategy: str
    allocation: int
    period_ms: int | None = None
    capacity: int
    available: int


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One minute of the server's history, or one second of its last five minutes.

    Counts of jobs are those at its end; `enqueued`, `completed`, `failed` are how many there were in it.
    """

    at: int
    enqueued: int = 0
    completed: int = 0
    failed: int = 0
    counts: Counts
    oldest_ready_ms: int | None = None
    wait_p50_ms: float | None = None
    wait_p95_ms: float | None = None
    run_p50_ms: float | None = None
    run_p95_ms: float | None = None
