"""A model of servers, workers and databases: what rate machines reach, and what a rate takes. Pure but for `main`.

A job costs processor time of its client, a server, the database and a worker, and bytes of the database's log. A rate
is bounded by whatever runs out first: the cores of a machine, the one core of a process that has one thread, or the
disk of the database. The costs are measured with one server (`python -m bench servers`), and checked on two:
`python -m bench.scale_model` prints both side by side, and what a million jobs a second take.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import ceil
from pathlib import Path
from typing import Any

from bench.report import markdown

RESULTS = Path(__file__).parent / "results" / "servers.json"
GOAL = 1_000_000
"""The jobs a second that are planned for."""
BUSY = 0.7
"""The part of a machine's time that is planned for: beyond it, waiting grows faster than work."""


@dataclass(frozen=True)
class Cost:
    """What one job takes, of a kind of work.

    Args:
        client: Microseconds of processor time of whoever enqueues or works.
        server: The same of the server.
        database: The same of PostgreSQL, all its processes together.
        wal: Bytes of the database's log.
        commits: Transactions of the database.
    """

    client: float
    server: float
    database: float
    wal: float
    commits: float

    @property
    def cpu(self) -> float:
        """Microseconds in all."""
        return self.client + self.server + self.database

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(Cost)))


@dataclass(frozen=True)
class Work:
    """A kind of work on one machine.

    Args:
        cost: What one job takes in all.
        threads: For each thing that does one step at a time, the microseconds a job of that: a process with one thread,
            or the transactions of a server, which wait for the disk.
    """

    cost: Cost
    threads: Mapping[str, float]


def enqueuing(cost: Cost, sync_s: float, servers: int) -> Work:
    """Enqueue in bulk, with an enqueuer for each server.

    Args:
        cost: What that takes of a job.
        sync_s: How long the disk takes to make a commit certain.
        servers: How many there are.
    """
    waiting = cost.database + cost.commits * sync_s * 1e6
    parts = {"each server": cost.server, "each enqueuer": cost.client, "the commits of each server": waiting}
    return Work(cost, {name: spent / servers for name, spent in parts.items()})


def end_to_end(enqueue: Cost, rest: Cost, sync_s: float, servers: int) -> Work:
    """Enqueue with one process at the last server, and work with one at the first.

    Args:
        enqueue: What an enqueue takes of a job.
        rest: What it takes from there to its end.
        sync_s: How long the disk takes to make a commit certain.
        servers: How many there are, one or two.
    """
    enqueuer = enqueuing(enqueue, sync_s, 1).threads
    servers_of = [enqueue.server + rest.server] if servers == 1 else [enqueue.server, rest.server]
    return Work(enqueue + rest, {**enqueuer, "each server": max(servers_of), "the worker": rest.client})


def rate(work: Work, cores: float) -> tuple[float, str]:
    """The jobs a second that one machine reaches with so many cores, and what bounds them."""
    bounds = {"all cores": work.cost.cpu / cores, **work.threads}
    bound = max(bounds, key=bounds.__getitem__)
    return 1e6 / bounds[bound], bound


@dataclass(frozen=True)
class Database:
    """One PostgreSQL: the cores of its machine, and the bytes of log a second that its disk takes."""

    cores: int
    wal_bytes_s: float


@dataclass(frozen=True)
class Plan:
    """What a rate takes.

    Args:
        servers: How many servers; each uses one core.
        client_cores: Cores for those that enqueue and work.
        databases: How many databases: each is a shard, with servers of its own.
        by: What decides how many.
        wal_bytes_s: Bytes of log a second in all.
    """

    servers: int
    client_cores: int
    databases: int
    by: str
    wal_bytes_s: float


def plan(cost: Cost, jobs_s: float, database: Database, busy: float = BUSY) -> Plan:
    """What so many jobs a second take.

    Args:
        cost: What one job takes from its enqueue to its end.
        jobs_s: The rate.
        database: Each of the databases.
        busy: The part of all machines' time that is planned for.
    """
    needs = {
        "its cores": ceil(jobs_s * cost.database / 1e6 / busy / database.cores),
        "its log": ceil(jobs_s * cost.wal / busy / database.wal_bytes_s),
    }
    by = max(needs, key=needs.__getitem__)
    spent = (ceil(jobs_s * part / 1e6 / busy) for part in (cost.server, cost.client))
    return Plan(*spent, needs[by], by, jobs_s * cost.wal)


# ── what it says of measured costs ──────────────────────────────────────────────────────────────────


Points = Mapping[str, list[dict[str, float]]]
"""For each kind of work its measurements, as bench.servers keeps them."""


def middle(measured: list[dict[str, float]]) -> dict[str, float]:
    """The measurement with the middle rate."""
    return sorted(measured, key=lambda one: one["rate"])[len(measured) // 2]


def cost_of(point: Mapping[str, float]) -> Cost:
    """What a job took in a measurement."""
    return Cost(*(point[field.name] for field in fields(Cost)))


def checked(points: Points, sync_s: float) -> list[list[str]]:
    """A row for each kind of work: measured, predicted, how far that is off, and what bounds it."""
    enqueue, rest = (cost_of(middle(points[name])) for name in ("bulk, 1 server", "drain, 1 server"))
    works = {
        "bulk, 1 server": enqueuing(enqueue, sync_s, 1),
        "bulk, 2 servers": enqueuing(enqueue, sync_s, 2),
        "drain, 1 server": Work(rest, {"the server": rest.server, "the worker": rest.client}),
        "end to end, 1 server": end_to_end(enqueue, rest, sync_s, 1),
        "end to end, 2 servers": end_to_end(enqueue, rest, sync_s, 2),
    }
    rows = []
    for name, work in works.items():
        point = middle(points[name])
        predicted, bound = rate(work, point["cores"])
        off = predicted / point["rate"] - 1
        rows.append([name, f"{point['cores']:.1f}", f"{point['rate']:,.0f}", f"{predicted:,.0f}", f"{off:+.0%}", bound])
    return rows


def planned(points: Points, goal: float = GOAL) -> list[list[str]]:
    """A row for each size of databases: what the goal takes."""
    cost = cost_of(middle(points["bulk, 1 server"])) + cost_of(middle(points["drain, 1 server"]))
    rows = []
    for cores, wal in ((16, 500e6), (32, 1e9), (64, 2e9)):
        found = plan(cost, goal, Database(cores, wal))
        each = f"{goal / found.databases:,.0f}"
        log = f"{found.wal_bytes_s / 1e6:,.0f}"
        figures = (found.databases, each, found.by, found.servers, found.client_cores, log)
        rows.append([f"{cores} cores, {wal / 1e6:,.0f} MB/s of log", *map(str, figures)])
    return rows


def main() -> None:
    """Print what the model says of the measurements in a file; those that are kept where none is named."""
    results: Any = json.loads(Path(sys.argv[1] if len(sys.argv) > 1 else RESULTS).read_text())
    kept = next(table["samples"] for table in results["tables"] if table["name"] == "servers")
    columns = ["work", "cores", "measured, jobs/s", "predicted", "off by", "bound by"]
    print(markdown(columns, checked(kept["points"], kept["sync_s"]), 1), end="\n\n")
    columns = ["each database", "databases", "jobs/s of each", "bound by", "servers", "cores of clients", "log, MB/s"]
    print(markdown(columns, planned(kept["points"]), 1))


if __name__ == "__main__":
    main()
