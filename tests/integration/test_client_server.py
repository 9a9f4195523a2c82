"""Both clients against a whole server."""

import asyncio
import inspect
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from zizq import (
    Backoff,
    Client,
    Enqueue,
    InvalidRequest,
    NotFound,
    Retention,
    Status,
    SyncClient,
    job_kind,
    kind_of,
)
from zizq.testing.clock import ManualClock
from zizq.testing.server import running_server


@job_kind("send", queue="emails", priority=5)
@dataclass
class Send:
    to: str


class InThreads:
    """A `SyncClient` with the face of a `Client`: each call runs in a thread."""

    def __init__(self, url: str, **options: object) -> None:
        self._client = SyncClient(url, **options)

    def __getattr__(self, name):
        method = getattr(self._client, name)

        async def call(*args, **options):
            return await asyncio.to_thread(method, *args, **options)

        return call

    async def job_errors(self, *args, **options):
        for error in await asyncio.to_thread(lambda: list(self._client.job_errors(*args, **options))):
            yield error

    @asynccontextmanager
    async def take(self, *args, **options):
        take = self._client.take(*args, **options)
        await asyncio.to_thread(take.__enter__)
        try:
            yield _InThread(take)
        finally:
            await asyncio.to_thread(take.__exit__, None, None, None)


class _InThread:
    def __init__(self, take):
        self._take = take

    def __aiter__(self):
        return self

    async def __anext__(self):
        job = await asyncio.to_thread(next, self._take, None)
        if job is None:
            raise StopAsyncIteration
        return job


CLIENTS = [(make, form) for make in (Client, InThreads) for form in ("msgpack", "json")]


@pytest.fixture(params=CLIENTS, ids=lambda param: f"{param[0].__name__}-{param[1]}")
def against(request):
    """Runs a coroutine function with a client of each make and format, and its server."""
    make, form = request.param

    def run(scenario, **settings):
        async def main():
            async with running_server(**settings) as server:
                client = make(server.url, format=form)
                try:
                    if len(inspect.signature(scenario).parameters) == 2:
                        return await scenario(client, server)
                    return await scenario(client)
                finally:
                    await client.close()

        return asyncio.run(asyncio.wait_for(main(), 30))

    return run


def test_a_job_goes_all_the_way_to_success(against):
    async def scenario(client):
        job = await client.enqueue(Send("a@b.c"))
        assert (job.type, job.queue, job.priority, job.status) == ("send", "emails", 5, Status.READY)
        assert (job.duplicate, job.folded, job.extra) == (False, False, {})
        async with client.take("emails") as jobs:
            async for taken in jobs:
                assert (taken.id, taken.status) == (job.id, Status.IN_FLIGHT)
                assert kind_of(Send).decode(taken.raw_payload, taken.format) == Send("a@b.c")
                assert taken.dequeued_at >= taken.ready_at.replace(microsecond=0)
                await client.report_success(taken.id)
                break
        with pytest.raises(NotFound, match="not found"):
            await client.get_job(job.id)
        with pytest.raises(NotFound):
            await client.report_success(job.id)

    against(scenario)


def test_every_option_of_an_enqueue_comes_back_as_it_was_given(against):
    async def scenario(client):
        when = datetime(2100, 1, 1, 12, 30, 15, 250_000, tzinfo=UTC)
        job = await client.enqueue_raw(
            "t", {"deep": [1, 2.5, None, "ü"]}, queue="q/ü", priority=1, ready_at=when, retry_limit=3,
            backoff=Backoff(base=1, exponent=4.1, jitter=2), retention=Retention(completed=10),
        )  # fmt: skip
        job = await client.get_job(job.id)
        assert (job.payload, job.queue, job.priority) == ({"deep": [1, 2.5, None, "ü"]}, "q/ü", 1)
        assert (job.status, job.ready_at, job.retry_limit) == (Status.SCHEDULED, when, 3)
        assert job.backoff == Backoff(timedelta(seconds=1), 4.1, timedelta(seconds=2))
        assert job.retention == Retention(completed=timedelta(seconds=10))
        assert await client.queues() == ["q/ü"]

    against(scenario)


def test_a_bulk_is_all_or_nothing_and_in_order(against):
    async def scenario(client):
        jobs = await client.enqueue_bulk([Send("a"), Send("b").with_(queue="x"), Enqueue("raw", None)])
        assert [(job.type, job.queue) for job in jobs] == [("send", "emails"), ("send", "x"), ("raw", "default")]
        assert [job.id for job in jobs] == sorted(job.id for job in jobs)
        with pytest.raises(InvalidRequest, match=r"jobs\[1\]"):
            await client.enqueue_bulk([Enqueue("ok", 1, queue="new"), Enqueue("", 1)])
        assert "new" not in await client.queues()
        await client.reset()
        assert await client.queues() == []

    against(scenario)


def test_failures_are_kept_as_errors_of_the_job(against):
    async def scenario(client):
        job = await client.enqueue_raw("t", 1)
        async with client.take() as jobs:
            async for taken in jobs:
                error = ValueError("boom") if taken.attempts == 0 else "killed"
                failed = await client.report_failure(taken.id, error, retry_in=0, kill=taken.attempts == 1)
                if failed.status == Status.DEAD:
                    break
        errors = [error async for error in client.job_errors(job.id)]
        assert [(error.attempt, error.message, error.error_type) for error in errors] == [
            (1, "boom", "ValueError"),
            (2, "killed", None),
        ]
        assert [error.attempt async for error in client.job_errors(job.id, order="desc", limit=1)] == [2]
        assert [error.attempt async for error in client.job_errors(job.id, after=1)] == [2]
        assert (await client.get_error(job.id, 1)).backtrace == "ValueError: boom\n"
        with pytest.raises(NotFound):
            await client.get_error(job.id, 3)
        await client.delete_job(job.id)
        with pytest.raises(NotFound):
            await anext(client.job_errors(job.id))

    against(scenario)


def test_success_in_bulk_names_the_ids_that_were_not_in_flight(against):
    async def scenario(client):
        await client.enqueue_bulk([Enqueue("t", number) for number in range(3)])
        async with client.take(prefetch=3) as jobs:
            ids = [(await anext(jobs)).id for _ in range(3)]
            assert await client.report_success_bulk([*ids, "zzz"]) == ["zzz"]
        assert await client.queues() == []

    against(scenario)


def test_leaving_a_take_gives_the_jobs_back(against):
    async def scenario(client):
        job = await client.enqueue_raw("t", 1)
        for _ in range(2):
            async with client.take() as jobs:
                taken = await anext(jobs)
                assert (taken.id, taken.attempts) == (job.id, 0)

    # The client closes at once, test_client_network says so; the server surely sees it at its next heartbeat.
    against(scenario, heartbeat_interval=20)


def test_health_version_and_the_servers_refusals(against):
    async def scenario(client):
        assert await client.health() == "ok"
        assert (await client.version()).count(".") == 2
        with pytest.raises(InvalidRequest, match="400: "):
            await client.enqueue_raw("", 1)
        with pytest.raises(InvalidRequest, match="400: "):
            await client.enqueue_raw("t", 1, priority=70_000)

    against(scenario)


def test_a_delay_counts_from_the_clock_of_the_client():
    async def main():
        async with running_server(clock=ManualClock()) as server, Client(server.url, clock=ManualClock()) as client:
            job = await client.enqueue_raw("t", 1, delay=timedelta(minutes=1))
            assert job.ready_at_ms == ManualClock().wall_ms() + 60_000

    asyncio.run(main())


def test_a_server_that_stops_ends_the_iteration_in_good_order():
    async def main():
        async with running_server() as server:
            client = Client(server.url)
            take = client.take()
            jobs = await take.__aenter__()
        assert [job async for job in jobs] == []
        await take.__aexit__(None, None, None)
        await client.close()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_one_synchronous_client_serves_many_threads():
    async def main():
        async with running_server() as server:
            with SyncClient(server.url) as client:
                jobs = await asyncio.gather(
                    *[asyncio.to_thread(client.enqueue_raw, "t", number) for number in range(50)]
                )
                assert len({job.id for job in jobs}) == 50

    asyncio.run(main())


@pytest.mark.parametrize("form", ["msgpack", "json"])
def test_many_callers_of_one_client_have_each_its_own_answer(form):
    async def main():
        async with running_server() as server, Client(server.url, format=form) as client:
            asked = [Enqueue("t", {"n": number}, queue=f"q{number % 3}") for number in range(300)]
            asked[50] = Enqueue("t", 1, queue="a,b")
            asked[60:65] = [Enqueue("t", 1, queue="keyed", unique_key="one")] * 5
            found = await asyncio.gather(*map(client.enqueue, asked), return_exceptions=True)
            assert isinstance(found[50], InvalidRequest)
            assert str(found[50]) == "400: queue must not contain ','"
            keyed = found[60:65]
            assert len({job.id for job in keyed}) == 1
            assert sorted(job.duplicate for job in keyed) == [False, True, True, True, True]
            for number in {*range(300)} - {50, *range(60, 65)}:
                job = await client.get_job(found[number].id)
                assert (job.payload, job.queue) == ({"n": number}, f"q{number % 3}")
            assert await client.jobs().count() == 295
            # A hundred for the sake of the one that was refused.
            assert server.app.asgi.requests["POST", 2] < 110

    asyncio.run(main())
