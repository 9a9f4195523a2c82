"""The mover: what applications have posted comes into the queues, or is a dead job that says why not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from zizq.budget import Budget
from zizq.engine import decide
from zizq.engine.selection import EVERYTHING
from zizq.errors import Unavailable, Unprocessable
from zizq.ids import IdGenerator, created_at
from zizq.job import Failure, JobRecord, Status
from zizq.policy import Defaults
from zizq.server.broker import Broker
from zizq.server.inbox import MOST, Mover
from zizq.server.payloads import Payloads
from zizq.store.base import NO_BUDGETS, NOTHING
from zizq.store.inbox import NAMELESS, Inbox, Post, Waiting
from zizq.store.memory import MemoryStore
from zizq.testing.bench import NOW, Recorder
from zizq.testing.clock import LoadedDice, ManualClock

BATCH = {"key": "k", "when": ". < 100", "fold": "."}


class Sums:
    """A folder that adds numbers; 13 is unlucky."""

    async def check_batch(self, when: str, fold: str, payload: bytes) -> None:
        if msgspec.msgpack.decode(payload) == 13:
            raise Unprocessable("13 is unlucky")

    async def fold(self, existing: bytes, when: str, fold: str, news: Sequence[bytes]) -> tuple[bytes, int, str | None]:
        numbers = [msgspec.msgpack.decode(one) for one in (existing, *news)]
        return msgspec.msgpack.encode(sum(numbers)), len(news), None


class Boxed(MemoryStore):
    """A store in memory with an inbox; what a block does is undone where it fails."""

    def __init__(self) -> None:
        super().__init__(Defaults(), LoadedDice())
        self.box: dict[str, bytes] = {}
        self.fails = False

    def commit(self) -> None:
        if self.fails:
            raise Unavailable("no commit")

    @asynccontextmanager
    async def posted(self, limit: int) -> AsyncIterator[Opened]:
        opened = Opened(self, [Post(*one) for one in sorted(self.box.items())[:limit]])
        before = dict(self._jobs)
        try:
            yield opened
            self.commit()
        except BaseException:
            self._jobs = before
            raise
        for post in opened.posts:
            del self.box[post.id]

    async def waiting(self) -> Waiting:
        return Waiting(len(self.box), min(map(created_at, self.box), default=None))


class Opened:
    def __init__(self, store: Boxed, posts: Sequence[Post]) -> None:
        self._store = store
        self.posts = posts

    async def enqueue(
        self,
        jobs: Sequence[JobRecord],
        now: int,
        folds: Sequence[JobRecord] = (),
        pending: Mapping[str, str | None] = NOTHING,
        create: Mapping[str, Budget] = NO_BUDGETS,
    ) -> Sequence[JobRecord]:
        return await self._store.enqueue(jobs, now, folds, pending, create)

    async def refuse(self, job: JobRecord, reason: str, now: int) -> None:
        failure = Failure(message=reason, kill=True)
        self._store._settle(
            decide.on_failure(decide.on_take(job.with_(status=Status.READY), now), failure, now, Defaults(), 0.0)
        )


def payload(job: JobRecord) -> object:
    return msgspec.msgpack.decode(job.payload or b"")


class Office:
    """A mover between an inbox and a broker."""

    def __init__(self) -> None:
        self.store = Boxed()
        self.clock = ManualClock(NOW)
        self.broker = Broker(self.store, self.clock, LoadedDice(), Sums())
        self.mover = Mover(self.store, self.broker, Payloads(), self.clock)
        self._next_id = IdGenerator(ManualClock(NOW), LoadedDice()).next

    def post(self, payload: object = 1, **body: Any) -> str:
        job_id = self._next_id()
        self.store.box[job_id] = msgspec.json.encode({"type": "t", "queue": "q", "payload": payload} | body)
        return job_id

    async def jobs(self) -> list[JobRecord]:
        return (await self.store.page(EVERYTHING, None, "asc", 1000, NOW)).jobs

    async def reason(self, job_id: str) -> str | None:
        """Why a job is dead; None where it is not."""
        job = await self.store.get(job_id, NOW)
        assert job is not None
        if job.status is not Status.DEAD:
            return None
        [error] = await self.store.errors(job_id, None, "asc", 9)
        return error.message


def test_a_store_with_an_inbox_is_known() -> None:
    assert isinstance(Boxed(), Inbox)
    assert not isinstance(MemoryStore(Defaults(), LoadedDice()), Inbox)


async def test_posts_become_the_jobs_that_they_name() -> None:
    office = Office()
    ids = [office.post(priority=7), office.post(ready_at=NOW + 1), office.post({"a": [1]}, queue="other")]
    assert await office.mover.move() == 3
    jobs = await office.jobs()
    assert [job.id for job in jobs] == ids
    assert [job.status for job in jobs] == [Status.READY, Status.SCHEDULED, Status.READY]
    assert (jobs[0].priority, payload(jobs[2])) == (7, {"a": [1]})
    assert (office.store.box, await office.mover.move()) == ({}, 0)


async def test_one_whose_key_is_taken_is_a_duplicate() -> None:
    office = Office()
    first, _ = office.post(unique_key="k"), office.post(unique_key="k")
    await office.mover.move()
    assert [job.id for job in await office.jobs()] == [first]


async def test_budgets_come_along() -> None:
    office = Office()
    office.post(budgets=[{"key": "b", "create_with": {"allocation": 3, "strategy": {"type": "while_in_flight"}}}])
    office.post(budgets=[{"key": "b", "cost": 2}])
    await office.mover.move()
    assert [job.status for job in await office.jobs()] == [Status.READY] * 2
    assert [(one.key, one.allocation) for one in await office.store.budgets()] == [("b", 3)]


async def test_what_cannot_be_enqueued_is_dead_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    office = Office()
    good, bad, late = office.post(), office.post(budgets=[{"key": "none"}], queue="mail"), office.post()
    with caplog.at_level(logging.WARNING, "zizq.inbox"):
        await office.mover.move()
    assert [await office.reason(one) for one in (good, late)] == [None, None]
    assert "budget 'none' does not exist" in (await office.reason(bad) or "")
    [record] = caplog.records
    assert record.__dict__["fields"]["id"] == bad
    job = await office.store.get(bad, NOW)
    assert job is not None
    assert (job.queue, payload(job)) == ("mail", 1)


@pytest.mark.parametrize(
    ("body", "names", "says"),
    [
        (b"{", NAMELESS, "invalid JSON"),
        (b'{"type": "a,b", "queue": "q", "payload": 1}', NAMELESS, "must not contain ','"),
        (b'{"type": "t", "queue": "q", "payload": 1, "unique_while": "queued"}', ("t", "q"), "requires unique_key"),
        (b'{"type": "t", "queue": "q", "payload": ' + b"[" * 200 + b"]" * 200 + b"}", ("t", "q"), "deep"),
    ],
)
async def test_what_is_no_job_is_dead_with_its_text(body: bytes, names: tuple[str, str], says: str) -> None:
    office = Office()
    job_id = office.post()
    office.store.box[job_id] = body
    await office.mover.move()
    assert says in (await office.reason(job_id) or "")
    [job] = await office.jobs()
    assert (job.type, job.queue) == names
    assert payload(job) == body.decode()


async def test_batched_jobs_are_folded() -> None:
    office = Office()
    first, unlucky, _ = (office.post(number, batch=BATCH) for number in (1, 13, 2))
    office.post(4)
    await office.mover.move()
    assert await office.reason(unlucky) == "13 is unlucky"
    third = office.post(5, batch=BATCH)
    await office.mover.move()
    [waits] = (await office.store.pending(["k"])).values()
    assert (waits.id, payload(waits)) == (first, 8)
    assert await office.store.get(third, NOW) is None


async def test_what_could_not_be_committed_is_moved_later() -> None:
    office = Office()
    job_id = office.post()
    office.store.fails = True
    with pytest.raises(Unavailable):
        await office.mover.move()
    assert (list(office.store.box), await office.jobs()) == ([job_id], [])
    office.store.fails = False
    await office.mover.move()
    assert [job.id for job in await office.jobs()] == [job_id]


async def test_it_goes_on_at_once_where_there_is_more(monkeypatch: pytest.MonkeyPatch) -> None:
    office = Office()
    heard = Recorder()
    await office.store.open(heard)
    for _ in range(MOST + 1):
        office.post()
    slept = asyncio.Event()

    async def sleep(seconds: float) -> None:
        slept.set()
        await asyncio.Event().wait()

    monkeypatch.setattr("zizq.server.inbox.asyncio.sleep", sleep)
    task = asyncio.create_task(office.mover.run())
    await slept.wait()
    task.cancel()
    assert (len(office.store.box), await office.store.count(EVERYTHING, NOW)) == (0, MOST + 1)
