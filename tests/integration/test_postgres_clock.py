"""Servers that share a database go by its clock."""

from __future__ import annotations

import asyncio
import logging

import psycopg
import pytest

from zizq.clock import SharedClock, SystemClock, SystemDice
from zizq.server.app import App
from zizq.server.settings import Settings
from zizq.store.base import Silence
from zizq.store.opening import StoreOptions, make_store
from zizq.store.url import StoreUrl
from zizq.testing.clock import ManualClock


def there_ms(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint").fetchone()
    assert row is not None
    return int(row[0])


class Skewed(SystemClock):
    """A clock that is wrong by so many milliseconds."""

    def __init__(self, skew: int) -> None:
        self._skew = skew

    def wall_ms(self) -> int:
        return super().wall_ms() + self._skew


async def test_a_store_tells_the_clock_what_the_time_is(postgres_url: str, caplog: pytest.LogCaptureFixture) -> None:
    for skew in (-60_000, 0, 60_000):
        clock = SharedClock(Skewed(skew))
        with caplog.at_level(logging.WARNING, "zizq.store"):
            store = make_store(StoreUrl(postgres_url), StoreOptions(), SystemDice(), clock)
            began = there_ms(postgres_url)
            await store.open(Silence())
            opened = there_ms(postgres_url)
            await store.close()
        # It is right to within the time that the question took.
        before, now, after = there_ms(postgres_url), clock.wall_ms(), there_ms(postgres_url)
        assert before - (opened - began) - 1 <= now <= after + (opened - began) + 1
    assert [record.message.split(",")[0] for record in caplog.records] == [
        "the clock of this machine is not that of the database"
    ] * 2


async def test_it_hears_of_it_again_with_each_renewal_of_the_lease(postgres_url: str) -> None:
    # Time stands still here, so that all that passes was heard.
    clock = SharedClock(ManualClock())
    store = make_store(StoreUrl(postgres_url), StoreOptions(), SystemDice(), clock)
    await store.open(Silence())
    before = clock.wall_ms()
    async with asyncio.timeout(20):
        while clock.wall_ms() < before + 500:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
    await store.close()


def test_a_server_on_a_database_has_such_a_clock(postgres_url: str) -> None:
    app = App(Settings(store=StoreUrl(postgres_url)))
    assert isinstance(app.broker._clock, SharedClock)
