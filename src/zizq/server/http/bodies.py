"""Bodies: from what a request says to what the engine takes, and from a new job to its answer. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from zizq.budget import Budget, Draw
from zizq.engine import admit, budgets
from zizq.engine.budgets import BudgetPatch, CreateWith, DrawRequest, StrategyPatch
from zizq.engine.changes import Patch, RetentionPatch, check_patch
from zizq.errors import BadRequest
from zizq.job import Failure, JobRecord
from zizq.policy import MAX_MILLIS, Backoff, Retention
from zizq.wire import codec
from zizq.wire.codec import Format
from zizq.wire.messages import (
    MAX_U64,
    BackoffBody,
    BudgetBody,
    BudgetPatchBody,
    DrawBody,
    Enqueue,
    Enqueued,
    FailureBody,
    PatchBody,
    RetentionBody,
    RetentionPatchBody,
    StrategyPatchBody,
)

Ids = Callable[[int], list[str]]
"""Makes so many identifiers."""


def new_job(job_id: str, now: int, body: Enqueue, form: Format, stored: msgspec.Raw | None = None) -> JobRecord:
    """The job that an enqueue asks for.

    Args:
        job_id: Its identifier.
        now: The wall clock, in milliseconds.
        body: What is asked for.
        form: The format of the payload in it.
        stored: The payload in its stored form, where that was made already.

    Raises:
        BadRequest: When it breaks a rule of protocol.md#2.2.
        Unprocessable: When what it draws breaks a rule of protocol.md#8.3.
    """
    admit.check(body.type, body.queue)
    if body.unique_key is not None or body.unique_while is not None or body.batch is not None:
        admit.check_options(body.unique_key, body.unique_while, body.batch)
    if body.metadata:
        admit.check_metadata(body.metadata)
    return admit.new_job(
        job_id,
        now,
        type=body.type,
        queue=body.queue,
        payload=codec.payload_to_store(body.payload, form) if stored is None else stored,
        priority=body.priority,
        ready_at=_instant("ready_at", body.ready_at) if body.ready_at is not None else None,
        retry_limit=body.retry_limit,
        backoff=_backoff(body.backoff) if body.backoff else None,
        retention=_retention(body.retention) if body.retention else None,
        unique_key=body.unique_key,
        unique_while=body.unique_while,
        batch=body.batch,
        budgets=draws(body.budgets) if body.budgets else None,
        timeout_ms=_instant("timeout_ms", body.timeout_ms) if body.timeout_ms is not None else None,
        metadata=body.metadata,
    )


def has_options(one: Enqueue) -> bool:
    """Whether anything is asked for but type, queue, priority and payload."""
    return (
        one.ready_at is not None or one.retry_limit is not None or one.backoff is not None
        or one.retention is not None or one.unique_key is not None or one.unique_while is not None
        or one.batch is not None or one.budgets is not None or one.timeout_ms is not None or one.metadata is not None
    )  # fmt: skip


def plain_jobs(ids: Ids, now: int, asked: Sequence[Enqueue], form: Format, most: int) -> list[JobRecord] | None:
    """The jobs that enqueues ask for, where none has options: what `new_job` makes of each, by loops that call nothing
    of ours for each.

    Args:
        ids: Makes identifiers.
        now: The wall clock, in milliseconds.
        asked: What is asked for.
        form: The format of the payloads in it.
        most: The bytes that all payloads may have together.

    Returns:
        None where one has options, payloads are too large, or a rule is broken.
    """
    raws = [one.payload for one in asked]
    if any(map(has_options, asked)) or sum(map(len, raws)) > most:
        return None
    try:
        for type, queue in {(one.type, one.queue) for one in asked}:
            admit.check(type, queue)
        payloads = codec.payloads_to_store(raws, form)
    except BadRequest:
        return None
    return admit.plain_jobs(ids(len(asked)), now, asked, payloads)


def enqueued(job: JobRecord, stands: JobRecord, *, hide: bool = False) -> Enqueued:
    """The answer to an enqueue of a job that has a key or draws on budgets.

    Args:
        job: The job that was asked for.
        stands: Itself, or the job that stands for it: one with its unique key, or one that it was folded into.
        hide: Whether that one is not to be shown: the job that was asked for is shown in its place.
    """
    fields = msgspec.structs.asdict(job if hide else stands) | {"payload": None}
    other = stands.id != job.id
    return Enqueued(**fields, duplicate=other and job.batch is None, folded=other and job.batch is not None)


def enqueued_plain(job: JobRecord) -> Enqueued:
    """The answer to an enqueue of any other job."""
    return Enqueued(
        id=job.id,
        type=job.type,
        queue=job.queue,
        priority=job.priority,
        status=job.status,
        ready_at=job.ready_at,
        attempts=job.attempts,
        retry_limit=job.retry_limit,
        backoff=job.backoff,
        retention=job.retention,
        timeout_ms=job.timeout_ms,
        metadata=job.metadata,
        duplicate=False,
        folded=False,
    )


def draws(asked: Iterable[DrawBody]) -> tuple[Draw, ...]:
    """What a job is to draw from budgets.

    Raises:
        BadRequest: When a number is out of range.
        Unprocessable: When it breaks a rule of protocol.md#8.3.
    """
    return budgets.check_draws(
        DrawRequest(one.key, one.cost, None if one.create_with is None else policy(one.create_with), one.bucket)
        for one in asked
    )


def creations(asked: Iterable[DrawBody], now: int) -> dict[str, Budget]:
    """The budgets that draws bring along; of several for one key the first counts (protocol.md#8.3).

    Args:
        asked: Draws that have passed `draws`.
        now: The wall clock, in milliseconds.
    """
    found: dict[str, Budget] = {}
    for one in asked:
        if one.create_with is not None and one.key not in found:
            wanted = policy(one.create_with)
            found[one.key] = budgets.new_budget(one.key, wanted.allocation, wanted.strategy, now)
    return found


def policy(body: BudgetBody) -> CreateWith:
    """What a budget is to be like.

    Raises:
        BadRequest: When a number is out of range.
        Unprocessable: When its strategy breaks a rule of protocol.md#8.1.
    """
    duration_ms = _instant("strategy.duration_ms", body.strategy.duration_ms)
    strategy = budgets.checked_strategy(body.strategy.type, duration_ms, body.strategy.burst)
    return CreateWith(body.allocation, strategy)


def budget_patch(body: BudgetPatchBody) -> BudgetPatch:
    """The changes that a patch of a budget asks for.

    Raises:
        BadRequest: When a number is out of range.
    """
    given = body.strategy
    return BudgetPatch(
        allocation=body.allocation,
        strategy=_strategy_patch(given) if isinstance(given, StrategyPatchBody) else given,
    )


def failure(body: FailureBody) -> Failure:
    """The failure that a worker reports.

    Raises:
        BadRequest: When `retry_at` is out of range.
    """
    return Failure(
        message=body.message,
        error_type=body.error_type,
        backtrace=body.backtrace,
        retry_at=_instant("retry_at", body.retry_at),
        kill=bool(body.kill),
    )


def patch(body: PatchBody) -> Patch:
    """The changes that a patch asks for.

    Raises:
        BadRequest: When a number is out of range.
        Unprocessable: When it breaks a rule of protocol.md#2.9.
    """
    change = Patch(
        queue=_given(body.queue),
        priority=_given(body.priority),
        ready_at=_instant("ready_at", body.ready_at),
        retry_limit=body.retry_limit,
        backoff=_backoff(body.backoff) if isinstance(body.backoff, BackoffBody) else body.backoff,
        retention=_retention_patch(body.retention)
        if isinstance(body.retention, RetentionPatchBody)
        else body.retention,
        timeout_ms=_instant("timeout_ms", body.timeout_ms),
    )
    check_patch(body.queue, body.priority)
    return change


def _backoff(body: BackoffBody) -> Backoff:
    return admit.checked_backoff(body.exponent, body.base_ms, body.jitter_ms)


def _retention(body: RetentionBody) -> Retention:
    return Retention(
        completed_ms=_instant("retention.completed_ms", body.completed_ms),
        dead_ms=_instant("retention.dead_ms", body.dead_ms),
    )


def _retention_patch(body: RetentionPatchBody) -> RetentionPatch:
    return RetentionPatch(
        completed_ms=_instant("retention.completed_ms", body.completed_ms),
        dead_ms=_instant("retention.dead_ms", body.dead_ms),
    )


def _strategy_patch(body: StrategyPatchBody) -> StrategyPatch:
    duration_ms = _instant("strategy.duration_ms", body.duration_ms)
    return StrategyPatch(type=body.type, duration_ms=duration_ms, burst=body.burst)


Value = TypeVar("Value", str, int)
Instant = TypeVar("Instant", int | None, int | UnsetType | None)


def _given(value: Value | UnsetType | None) -> Value | UnsetType:
    """The value of a member that cannot be cleared; `check_patch` refuses None."""
    return UNSET if value is None else value


def _instant(field: str, value: Instant) -> Instant:
    """Milliseconds of 64 bits; those beyond what is stored stand for the end of time."""
    if not isinstance(value, int):
        return value
    if value > MAX_U64:
        raise BadRequest(f"{field} {value} is out of range: at most {MAX_U64}")
    return min(value, MAX_MILLIS)
