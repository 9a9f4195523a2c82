"""Queries of both clients against a whole server."""

import asyncio
import inspect
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from zizq import (
    KEEP,
    Backoff,
    Client,
    ConfigError,
    Enqueue,
    InvalidRequest,
    NotFound,
    Query,
    Retention,
    Status,
    SyncClient,
    job_kind,
)
from zizq.testing.clock import ManualClock
from zizq.testing.server import running_server

NOW = datetime.fromtimestamp(ManualClock().wall_ms() / 1000, UTC)
HOUR = timedelta(hours=1)


@job_kind("send", queue="emails")
@dataclass
class Send:
    to: str
    tags: tuple[str, ...] = ()


class Awaited:
    """A `Client` or `Query` with the face of its twin for threads: what it returns is awaited on the loop."""

    def __init__(self, inner, loop):
        self._inner = inner
        self._loop = loop

    def __getattr__(self, name):
        return lambda *args, **options: self._resolved(getattr(self._inner, name)(*args, **options))

    def __iter__(self):
        return iter(self._resolved(aiter(self._inner)))

    def _resolved(self, value):
        if isinstance(value, Query):
            return Awaited(value, self._loop)
        if inspect.isasyncgen(value):
            value = collect(value)
        if inspect.isawaitable(value):
            return asyncio.run_coroutine_threadsafe(value, self._loop).result(20)
        return value


async def collect(iterator):
    return [item async for item in iterator]


@pytest.fixture(params=[(make, form) for make in (Client, SyncClient) for form in ("msgpack", "json")],
                ids=lambda param: f"{param[0].__name__}-{param[1]}")  # fmt: skip
def against(request):
    """Runs a function in a thread, with a client of each make and format, and a server whose clock stands still."""
    make, form = request.param

    async def main(scenario):
        async with running_server(clock=ManualClock()) as server:
            client = make(server.url, format=form)
            face = Awaited(client, asyncio.get_running_loop()) if make is Client else client
            await asyncio.to_thread(scenario, face)
            closing = client.close()
            if closing is not None:
                await closing

    return lambda scenario: asyncio.run(asyncio.wait_for(main(scenario), 30))


def numbers(query):
    return [job.payload["n"] for job in query]


def enqueue(client, count, **options):
    return client.enqueue_bulk([Enqueue("t", {"n": n}, **options) for n in range(count)])


def kill(client, job):
    """Let a ready job die; there must be no other in its queue."""

    url = client.url if isinstance(client, SyncClient) else client._inner.url
    with SyncClient(url) as own, own.take(job.queue) as jobs:
        own.report_failure(next(jobs).id, ValueError("boom"), kill=True)


def test_every_page_is_read_in_both_directions(against):
    def scenario(client):
        enqueue(client, 25)
        assert numbers(client.jobs().page_size(10)) == list(range(25))
        assert numbers(client.jobs().page_size(10).order("desc").limit(12)) == list(range(24, 12, -1))
        assert [len(jobs) for jobs in client.jobs().page_size(10).limit(24).pages()] == [10, 10, 4]
        job = client.jobs().first()
        assert (job.type, job.status, job.payload, job.ready_at) == ("t", Status.READY, {"n": 0}, NOW)

    against(scenario)


def test_each_condition_chooses(against):
    def scenario(client):
        client.enqueue_bulk(
            [
                Send("a@b.c", ("x", "y")),
                Send("d@e.f").with_(queue="other", priority=5),
                Enqueue("raw", ["user", 42, "more"], queue="ü &=#%+", ready_at=NOW + HOUR),
                Enqueue("raw", None),
            ]
        )
        found = {
            "kind": client.jobs(type=Send),
            "several": client.jobs(queue=["other", "emails"]),
            "escaped": client.jobs(queue="ü &=#%+"),
            "status": client.jobs(status=[Status.SCHEDULED, "dead"]),
            "priority": client.jobs(priority=(None, 5)),
            "ready_at": client.jobs(ready_at=(NOW + timedelta(milliseconds=1), None)),
            "exactly": client.jobs(ready_at=NOW),
            "attempts": client.jobs(attempts=0),
            "payload": client.jobs(payload=Send("d@e.f")),
            "null": client.jobs(payload=None),
            "contains": client.jobs(payload_contains={"tags": ["y"]}),
            "prefix": client.jobs(payload_contains=["user", 42]),
            "filter": client.jobs(filter='.to | test("^d") # by address', payload_contains={"to": "e.f"}),
            "both": client.jobs(type="send").where(queue="other"),
            "replaced": client.jobs(queue="emails").where(queue="other"),
        }
        assert {name: query.count() for name, query in found.items()} == {
            "kind": 2, "several": 2, "escaped": 1, "status": 1, "priority": 1, "ready_at": 1, "exactly": 3,
            "attempts": 4, "payload": 1, "null": 1, "contains": 1, "prefix": 1, "filter": 1, "both": 1, "replaced": 1,
        }  # fmt: skip
        assert {name: len(list(query)) for name, query in found.items()} == {
            name: query.count() for name, query in found.items()
        }
        assert client.jobs(id=[job.id for job in found["kind"]], queue="other").first().priority == 5

    against(scenario)


def test_an_empty_collection_never_means_every_job(against):
    def scenario(client):
        enqueue(client, 3)
        for query in (client.jobs(id=[]), client.jobs(queue=()), client.jobs(status=set()), client.jobs(type=[])):
            assert (list(query), query.count(), query.exists()) == ([], 0, False)
            assert (query.delete(), query.update(priority=1), query.retry(), query.delete(all=True)) == (0, 0, 0, 0)
        with pytest.raises(ConfigError, match="all=True"):
            client.jobs().delete()
        assert client.jobs(priority=32_768).count() == 3

    against(scenario)


def test_jobs_are_updated_together(against):
    def scenario(client):
        enqueue(client, 3, queue="a", ready_at=NOW + HOUR, retry_limit=3, priority=9)
        enqueue(client, 2, queue="b")
        assert client.jobs(queue="a").update(queue="b", ready_at=None, retry_limit=None, priority=KEEP) == 3
        moved = list(client.jobs(queue="b", priority=9))
        assert [(job.status, job.retry_limit, job.ready_at) for job in moved] == [(Status.READY, None, NOW)] * 3
        assert client.jobs().update(all=True, ready_at=NOW + HOUR, backoff=Backoff(1, 2, 3)) == 5
        assert client.jobs(status="scheduled").first().backoff == Backoff(
            timedelta(seconds=1), 2.0, timedelta(seconds=3)
        )
        with pytest.raises(InvalidRequest, match="dead"):
            client.jobs(status="dead").update(priority=1)

    against(scenario)


def test_a_limit_changes_the_first_jobs_alone(against):
    def scenario(client):
        enqueue(client, 7)
        assert client.jobs(queue="default").limit(5).page_size(2).update(priority=1) == 5
        assert numbers(client.jobs(priority=1)) == [0, 1, 2, 3, 4]
        assert client.jobs().order("desc").limit(3).delete(all=True) == 3
        assert numbers(client.jobs()) == [0, 1, 2, 3]

    against(scenario)


def test_dead_jobs_are_retried_and_others_left_alone(against):
    def scenario(client):
        [dead] = enqueue(client, 1)
        kill(client, dead)
        enqueue(client, 2)
        assert client.jobs().retry(all=True) == 1
        job = client.get_job(dead.id)
        assert (job.status, job.attempts, job.failed_at) == (Status.READY, 0, NOW)
        assert list(client.job_errors(dead.id)) == []
        assert client.jobs(status="dead").retry() == 0

    against(scenario)


def test_one_job_is_patched_and_retried(against):
    def scenario(client):
        [job] = enqueue(client, 1)
        kill(client, job)
        with pytest.raises(InvalidRequest, match="cannot patch job"):
            client.patch_job(job.id, priority=1)
        assert client.retry_job(job.id).status == Status.READY
        with pytest.raises(InvalidRequest, match="cannot retry job"):
            client.retry_job(job.id)
        patched = client.patch_job(job.id, retention=Retention(completed=60), ready_at=NOW + HOUR)
        assert (patched.status, patched.retention) == (Status.SCHEDULED, Retention(completed=timedelta(minutes=1)))
        patched = client.patch_job(job.id, retention=Retention(dead=5), queue=KEEP)
        assert patched.retention == Retention(timedelta(minutes=1), timedelta(seconds=5))
        assert client.patch_job(job.id, retention=None).retention is None
        with pytest.raises(NotFound):
            client.patch_job("zzz", priority=1)
        with pytest.raises(NotFound):
            client.retry_job("zzz")

    against(scenario)


def test_jobs_are_deleted_together(against):
    def scenario(client):
        enqueue(client, 3, queue="a")
        enqueue(client, 2, queue="b")
        assert client.jobs(queue="a", filter=".n > 0").delete() == 2
        assert client.jobs(queue="a").delete() == 1
        assert client.jobs().delete(all=True) == 2
        assert client.jobs().count() == 0

    against(scenario)


def test_a_filter_that_is_no_jq_is_refused_by_the_server(against):
    def scenario(client):
        with pytest.raises(InvalidRequest, match="invalid filter"):
            client.jobs(filter=".n > (").count()

    against(scenario)


def test_the_errors_of_a_job_that_is_not_there(against):
    def scenario(client):
        with pytest.raises(NotFound):
            list(client.job_errors("zzz"))

    against(scenario)


def test_as_many_jobs_as_a_request_can_name_are_found(against):
    def scenario(client):
        ids = [job.id for job in enqueue(client, 2400)]
        assert client.jobs(id=ids[:2300], queue="q" * 170).update(priority=1) == 0
        assert client.jobs(id=ids[:2300]).count() == 2300
        with pytest.raises(ConfigError, match="name fewer jobs"):
            client.jobs(id=ids).count()
        assert client.jobs(queue="default").limit(2300).delete() == 2300

    against(scenario)


async def test_a_query_that_is_left_in_the_middle_does_no_harm():
    async with running_server() as server, Client(server.url) as client:
        await client.enqueue_bulk([Enqueue("t", {"n": n}) for n in range(5)])
        async for job in client.jobs().page_size(2):
            assert job.payload == {"n": 0}
            break
        assert await client.jobs().count() == 5
