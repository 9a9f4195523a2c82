"""Servers whose machines have clocks two minutes apart, on one database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import zizq
from zizq.clock import SharedClock, SystemClock
from zizq.store.url import StoreUrl
from zizq.testing.server import running_server

MINUTE_MS = 60_000


class Wrong(SystemClock):
    """The clock of a machine that is wrong.

    Args:
        by_ms: By how much it is ahead.
    """

    def __init__(self, by_ms: int) -> None:
        self._by_ms = by_ms

    def wall_ms(self) -> int:
        return super().wall_ms() + self._by_ms


@asynccontextmanager
async def both(url: str) -> AsyncIterator[tuple[zizq.Client, zizq.Client]]:
    """A client of each server: one is a minute ahead, the other a minute behind."""
    store = StoreUrl(url)
    async with (
        running_server(store=store, clock=SharedClock(Wrong(MINUTE_MS))) as fast,
        running_server(store=store, clock=SharedClock(Wrong(-MINUTE_MS))) as slow,
        zizq.Client(fast.url) as of_fast,
        zizq.Client(slow.url) as of_slow,
    ):
        yield of_fast, of_slow


async def test_they_agree_on_when_a_job_is_due(postgres_url: str) -> None:
    clock = SystemClock()
    async with both(postgres_url) as (fast, slow), asyncio.timeout(30):
        due = await fast.enqueue_raw("t", 1, delay=1)
        at_once = await slow.enqueue_raw("t", 2)
        assert [due.status, at_once.status] == [zizq.Status.SCHEDULED, zizq.Status.READY]
        async with slow.take(prefetch=2) as stream:
            came = {job.id: clock.wall_ms() async for job in _first(stream, 2)}
        assert came.keys() == {at_once.id, due.id}
        assert came[due.id] >= due.ready_at.timestamp() * 1000 - 50


async def test_they_agree_on_how_long_a_job_is_kept(postgres_url: str) -> None:
    async with both(postgres_url) as (fast, slow), asyncio.timeout(30):
        kept = await slow.enqueue_raw("t", 1, retention=zizq.Retention(completed=timedelta(seconds=30)))
        async with slow.take() as stream:
            async for job in stream:
                await slow.report_success(job.id)
                break
        for client in (fast, slow):
            assert (await client.get_job(kept.id)).status == zizq.Status.COMPLETED


async def test_each_tick_is_fired_once_and_in_time(postgres_url: str) -> None:
    clock = SystemClock()
    async with both(postgres_url) as (fast, slow), asyncio.timeout(30):
        began = clock.wall_ms()
        async with slow.define_cron("g") as cron:
            cron.entry("each second", "* * * * * *", zizq.Enqueue("tick", None))
        async with fast.take(prefetch=10) as stream:
            seen = {job.id async for job in _first(stream, 4)}
        spent = clock.wall_ms() - began
    # Four ticks take three seconds at least, and in a minute of skew there would be sixty at once.
    assert len(seen) == 4
    assert spent >= 3000


async def _first(stream: zizq.Take, count: int) -> AsyncIterator[zizq.Job]:
    async for job in stream:
        yield job
        count -= 1
        if not count:
            return
