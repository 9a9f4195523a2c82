"""The client for threads: `calls` over a blocking transport."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, TypeVar, Unpack

from zizq.client.calls import Call, Calls
from zizq.client.enqueue import Options
from zizq.client.job import Job, JobError
from zizq.client.options import TLS, Duration
from zizq.client.settings import check_format, check_settings
from zizq.client.take import SyncTake
from zizq.client.transport import SyncReqwestTransport, SyncTransport
from zizq.clock import Clock, SystemClock

T = TypeVar("T")


class SyncClient:
    """A client of a zizq server, for threads: any number of them at a time may use it.

    Its methods are those of `Client`, without `await`. Make one for a program and share it: it keeps its connections
    open. Nothing is sent until the first call, and no call is retried. Use it as a context manager, or call `close`.
    After a fork it connects anew by itself. Ctrl-C is seen when a call returns, at the latest after `read_timeout`.

    Every call raises TransportError when no answer came, and a ResponseError when the server said no; whether the same
    call may succeed later is their `retryable`.

    Args:
        url: The server's address, with a path prefix if it has one; None is the variable ZIZQ_URL, else
            `http://127.0.0.1:7890`. Proxies of the environment are not used.
        format: What bodies are encoded in: `msgpack`, the faster, or `json`, which people can read.
        connect_timeout: For opening a connection, as a timedelta or in seconds.
        read_timeout: For each wait for bytes of an answer, as a timedelta or in seconds.
        stream_idle_timeout: The longest silence on a take stream, heartbeats included, as a timedelta or in seconds.
            The server's heartbeat must be well below it.
        tls: Certificates for an `https://` server beyond the system's roots.
        transport: Sends the requests; None is the network.
        clock: What delays count from; None is the system's clock.

    Raises:
        ConfigError: When the URL, the format or a timeout is wrong, or `tls` comes with an `http://` URL.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        format: Literal["msgpack", "json"] = "msgpack",
        connect_timeout: Duration = 10,
        read_timeout: Duration = 30,
        stream_idle_timeout: Duration = 30,
        tls: TLS | None = None,
        transport: SyncTransport | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._calls = Calls(check_format(format), clock or SystemClock())
        settings = check_settings(url, tls, connect_timeout, read_timeout, stream_idle_timeout)
        self._transport = transport or SyncReqwestTransport(settings)
        self.url = settings.url

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.url}>"

    def __enter__(self) -> SyncClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle connections; leave the take streams first. A closed client stays closed."""
        self._transport.close()

    def enqueue(self, kind_or_request: object, **overrides: Unpack[Options]) -> Job:
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
        return self._send(self._calls.enqueue(kind_or_request, **overrides))

    def enqueue_raw(self, type: str, payload: Any, **options: Unpack[Options]) -> Job:
        """Enqueue one job by the name of its type.

        Args:
            type: The name that a worker routes by.
            payload: Whatever JSON can say, None included.
            **options: See `Enqueue`: `queue`, `priority`, `ready_at` or `delay`, `retry_limit`, `backoff`, `retention`,
                `unique_key`, `unique_while`.

        Raises:
            ConfigError: When an option is unknown or wrong.
            EncodeError: When the payload cannot travel.
            InvalidRequest: When the server finds a field out of bounds.
        """
        return self._send(self._calls.enqueue_raw(type, payload, **options))

    def enqueue_bulk(self, kinds_or_requests: Iterable[object]) -> list[Job]:
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
        return self._send(self._calls.enqueue_bulk(sources)) if sources else []

    def get_job(self, id: str) -> Job:
        """Read a job with its payload.

        Raises:
            NotFound: When there is none, or it has been purged.
        """
        return self._send(self._calls.get_job(id))

    def delete_job(self, id: str) -> None:
        """Delete a job, whatever its status.

        Raises:
            NotFound: When there is none.
        """
        self._send(self._calls.delete_job(id))

    def list_errors(
        self, job_id: str, *, after: int | None = None, order: Literal["asc", "desc"] = "asc", limit: int = 50
    ) -> list[JobError]:
        """Read the errors of a job, one page at a time.

        Args:
            job_id: The job.
            after: The attempt that the page before ended with; None starts at the beginning.
            order: `asc` is oldest first.
            limit: The length of the page, 1 to 2000.

        Raises:
            NotFound: When there is no such job.
        """
        return self._send(self._calls.list_errors(job_id, after, order, limit))

    def get_error(self, job_id: str, attempt: int) -> JobError:
        """Read one error of a job; attempt 1 is its first.

        Raises:
            NotFound: When there is no such job, or no such attempt.
        """
        return self._send(self._calls.get_error(job_id, attempt))

    def take(self, queues: str | Collection[str] = (), prefetch: int = 1, worker_id: str | None = None) -> SyncTake:
        """Take jobs as they become ready; use it as `with client.take() as jobs: for job in jobs:`.

        Leaving the block closes the connection, and jobs that were not answered go back to the server. There is no
        reconnection here: `Worker` has that.

        Args:
            queues: Only these queues; none given is all of them.
            prefetch: How many jobs may be out without an answer; 0 is no limit.
            worker_id: A name for the server's log.

        Raises:
            ConfigError: When `prefetch` is negative, or a queue's name has a comma.
        """
        return SyncTake(self._transport, self._calls.take(queues, prefetch, worker_id))

    def report_success(self, id: str) -> None:
        """Say that a job that was taken succeeded.

        Raises:
            NotFound: When it is not in flight: it was answered before, or went back to its queue.
        """
        self._send(self._calls.report_success(id))

    def report_success_bulk(self, ids: Sequence[str]) -> list[str]:
        """Say that many jobs succeeded.

        Args:
            ids: The jobs. When there are none, nothing is sent.

        Returns:
            Those that were not in flight; all others are completed.
        """
        return self._send(self._calls.report_success_bulk(ids)) if ids else []

    def report_failure(
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
        return self._send(call)

    def health(self) -> str:
        """Ask whether the server serves; `ok` when it does."""
        return self._send(self._calls.health())

    def version(self) -> str:
        """Ask for the server's version."""
        return self._send(self._calls.version())

    def queues(self) -> list[str]:
        """Ask for the names of the queues that hold jobs of any status."""
        return self._send(self._calls.queues())

    def reset(self) -> None:
        """Delete everything on the server. There is no way back."""
        self._send(self._calls.reset())

    def _send(self, call: Call[T]) -> T:
        return call.parse(self._transport.send(call.request))
