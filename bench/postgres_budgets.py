"""`python -m bench.postgres_budgets`: what budgets cost where jobs rest in PostgreSQL, in one process without HTTP.

Eight streams take and complete what was enqueued. The kinds of jobs go forth and back, so that a machine which grows
slower does not favour one; medians are printed.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from bench import report
from zizq.budget import Budget, Draw, Strategy, StrategyType
from zizq.job import JobRecord
from zizq.policy import Defaults
from zizq.store.base import Silence
from zizq.store.postgres.store import PostgresStore
from zizq.testing.bench import NOW, Bench, Recorder
from zizq.testing.clock import LoadedDice
from zizq.testing.postgres import Cluster

JOBS, STREAMS, ROUNDS = 6000, 8, 3
LANES, PER_LANE = 2000, 5
FLIGHT = Strategy(StrategyType.WHILE_IN_FLIGHT)
BUDGETS = (
    Budget("a", 1_000_000, FLIGHT, NOW, NOW),
    Budget("b", 1_000_000, FLIGHT, NOW, NOW),
    Budget("rate", 1_000_000, Strategy(StrategyType.TIME_BASED, 1000), NOW, NOW),
)
KINDS: Mapping[str, tuple[Draw, ...] | None] = {
    "no budgets": None,
    "one that never runs out": (Draw("a", 1),),
    "a rate that never runs out": (Draw("rate", 1),),
    "two that never run out": (Draw("a", 1), Draw("b", 1)),
}


def processor_s(cluster: Cluster) -> float:
    """The time of the processor that a cluster has had, in the processes that run."""
    ticks = 0
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == cluster.pid:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


async def opened(cluster: Cluster) -> Bench:
    """A store with nothing in it but budgets."""
    store = PostgresStore(cluster.url(), Defaults(completed_ms=0), LoadedDice())
    await store.open(Silence())
    await store.reset()
    for budget in BUDGETS:
        await store.save_budget(budget.key, None, budget, NOW)
    return Bench(store, Recorder(), LoadedDice())


async def drain(bench: Bench, jobs: int, limit: int) -> float:
    """Take and complete all there is; returns how many a second."""
    left, began = jobs, time.perf_counter()

    async def work(owner: int) -> None:
        nonlocal left
        while left:
            taken: Sequence[JobRecord] = await bench.take(limit, owner=owner)
            left -= len(taken)
            await bench.store.succeed([job.id for job in taken], NOW)

    await asyncio.gather(*[work(owner) for owner in range(STREAMS)])
    return jobs / (time.perf_counter() - began)


async def of_kind(cluster: Cluster, kind: str, limit: int) -> tuple[float, float, float]:
    """The rate, and the microseconds of the processor for a job: of this process, and of PostgreSQL."""
    bench = await opened(cluster)
    for _ in range(JOBS // 1000):
        await bench.enqueue(*[bench.job(budgets=KINDS[kind]) for _ in range(1000)])
    own, theirs = time.process_time(), processor_s(cluster)
    rate = await drain(bench, JOBS, limit)
    own, theirs = time.process_time() - own, processor_s(cluster) - theirs
    await bench.store.close()
    return rate, own / JOBS * 1e6, theirs / JOBS * 1e6


async def of_many_lanes(cluster: Cluster) -> float:
    """The rate where each of many customers has a budget of its own."""
    bench = await opened(cluster)
    create = {f"c{at}": Budget(f"c{at}", 3, FLIGHT, NOW, NOW) for at in range(LANES)}
    for _ in range(PER_LANE):
        await bench.store.enqueue([bench.job(budgets=(Draw(key, 1),)) for key in create], NOW, create=create)
    rate = await drain(bench, LANES * PER_LANE, 10)
    await bench.store.close()
    return rate


async def measure(cluster: Cluster) -> None:
    """Measure everything, and print it."""
    for limit in (100, 10):
        found: dict[str, list[tuple[float, float, float]]] = {kind: [] for kind in KINDS}
        for number in range(ROUNDS):
            for kind in list(KINDS)[:: -1 if number % 2 else 1]:
                found[kind].append(await of_kind(cluster, kind, limit))
        for kind, rounds in found.items():
            rate, own, theirs = (median(column) for column in zip(*rounds, strict=True))
            print(f"{limit} a take, {kind}: {rate:,.0f} jobs/s, {own:.0f} + {theirs:.0f} us a job", flush=True)
    print(f"{LANES} budgets with {PER_LANE} jobs each, 10 a take: {await of_many_lanes(cluster):,.0f} jobs/s")


def main() -> None:
    """Measure once."""
    print(report.machine(), file=sys.stderr)
    cluster = Cluster(fsync=True)
    try:
        cluster.start()
        asyncio.run(measure(cluster))
    finally:
        cluster.remove()


if __name__ == "__main__":
    main()
