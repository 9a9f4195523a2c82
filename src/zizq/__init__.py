"""A fast, durable job queue: the client and worker library.

    import zizq

    async with zizq.Client() as client:
        await client.enqueue_raw("send_email", {"to": "a@b.c"})

`Client` and `SyncClient` enqueue and inspect jobs; `job_kind` makes payloads of classes; the server is the command
`zizq serve`.
"""

from zizq.client.aio import Client
from zizq.client.batch import Batch, RawBatch
from zizq.client.budgets import Budget, Draw, Rebound, TimeBased, WhileInFlight
from zizq.client.changes import KEEP, Changes
from zizq.client.conditions import Where
from zizq.client.cron import CronDefinition, CronEntry, CronGroup
from zizq.client.cron_handles import CronEntryHandle, CronHandle, SyncCronEntryHandle, SyncCronHandle
from zizq.client.enqueue import Enqueue
from zizq.client.job import Job, JobError
from zizq.client.keys import Unique
from zizq.client.kinds import JobKind, job_kind, kind_of
from zizq.client.options import TLS, Backoff, Retention
from zizq.client.query import Query, SyncQuery
from zizq.client.queue_calls import QueueState
from zizq.client.sync import SyncClient
from zizq.client.take import SyncTake, Take
from zizq.client.tracing import Tracing
from zizq.errors import (
    Cancel,
    ClientError,
    ConfigError,
    Conflict,
    DecodeError,
    EncodeError,
    Forbidden,
    HandlerDied,
    HandlerError,
    HandlerTimeout,
    InvalidRequest,
    NoRouteError,
    NotFound,
    PayloadDecodeError,
    ResponseError,
    RetryLater,
    ServerError,
    StreamIdleTimeout,
    TransportError,
    UnsupportedFormat,
    ZizqError,
)
from zizq.job import Status
from zizq.wire.insight import Counts

# ── the worker ───────────────────────────────────────────────────────────────────────────────────────
from zizq.worker.health import WorkerHealth
from zizq.worker.hooks import Acked, Connected, Disconnected, Hooks, JobStarted, JobStopped, Outcome
from zizq.worker.options import Reconnect, Summary
from zizq.worker.route import Context, JobHandler, current_job
from zizq.worker.router import Router
from zizq.worker.running import run_worker
from zizq.worker.shutdown import on_signals
from zizq.worker.worker import CallNext, Middleware, Worker

__all__ = [
    "KEEP",
    "TLS",
    "Acked",
    "Backoff",
    "Batch",
    "Budget",
    "CallNext",
    "Cancel",
    "Changes",
    "Client",
    "ClientError",
    "ConfigError",
    "Conflict",
    "Connected",
    "Context",
    "Counts",
    "CronDefinition",
    "CronEntry",
    "CronEntryHandle",
    "CronGroup",
    "CronHandle",
    "DecodeError",
    "Disconnected",
    "Draw",
    "EncodeError",
    "Enqueue",
    "Forbidden",
    "HandlerDied",
    "HandlerError",
    "HandlerTimeout",
    "Hooks",
    "InvalidRequest",
    "Job",
    "JobError",
    "JobHandler",
    "JobKind",
    "JobStarted",
    "JobStopped",
    "Middleware",
    "NoRouteError",
    "NotFound",
    "Outcome",
    "PayloadDecodeError",
    "Query",
    "QueueState",
    "RawBatch",
    "Rebound",
    "Reconnect",
    "ResponseError",
    "Retention",
    "RetryLater",
    "Router",
    "ServerError",
    "Status",
    "StreamIdleTimeout",
    "Summary",
    "SyncClient",
    "SyncCronEntryHandle",
    "SyncCronHandle",
    "SyncQuery",
    "SyncTake",
    "Take",
    "TimeBased",
    "Tracing",
    "TransportError",
    "Unique",
    "UnsupportedFormat",
    "Where",
    "WhileInFlight",
    "Worker",
    "WorkerHealth",
    "ZizqError",
    "current_job",
    "job_kind",
    "kind_of",
    "on_signals",
    "run_worker",
]
