"""One API call without any I/O: what to send, and what the answer means.

A call is a request and a parser. The clients send the one and feed the answer to the other; nothing here knows
whether that is done by a coroutine or by a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, suppress
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar

import msgspec

from zizq.client.job import Job, JobReader
from zizq.client.payload import encode_body
from zizq.errors import BadRequest, ConfigError, DecodeError, ResponseError
from zizq.wire.codec import Body, Format
from zizq.wire.faults import error_for
from zizq.wire.framing import StreamFormat
from zizq.wire.operations import Operation

T = TypeVar("T")
R = TypeVar("R")
_MAX_QUERY = 60_000  # characters; the server takes 64 KiB for the first line of a request and its headers
_MAX_ERROR_TEXT = 500  # characters of an answer that is not ours, such as a proxy's page


class Request(msgspec.Struct, frozen=True):
    """What to send; `path` starts with a slash and may have a query.

    One that `joins` enqueues a job, which may go with others in a request (`joining`).
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None = None
    joins: bool = False


class Response(msgspec.Struct, frozen=True):
    """What came back; the content type is None where the server sent none, and so is when to come again, in seconds."""

    status: int
    content_type: str | None
    body: bytes
    retry_after: float | None = None


class Call(msgspec.Struct, Generic[T], frozen=True):
    """One API call.

    Args:
        request: What to send.
        success: The statuses that mean it was done.
        value: What the answer means, when it is a success.
        span: The block to make it in, where it is traced: it gives a function to pass the value through.
    """

    request: Request
    success: Collection[int]
    value: Callable[[Response], T]
    span: AbstractContextManager[Callable[[T], T]] | None = None

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


class CallMaker:
    """Makes calls in one format.

    Args:
        form: The format of bodies, in both directions.
    """

    def __init__(self, form: Format) -> None:
        self._form = form
        self._bare = {"accept": form.value}
        self._with_body = {"accept": form.value, "content-type": form.value}

    def _call(
        self,
        operation: Operation,
        value: Callable[[Response], R],
        *segments: str | int,
        query: str = "",
        body: object = None,
        joins: bool = False,
    ) -> Call[R]:
        path = operation.at(*map(_segment, segments)) if segments else operation.path
        if query:
            path = f"{path}?{_short(query)}"
        if body is None:
            return Call(Request(operation.method, path, self._bare), operation.answers, value)
        request = Request(operation.method, path, self._with_body, encode_body(body, self._form), joins)
        return Call(request, operation.answers, value)


def _short(query: str) -> str:
    if len(query) > _MAX_QUERY:
        raise ConfigError(f"the conditions have {len(query)} characters, and a request {_MAX_QUERY}: name fewer jobs")
    return query


def _segment(value: str | int) -> str | int:
    # An empty segment, or one of dots, would make the path that of another call.
    if value in ("", ".", ".."):
        raise ConfigError(f"{value!r} is no id and no name")
    if not isinstance(value, str | int):
        raise ConfigError(f"{value!r} is no id and no name: give text")
    return value


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────

_readers = {form: JobReader(form) for form in Format}
_anything = Body[Any](object)
_forms = {form.value: form for form in Format}


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
    raise error(answer.status, text, body, answer.retry_after)


def reading(shape: type[T]) -> Callable[[Response], T]:
    """What reads an answer of one type.

    It raises DecodeError where the answer cannot be read.
    """
    body = Body(shape)

    def read(answer: Response) -> T:
        try:
            return body.read(answer.body, _form(answer))
        except BadRequest as error:
            raise DecodeError(f"the answer cannot be read: {error}") from error

    return read


def read_nothing(answer: Response) -> None:
    """What an answer without a body means."""


def job_reader(answer: Response) -> JobReader:
    """What reads the jobs in an answer.

    Raises:
        DecodeError: When the answer is in no format of ours.
    """
    return _readers[_form(answer)]


def read_job(answer: Response) -> Job:
    """The job in an answer.

    Raises:
        DecodeError: When it cannot be read.
    """
    return _readers[_form(answer)].one(answer.body)


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
