"""The public API as typed code sees it; never run, only checked by `make check`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
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
    zizq.Client(tracing=True), zizq.SyncClient(tracing=zizq.Tracing(create_spans=False))
    assert_type((await client.enqueue_raw("t", None, metadata={"a": "b"})).metadata, Mapping[str, str])
    assert_type(await client.enqueue(SendEmail("a@b.c"), delay=timedelta(minutes=5), priority=10), zizq.Job)
    assert_type(await client.enqueue_raw("t", {"a": 1}, ready_at=datetime.now(UTC)), zizq.Job)
    assert_type(await client.enqueue_bulk([SendEmail("a@b.c")]), list[zizq.Job])
    async with client.take(queues=["emails"], prefetch=16) as stream:
        async for job in stream:
            assert_type(job, zizq.Job)
            await client.report_failure(job.id, ValueError("x"), retry_in=60)
    assert_type(await client.report_success_bulk(["x"]), list[str])
    query = client.jobs(
        queue="emails", status=[zizq.Status.DEAD, "ready"], type=[SendEmail, "legacy.type"], priority=(0, 100),
        ready_at=(datetime.now(UTC), None), attempts=(1, None), payload_contains={"to": "a@b.c"}, filter=".to",
    )  # fmt: skip
    assert_type(query, zizq.Query)
    assert_type(query.where(id={"x"}, payload=SendEmail("a@b.c")).order("desc").limit(5).page_size(10), zizq.Query)
    async for job in query:
        assert_type(job, zizq.Job)
    async for page in query.pages():
        assert_type(page, list[zizq.Job])
    assert_type(await query.count(), int)
    assert_type(await query.first(), zizq.Job | None)
    assert_type(await query.exists(), bool)
    assert_type(await query.update(all=True, queue="slow", ready_at=None, retry_limit=zizq.KEEP), int)
    assert_type((await query.retry(), await query.delete()), tuple[int, int])
    await query.update(queue=None)  # type: ignore[arg-type]
    client.jobs(priority=[0, 100])  # type: ignore[arg-type]
    client.jobs(queues="emails")  # type: ignore[call-arg]
    assert_type(await client.patch_job("x", priority=1, backoff=None, retention=zizq.KEEP), zizq.Job)
    assert_type(await client.retry_job("x"), zizq.Job)
    state = await client.queue("emails")
    assert_type((state.paused, state.paused_at, state.counts.ready), tuple[bool, datetime | None, int])
    assert_type(await client.queue_states(), list[zizq.QueueState])
    assert_type(await client.pause_queue("emails"), zizq.QueueState)
    assert_type(await client.release(["x"], stream="s"), list[str])
    async for error in client.job_errors("x", order="desc", limit=1):
        assert_type(error, zizq.JobError)
    worker = zizq.Worker(
        client, router, concurrency=25, prefetch=30, queues=["emails"], middleware=[middleware], job_timeout=60
    )
    assert_type(await worker.run(zizq.on_signals()), zizq.Summary)


def use_sync(client: zizq.SyncClient) -> None:
    assert_type(client.enqueue(SendEmail("a@b.c")), zizq.Job)
    with client.take() as stream:
        for job in stream:
            assert_type(job.attempts, int)
            client.report_success(job.id)
    assert_type(client.jobs(status="dead"), zizq.SyncQuery)
    for job in client.jobs(type=SendEmail).limit(5):
        assert_type(job, zizq.Job)
    assert_type([error.attempt for error in client.job_errors("x")], list[int])
    where: zizq.Where = {"queue": "emails"}
    changes: zizq.Changes = {"priority": 1}
    assert_type(client.jobs(**where).update(**changes), int)
