"""The live feed: who samples, who waits, who leaves."""

from __future__ import annotations

import asyncio

import pytest

from zizq.errors import Unavailable
from zizq.server.dashboard.live import MOST, Live


class Source:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.fails = 0

    async def __call__(self) -> bytes:
        self.asked += 1
        if self.asked <= self.fails:
            raise Unavailable("not now")
        return b"%d" % self.asked


def always() -> bool:
    return True


async def test_nobody_samples_for_nobody() -> None:
    source = Source()
    live = Live(source, 0)
    await asyncio.sleep(0)
    assert source.asked == 0
    feed = live.watch(always)
    await anext(feed)
    await feed.aclose()
    asked = source.asked
    for _ in range(5):
        await asyncio.sleep(0)
    assert source.asked == asked
    assert live.viewers == 0


async def test_all_get_the_same_sample() -> None:
    source = Source()
    live = Live(source, 3600)
    feeds = [live.watch(always) for _ in range(3)]
    assert await asyncio.gather(*map(anext, feeds)) == [b"1", b"1", b"1"]
    assert source.asked == 1


async def test_who_leaves_does_not_end_the_feed_of_others() -> None:
    live = Live(Source(), 0)
    stays, leaves = live.watch(always), live.watch(always)
    waiting = asyncio.ensure_future(anext(leaves))
    await anext(stays)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert await anext(stays)
    assert live.viewers == 1


async def test_a_sample_that_fails_is_logged_and_the_next_one_comes(caplog: pytest.LogCaptureFixture) -> None:
    source = Source()
    source.fails = 2
    assert await anext(Live(source, 0).watch(always)) == b"3"
    assert len(caplog.records) == 2


async def test_there_are_only_so_many_viewers() -> None:
    live = Live(Source(), 0)
    feeds = [live.watch(always) for _ in range(MOST)]
    await asyncio.gather(*map(anext, feeds))
    with pytest.raises(Unavailable, match="16 pages are open"):
        live.watch(always)
    await feeds[0].aclose()
    assert await anext(live.watch(always))


async def test_closing_ends_all_feeds_for_good() -> None:
    live = Live(Source(), 3600)
    feed = live.watch(always)
    await anext(feed)
    waiting = asyncio.ensure_future(anext(feed, None))
    await asyncio.sleep(0)
    live.close()
    assert await waiting is None
    with pytest.raises(Unavailable):
        live.watch(always)
