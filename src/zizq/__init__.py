"""A fast, durable job queue: the client and worker library.

    import zizq

    async with zizq.Client() as client:
        await client.enqueue_raw("send_email", {"to": "a@b.c"})

`Client` and `SyncClient` enqueue and inspect jobs; `job_kind` makes payloads of classes; the server is the command
`zizq serve`.
"""

from zizq.client.aio import Client
from zizq.client.enqueue import Enqueue
from zizq.client.job import Job, JobError
from zizq.client.kinds import JobKind, job_kind, kind_of
from zizq.client.options import TLS, Backoff, Retention
from zizq.client.sync import SyncClient
from zizq.client.take import SyncTake, Take
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

# ── the worker ───────────────────────────────────────────────────────────────────────────────────────
from zizq.worker.hooks import Acked, Connected, Disconnected, Hooks, JobStarted, JobStopped, Outcome
from zizq.worker.options import Reconnect, Summary
from zizq.worker.route import Context, JobHandler, current_job
from zizq.worker.router import Router
from zizq.worker.running import run_worker
from zizq.worker.shutdown import on_signals
from zizq.worker.worker import CallNext, Middleware, Worker

__all__ = [
    "TLS",
    "Acked",
    "Backoff",
    "CallNext",
    "Cancel",
    "Client",
    "ClientError",
    "ConfigError",
    "Conflict",
    "Connected",
    "Context",
    "DecodeError",
    "Disconnected",
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
    "SyncTake",
    "Take",
    "TransportError",
    "UnsupportedFormat",
    "Worker",
    "ZizqError",
    "current_job",
    "job_kind",
    "kind_of",
    "on_signals",
    "run_worker",
]
