"""Where windows, refills and jobs in flight meet: cases that a random history seldom finds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from zizq.engine.window import LEAST, ReadySet
from zizq.errors import Unavailable
from zizq.policy import Defaults
from zizq.store.sqlite.store import SqliteStore
from zizq.testing.bench import Bench, Recorder
from zizq.testing.clock import LoadedDice

SMALL = LEAST  # jobs that a window holds here


@asynccontextmanager
async def small_windows(place: Path) -> AsyncIterator[Bench]:
    dice, listener = LoadedDice(), Recorder()
    store = SqliteStore(place, Defaults(), dice, ready=ReadySet(total=SMALL, limit=SMALL))
    await store.open(listener)
    try:
        yield Bench(store, listener, dice)
    finally:
        await store.close()


async def test_a_refill_leaves_out_what_is_in_flight(tmp_path: Path) -> None:
    async with small_windows(tmp_path) as bench:
        held = await bench.enqueue(*[bench.job(priority=1) for _ in range(4)])
        assert await bench.take_ids(4, owner=1) == held
        # More urgent jobs fill the window and pull its edge in, before the place of the four.
        urgent = await bench.enqueue(*[bench.job(priority=0) for _ in range(SMALL + 4)])
        taken: list[str] = []
        while batch := await bench.take_ids(5, owner=2):
            taken += batch
        assert taken == urgent


async def test_a_refill_with_a_gap_is_asked_for_again(tmp_path: Path) -> None:
    async with small_windows(tmp_path) as bench:
        old = await bench.enqueue(*[bench.job(priority=1) for _ in range(2 * SMALL + 4)])
        assert await bench.take_ids(SMALL) == old[:SMALL]
        # Heard after the refill that the take has asked for: the window is full again.
        await bench.enqueue(bench.job(priority=2))
        # This take asks for a refill once more; the enqueue, in the same commit, is heard first and pulls the edge in.
        urgent = [bench.job(priority=0) for _ in range(SMALL + 4)]
        taken, _ = await asyncio.gather(bench.take_ids(SMALL), bench.enqueue(*urgent))
        assert taken == old[SMALL : 2 * SMALL]
        rest: list[str] = []
        while batch := await bench.take_ids(100):
            rest += batch
        assert rest[:-1] == [job.id for job in urgent] + old[2 * SMALL :]


async def test_an_enqueue_whose_caller_has_gone_is_not_forgotten(tmp_path: Path) -> None:
    async with small_windows(tmp_path) as bench:
        job = bench.job()
        call = asyncio.ensure_future(bench.enqueue(job))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        other = await bench.enqueue(bench.job())
        assert await bench.take_ids() == [job.id, *other]


async def test_a_take_that_is_cancelled_in_mid_refill_takes_nothing(tmp_path: Path) -> None:
    async with small_windows(tmp_path) as bench:
        ids = await bench.enqueue(*[bench.job() for _ in range(SMALL + 2)])
        assert await bench.take_ids(SMALL) == ids[:SMALL]
        call = asyncio.ensure_future(bench.take_ids(5))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert await bench.take_ids(5) == ids[SMALL:]


async def test_a_job_that_is_gone_is_not_put_back_by_its_release(tmp_path: Path) -> None:
    async with small_windows(tmp_path) as bench:
        for _ in range(10):
            await bench.enqueue(bench.job(), bench.job())
            await bench.take(owner=1)
            reset = asyncio.ensure_future(bench.store.reset())
            # Started, then handed to the writer; the release comes with the next commit.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await asyncio.gather(reset, bench.store.release(1))
            assert await bench.take_ids() == []


async def test_a_job_that_is_deleted_while_it_is_given_back_stays_deleted(tmp_path: Path) -> None:
    async with small_windows(tmp_path) as bench:
        [job_id] = await bench.enqueue(bench.job())
        await bench.take(owner=1)
        await asyncio.gather(bench.store.release(1), bench.delete(job_id))
        assert await bench.take_ids() == []


HEAVY = b"\xc6\x00\x01\x00\x00" + b"x" * 65_536


async def test_a_take_whose_payloads_cannot_be_read_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with small_windows(tmp_path) as bench:
        ids = await bench.enqueue(bench.job(), bench.job(payload=HEAVY), bench.job())
        with monkeypatch.context() as broken:
            broken.setattr(bench.store._readers, "read", _refuse)
            with pytest.raises(Unavailable):
                await bench.take()
        assert bench.heard.freed_by == {}
        assert await bench.take_ids() == ids


async def test_a_take_that_is_cancelled_while_it_reads_payloads_takes_nothing(tmp_path: Path) -> None:
    async with small_windows(tmp_path) as bench:
        ids = await bench.enqueue(bench.job(), bench.job(payload=HEAVY))
        call = asyncio.ensure_future(bench.take())
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert bench.heard.freed_by == {}
        assert await bench.take_ids() == ids


async def test_a_job_deleted_while_its_payload_is_read_is_neither_handed_out_nor_freed(tmp_path: Path) -> None:
    async with small_windows(tmp_path) as bench:
        kept, deleted = await bench.enqueue(bench.job(), bench.job(payload=HEAVY))
        taken, _ = await asyncio.gather(bench.take_ids(), bench.delete(deleted))
        if taken == [kept]:
            assert bench.heard.freed_by == {}
        else:  # it was handed out before it was deleted
            assert bench.heard.freed_by == {1: 1}


async def _refuse(question: object) -> None:
    raise Unavailable("the disk does not answer")
