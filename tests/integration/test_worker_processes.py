"""Handlers in real processes."""

import asyncio
import os

from unit.worker import handlers
from unit.worker.fakes import FakeClient, job
from zizq.worker.router import Router
from zizq.worker.worker import Worker


def routed(name, handler, **options):
    router = Router()
    router.route(name, executor="process", **options)(handler)
    return router


async def reports(router, *jobs, **options):
    client = FakeClient()
    async with Worker(client, router, **options):
        (await client.opened()).push(*jobs)
        await client.until(lambda: len(client.acked) + len(client.failed) == len(jobs))
    return client


async def test_a_handler_in_a_process_gets_its_kind_and_context_and_tells_what_it_raised():
    router = Router(state="here")
    router.route(executor="process")(handlers.greet)
    client = await reports(router, job("greet", {"name": "Ada"}, attempts=1))
    failure = client.failed[0]
    assert failure.message == "Ada 2 greet True ConfigError"
    assert failure.error_type == "ValueError"
    assert "in greet" in failure.backtrace


async def test_a_process_that_dies_fails_its_job_and_is_replaced():
    router = routed("die", handlers.die)
    router.route("fine", executor="process")(handlers.fine)
    client = await reports(router, job("die"), job("fine"), job("die"), job("fine"))
    assert [one.error_type for one in client.failed] == ["zizq.errors.HandlerDied"] * 2
    assert "exit code 7" in client.failed[0].message
    assert len(client.acked) == 2


async def test_an_exit_or_a_cancel_in_a_process_is_a_report_like_any_other():
    router = routed("leave", handlers.leave)
    router.route("give up", executor="process")(handlers.give_up)
    client = await reports(router, job("leave"), job("give up"))
    assert [(one.message, one.kill) for one in client.failed] == [("4", False), ("enough", True)]


async def test_a_process_over_its_timeout_is_killed():
    client = await reports(routed("hang", handlers.hang, timeout=1), job("hang"))
    assert client.failed[0].error_type == "zizq.errors.HandlerTimeout"


async def test_a_process_at_work_does_not_outlive_its_worker():
    client = FakeClient()
    worker = Worker(client, routed("hang", handlers.hang), shutdown_timeout=0.1)
    run = asyncio.create_task(worker.run())
    (await client.opened()).push(job("hang"))
    processes = None
    while not (processes and processes._busy):
        await asyncio.sleep(0.01)
        processes = worker._executors._processes
    pid = next(iter(processes._busy))._process.pid
    worker.stop()
    assert (await run).abandoned == 1
    assert client.failed == []
    while _lives(pid):  # noqa: ASYNC110 - the death of a process makes no event here
        await asyncio.sleep(0.01)


def _lives(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
