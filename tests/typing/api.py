"""The public API as typed code sees it; never run, only checked by `make check`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

import zizq


@zizq.job_kind("send_email", queue="emails", retry_limit=5, backoff=zizq.Backoff(base=10, exponent=2.0, jitter=5))
@dataclass
class SendEmail:
    to: str


router = zizq.Router(state={"smtp": "localhost"})


@router.route
async def send(job: SendEmail, ctx: zizq.Context) -> None:
    assert_type(job.to, str)
    assert_type(ctx.job, zizq.Job)


@router.route("legacy.type", executor="thread", timeout=10)
def legacy(job: zizq.Job) -> None:
    raise zizq.RetryLater(after=timedelta(minutes=1))


@router.fallback
async def other(job: zizq.Job) -> None:
    raise zizq.Cancel(f"nobody handles {job.type}")


async def middleware(job: zizq.Job, call_next: Callable[[zizq.Job], Awaitable[Any]]) -> Any:
    return await call_next(job)


async def use_async(client: zizq.Client) -> None:
    assert_type(await client.enqueue(SendEmail("a@b.c"), delay=timedelta(minutes=5), priority=10), zizq.Job)
    assert_type(await client.enqueue_raw("t", {"a": 1}, ready_at=datetime.now(UTC)), zizq.Job)
    assert_type(await client.enqueue_bulk([SendEmail("a@b.c")]), list[zizq.Job])
    async with client.take(queues=["emails"], prefetch=16) as stream:
        async for job in stream:
            assert_type(job, zizq.Job)
            await client.report_failure(job.id, ValueError("x"), retry_in=60)
    assert_type(await client.report_success_bulk(["x"]), list[str])
    worker = zizq.Worker(client, router, concurrency=25, prefetch=30, queues=["emails"], middleware=[middleware])
    assert_type(await worker.run(zizq.on_signals()), zizq.Summary)


def use_sync(client: zizq.SyncClient) -> None:
    assert_type(client.enqueue(SendEmail("a@b.c")), zizq.Job)
    with client.take() as stream:
        for job in stream:
            assert_type(job.attempts, int)
            client.report_success(job.id)
