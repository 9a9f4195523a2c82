"""The store on PostgreSQL against the suite."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from postgres import Databases
from zizq.clock import Dice
from zizq.errors import Unsupported
from zizq.policy import Defaults
from zizq.store.base import Silence, Store
from zizq.store.postgres.store import PostgresStore
from zizq.testing.bench import DAY, NOW, Suite
from zizq.testing.clock import LoadedDice
from zizq.testing.conformance import DurableStoreConformance


class OnPostgres:
    """Makes stores; those of one folder share a database."""

    @pytest.fixture(autouse=True)
    def _databases(self, databases: Databases) -> None:
        self.databases = databases

    def url(self, place: Path) -> str:
        return self.databases.store(place)

    def make(self, place: Path, defaults: Defaults, dice: Dice) -> Store:
        return PostgresStore(self.url(place), defaults, dice)


class TestUpkeep(OnPostgres, Suite):
    async def test_a_backup_is_left_to_the_database(self, tmp_path: Path) -> None:
        async with self.bench(tmp_path) as bench:
            with pytest.raises(Unsupported, match="pg_dump"):
                async with bench.store.snapshot():
                    pass

    async def test_limits_hold_where_the_planner_believes_in_one_job(self, tmp_path: Path) -> None:
        due, reaped_at = NOW + 9, NOW + 9 + DAY
        async with self.bench(tmp_path) as bench:
            for number in range(3):
                await bench.enqueue(bench.job(ready_at=due, retry_limit=0))
                if not number:
                    with psycopg.connect(self.url(tmp_path), autocommit=True) as db:
                        db.execute("VACUUM (ANALYZE) zizq.jobs")
            assert [await bench.store.promote(due, 1), await bench.store.promote(due, 9)] == [1, 2]
            for job in await bench.take(now=due):
                await bench.fail(job.id, now=due)
            assert [await bench.store.reap(reaped_at, 1), await bench.store.reap(reaped_at, 9)] == [1, 2]


class TestOpening(OnPostgres):
    async def test_a_database_is_made_ready_once(self) -> None:
        url = self.databases.fresh()
        for _ in range(2):
            store = PostgresStore(url, Defaults(), LoadedDice())
            await store.open(Silence())
            await store.close()
            await store.close()


class TestPostgresStore(OnPostgres, DurableStoreConformance):
    async def test_what_is_no_store_is_not_copied(self, tmp_path: Path) -> None:
        self.url = lambda place: self.databases.fresh()  # type: ignore[method-assign] - one without tables
        await super().test_what_is_no_store_is_not_copied(tmp_path)
