"""Jobs and their errors as the application sees them: read straight from the wire, decoded as far as is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec.structs import force_setattr

from zizq import budget, policy
from zizq.client.budgets import Draw
from zizq.client.options import Backoff, Retention, instant_of, maybe_instant_of
from zizq.errors import DecodeError
from zizq.job import Batch
from zizq.wire.codec import Format, read_payload

_NO_RAW = msgspec.Raw()
_MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Job(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    gc=False,
    eq=False,
    rename={
        "raw_payload": "payload",
        "ready_at_ms": "ready_at",
        "dequeued_at_ms": "dequeued_at",
        "failed_at_ms": "failed_at",
        "completed_at_ms": "completed_at",
        "purge_at_ms": "purge_at",
        "backoff_sent": "backoff",
        "retention_sent": "retention",
        "budgets_sent": "budgets",
        "metadata_sent": "metadata",
        "frame": "python.frame",
        "format": "python.format",
    },
):
    """A job, as the server sent it; two of them are the same job when their `id` is the same.

    `status` is text that compares equal to `zizq.job.Status`, and stays text where a newer server has a status
    that this version does not know; so does `unique_while`. `attempts` counts the failures so far. `duplicate` and
    `folded` say what became of the enqueue that this job answers: where one of them is true, this is the job that
    was there before. `raw_payload` is the payload as it came, encoded in `format`, and empty where the server left
    it out.
    """

    id: str
    type: str
    queue: str
    priority: int
    status: str
    raw_payload: msgspec.Raw = _NO_RAW
    ready_at_ms: int
    attempts: int
    retry_limit: int | None = None
    backoff_sent: policy.Backoff | None = None
    dequeued_at_ms: int | None = None
    failed_at_ms: int | None = None
    retention_sent: policy.Retention | None = None
    purge_at_ms: int | None = None
    completed_at_ms: int | None = None
    unique_key: str | None = None
    unique_while: str | None = None
    duplicate: bool = False
    folded: bool = False
    batch: Batch | None = None
    budgets_sent: tuple[budget.Draw, ...] | None = None
    timeout_ms: int | None = None
    metadata_sent: dict[str, str] | None = None
    # These two do not travel: `JobReader` sets them, so that a payload is decoded only when it is asked for.
    frame: bytes = b""
    format: Format = Format.MSGPACK

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.type!r} queue={self.queue!r} {self.status} attempts={self.attempts}>"

    @property
    def payload(self) -> Any:
        """The payload as plain values, decoded anew at each access; None where the server left it out.

        Raises:
            DecodeError: When it is malformed.
        """
        return read_payload(self.raw_payload, self.format) if len(memoryview(self.raw_payload)) else None

    @property
    def ready_at(self) -> datetime:
        """When the job may run, or could first run."""
        return instant_of(self.ready_at_ms)

    @property
    def dequeued_at(self) -> datetime | None:
        """When a worker last took it."""
        return maybe_instant_of(self.dequeued_at_ms)

    @property
    def failed_at(self) -> datetime | None:
        """When it last failed."""
        return maybe_instant_of(self.failed_at_ms)

    @property
    def completed_at(self) -> datetime | None:
        """When it succeeded."""
        return maybe_instant_of(self.completed_at_ms)

    @property
    def purge_at(self) -> datetime | None:
        """When the server will forget it."""
        return maybe_instant_of(self.purge_at_ms)

    @property
    def backoff(self) -> Backoff | None:
        """Its own backoff; None where the server's default rules."""
        return None if self.backoff_sent is None else Backoff.from_wire(self.backoff_sent)

    @property
    def retention(self) -> Retention | None:
        """Its own retention; None where the server's default rules."""
        return None if self.retention_sent is None else Retention.from_wire(self.retention_sent)

    @property
    def budgets(self) -> tuple[Draw, ...]:
        """What it draws from budgets each time it is taken."""
        return tuple(Draw(draw.key, draw.cost) for draw in self.budgets_sent or ())

    @property
    def timeout(self) -> timedelta | None:
        """How long a worker may hold it; None where its take stream rules."""
        return None if self.timeout_ms is None else timedelta(milliseconds=self.timeout_ms)

    @property
    def metadata(self) -> Mapping[str, str]:
        """What its enqueue said of it to others than its handler."""
        return self.metadata_sent or {}

    @property
    def extra(self) -> dict[str, Any]:
        """Fields that a newer server sent and this version does not know."""
        if not self.frame:
            return {}
        return {name: value for name, value in read_payload(self.frame, self.format).items() if name not in _FIELDS}


_FIELDS = frozenset(field.encode_name for field in msgspec.structs.fields(Job))


class JobReader:
    """Reads jobs of one format.

    Args:
        form: The format of the bytes it will be fed.
    """

    def __init__(self, form: Format) -> None:
        self._form = form
        self._is_usual = form is Format.MSGPACK
        module = msgspec.json if form is Format.JSON else msgspec.msgpack
        self._decode = module.Decoder(Job).decode
        self._decode_many: Callable[[bytes], _Jobs] = module.Decoder(_Jobs).decode
        self._split: Callable[[bytes], _Frames] = module.Decoder(_Frames).decode

    def one(self, frame: bytes) -> Job:
        """The job in a frame or body.

        Raises:
            DecodeError: When the bytes are no job.
        """
        try:
            job: Job = self._decode(frame)
        except _MALFORMED as error:
            raise DecodeError(f"the server sent a job that cannot be read: {error}") from error
        force_setattr(job, "frame", frame)
        if not self._is_usual:
            force_setattr(job, "format", self._form)
        return job

    def many(self, body: bytes) -> list[Job]:
        """The jobs in the answer to a bulk enqueue, which has no payloads.

        Raises:
            DecodeError: When the bytes are no such answer.
        """
        try:
            # Twice, each in one go: less than to read one frame after the other.
            frames, jobs = self._split(body).jobs, self._decode_many(body).jobs
        except _MALFORMED as error:
            raise DecodeError(f"the server sent jobs that cannot be read: {error}") from error
        for job, frame in zip(jobs, frames, strict=True):
            force_setattr(job, "frame", bytes(frame))
            if not self._is_usual:
                force_setattr(job, "format", self._form)
        return jobs

    def each(self, frames: Iterable[msgspec.Raw]) -> list[Job]:
        """The jobs in the parts of a body.

        Raises:
            DecodeError: When one of them is no job.
        """
        return [self.one(bytes(frame)) for frame in frames]


class _Jobs(msgspec.Struct):
    jobs: list[Job]


class _Frames(msgspec.Struct):
    jobs: list[msgspec.Raw]


class JobError(
    msgspec.Struct, frozen=True, kw_only=True, rename={"dequeued_at_ms": "dequeued_at", "failed_at_ms": "failed_at"}
):
    """One failure of a job; `attempt` is 1 for its first."""

    attempt: int
    message: str
    error_type: str | None = None
    backtrace: str | None = None
    dequeued_at_ms: int
    failed_at_ms: int

    @property
    def dequeued_at(self) -> datetime:
        """When the worker that failed had taken the job."""
        return instant_of(self.dequeued_at_ms)

    @property
    def failed_at(self) -> datetime:
        """When it failed."""
        return instant_of(self.failed_at_ms)
