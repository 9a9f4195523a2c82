"""What to enqueue: a job that does not exist yet, with everything a caller may say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict, Unpack

import msgspec

from zizq import job
from zizq.client.batch import Batch, RawBatch
from zizq.client.budgets import Draws, draws_of
from zizq.client.keys import Scope, check_scope
from zizq.client.options import Backoff, Duration, Retention, instant_ms, limit_ms, to_ms
from zizq.client.payload import plain_of
from zizq.errors import ConfigError
from zizq.wire import messages


class Options(TypedDict, total=False):
    """What may be said of a job when it is enqueued; `Enqueue` explains each."""

    queue: str
    priority: int | None
    ready_at: datetime | None
    delay: Duration | None
    retry_limit: int | None
    backoff: Backoff | None
    retention: Retention | None
    unique_key: str | None
    unique_while: Scope | None
    batch: Batch | RawBatch | None
    budgets: Draws | None
    timeout: Duration | None
    metadata: Mapping[str, str] | None


_OPTIONS = frozenset(Options.__annotations__)


class Enqueue(msgspec.Struct, frozen=True):
    """One job to enqueue.

    Args:
        type: The name that a worker routes by.
        payload: What the handler gets: whatever JSON can say, plus dataclasses, datetimes, UUIDs and their like.
        queue: The queue.
        priority: 0 to 65535, lower runs first; None is the server's default, 32768.
        ready_at: When it may run, as an aware datetime; None is now.
        delay: How long from now it may run, as a timedelta or in seconds; instead of `ready_at`.
        retry_limit: How many failures are retried; None is the server's default.
        backoff: How long it waits after a failure; None is the server's default.
        retention: How long it is kept when finished; None is the server's default.
        unique_key: While another job with this key is about, this one is a duplicate.
        unique_while: Until when it is one: `queued` (the default) is until the other is taken, `active` until it is
            completed or dead, `exists` until it is deleted.
        batch: How it is folded into a job that waits, or that into it; instead of `unique_key`.
        budgets: What it draws from budgets each time it is taken: a key, a pair of key and cost, a `Draw`, or several
            of these.
        timeout: How long a worker may hold it, as a timedelta or in seconds, from when it is handed out until it is
            reported; the server counts a failure then. None is what the worker says.
        metadata: Names and texts for others than its handler, such as what traces it: up to 32, and 4 KiB of them in
            all. Servers but ours drop it.
    """

    type: str
    payload: Any
    queue: str = "default"
    priority: int | None = None
    ready_at: datetime | None = None
    delay: Duration | None = None
    retry_limit: int | None = None
    backoff: Backoff | None = None
    retention: Retention | None = None
    unique_key: str | None = None
    unique_while: Scope | None = None
    batch: Batch | RawBatch | None = None
    budgets: Draws | None = None
    timeout: Duration | None = None
    metadata: Mapping[str, str] | None = None

    def with_(self, **overrides: Unpack[Options]) -> Enqueue:
        """The same request with some arguments changed.

        `delay` replaces `ready_at`, and the other way round; a `unique_key` of None clears `unique_while`.

        Raises:
            ConfigError: When an override is not in `Options`.
        """
        if not overrides:
            return self
        if not overrides.keys() <= _OPTIONS:
            unknown, choice = min(overrides.keys() - _OPTIONS), ", ".join(Options.__annotations__)
            raise ConfigError(f"unknown option {unknown!r}: choose from {choice}")
        if overrides.get("delay") is not None:
            overrides.setdefault("ready_at", None)
        if overrides.get("ready_at") is not None:
            overrides.setdefault("delay", None)
        if overrides.get("unique_key", "") is None:
            overrides.setdefault("unique_while", None)
        return msgspec.structs.replace(self, **overrides)

    @property
    def is_for_now(self) -> bool:
        """Whether it may run at once."""
        return self.ready_at is None and self.delay is None

    def to_wire(self, now_ms: int) -> messages.Enqueue:
        """The request as it is sent.

        Args:
            now_ms: The wall clock, which `delay` counts from.

        Raises:
            ConfigError: When `ready_at` is naive, or comes with `delay`; when `unique_while` comes without
                `unique_key`, or `unique_key` with `batch`; when one of the three has no such value; when `budgets`
                names something else, or a budget twice; when `timeout` is no duration, or none at all; when `metadata`
                is no mapping of texts.
            EncodeError: When the payload has no equivalent in JSON.
        """
        return self._wired(now_ms, plain_of(self.payload))

    def _wired(self, now_ms: int, plain: Any) -> messages.Enqueue:
        """The request as it is sent, with its payload as plain values: these are encoded with the rest, and not before
        it, which would be twice."""
        if self.unique_key is not None or self.unique_while is not None or self.batch is not None:
            self._check_company()
        return messages.Enqueue(
            type=self.type,
            queue=self.queue,
            payload=plain,
            priority=job.DEFAULT_PRIORITY if self.priority is None else self.priority,
            ready_at=None if self.is_for_now else later_ms(("ready_at", self.ready_at), ("delay", self.delay), now_ms),
            retry_limit=self.retry_limit,
            backoff=self.backoff.to_wire() if self.backoff else None,
            retention=self.retention.to_wire() if self.retention else None,
            unique_key=self.unique_key,
            unique_while=self.unique_while,
            batch=None if self.batch is None else _sent(self.batch, self.type, self.payload),
            budgets=None if self.budgets is None else [draw.to_wire() for draw in draws_of(self.budgets)] or None,
            timeout_ms=None if self.timeout is None else limit_ms("timeout", self.timeout),
            metadata=None if self.metadata is None else check_metadata(self.metadata),
        )

    def _check_company(self) -> None:
        """Hold what may keep it from becoming a job of its own to its rules."""
        if self.unique_key is not None and not isinstance(self.unique_key, str):
            remedy = "give the key itself; Unique(...).key_for(type, payload) makes one"
            raise ConfigError(f"unique_key={self.unique_key!r} is not text: {remedy}")
        if self.unique_while is not None:
            check_scope("unique_while", self.unique_while)
            if self.unique_key is None:
                raise ConfigError(f"unique_while={self.unique_while!r} needs a unique_key: give one, or neither")
        if self.batch is not None and not isinstance(self.batch, Batch | RawBatch):
            raise ConfigError(f"batch={self.batch!r} is no batch: give a zizq.Batch or zizq.RawBatch")
        if self.unique_key is not None and self.batch is not None:
            raise ConfigError(f"unique_key={self.unique_key!r} and batch exclude each other: set one of them to None")


def bulk_to_wire(requests: Sequence[Enqueue], now_ms: int) -> messages.EnqueueBulk:
    """Requests as they are sent together; the rest is as for `Enqueue.to_wire`.

    All payloads are made plain at once, in half the time that it takes one by one.
    """
    plain = plain_of([request.payload for request in requests])
    return messages.EnqueueBulk([one._wired(now_ms, payload) for one, payload in zip(requests, plain, strict=True)])


def check_metadata(metadata: Mapping[str, str]) -> dict[str, str] | None:
    """Metadata as it is sent; None where it is empty.

    Raises:
        ConfigError: When it is no mapping of texts.
    """
    if not isinstance(metadata, Mapping):
        raise ConfigError(f"metadata={metadata!r} is no mapping: give a dict of names and texts")
    for name, value in metadata.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise ConfigError(f"metadata: {name!r}: {value!r} is not a name and a text: both must be str")
    return dict(metadata) or None


def _sent(batch: Batch | RawBatch, type: str, payload: object) -> job.Batch:
    return job.Batch(batch.key_for(type, payload), batch.when, batch.fold)


def later_ms(at: tuple[str, datetime | None], after: tuple[str, Duration | None], now_ms: int) -> int | None:
    """The instant that a pair of arguments speaks of, or None where neither is given.

    Raises:
        ConfigError: When both are given, or one is wrong.
    """
    if at[1] is not None and after[1] is not None:
        raise ConfigError(f"{at[0]} and {after[0]} exclude each other: give one")
    if at[1] is not None:
        return instant_ms(at[0], at[1])
    return None if after[1] is None else now_ms + to_ms(after[0], after[1])
