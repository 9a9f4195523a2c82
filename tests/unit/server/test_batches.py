"""Batched enqueues, with jobs in memory and numbers that are added up in place of jq."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
import pytest

from zizq.budget import Draw
from zizq.engine.selection import EVERYTHING
from zizq.errors import Unavailable, Unprocessable
from zizq.job import Batch, JobRecord
from zizq.policy import Defaults
from zizq.server.batches import Batches, FoldFailed
from zizq.store.memory import MemoryStore
from zizq.testing.bench import NOW, Bench, Recorder
from zizq.testing.clock import LoadedDice, ManualClock

pack = msgspec.msgpack.encode
unpack = msgspec.msgpack.decode


class Sums:
    """A folder that adds numbers, as long as the sum does not exceed `when`; one below zero fails."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        """How many numbers came with each question."""
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()
        self._at_work: set[str] = set()

    async def check_batch(self, when: str, fold: str, payload: bytes) -> None:
        """Nothing is wrong."""

    async def fold(self, existing: bytes, when: str, fold: str, news: Sequence[bytes]) -> tuple[bytes, int, str | None]:
        """Add; `fold` is the key, of which there must be one question at a time."""
        assert fold not in self._at_work
        self._at_work.add(fold)
        self.asked.append(len(news))
        self.begun.set()
        await self.go.wait()
        await asyncio.sleep(0)
        self._at_work.remove(fold)
        total = unpack(existing)
        for count, number in enumerate(map(unpack, news)):
            if total + number > int(when):
                return pack(total), count, None
            if number < 0:
                return pack(total), count, "too low"
            total += number
        return pack(total), len(news), None


class Counting(MemoryStore):
    """A store in memory that counts its writes, and refuses them when it is told to."""

    def __init__(self) -> None:
        super().__init__(Defaults(), LoadedDice())
        self.writes = 0
        self.refuses = False

    async def enqueue(self, *args: Any, **more: Any) -> Sequence[JobRecord]:
        """Count, and store."""
        self.writes += 1
        if self.refuses:
            raise Unavailable("no room")
        return await super().enqueue(*args, **more)


class Hall(Bench):
    """A store with batches in front of it."""

    def __init__(self) -> None:
        self.counting = Counting()
        super().__init__(self.counting, Recorder(), LoadedDice())
        self.sums = Sums()
        self.batches = Batches(self.store, ManualClock(NOW), self.sums)

    def number(self, number: int, key: str = "k", most: int = 1_000_000, **more: Any) -> JobRecord:
        """A job that is batched."""
        return self.job(batch=Batch(key, str(most), key), payload=pack(number), **more)

    async def add(self, *jobs: JobRecord) -> list[str]:
        """Enqueue jobs in one request; the identifiers of those that stand for them."""
        return [job.id for job in await self.batches.enqueue(jobs)]

    def adding(self, *jobs: JobRecord) -> asyncio.Task[list[str]]:
        """The same, under way."""
        return asyncio.create_task(self.add(*jobs))

    async def held(self, job: JobRecord) -> asyncio.Task[list[str]]:
        """An enqueue that is being folded until `sums.go` is set."""
        self.sums.go.clear()
        self.sums.begun.clear()
        task = self.adding(job)
        await self.sums.begun.wait()
        return task

    async def numbers(self) -> list[int]:
        """What is stored, the oldest first."""
        page = await self.store.page(EVERYTHING, None, "asc", 2000, NOW)
        return [unpack(job.payload or b"") for job in page.jobs]


@asynccontextmanager
async def hall() -> AsyncIterator[Hall]:
    one = Hall()
    await one.store.open(one.heard)
    yield one


async def test_the_first_is_stored_and_the_others_go_into_it() -> None:
    async with hall() as there:
        jobs = [there.number(value) for value in (1, 2, 3)]
        assert [await there.add(job) for job in jobs] == [[jobs[0].id]] * 3
        assert await there.numbers() == [6]


async def test_many_enqueues_of_one_key_share_a_write() -> None:
    async with hall() as there:
        stands = await asyncio.gather(*(there.add(there.number(1)) for _ in range(100)))
        assert len({job_id for [job_id] in stands}) == 1
        assert (there.counting.writes, there.sums.asked) == (1, [99])


async def test_those_that_come_while_one_is_at_work_share_the_next_write() -> None:
    async with hall() as there:
        await there.add(there.number(1))
        first = await there.held(there.number(1))
        others = [there.adding(there.number(1)) for _ in range(100)]
        await asyncio.sleep(0)
        there.sums.go.set()
        await asyncio.gather(first, *others)
        assert (there.counting.writes, there.sums.asked) == (3, [1, 100])
        assert await there.numbers() == [102]


async def test_nothing_is_lost_however_enqueues_meet() -> None:
    async with hall() as there:

        async def caller(number: int) -> None:
            for turn in range(20):
                keys = "kl" if (number + turn) % 5 == 0 else "kl"[number % 2]
                await there.add(*(there.number(1, key) for key in keys))

        await asyncio.gather(*map(caller, range(32)))
        assert sum(await there.numbers()) == 32 * 20 + 32 * 4
        assert len(await there.numbers()) == 2


async def test_one_that_is_not_let_in_begins_the_next_batch() -> None:
    async with hall() as there:
        jobs = [there.number(value, most=10) for value in (6, 5, 4, 2, 10)]
        stands = await asyncio.gather(*map(there.add, jobs))
        assert [job_id for [job_id] in stands] == [jobs[place].id for place in (0, 1, 1, 3, 4)]
        assert await there.numbers() == [6, 9, 2, 10]
        # Only the last of them takes more.
        last = there.number(0)
        assert await there.add(last) == [jobs[4].id]


async def test_jobs_fold_in_the_order_of_their_identifiers() -> None:
    async with hall() as there:
        older, younger = there.number(1, most=5), there.number(1, most=0)
        assert await asyncio.gather(there.add(younger), there.add(older)) == [[older.id]] * 2
        assert await there.add(there.number(1)) == [older.id]


async def test_the_expressions_of_the_job_that_waits_count() -> None:
    async with hall() as there:
        [waiting] = await there.add(there.number(1, most=3))
        assert await there.add(there.number(2, most=0)) == [waiting]
        assert await there.add(sealing := there.number(1, most=99)) == [sealing.id]


async def test_one_that_was_taken_meanwhile_is_left_alone() -> None:
    async with hall() as there:
        [first] = await there.add(there.number(1))
        late = there.number(2)
        adding = await there.held(late)
        assert await there.take_ids() == [first]
        there.sums.go.set()
        assert await adding == [late.id]
        assert await there.numbers() == [1, 2]
        assert there.sums.asked == [1]


async def test_one_that_came_meanwhile_is_folded_into() -> None:
    async with hall() as there:
        [first] = await there.add(there.number(1))
        adding = await there.held(there.number(2))
        await there.take()
        # As another server that uses the same store would do it.
        [other] = await there.enqueue(there.number(4))
        there.sums.go.set()
        assert await adding == [other] != [first]
        assert await there.numbers() == [1, 6]


async def test_one_that_fails_leaves_the_others_be() -> None:
    async with hall() as there:
        await there.add(there.number(1))
        results = await asyncio.gather(
            *(there.add(there.number(value)) for value in (2, -1, 4, -1)), return_exceptions=True
        )
        assert [str(result) for result in results if isinstance(result, FoldFailed)] == ["batch fold: too low"] * 2
        assert await there.numbers() == [7]


async def test_of_a_request_of_which_one_job_fails_nothing_is_stored() -> None:
    async with hall() as there:
        await there.add(there.number(1, "l"))
        with pytest.raises(FoldFailed) as raised:
            await there.add(there.number(1, "k"), there.job(), there.number(-1, "l"))
        assert raised.value.index == 2
        assert await there.numbers() == [1]


async def test_later_jobs_of_a_request_go_into_earlier_ones() -> None:
    async with hall() as there:
        [waiting] = await there.add(there.number(1, "k", most=4))
        jobs = [there.number(2), there.number(1, "l"), there.job(), there.number(2, most=3), there.number(1, "l")]
        jobs.append(there.number(1, "k"))
        stands = await there.add(*jobs)
        assert stands == [waiting, jobs[1].id, jobs[2].id, jobs[3].id, jobs[1].id, jobs[3].id]
        assert await there.numbers() == [3, 2, {"to": "a@b"}, 3]


async def test_one_that_draws_on_a_budget_that_is_missing_leaves_the_others_be() -> None:
    async with hall() as there:
        poor = {"budgets": (Draw("none", 1),)}
        jobs = [there.number(1, **poor), there.number(2), there.number(4, **poor)]
        refused, second, third = await asyncio.gather(*map(there.add, jobs), return_exceptions=True)
        assert isinstance(refused, Unprocessable)
        assert refused.index == 0
        # One that is folded draws on nothing.
        assert second == third == [jobs[1].id]
        assert await there.numbers() == [6]


async def test_a_slow_key_does_not_hold_up_another() -> None:
    async with hall() as there:
        await there.add(there.number(1, "slow"))
        slow = await there.held(there.number(2, "slow"))
        await there.add(there.number(1, "quick"))
        assert not slow.done()
        there.sums.go.set()
        await slow
        assert await there.numbers() == [3, 1]


@pytest.mark.parametrize("who", [0, 1, 2])
async def test_a_caller_that_leaves_harms_nobody(who: int) -> None:
    async with hall() as there:
        await there.add(there.number(1))
        callers = [await there.held(there.number(1)), there.adding(there.number(1)), there.adding(there.number(1))]
        await asyncio.sleep(0)
        callers[who].cancel()
        await asyncio.sleep(0)
        there.sums.go.set()
        for caller in callers:
            with suppress(asyncio.CancelledError):
                await caller
        assert [caller.cancelled() for caller in callers] == [number == who for number in range(3)]
        # What it asked for is done all the same, as when its client hangs up a moment later.
        assert await there.numbers() == [4]


async def test_a_store_that_refuses_refuses_all_and_the_next_ones_go_on() -> None:
    async with hall() as there:
        there.counting.refuses = True
        results = await asyncio.gather(*(there.add(there.number(1)) for _ in range(3)), return_exceptions=True)
        assert [type(result) for result in results] == [Unavailable] * 3
        there.counting.refuses = False
        await there.add(there.number(1))
        assert await there.numbers() == [1]


async def test_a_write_of_its_own_is_shared_with_nobody() -> None:
    async with hall() as there:
        mine: list[list[str]] = []

        async def write(jobs: Sequence[JobRecord], *rest: Any) -> Sequence[JobRecord]:
            mine.append([job.id for job in jobs])
            return await there.store.enqueue(jobs, *rest)

        job = there.number(1)
        asking = asyncio.create_task(there.batches.enqueue([job], write))
        await asyncio.gather(asking, *(there.add(there.number(1)) for _ in range(9)))
        assert mine == [[job.id]]
        assert await there.numbers() == [10]


async def test_keys_leave_nothing_behind() -> None:
    async with hall() as there:
        await asyncio.gather(*(there.add(there.number(1, f"k{n % 20}"), there.number(1, "z")) for n in range(100)))
        await asyncio.gather(*(there.add(there.number(-1, f"k{n % 20}")) for n in range(100)), return_exceptions=True)
        await asyncio.sleep(0)
        left = [len(part) for part in (there.batches._locks, there.batches._waiting, there.batches._turns)]
        assert left == [0, 0, 0]
