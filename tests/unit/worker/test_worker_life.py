"""A worker from start to end, against a server held by hand."""

import asyncio
import signal
import threading

import pytest

from unit.worker.fakes import FakeClient, job, settle
from zizq.errors import ConfigError, Forbidden, ServerError, TransportError
from zizq.worker.options import Reconnect
from zizq.worker.route import current_job
from zizq.worker.shutdown import on_signals
from zizq.worker.worker import Worker

SOON = Reconnect(first=0.001, longest=0.001)


async def nothing(job):
    pass


class Blocking:
    """A handler that says when it starts, and ends when told."""

    def __init__(self):
        self.started = asyncio.Semaphore(0)
        self.go = asyncio.Event()
        self.runs = []

    async def handle(self, job):
        self.runs.append(job.id)
        self.started.release()
        await self.go.wait()


async def test_a_job_that_returns_is_acknowledged():
    client, one = FakeClient(), job()
    async with Worker(client, nothing) as worker:
        (await client.opened()).push(one)
        await client.until(lambda: client.acked)
    assert client.acked == [one.id]
    assert worker.summary.processed == 1


async def test_a_job_that_raises_is_failed_with_what_it_raised():
    async def broken(job):
        raise KeyError("who")

    client, one = FakeClient(), job()
    async with Worker(client, broken) as worker:
        (await client.opened()).push(one)
        await client.until(lambda: client.failed)
    failure = client.failed[0]
    assert (failure.id, failure.message, failure.error_type) == (one.id, "'who'", "KeyError")
    assert "in broken" in failure.backtrace
    assert worker.summary.failed == 1


async def test_concurrency_is_one_by_default_and_prefetch_is_concurrency():
    client, handler = FakeClient(), Blocking()
    async with Worker(client, handler):
        (await client.opened()).push(job(), job())
        await handler.started.acquire()
        assert len(handler.runs) == 1
        assert client.asked.prefetch == 1
        handler.go.set()
        await client.until(lambda: len(client.acked) == 2)


async def test_no_more_handlers_run_than_concurrency_allows():
    client, handler = FakeClient(), Blocking()
    async with Worker(client, handler, concurrency=3, prefetch=9):
        (await client.opened()).push(*[job() for _ in range(9)])
        for _ in range(3):
            await handler.started.acquire()
        await settle()
        assert len(handler.runs) == 3
        handler.go.set()
        await client.until(lambda: len(client.acked) == 9)


async def test_queues_and_worker_id_reach_the_server():
    client = FakeClient()
    async with Worker(client, nothing, concurrency=2, prefetch=5, queues=["a", "b"], worker_id="w1"):
        await client.opened()
    assert (client.asked.queues, client.asked.prefetch, client.asked.worker_id) == (["a", "b"], 5, "w1")
    assert (client.asked.concurrency, client.asked.job_timeout) == (2, None)


async def test_shutdown_waits_for_handlers_then_reports_then_closes():
    client, handler, stop = FakeClient(), Blocking(), asyncio.Event()
    run = asyncio.create_task(Worker(client, handler).run(stop))
    (await client.opened()).push(job())
    await handler.started.acquire()
    stop.set()
    await settle()
    assert "closed" not in client.log
    handler.go.set()
    summary = await run
    assert client.log[-2:] == ["acked", "closed"]
    assert summary.processed == 1


async def test_jobs_that_come_during_a_shutdown_are_not_started():
    client, handler, stop = FakeClient(), Blocking(), asyncio.Event()
    run = asyncio.create_task(Worker(client, handler, concurrency=2, prefetch=4).run(stop))
    (await client.opened()).push(job(), job())
    await handler.started.acquire()
    await handler.started.acquire()
    stop.set()
    await settle()
    client.stream.push(job())
    await settle()
    handler.go.set()
    assert (await run).processed == 2
    assert len(handler.runs) == 2


async def test_handlers_over_the_shutdown_timeout_are_cancelled_and_not_reported():
    client, handler, stop = FakeClient(), Blocking(), asyncio.Event()
    run = asyncio.create_task(Worker(client, handler, shutdown_timeout=0.01).run(stop))
    (await client.opened()).push(job())
    await handler.started.acquire()
    stop.set()
    summary = await run
    assert summary.abandoned == 1
    assert client.failed == client.acked == []


async def test_a_handler_that_will_not_be_cancelled_is_abandoned_once():
    started, go = asyncio.Event(), asyncio.Event()

    async def stubborn(job):
        started.set()
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                continue

    client, stop = FakeClient(), asyncio.Event()
    run = asyncio.create_task(Worker(client, stubborn, shutdown_timeout=0.01).run(stop))
    (await client.opened()).push(job())
    await started.wait()
    stop.set()
    assert (await run).abandoned == 1
    go.set()
    await settle()


async def test_kill_ends_at_once():
    client, handler = FakeClient(), Blocking()
    worker = Worker(client, handler, shutdown_timeout=None)
    run = asyncio.create_task(worker.run())
    (await client.opened()).push(job())
    await handler.started.acquire()
    worker.stop()
    await settle()
    worker.kill()
    assert (await run).abandoned == 1
    assert client.log[-1] == "closed"


async def test_a_cancelled_run_leaves_nothing_behind():
    client, handler = FakeClient(), Blocking()
    run = asyncio.create_task(Worker(client, handler).run())
    (await client.opened()).push(job())
    await handler.started.acquire()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("zizq")]
    assert client.log[-1] == "closed"


async def test_a_refused_stream_is_raised():
    client = FakeClient()
    client.take_answers.append(Forbidden(403, "no"))
    with pytest.raises(Forbidden):
        await Worker(client, nothing).run()


@pytest.mark.parametrize("error", [TransportError("gone"), ServerError(503, "later"), None])
async def test_a_lost_stream_is_opened_again(error):
    client, one = FakeClient(), job()
    async with Worker(client, nothing, reconnect=SOON):
        (await client.opened()).end(error)
        (await client.opened(2)).push(one)
        await client.until(lambda: client.acked)
    assert client.acked == [one.id]


async def test_too_many_requests_is_no_refusal():
    client = FakeClient()
    client.take_answers.append(Forbidden(429, "slow down"))
    async with Worker(client, nothing, reconnect=SOON):
        await client.opened()


async def test_without_reconnect_a_lost_stream_is_raised():
    client = FakeClient()
    run = asyncio.create_task(Worker(client, nothing, reconnect=False).run())
    (await client.opened()).end(TransportError("gone"))
    with pytest.raises(TransportError):
        await run


async def test_a_running_job_that_comes_again_is_not_started_twice():
    client, handler, one = FakeClient(), Blocking(), job()
    async with Worker(client, handler, concurrency=2, reconnect=SOON) as worker:
        (await client.opened()).push(one)
        await handler.started.acquire()
        client.stream.end(TransportError("gone"))
        (await client.opened(2)).push(one)
        other = job()
        client.stream.push(other)
        await handler.started.acquire()
        handler.go.set()
        await client.until(lambda: len(client.acked) == 2)
    assert handler.runs == [one.id, other.id]
    assert worker.summary.redelivered == 1


async def test_a_job_that_ends_while_the_stream_is_down_is_reported_once_it_has_come_again():
    client, handler, one = FakeClient(), Blocking(), job()
    async with Worker(client, handler, reconnect=SOON) as worker:
        (await client.opened()).push(one)
        await handler.started.acquire()
        client.stream.end(TransportError("gone"))
        await client.opened(2)
        handler.go.set()
        await settle()
        assert worker.summary.processed == 1
        assert client.ack_requests == []
        client.stream.push(one)
        await client.until(lambda: client.acked)
    assert handler.runs == client.acked == [one.id]
    assert worker.summary.redelivered == 1


async def test_a_failure_while_the_stream_is_down_waits_as_well():
    client, gate, one = FakeClient(), asyncio.Event(), job()

    async def handle(job):
        await gate.wait()
        raise ValueError(job.id)

    async with Worker(client, handle, reconnect=SOON) as worker:
        (await client.opened()).push(one)
        await settle()
        client.stream.end(TransportError("gone"))
        await client.opened(2)
        gate.set()
        await settle()
        assert worker.summary.failed == 1
        assert "nack asked" not in client.log
        client.stream.push(one)
        await client.until(lambda: client.failed)
    assert worker.summary.redelivered == 1


async def test_a_shutdown_while_the_stream_is_down_reports_at_once():
    client, handler, one = FakeClient(), Blocking(), job()
    async with Worker(client, handler, reconnect=Reconnect(first=60, longest=60)):
        (await client.opened()).push(one)
        await handler.started.acquire()
        client.stream.end(TransportError("gone"))
        await settle()
        handler.go.set()
        await settle()
        assert client.ack_requests == []
    assert client.acked == [one.id]


async def test_a_job_that_comes_again_while_it_waits_for_a_slot_is_not_run_twice_at_once():
    client, gate, runs, one = FakeClient(), asyncio.Semaphore(0), [], job()

    async def handle(job):
        runs.append(job.id)
        await gate.acquire()

    async with Worker(client, handle, concurrency=2, prefetch=5) as worker:
        # Both slots are taken; the server gives up on one that waits, and hands it out again.
        (await client.opened()).push(job(), job(), one, job(job_id=one.id, attempts=1))
        gate.release()
        gate.release()
        await client.until(lambda: worker.summary.redelivered == 1)
        gate.release()
        await client.until(lambda: len(client.acked) == 3)
    assert runs.count(one.id) == 1


async def test_a_finished_job_that_comes_again_before_its_report_is_out_is_reported_again_if_need_be():
    client, one = FakeClient(), job()
    runs = []

    async def handler(job):
        runs.append(job.id)

    client.ack_gate.clear()
    client.ack_answers.append([one.id])
    async with Worker(client, handler, reconnect=SOON):
        (await client.opened()).push(one)
        await client.until(lambda: "ack asked" in client.log)
        client.stream.end(TransportError("gone"))
        (await client.opened(2)).push(one)
        await settle()
        client.ack_gate.set()
        await client.until(lambda: client.acked == [one.id])
    assert runs == [one.id]
    assert client.ack_requests == [[one.id], [one.id]]


async def test_jobs_not_started_are_forgotten_when_the_stream_is_lost(monkeypatch):
    # The new stream brings nothing: after a moment what has finished is reported all the same.
    monkeypatch.setattr("zizq.worker.session._CLAIMED", 0.001)
    client, handler = FakeClient(), Blocking()
    first, second = job(), job()
    async with Worker(client, handler, concurrency=1, prefetch=2, reconnect=SOON):
        (await client.opened()).push(first, second)
        await handler.started.acquire()
        client.stream.end(TransportError("gone"))
        await client.opened(2)
        handler.go.set()
        await client.until(lambda: client.acked)
    assert handler.runs == [first.id]


async def test_acknowledgements_gather_while_a_request_is_under_way():
    client = FakeClient()
    client.ack_gate.clear()
    async with Worker(client, nothing, concurrency=10):
        (await client.opened()).push(job())
        await client.until(lambda: "ack asked" in client.log)
        for _ in range(5):
            client.stream.push(job())
        await settle()
        client.ack_gate.set()
        await client.until(lambda: len(client.acked) == 6)
    assert [len(one) for one in client.ack_requests] == [1, 5]


async def test_a_stuck_failure_does_not_hold_up_acknowledgements():
    async def handler(job):
        if job.type == "bad":
            raise ValueError("bad")

    client = FakeClient()
    client.nack_gate.clear()
    async with Worker(client, handler, concurrency=4):
        (await client.opened()).push(job("bad"))
        await client.until(lambda: "nack asked" in client.log)
        client.stream.push(job())
        await client.until(lambda: client.acked)
        client.nack_gate.set()


async def test_a_full_outbox_holds_up_the_handlers():
    client = FakeClient()
    client.ack_gate.clear()
    handler = Blocking()
    handler.go.set()
    async with Worker(client, handler, concurrency=1, prefetch=1):
        await client.opened()
        for _ in range(4):
            client.stream.push(job())
        await client.until(lambda: "ack asked" in client.log)
        await settle()
        assert len(handler.runs) == 2
        client.ack_gate.set()
        await client.until(lambda: len(client.acked) == 4)


@pytest.mark.parametrize("make", [asyncio.Event, threading.Event])
async def test_shutdown_takes_an_event_of_either_kind(make):
    client, event = FakeClient(), make()
    run = asyncio.create_task(Worker(client, nothing).run(event))
    await client.opened()
    event.set()
    await run


async def test_shutdown_takes_anything_to_await():
    client = FakeClient()
    asked = asyncio.get_running_loop().create_future()
    run = asyncio.create_task(Worker(client, nothing).run(asked))
    await client.opened()
    asked.set_result("whatever")
    await run


async def test_stop_works_from_another_thread_and_before_the_start():
    client = FakeClient()
    worker = Worker(client, nothing)
    run = asyncio.create_task(worker.run())
    await client.opened()
    await asyncio.to_thread(worker.stop)
    await run
    early = Worker(client, nothing)
    early.stop()
    await early.run()


async def test_a_cancellation_that_nobody_asked_for_is_a_failure():
    async def handler(job):
        if job.type == "self":
            asyncio.current_task().cancel()
            await asyncio.sleep(0)
        elif job.type == "raise":
            raise asyncio.CancelledError

    client = FakeClient()
    async with Worker(client, handler):
        (await client.opened()).push(job("self"), job("raise"), job("fine"))
        await client.until(lambda: len(client.failed) == 2 and client.acked)
    assert {one.error_type for one in client.failed} == {"asyncio.exceptions.CancelledError"}


async def test_slots_that_were_cancelled_while_idle_are_replaced():
    client = FakeClient()
    async with Worker(client, nothing):
        (await client.opened()).push(job())
        await client.until(lambda: client.acked)
        for task in asyncio.all_tasks():
            if task.get_name() == "zizq-slot":
                task.cancel()
        await settle()
        client.stream.push(job())
        await client.until(lambda: len(client.acked) == 2)


async def test_a_handler_that_exits_fails_its_job_and_shuts_down():
    def handler(job):
        raise SystemExit(3)

    client = FakeClient()
    run = asyncio.create_task(Worker(client, handler).run())
    (await client.opened()).push(job())
    summary = await run
    assert client.failed[0].error_type == "SystemExit"
    assert summary.failed == 1


async def test_a_worker_runs_once_and_takes_only_what_can_be_waited_for():
    with pytest.raises(ConfigError, match="shutdown=5"):
        await Worker(FakeClient(), nothing).run(5)
    worker = Worker(FakeClient(), nothing)
    worker.stop()
    await worker.run()
    with pytest.raises(RuntimeError, match="runs once"):
        await worker.run()


async def test_the_first_signal_drains_and_the_second_kills():
    client, handler = FakeClient(), Blocking()
    before = signal.getsignal(signal.SIGTERM)
    run = asyncio.create_task(Worker(client, handler, shutdown_timeout=None).run(on_signals()))
    (await client.opened()).push(job())
    await handler.started.acquire()
    signal.raise_signal(signal.SIGTERM)
    await asyncio.wait({run}, timeout=0.05)
    assert not run.done()
    signal.raise_signal(signal.SIGINT)
    assert (await run).abandoned == 1
    assert signal.getsignal(signal.SIGTERM) == before


async def test_current_job_is_the_one_of_the_handler_that_asks():
    seen = []

    async def handler(job):
        await asyncio.sleep(0)
        seen.append(current_job().id == job.id)

    client = FakeClient()
    async with Worker(client, handler, concurrency=4):
        (await client.opened()).push(*[job() for _ in range(8)])
        await client.until(lambda: len(client.acked) == 8)
    assert seen == [True] * 8


async def test_one_queue_may_be_given_by_its_name():
    client = FakeClient()
    async with Worker(client, nothing, queues="emails"):
        await client.opened()
        assert client.asked.queues == ["emails"]


def test_a_prefetch_below_concurrency_is_warned_of_and_kept():
    with pytest.warns(UserWarning, match="prefetch=1 is below concurrency=2"):
        Worker(FakeClient(), nothing, concurrency=2, prefetch=1)


@pytest.mark.parametrize("options", [{"concurrency": 0}, {"ack_max_batch": 0}, {"shutdown_timeout": -1}])
def test_options_out_of_range_are_errors(options):
    with pytest.raises(ValueError, match=r"must|negative"):
        Worker(FakeClient(), nothing, **options)
