"""What every store must do to be copied, and to be a copy."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from zizq.budget import Budget, Draw, Strategy, StrategyType
from zizq.cron import CronEntry, CronGroup, CronJob
from zizq.engine.selection import EVERYTHING
from zizq.errors import ConfigError, DecodeError
from zizq.job import Batch, Status
from zizq.policy import Backoff, Retention
from zizq.store.base import Store
from zizq.store.contents import LOT_BYTES, JobPiece, Lot, Sum
from zizq.store.copying import copy
from zizq.store.memory import MemoryStore
from zizq.testing.bench import DAY, NOW, PAYLOAD, Bench, Recorder, Suite
from zizq.testing.clock import LoadedDice

BATCH = Batch("k", "true", ".")


class Torn(Exception):
    """What ends a copy early."""


async def exported(store: Store) -> list[Lot]:
    """All lots of a store."""
    return [lot async for lot in store.export()]


async def summed(store: Store) -> Sum:
    """What a store comes to."""
    found = Sum()
    async for lot in store.export():
        found.add(lot)
    return found


async def sent(*lots: Lot) -> AsyncIterator[Lot]:
    """Lots as if they came from a store."""
    for lot in lots:
        yield lot


def silent(doing: str, done: Sum) -> None:
    """Nobody watches."""


async def fill(bench: Bench) -> dict[str, str]:
    """Give a store something of everything; returns jobs by what they are."""
    store = bench.store
    rate = Budget("rate", 5, Strategy(StrategyType.TIME_BASED, 60_000, 7), NOW, NOW)
    slots = Budget("slots", 2, Strategy(StrategyType.WHILE_IN_FLIGHT), NOW, NOW + 1)
    for budget in (rate, slots):
        assert await store.save_budget(budget.key, None, budget, NOW)
    draws = (Draw("rate", 3), Draw("slots", 1))
    whole: dict[str, Any] = {
        "priority": 7, "retry_limit": 3, "backoff": Backoff(1.5, 1, 2), "retention": Retention(completed_ms=DAY),
        "timeout_ms": 9, "metadata": {"b": "1", "a": "é"},
    }  # fmt: skip
    made = {
        "whole": bench.job("whole", type="w", **whole),
        "scheduled": bench.job("later", ready_at=NOW + 5000),
        "dead": bench.job("dead", retry_limit=0, budgets=(Draw("rate", 1),)),
        "retried": bench.job("retried"),
        "completed": bench.job("done", retention=Retention(completed_ms=DAY), unique_key="d", unique_while="exists"),
        "unique": bench.job("u", unique_key="u", unique_while="active"),
        "sealed": bench.job("b", batch=BATCH),
        "waits": bench.job("b", batch=BATCH),
        "drawn": bench.job("drawn", budgets=draws, priority=0),
        "died": bench.job("died"),
    }
    await store.enqueue(list(made.values()), NOW)
    await bench.take(queues=["dead", "retried", "done", "drawn", "died"])
    await bench.fail(made["dead"].id, message="boom", error_type="E", backtrace="a\nb")
    await bench.fail(made["retried"].id, retry_at=NOW)
    await store.succeed([made["completed"].id], NOW)
    await store.release(1, died_at=NOW, running=5)
    await store.pause_queue("paused", NOW - 5)
    job = CronJob(type="t", queue="q", payload=msgspec.Raw(PAYLOAD), priority=9, budgets=draws)
    entries = tuple(
        CronEntry(name=name, expression="0 * * * *", paused=False, job=job, next_enqueue_at=NOW) for name in ("a", "é")
    )
    group = CronGroup(name="g", paused=True, timezone="Europe/London", paused_at=NOW, entries=entries)
    assert await store.save_cron("g", None, group, NOW)
    return {what: made[what].id for what in made}


class CopyConformance(Suite):
    """The suite of copies."""

    @asynccontextmanager
    async def opened(self, store: Store) -> AsyncIterator[Bench]:
        """A store for the length of a block; it can be opened once more."""
        listener = Recorder()
        await store.open(listener)
        try:
            yield Bench(store, listener, LoadedDice())
        finally:
            await store.close()

    def one(self, place: Path) -> Store:
        """A store of the kind that is tried."""
        return self.make(place, self.defaults, LoadedDice())

    async def filled(self, store: Store) -> dict[str, str]:
        """Give a store something of everything."""
        async with self.opened(store) as bench:
            return await fill(bench)

    async def shown(self, bench: Bench) -> list[object]:
        """All that a store shows."""
        store = bench.store
        page = await store.page(EVERYTHING, None, "asc", 1000, NOW)
        errors = [await store.errors(job.id, None, "asc", 100) for job in page.jobs]
        groups = [await store.cron(name) for name in await store.crons()]
        pauses = await store.paused_queues()
        waits = await store.pending([BATCH.key])
        return [page.jobs, errors, groups, pauses, waits, await store.budgets(), await store.tally(NOW)]

    async def test_a_copy_shows_what_the_store_shows(self, tmp_path: Path) -> None:
        source, target = self.one(tmp_path / "a"), self.one(tmp_path / "b")
        await self.filled(source)
        copied = await copy(source, target, silent)
        assert copied == await summed(target) == await summed(source)
        assert (copied.jobs.total(), copied.others.total()) == (10, 4)
        async with self.opened(target) as bench:
            there = await self.shown(bench)
            tokens = await bench.store.tokens(NOW)
        oracle = MemoryStore(self.defaults, LoadedDice())
        await oracle.load(source.export())
        async with self.opened(oracle) as bench:
            assert await self.shown(bench) == there
            assert await bench.store.tokens(NOW) == tokens == {"rate": 3, "slots": 2}

    async def test_it_goes_to_the_oracle_and_back(self, tmp_path: Path) -> None:
        oracle, first, second = MemoryStore(self.defaults, LoadedDice()), self.one(tmp_path), self.one(tmp_path / "b")
        await self.filled(oracle)
        await copy(oracle, first, silent)
        again = MemoryStore(self.defaults, LoadedDice())
        await copy(first, again, silent)
        await copy(again, second, silent)
        assert await summed(second) == await summed(oracle)

    async def test_a_copy_goes_on_where_the_store_stopped(self, tmp_path: Path) -> None:
        source, target = self.one(tmp_path / "a"), self.one(tmp_path / "b")
        jobs = await self.filled(source)
        await copy(source, target, silent)
        async with self.opened(target) as bench:
            twin = bench.job("u", unique_key="u", unique_while="active")
            [stands] = await bench.store.enqueue([twin.with_(id="z" * 25)], NOW)
            assert stands.id == jobs["unique"]
            assert [job.id for job in (await bench.store.pending([BATCH.key])).values()] == [jobs["waits"]]
            assert [due.entry.name for due in await bench.store.due_crons(NOW, 9)] == ["a", "é"]
            # It costs three, and so many are left.
            assert (await bench.take_ids(1, queues=["drawn"])) == [jobs["drawn"]]
            assert await bench.store.tokens(NOW) == {"rate": 0, "slots": 1}
            assert await bench.take_ids(queues=["died"]) == [jobs["died"]]
            for _ in range(self.defaults.max_worker_deaths):
                await bench.store.release(1, died_at=NOW, running=9)
                await bench.take(queues=["died"])
            assert await bench.status(jobs["died"]) is Status.DEAD

    async def test_an_empty_store_has_an_empty_copy(self, tmp_path: Path) -> None:
        source, target = self.one(tmp_path / "a"), self.one(tmp_path / "b")
        async with self.opened(source):
            pass
        assert (await copy(source, target, silent)).jobs.total() == 0

    async def test_a_store_that_is_not_empty_is_left_as_it_is(self, tmp_path: Path) -> None:
        source, target = self.one(tmp_path / "a"), self.one(tmp_path / "b")
        await self.filled(source)
        async with self.opened(target) as bench:
            await bench.store.pause_queue("q", NOW)
        with pytest.raises(ConfigError, match="not empty"):
            await copy(source, target, silent)
        assert (await summed(target)).others == {"PausePiece": 1}

    async def test_a_copy_that_ends_early_leaves_nothing(self, tmp_path: Path) -> None:
        source, target = self.one(tmp_path / "a"), self.one(tmp_path / "b")
        await self.filled(source)
        lots = await exported(source)

        async def torn() -> AsyncIterator[Lot]:
            for lot in lots:
                yield lot
            raise Torn

        with pytest.raises(Torn):
            await target.load(torn())
        async with self.opened(target) as bench:
            assert await bench.count() == 0
            assert (await bench.store.budgets(), await bench.store.crons()) == ([], [])
        await target.load(sent(*lots))
        assert await summed(target) == await summed(source)

    async def test_what_is_large_comes_in_many_lots(self, tmp_path: Path) -> None:
        source, target = self.one(tmp_path / "a"), self.one(tmp_path / "b")
        large = msgspec.msgpack.encode("x" * (LOT_BYTES // 3))
        async with self.opened(source) as bench:
            await bench.enqueue(*(bench.job(payload=large) for _ in range(8)), *(bench.job() for _ in range(2500)))
        sizes = [sum(piece.size for piece in lot if isinstance(piece, JobPiece)) for lot in await exported(source)]
        assert len(sizes) > 5
        assert max(sizes) <= LOT_BYTES
        await copy(source, target, silent)

    async def test_what_arrives_otherwise_is_noticed_and_removed(self, tmp_path: Path) -> None:
        source, target = self.one(tmp_path / "a"), self.one(tmp_path / "b")
        await self.filled(source)
        with pytest.raises(DecodeError, match="digest of all rows"):
            await copy(source, Forgetful(target), silent)  # type: ignore[arg-type]
        async with self.opened(target) as bench:
            assert await bench.count() == 0


class Forgetful:
    """A store that keeps all but the last piece of each lot."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.open, self.reset, self.close, self.export = store.open, store.reset, store.close, store.export

    async def load(self, lots: AsyncIterable[Lot]) -> None:
        """Keep most of it."""
        await self._store.load(lot[:-1] async for lot in lots)


class DurableCopyConformance(CopyConformance):
    """What a store must do besides when it outlasts its process."""

    async def test_a_store_in_use_is_neither_copied_nor_filled(self, tmp_path: Path) -> None:
        source, target = self.one(tmp_path / "a"), self.one(tmp_path / "b")
        await self.filled(source)
        async with self.opened(self.one(tmp_path / "a")):
            with pytest.raises(ConfigError, match="in use"):
                await copy(source, target, silent)
        await target.load(sent())
        async with self.opened(self.one(tmp_path / "b")):
            with pytest.raises(ConfigError, match="in use"):
                await target.load(sent())

    async def test_what_is_no_store_is_not_copied(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="there is no store"):
            await exported(self.one(tmp_path / "nowhere"))
