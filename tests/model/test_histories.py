"""Random histories run on the embedded store and on the oracle side by side, compared after each step."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zizq.engine import admit
from zizq.engine.window import ReadySet
from zizq.ids import IdGenerator
from zizq.job import Failure
from zizq.policy import Backoff, Defaults, Retention
from zizq.store.base import Silence, Store
from zizq.store.memory import MemoryStore
from zizq.store.sqlite.store import SqliteStore
from zizq.testing.clock import LoadedDice, ManualClock

DEFAULTS = Defaults(retry_limit=1, backoff=Backoff(1.0, 0, 0), dead_ms=5000)
NOW = 1_790_000_000_000
PAYLOAD = msgspec.Raw(msgspec.msgpack.encode({"n": 1}))
QUEUES = ("a", "b", "c")

queue_sets = st.sets(st.sampled_from(QUEUES), max_size=2)
steps = st.one_of(
    st.tuples(
        st.just("enqueue"),
        st.lists(st.tuples(st.sampled_from(QUEUES), st.integers(0, 3), st.sampled_from((0, 0, 0, 1500))), max_size=30),
    ),
    st.tuples(st.just("take"), st.integers(1, 3), queue_sets, st.integers(1, 25)),
    st.tuples(st.just("release"), st.integers(1, 3)),
    st.tuples(st.just("succeed"), st.lists(st.integers(0, 400), max_size=12)),
    st.tuples(st.just("fail"), st.integers(0, 400), st.booleans()),
    st.tuples(st.just("delete"), st.lists(st.integers(0, 400), max_size=3)),
    st.tuples(st.just("pass"), st.integers(1, 3000)),
    st.tuples(st.just("promote"), st.integers(1, 10)),
    st.tuples(st.just("reap"), st.integers(1, 10)),
    st.tuples(st.just("reopen")),
)


class History:
    """Two stores that are told the same things."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = NOW
        self.ids: list[str] = []
        self._next_id = IdGenerator(ManualClock(NOW), LoadedDice()).next
        self.oracle = MemoryStore(DEFAULTS, LoadedDice())
        self.store = self._make()

    def _make(self) -> SqliteStore:
        # Windows so small that trims, blind queues and refills happen all the time.
        return SqliteStore(self.folder, DEFAULTS, LoadedDice(), ready=ReadySet(total=30, limit=16))

    async def both(self, call: Any) -> None:
        expected, found = await call(self.oracle), await call(self.store)
        assert found == expected

    async def run(self, step: tuple[Any, ...]) -> None:
        await getattr(self, step[0])(*step[1:])

    async def enqueue(self, jobs: list[tuple[str, int, int]]) -> None:
        made = [
            admit.new_job(
                self._next_id(),
                self.now,
                type="t",
                queue=queue,
                payload=PAYLOAD,
                priority=priority,
                ready_at=self.now + delay if delay else None,
                retention=Retention(completed_ms=4000) if priority == 3 else None,
            )
            for queue, priority, delay in jobs
        ]
        self.ids += [job.id for job in made]
        await self.both(lambda store: store.enqueue(made))

    async def take(self, owner: int, queues: set[str], limit: int) -> None:
        async def take(store: Store) -> list[Any]:
            jobs = await store.take(owner, queues, limit, self.now)
            # The store may hand out fewer where a window ends; whoever takes asks again until there is none.
            while len(jobs) < limit and (more := await store.take(owner, queues, limit - len(jobs), self.now)):
                jobs += more
            return [(job.with_(payload=None), bytes(job.payload or b"")) for job in jobs]

        await self.both(take)

    async def release(self, owner: int) -> None:
        await self.both(lambda store: store.release(owner))

    def _pick(self, numbers: list[int]) -> list[str]:
        return list(dict.fromkeys(self.ids[n % len(self.ids)] for n in numbers)) if self.ids else []

    async def succeed(self, numbers: list[int]) -> None:
        await self.both(lambda store: store.succeed(self._pick(numbers), self.now))

    async def fail(self, number: int, kill: bool) -> None:
        job_id = next(iter(self._pick([number])), "none")
        await self.both(lambda store: store.fail(job_id, Failure(message="m", kill=kill), self.now))

    async def delete(self, numbers: list[int]) -> None:
        await self.both(lambda store: store.delete(self._pick(numbers), self.now))

    async def promote(self, limit: int) -> None:
        await self.both(lambda store: store.promote(self.now, limit))

    async def reap(self, limit: int) -> None:
        # Which of several expired jobs go first is left open, so all of them go.
        for store in (self.oracle, self.store):
            while await store.reap(self.now, limit):
                pass

    async def reopen(self) -> None:
        await self.store.close()
        self.store = self._make()
        await self.store.open(Silence())
        for owner in (1, 2, 3):
            await self.oracle.release(owner)

    async def compare(self) -> None:
        """All that a reader can see is the same, but for `dequeued_at`, which a crash may forget."""
        await self.both(lambda store: store.queues(self.now))
        await self.both(lambda store: store.next_due())
        for job_id in self.ids[-60:]:
            mine, theirs = await self.store.get(job_id, self.now), await self.oracle.get(job_id, self.now)
            assert (mine is None) == (theirs is None)
            if mine is not None and theirs is not None:
                hidden = {"payload": None, "dequeued_at": None}
                assert mine.with_(**hidden) == theirs.with_(**hidden)

    async def pass_time(self, ms: int) -> None:
        self.now += ms


setattr(History, "pass", History.pass_time)


async def _play(history: list[tuple[Any, ...]]) -> None:
    with TemporaryDirectory() as folder:
        both = History(Path(folder))
        await both.store.open(Silence())
        try:
            for step in history:
                await both.run(step)
            await both.compare()
            await both.reopen()
            await both.compare()
            await both.take(1, set(), 1000)
        finally:
            await both.store.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(steps, min_size=5, max_size=60))
def test_the_embedded_store_equals_the_oracle(history: list[tuple[Any, ...]]) -> None:
    asyncio.run(_play(history))
