"""Every API call once, without any I/O: what to send, and what the answer means.

A call is a request and a parser. The clients send the one and feed the answer to the other; nothing here knows
whether that is done by a coroutine or by a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar, Unpack
from urllib.parse import quote

import msgspec

from zizq.client.enqueue import Enqueue, Options, later_ms
from zizq.client.failure import describe
from zizq.client.job import Job, JobError, JobReader
from zizq.client.kinds import request_for
from zizq.client.options import Duration
from zizq.clock import Clock
from zizq.errors import BadRequest, ConfigError, DecodeError, ResponseError
from zizq.wire import messages, operations
from zizq.wire.codec import Body, Format, encode
from zizq.wire.faults import error_for
from zizq.wire.framing import StreamFormat
from zizq.wire.operations import Operation

T = TypeVar("T")
R = TypeVar("R")
_MAX_PREFETCH = 2**32 - 1
_MAX_ERROR_TEXT = 500  # characters of an answer that is not ours, such as a proxy's page


class Request(NamedTuple):
    """What to send; `path` starts with a slash and may have a query."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None = None


class Response(NamedTuple):
    """What came back; the content type is None where the server sent none."""

    status: int
    content_type: str | None
    body: bytes


class Call(msgspec.Struct, Generic[T], frozen=True):
    """One API call.

    Args:
        request: What to send.
        success: The statuses that mean it was done.
        value: What the answer means, when it is a success.
    """

    request: Request
    success: tuple[int, ...]
    value: Callable[[Response], T]

    def parse(self, answer: Response) -> T:
        """The value in an answer.

        Raises:
            ResponseError: When the server says no; the subclass tells the status.
            DecodeError: When the answer cannot be read.
        """
        if answer.status not in self.success:
            raise_refusal(answer)
        return self.value(answer)


class TakeCall(NamedTuple):
    """The request that opens a take stream, and the format of the frames that it asks for."""

    request: Request
    form: StreamFormat


def raise_refusal(answer: Response) -> NoReturn:
    """Raise what an answer without success means.

    Raises:
        ResponseError: Always; the subclass tells the status.
    """
    body: object = None
    with suppress(BadRequest, DecodeError):
        body = _anything.read(answer.body, _form(answer))
    if isinstance(body, dict) and isinstance(body.get("error"), str):
        text = body["error"]
    else:
        text = answer.body.decode("utf-8", "replace")[:_MAX_ERROR_TEXT].strip() or "the answer has no text"
    error: type[ResponseError] = error_for(answer.status)
    raise error(answer.status, text, body)


class Calls:
    """The API in one format.

    Args:
        form: The format of bodies, in both directions.
        clock: What delays count from.
    """

    def __init__(self, form: Format, clock: Clock) -> None:
        self._form = form
        self._clock = clock
        self._bare = {"accept": form.value}
        self._with_body = {"accept": form.value, "content-type": form.value}

    # ── enqueueing ───────────────────────────────────────────────────────────────────────────────────

    def enqueue(self, source: object, **options: Unpack[Options]) -> Call[Job]:
        """Enqueue one job: an instance of a kind, or a request."""
        body = request_for(source, **options).to_wire(self._form, self._clock.wall_ms())
        return self._call(operations.ENQUEUE, _read_job, body=body)

    def enqueue_raw(self, type: str, payload: Any, **options: Unpack[Options]) -> Call[Job]:
        """Enqueue one job by the name of its type."""
        try:
            request = Enqueue(type, payload, **options)
        except TypeError:
            # The same, with an error that says which option is wrong.
            request = Enqueue(type, payload).with_(**options)
        return self._call(operations.ENQUEUE, _read_job, body=request.to_wire(self._form, self._clock.wall_ms()))

    def enqueue_bulk(self, sources: Iterable[object]) -> Call[list[Job]]:
        """Enqueue many jobs, all or none."""
        now = self._clock.wall_ms()
        body = messages.EnqueueBulk([request_for(source).to_wire(self._form, now) for source in sources])
        return self._call(operations.ENQUEUE_BULK, _read_jobs, body=body)

    # ── single jobs ──────────────────────────────────────────────────────────────────────────────────

    def get_job(self, job_id: str) -> Call[Job]:
        """Read a job with its payload."""
        return self._call(operations.GET_JOB, _read_job, job_id)

    def delete_job(self, job_id: str) -> Call[None]:
        """Delete a job, whatever its status."""
        return self._call(operations.DELETE_JOB, _read_nothing, job_id)

    def list_errors(self, job_id: str, after: int | None, order: str, limit: int) -> Call[list[JobError]]:
        """Read a page of the errors of a job."""
        path = operations.LIST_ERRORS.at(_segment(job_id)) + f"?order={quote(order)}&limit={limit}"
        if after is not None:
            path += f"&from={after}"
        return Call(Request("GET", path, self._bare), operations.LIST_ERRORS.success, _read_errors)

    def get_error(self, job_id: str, attempt: int) -> Call[JobError]:
        """Read one error of a job."""
        return self._call(operations.GET_ERROR, _reading(JobError), job_id, attempt)

    # ── workers ──────────────────────────────────────────────────────────────────────────────────────

    def take(self, queues: str | Collection[str], prefetch: int, worker_id: str | None) -> TakeCall:
        """Open a stream of jobs.

        Raises:
            ConfigError: When `prefetch` or a queue's name is out of bounds.
        """
        if not 0 <= prefetch <= _MAX_PREFETCH:
            raise ConfigError(f"prefetch={prefetch} is out of range: give a number from 0 (no limit)")
        path = f"{operations.TAKE.path}?prefetch={prefetch}"
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
        return self._call(operations.SUCCEED, _read_nothing, job_id)

    def report_success_bulk(self, ids: Sequence[str]) -> Call[list[str]]:
        """Say that many jobs succeeded; the value is the ids that were not in flight."""
        return self._call(operations.SUCCEED_BULK, _read_not_found, body=messages.SuccessBulk(list(ids)))

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
        return self._call(operations.FAIL, _read_job, job_id, body=body)

    # ── the server ───────────────────────────────────────────────────────────────────────────────────

    def health(self) -> Call[str]:
        """Ask whether the server serves."""
        return self._call(operations.HEALTH, lambda answer: _read_health(answer).status)

    def version(self) -> Call[str]:
        """Ask for the version of the server."""
        return self._call(operations.VERSION, lambda answer: _read_version(answer).version)

    def queues(self) -> Call[list[str]]:
        """Ask for the names of the queues that hold jobs."""
        return self._call(operations.QUEUES, lambda answer: _read_queues(answer).queues)

    def reset(self) -> Call[None]:
        """Delete everything on the server."""
        return self._call(operations.RESET, _read_nothing)

    def _call(
        self, operation: Operation, value: Callable[[Response], R], *segments: str | int, body: object = None
    ) -> Call[R]:
        path = operation.at(*map(_segment, segments)) if segments else operation.path
        if body is None:
            return Call(Request(operation.method, path, self._bare), operation.success, value)
        request = Request(operation.method, path, self._with_body, self._encode(body))
        return Call(request, operation.success, value)

    def _encode(self, body: object) -> bytes:
        return encode(body, self._form)


def _segment(value: str | int) -> str | int:
    # An empty segment, or one of dots, would make the path that of another call.
    if value in ("", ".", ".."):
        raise ConfigError(f"{value!r} is no id")
    return value


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────

_readers = {form: JobReader(form) for form in Format}
_anything = Body[Any](object)


_forms = {form.value: form for form in Format}


def _form(answer: Response) -> Format:
    kind = answer.content_type or ""
    form = _forms.get(kind)
    if form is not None:
        return form
    # With parameters behind it, as a proxy may have put them there.
    if kind.startswith(Format.MSGPACK.value):
        return Format.MSGPACK
    if kind.startswith(Format.JSON.value):
        return Format.JSON
    raise DecodeError(f"the answer is {kind or 'of no type'}, neither JSON nor MessagePack: is this a zizq server?")


def _reading(shape: type[T]) -> Callable[[Response], T]:
    body = Body(shape)

    def read(answer: Response) -> T:
        try:
            return body.read(answer.body, _form(answer))
        except BadRequest as error:
            raise DecodeError(f"the answer cannot be read: {error}") from error

    return read


class _Errors(msgspec.Struct):
    errors: list[JobError]


_read_health = _reading(messages.Health)
_read_version = _reading(messages.Version)
_read_queues = _reading(messages.Queues)
_read_missing = _reading(messages.NotFoundIds)
_read_page = _reading(_Errors)


def _read_job(answer: Response) -> Job:
    return _readers[_form(answer)].one(answer.body)


def _read_jobs(answer: Response) -> list[Job]:
    return _readers[_form(answer)].many(answer.body)


def _read_errors(answer: Response) -> list[JobError]:
    return _read_page(answer).errors


def _read_nothing(answer: Response) -> None:
    return None


def _read_not_found(answer: Response) -> list[str]:
    if answer.status == 204:
        return []
    try:
        return _read_missing(answer).not_found
    except DecodeError:
        # A 422 of another kind, with the usual error body.
        raise_refusal(answer)
