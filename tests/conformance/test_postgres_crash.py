"""What a crash of the database undoes of the last moments: takes and settlings are not waited for by default."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from postgres import require_postgres
from zizq.errors import Unavailable
from zizq.policy import Defaults
from zizq.store.postgres.store import PostgresStore
from zizq.testing.bench import Bench, Recorder
from zizq.testing.clock import LoadedDice
from zizq.testing.postgres import Cluster

PATIENCE_S = 20.0


async def begun_anew(store: PostgresStore) -> None:
    """Wait until a server has seen that its lease is lost."""
    fence = store._fence
    async with asyncio.timeout(PATIENCE_S):
        while store._fence == fence:
            with suppress(Unavailable):
                await store._renew()


@asynccontextmanager
async def opened(store: PostgresStore, heard: Recorder) -> AsyncIterator[Bench]:
    await store.open(heard)
    try:
        yield Bench(store, heard, LoadedDice())  # type: ignore[arg-type]
    finally:
        await store.close()


async def test_a_crash_of_the_database_leaves_no_job_in_flight_that_nobody_holds() -> None:
    require_postgres()
    # What is not waited for is lost where it happened less than that before the crash.
    cluster = Cluster(settings={"wal_writer_delay": "10s"})
    try:
        cluster.start()
        store, heard = PostgresStore(cluster.url(), Defaults(), LoadedDice()), Recorder()
        async with opened(store, heard) as bench:
            settled, taken = await bench.enqueue(bench.job("q"), bench.job("q"))
            assert await bench.take_ids(1, owner=1) == [settled]
            # This is waited for, and all that came before is safe with it.
            [third] = await bench.enqueue(bench.job("q"))
            assert await store.succeed([settled], 0) == [True]
            assert await bench.take_ids(1, owner=1) == [taken]
            cluster.stop(signal.SIGQUIT)
            cluster.start()
            await begun_anew(store)
            # The success is undone, so it runs again; that its worker has reported it does not matter any more.
            assert await bench.take_ids(10, owner=2) == [settled, taken, third]
            assert heard.freed_by == {1: 2}
    finally:
        cluster.remove()
