"""Every API call once, without any I/O; those of budgets, crons and queues are in files of their own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, Unpack
from urllib.parse import quote

import msgspec

from zizq.client.budget_calls import BudgetCalls
from zizq.client.call import (
    Call,
    CallMaker,
    Request,
    Response,
    TakeCall,
    job_reader,
    raise_refusal,
    read_job,
    read_nothing,
    reading,
)
from zizq.client.changes import Changes, to_wire
from zizq.client.conditions import Conditions
from zizq.client.cron import CronCalls
from zizq.client.enqueue import Enqueue, Options, bulk_to_wire, later_ms
from zizq.client.failure import describe
from zizq.client.job import Job, JobError
from zizq.client.kinds import request_for
from zizq.client.options import Duration, limit_ms
from zizq.client.paging import Order, Page, Walk
from zizq.client.queue_calls import QueueCalls
from zizq.clock import Clock
from zizq.errors import ConfigError, DecodeError
from zizq.wire import messages, operations
from zizq.wire.codec import Format
from zizq.wire.framing import StreamFormat

_MAX_U32 = 2**32 - 1


class Calls(CallMaker):
    """The API in one format.

    Args:
        form: The format of bodies, in both directions.
        clock: What delays count from.
    """

    def __init__(self, form: Format, clock: Clock) -> None:
        super().__init__(form)
        self._clock = clock
        self.budgets = BudgetCalls(form)
        self.crons = CronCalls(form)
        self.queues = QueueCalls(form)

    # ── enqueueing ───────────────────────────────────────────────────────────────────────────────────

    def enqueue(self, source: object, **options: Unpack[Options]) -> Call[Job]:
        """Enqueue one job: an instance of a kind, or a request."""
        return self._enqueue(request_for(source, **options))

    def enqueue_raw(self, type: str, payload: Any, **options: Unpack[Options]) -> Call[Job]:
        """Enqueue one job by the name of its type."""
        try:
            request = Enqueue(type, payload, **options)
        except TypeError:
            # The same, with an error that says which option is wrong.
            request = Enqueue(type, payload).with_(**options)
        return self._enqueue(request)

    def _enqueue(self, request: Enqueue) -> Call[Job]:
        body = request.to_wire(self._clock.wall_ms())
        # To fold one takes time, and those that come with it would wait for that; and what one brings a budget with
        # would decide for others that draw on it.
        is_plain = request.batch is None and request.budgets is None
        return self._call(operations.ENQUEUE, read_job, body=body, joins=is_plain)

    def enqueue_bulk(self, sources: Iterable[object]) -> Call[list[Job]]:
        """Enqueue many jobs, all or none."""
        body = bulk_to_wire([request_for(source) for source in sources], self._clock.wall_ms())
        return self._call(operations.ENQUEUE_BULK, _read_jobs, body=body)

    # ── single jobs ──────────────────────────────────────────────────────────────────────────────────

    def get_job(self, job_id: str) -> Call[Job]:
        """Read a job with its payload."""
        return self._call(operations.GET_JOB, read_job, job_id)

    def delete_job(self, job_id: str) -> Call[None]:
        """Delete a job, whatever its status."""
        return self._call(operations.DELETE_JOB, read_nothing, job_id)

    def patch_job(self, job_id: str, changes: Changes) -> Call[Job]:
        """Change a job that is not finished.

        Raises:
            ConfigError: When an option is unknown, or has no such value.
        """
        return self._call(operations.PATCH_JOB, read_job, job_id, body=to_wire(changes))

    def retry_job(self, job_id: str) -> Call[Job]:
        """Bring a dead job back to ready."""
        return self._call(operations.RETRY_JOB, read_job, job_id)

    def walk_errors(
        self, job_id: str, after: int | None, order: Order, limit: int | None
    ) -> Walk[JobError, Call[Page[JobError]]]:
        """Read the errors of a job, page by page."""

        def ask(after: int | None, count: int) -> Call[Page[JobError]]:
            query = _paging(after, order, count)
            return self._call(operations.LIST_ERRORS, _read_error_page, job_id, query=query)

        return Walk(ask, lambda error: error.attempt, order, limit, after=after)

    def get_error(self, job_id: str, attempt: int) -> Call[JobError]:
        """Read one error of a job."""
        return self._call(operations.GET_ERROR, reading(JobError), job_id, attempt)

    # ── many jobs ────────────────────────────────────────────────────────────────────────────────────

    def list_jobs(self, conditions: Conditions, after: str | None, order: Order, limit: int) -> Call[Page[Job]]:
        """Read a page of the jobs that meet conditions."""
        query = "&".join(filter(None, (_paging(after, order, limit), conditions.parameters())))
        return self._call(operations.LIST_JOBS, _read_job_page, query=query)

    def count_jobs(self, conditions: Conditions) -> Call[int]:
        """Count the jobs that meet conditions."""
        return self._call(
            operations.COUNT_JOBS, lambda answer: _read_count(answer).count, query=conditions.parameters()
        )

    def patch_jobs(self, conditions: Conditions, body: dict[str, Any]) -> Call[int]:
        """Change the jobs that meet conditions and are not finished; the value is how many."""
        query = conditions.parameters()
        return self._call(operations.PATCH_JOBS, lambda answer: _read_patched(answer).patched, query=query, body=body)

    def retry_jobs(self, conditions: Conditions) -> Call[int]:
        """Bring the dead jobs that meet conditions back to ready; the value is how many."""
        query = conditions.parameters()
        return self._call(operations.RETRY_JOBS, lambda answer: _read_retried(answer).retried, query=query)

    def delete_jobs(self, conditions: Conditions) -> Call[int]:
        """Delete the jobs that meet conditions; the value is how many."""
        query = conditions.parameters()
        return self._call(operations.DELETE_JOBS, lambda answer: _read_deleted(answer).deleted, query=query)

    # ── workers ──────────────────────────────────────────────────────────────────────────────────────

    def take(
        self,
        queues: str | Collection[str],
        prefetch: int,
        worker_id: str | None,
        job_timeout: Duration | None,
        concurrency: int | None,
        stream: str | None,
    ) -> TakeCall:
        """Open a stream of jobs.

        Raises:
            ConfigError: When a number or a queue's name is out of bounds.
        """
        if not 0 <= prefetch <= _MAX_U32:
            raise ConfigError(f"prefetch={prefetch} is out of range: give a number from 0 (no limit)")
        if concurrency is not None and not 1 <= concurrency <= _MAX_U32:
            raise ConfigError(f"concurrency={concurrency} is out of range: give a number from 1")
        path = f"{operations.TAKE.path}?prefetch={prefetch}"
        terms = {"timeout_ms": limit_ms("job_timeout", job_timeout), "concurrency": concurrency, "stream": stream}
        for name, value in terms.items():
            if value is not None:
                path += f"&{name}={quote(str(value), safe='')}"
        names = [queues] if isinstance(queues, str) else list(queues)
        for name in names:
            if not name or "," in name:
                raise ConfigError(f"queue {name!r}: a name is not empty and has no comma")
        if names:
            path += f"&queue={quote(','.join(names), safe=',')}"
        form = StreamFormat.MSGPACK if self._form is Format.MSGPACK else StreamFormat.NDJSON
        headers = {"accept": form.value}
        if worker_id is not None:
            headers["worker-id"] = worker_id
        return TakeCall(Request("GET", path, headers), form)

    def report_success(self, job_id: str) -> Call[None]:
        """Say that a job succeeded."""
        return self._call(operations.SUCCEED, read_nothing, job_id)

    def report_success_bulk(self, ids: Sequence[str]) -> Call[list[str]]:
        """Say that many jobs succeeded; the value is the ids that were not in flight."""
        return self._call(operations.SUCCEED_BULK, _read_not_found, body=messages.SuccessBulk(list(ids)))

    def release(self, ids: Sequence[str], stream: str | None) -> Call[list[str]]:
        """Give jobs back; the value is the ids that were not in flight."""
        return self._call(operations.RELEASE, _read_not_found, body=messages.ReleaseBody(list(ids), stream))

    def report_failure(
        self,
        job_id: str,
        error: str | BaseException,
        *,
        error_type: str | None,
        backtrace: str | None,
        retry_at: datetime | None,
        retry_in: Duration | None,
        kill: bool,
    ) -> Call[Job]:
        """Say that a job failed.

        Raises:
            ConfigError: When `retry_at` is naive, or comes with `retry_in`.
        """
        at = later_ms(("retry_at", retry_at), ("retry_in", retry_in), self._clock.wall_ms())
        body = describe(error, error_type, backtrace, at, kill)
        return self._call(operations.FAIL, read_job, job_id, body=body)

    # ── the server ───────────────────────────────────────────────────────────────────────────────────

    def health(self) -> Call[str]:
        """Ask whether the server serves."""
        return self._call(
            operations.HEALTH, lambda answer: "read-only" if _read_health(answer).writes_refused else "ok"
        )

    def version(self) -> Call[str]:
        """Ask for the version of the server."""
        return self._call(operations.VERSION, lambda answer: _read_version(answer).version)

    def reset(self) -> Call[None]:
        """Delete everything on the server."""
        return self._call(operations.RESET, read_nothing)


def _paging(after: str | int | None, order: Order, limit: int) -> str:
    start = "" if after is None else f"from={quote(str(after), safe='')}&"
    return f"{start}order={order}&limit={limit}"


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────


class _Links(msgspec.Struct):
    next: str | None = None


class _JobPage(msgspec.Struct):
    jobs: list[msgspec.Raw]
    pages: _Links


class _ErrorPage(msgspec.Struct):
    errors: list[JobError]
    pages: _Links


_read_health = reading(messages.Health)
_read_version = reading(messages.Version)
_read_missing = reading(messages.NotFoundIds)
_read_count = reading(messages.Count)
_read_patched = reading(messages.Patched)
_read_retried = reading(messages.Retried)
_read_deleted = reading(messages.Deleted)
_read_jobs_of_page = reading(_JobPage)
_read_errors_of_page = reading(_ErrorPage)


def _read_jobs(answer: Response) -> list[Job]:
    return job_reader(answer).many(answer.body)


def _read_job_page(answer: Response) -> Page[Job]:
    page = _read_jobs_of_page(answer)
    return Page(job_reader(answer).each(page.jobs), page.pages.next is not None)


def _read_error_page(answer: Response) -> Page[JobError]:
    page = _read_errors_of_page(answer)
    return Page(page.errors, page.pages.next is not None)


def _read_not_found(answer: Response) -> list[str]:
    if answer.status == 204:
        return []
    try:
        return _read_missing(answer).not_found
    except DecodeError:
        # A 422 of another kind, with the usual error body.
        raise_refusal(answer)
