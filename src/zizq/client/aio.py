"""The client for coroutines: `calls` over an asynchronous transport."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, TypeVar, Unpack

from zizq.client.budget_methods import BudgetMethods
from zizq.client.call import Call
from zizq.client.changes import Changes
from zizq.client.conditions import Conditions, Where
from zizq.client.connections import NetworkTransport
from zizq.client.cron import CronDefinition
from zizq.client.cron_handles import CronHandle
from zizq.client.enqueue import Options
from zizq.client.job import Job, JobError
from zizq.client.joining import Joining
from zizq.client.options import TLS, Duration
from zizq.client.paging import Order
from zizq.client.query import Plan, Query
from zizq.client.queues import QueueMethods
from zizq.client.settings import check_connections, check_format, check_settings
from zizq.client.take import Take
from zizq.client.tracing import Tracing, calls_for
from zizq.client.transport import MAX_CONNECTIONS, Transport
from zizq.clock import Clock, SystemClock

T = TypeVar("T")


class Client(QueueMethods, BudgetMethods):
    """A client of a zizq server, for coroutines; `SyncClient` is the same for threads.

    Make one for a program and share it: it keeps its connections open. Nothing is sent until the first call, and no
    call is retried. Use it as an async context manager, or call `close`. After a fork it connects anew by itself. A
    call that is cancelled may still be done by the server. Jobs that coroutines enqueue at the same time share
    requests, and each call has its own answer.

    Every call raises TransportError when no answer came, and a ResponseError when the server said no; whether the same
    call may succeed later is their `retryable`.

    Args:
        url: The server's address, with a path prefix if it has one; None is the variable ZIZQ_URL, else
            `http://127.0.0.1:7890`. Proxies of the environment are not used.
        format: What bodies are encoded in: `msgpack`, the faster, or `json`, which people can read.
        connect_timeout: For opening a connection, as a timedelta or in seconds.
        read_timeout: For each wait for bytes of an answer, or for a free connection, as a timedelta or in seconds.
        stream_idle_timeout: The longest silence on a take stream, heartbeats included, as a timedelta or in seconds.
            The server's heartbeat must be well below it.
        max_connections: How many calls are under way at a time in an event loop; others wait for their turn. Take
            streams do not count.
        tls: Certificates for an `https://` server beyond the system's roots.
        token: What tells a server that asks who calls; None is the variable ZIZQ_TOKEN, else none is sent.
        tracing: Whether to make spans of OpenTelemetry, or how (`Tracing`); workers that use this client do as well.
        transport: Sends the requests; None is the network.
        clock: What delays count from; None is the system's clock.

    Raises:
        ConfigError: When the URL, the format, a number or the token is wrong, or `tls` comes with an `http://` URL;
            or when `tracing` lacks OpenTelemetry.
    """

    def __init__(  # noqa: PLR0913 - one for each option
        self,
        url: str | None = None,
        *,
        format: Literal["msgpack", "json"] = "msgpack",
        connect_timeout: Duration = 10,
        read_timeout: Duration = 30,
        stream_idle_timeout: Duration = 30,
        max_connections: int = MAX_CONNECTIONS,
        tls: TLS | None = None,
        token: str | None = None,
        tracing: Tracing | bool = False,
        transport: Transport | None = None,
        clock: Clock | None = None,
    ) -> None:
        settings = check_settings(url, tls, connect_timeout, read_timeout, stream_idle_timeout, token)
        self.url = settings.url
        self._calls, self.spans = calls_for(tracing, self.url, check_format(format), clock or SystemClock())
        self._transport = transport or Joining(NetworkTransport(settings, check_connections(max_connections)))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.url}>"

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the idle connections; leave the take streams first. A closed client stays closed."""
        await self._transport.close()

    async def enqueue(self, kind_or_request: object, **overrides: Unpack[Options]) -> Job:
        """Enqueue one job.

        Args:
            kind_or_request: An instance of a kind (see `job_kind`), or an `Enqueue`.
            **overrides: Options of `Enqueue` that replace those of the kind.

        Returns:
            The job without its payload. Where it already was there under its `unique_key`, `duplicate` is true.

        Raises:
            ConfigError: When it is no kind, or an override is unknown or wrong.
            EncodeError: When the payload cannot travel.
            InvalidRequest: When the server finds a field out of bounds.
        """
        return await self._send(self._calls.enqueue(kind_or_request, **overrides))

    async def enqueue_raw(self, type: str, payload: Any, **options: Unpack[Options]) -> Job:
        """Enqueue one job by the name of its type.

        Args:
            type: The name that a worker routes by.
            payload: Whatever JSON can say, None included.
            **options: See `Enqueue`: `queue`, `priority`, `ready_at` or `delay`, `retry_limit`, `backoff`, `retention`,
                `unique_key`, `unique_while`, `batch`, `budgets`, `timeout`, `metadata`.

        Raises:
            ConfigError: When an option is unknown or wrong.
            EncodeError: When the payload cannot travel.
            InvalidRequest: When the server finds a field out of bounds.
        """
        return await self._send(self._calls.enqueue_raw(type, payload, **options))

    async def enqueue_bulk(self, kinds_or_requests: Iterable[object]) -> list[Job]:
        """Enqueue many jobs in one request: all of them or, when one is refused, none.

        Args:
            kinds_or_requests: Instances of kinds, or `Enqueue` values. When there are none, nothing is sent.

        Returns:
            The jobs in the order given.

        Raises:
            ConfigError: When one is no kind.
            EncodeError: When a payload cannot travel.
            InvalidRequest: When the server finds a field out of bounds; the message has the index.
        """
        sources = list(kinds_or_requests)
        return await self._send(self._calls.enqueue_bulk(sources)) if sources else []

    async def get_job(self, id: str) -> Job:
        """Read a job with its payload.

        Raises:
            NotFound: When there is none, or it has been purged.
        """
        return await self._send(self._calls.get_job(id))

    async def delete_job(self, id: str) -> None:
        """Delete a job, whatever its status.

        Raises:
            NotFound: When there is none.
        """
        await self._send(self._calls.delete_job(id))

    async def patch_job(self, id: str, **changes: Unpack[Changes]) -> Job:
        """Change a job that is not finished.

        Args:
            id: The job.
            **changes: See `Changes`: `queue`, `priority`, `ready_at`, `retry_limit`, `backoff`, `retention`. None
                clears, and what is left out or `KEEP` stays as it is.

        Returns:
            The job as it is now, without its payload.

        Raises:
            NotFound: When there is none.
            ConfigError: When a change is unknown or wrong.
            InvalidRequest: When a value is out of bounds, or the job is completed or dead.
        """
        return await self._send(self._calls.patch_job(id, changes))

    async def retry_job(self, id: str) -> Job:
        """Bring a dead job back to ready, with its attempts and errors forgotten; servers but ours may not have it.

        Returns:
            The job as it is now, without its payload.

        Raises:
            NotFound: When there is none.
            InvalidRequest: When it is not dead.
        """
        return await self._send(self._calls.retry_job(id))

    async def job_errors(
        self, id: str, *, after: int | None = None, order: Order = "asc", limit: int | None = None
    ) -> AsyncIterator[JobError]:
        """Iterate over the errors of a job, which are read page by page: `async for error in client.job_errors(id)`.

        Args:
            id: The job.
            after: Begin beyond this attempt, in the given order; None is the beginning.
            order: `asc` is oldest first.
            limit: How many at most; None is all.

        Raises:
            NotFound: When there is no such job; the first error that is asked for says so.
        """
        walk = self._calls.walk_errors(id, after, order, limit)
        while (call := walk.next_call()) is not None:
            for error in walk.feed(await self._send(call)):
                yield error

    async def get_error(self, job_id: str, attempt: int) -> JobError:
        """Read one error of a job; attempt 1 is its first.

        Raises:
            NotFound: When there is no such job, or no such attempt.
        """
        return await self._send(self._calls.get_error(job_id, attempt))

    def jobs(self, **where: Unpack[Where]) -> Query:
        """Query the jobs that meet conditions, to read, count, update, retry or delete them; nothing is sent yet.

        Args:
            **where: See `Where`: `id`, `status`, `queue`, `type`, `priority`, `ready_at`, `attempts`, `budgets`,
                `payload`, `payload_contains`, `filter`. All of them must hold; none given is every job.

        Raises:
            ConfigError: When a condition is unknown, or a value is none.
            EncodeError: When a payload cannot travel.
        """
        return Query(self._send, self._calls, Plan(Conditions().with_(**where)))

    def take(
        self,
        queues: str | Collection[str] = (),
        prefetch: int = 1,
        worker_id: str | None = None,
        *,
        job_timeout: Duration | None = None,
        concurrency: int | None = None,
        stream: str | None = None,
    ) -> Take:
        """Take jobs as they become ready; use it as `async with client.take() as jobs: async for job in jobs:`.

        Leaving the block closes the connection, and jobs that were not answered go back to the server. There is no
        reconnection here: `Worker` has that.

        Args:
            queues: Only these queues; none given is all of them.
            prefetch: How many jobs may be out without an answer; 0 is no limit.
            worker_id: A name for the server's log.
            job_timeout: How long a job that sets no `timeout` may be held, as a timedelta or in seconds; the server
                counts a failure then. None is no limit.
            concurrency: How many jobs run here at once, those that came first: when this process dies, the server
                blames no others. None is all of them.
            stream: A name of this stream, for `release`.

        Raises:
            ConfigError: When a number is out of range, or a queue's name has a comma.
        """
        call = self._calls.take(queues, prefetch, worker_id, job_timeout, concurrency, stream)
        return Take(self._transport, call, self.spans)

    async def report_success(self, id: str) -> None:
        """Say that a job that was taken succeeded.

        Raises:
            NotFound: When it is not in flight: it was answered before, or went back to its queue.
        """
        await self._send(self._calls.report_success(id))

    async def report_success_bulk(self, ids: Sequence[str]) -> list[str]:
        """Say that many jobs succeeded.

        Args:
            ids: The jobs. When there are none, nothing is sent.

        Returns:
            Those that were not in flight; all others are completed.
        """
        return await self._send(self._calls.report_success_bulk(ids)) if ids else []

    async def release(self, ids: Sequence[str], stream: str | None = None) -> list[str]:
        """Give back jobs that were taken and not begun, as if they had never been taken.

        Args:
            ids: The jobs. When there are none, and no stream, nothing is sent.
            stream: The name that a take stream was given: it gets no more jobs, and ends once it holds none.

        Returns:
            Those that were not in flight; all others are ready again.
        """
        return await self._send(self._calls.release(ids, stream)) if ids or stream is not None else []

    async def report_failure(
        self,
        id: str,
        error: str | BaseException,
        *,
        error_type: str | None = None,
        backtrace: str | None = None,
        retry_at: datetime | None = None,
        retry_in: Duration | None = None,
        kill: bool = False,
    ) -> Job:
        """Say that a job that was taken failed.

        Args:
            id: The job.
            error: A message, or an exception, which also fills in `error_type` and `backtrace`.
            error_type: The name of the kind of failure.
            backtrace: Where it happened.
            retry_at: When it shall run again, whatever its retry limit, as an aware datetime.
            retry_in: The same as a delay, as a timedelta or in seconds; instead of `retry_at`.
            kill: Whether it goes straight to dead.

        Returns:
            The job as it is now, without its payload.

        Raises:
            NotFound: When it is not in flight.
            ConfigError: When `retry_at` is naive, or comes with `retry_in`.
        """
        call = self._calls.report_failure(
            id, error, error_type=error_type, backtrace=backtrace, retry_at=retry_at, retry_in=retry_in, kill=kill
        )
        return await self._send(call)

    # ── crons ────────────────────────────────────────────────────────────────────────────────────────

    @asynccontextmanager
    async def define_cron(
        self, name: str, *, timezone: str | None = None, paused: bool | None = None
    ) -> AsyncIterator[CronDefinition]:
        """Define a whole cron group: `async with client.define_cron("nightly") as cron: cron.entry(...)`.

        One request at the end of the block makes the group what the block says, whether or not it was there: entries
        that it does not add are gone, and those that have not changed keep their next time. A block that raises sends
        nothing. So each of several programs may do it when it starts.

        Args:
            name: The name of the group.
            timezone: The zone of entries that name none, as an IANA name; None is that of the server.
            paused: Whether the group is paused; None leaves it as it is, and a new one not paused.

        Raises:
            ConfigError: When an argument has no such value.
            InvalidRequest: When the server finds an expression, a zone or a job wrong; nothing has changed.
        """
        definition = CronDefinition(self._calls.crons, name, timezone, paused)
        yield definition
        await self._send(definition.call())

    def cron(self, name: str) -> CronHandle:
        """A handle of a cron group, to read, pause, resume or delete it, and to reach its entries; nothing is sent."""
        return CronHandle(self._send, self._calls.crons, name)

    async def crons(self) -> list[str]:
        """Ask for the names of all cron groups, sorted."""
        return await self._send(self._calls.crons.list_groups())

    # ── the server ───────────────────────────────────────────────────────────────────────────────────

    async def health(self) -> str:
        """Ask whether the server serves: `ok` when it does, `read-only` while it refuses writes."""
        return await self._send(self._calls.health())

    async def version(self) -> str:
        """Ask for the server's version."""
        return await self._send(self._calls.version())

    async def reset(self) -> None:
        """Delete everything on the server. There is no way back."""
        await self._send(self._calls.reset())

    async def _send(self, call: Call[T]) -> T:
        if call.span is None:
            return call.parse(await self._transport.send(call.request))
        with call.span as answered:
            return answered(call.parse(await self._transport.send(call.request)))
