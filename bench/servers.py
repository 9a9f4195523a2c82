"""What servers on one PostgreSQL do, with fsync on: database, servers, enqueuers and workers share one machine.

Each measurement has an empty database and new servers. Beside the rates it takes what a job costs: processor time of
each process, bytes of the database's log, commits. From the costs with one server bench.scale_model predicts rates.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import psycopg

from bench import trees
from bench.programs import SCRATCH, Server, enqueuing, scratch, working
from bench.report import Table, millis, quantile, rate, sync_time
from bench.report import share as shown_share
from bench.scale_model import Cost
from bench.throughput import check_done
from zizq.testing.postgres import Cluster

MODE = "fsync"
BULK, DRAIN, MIXED = 100_000, 60_000, 60_000
BACKLOG, PARTS, PART = 1_000_000, 3, 30_000
PACE, PACED_S = 500, 20
"""Jobs a second for the latency, and for how many seconds."""
SAMPLED_S = 0.02
"""How often it is looked whether cores have nothing to do."""
GOALS = {
    "bulk, 1 server": "40,000",
    "end to end, 2 servers": "10,000",
    "p99 from enqueue to start, ms": "< 30",
    "drain at 1,000,000 queued": "85% of the empty rate",
    "drain beside an old snapshot": "50% of the empty rate",
}


class Bed:
    """A PostgreSQL, and servers on new databases in it.

    Args:
        cluster: It runs.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._made = 0
        self.url = ""
        """Of the database in use."""
        self.servers: list[Server] = []

    @contextmanager
    def serving(self, servers: int) -> Iterator[list[Server]]:
        """So many servers on a new database."""
        self._made += 1
        name = f"bench_{self._made}"
        self._cluster.psql(f"CREATE DATABASE {name}")
        self.url = self._cluster.url(name)
        with ExitStack() as stack:
            self.servers = [stack.enter_context(Server(self.url, MODE)) for _ in range(servers)]
            yield self.servers
        self._cluster.psql(f"DROP DATABASE {name} WITH (FORCE)")

    def spent(self) -> tuple[float, float, int, int]:
        """What was used so far: seconds of servers and database, bytes of log, commits."""
        with psycopg.connect(self.url, autocommit=True) as db:
            row = db.execute(
                """SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint, xact_commit
                   FROM pg_stat_database WHERE datname = current_database()"""
            ).fetchone()
        assert row is not None
        return sum(server.cpu() for server in self.servers), trees.cpu(self._cluster.pid or 0), row[0], row[1]

    def rest(self) -> None:
        """Let the database put away what it was given, so that the next figure does not pay for it."""
        self._cluster.psql("CHECKPOINT")


class Point(NamedTuple):
    """What was measured.

    Args:
        rate: Jobs a second.
        cost: What one took.
        cores: How many cores were there for us: those that we used, and those that had nothing to do.
    """

    rate: float
    cost: Cost
    cores: float


class Meter:
    """What is used from its making on.

    Args:
        bed: The servers and the database.
    """

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self._spent = bed.spent()
        self._idle: list[tuple[float, float]] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._is_over.wait(SAMPLED_S):
            self._idle.append((time.monotonic(), _idle()))

    def point(self, jobs: int, done: Sequence[dict[str, float]]) -> Point:
        """What so many jobs took; clients have said what they did, and when."""
        self._is_over.set()
        self._thread.join()
        # The counters of transactions are told once a second.
        time.sleep(1.1)
        spent = zip(self._bed.spent(), self._spent, strict=True)
        servers, database, wal, commits = (late - early for late, early in spent)
        client = sum(line["cpu"] for line in done)
        cost = Cost(*(used * 1e6 / jobs for used in (client, servers, database)), wal / jobs, commits / jobs)
        began, ended = min(line["began"] for line in done), max(line["ended"] for line in done)
        idle = [seconds for at, seconds in self._idle if began <= at <= ended] or [0.0]
        cores = (client + servers + database + idle[-1] - idle[0]) / (ended - began)
        return Point(jobs / (ended - began), cost, cores)


def _idle() -> float:
    """Seconds that all cores together have spent on nothing."""
    times = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return (int(times[4]) + int(times[5])) / os.sysconf("SC_CLK_TCK")


def bulk(bed: Bed, jobs: int) -> Point:
    """Enqueue a hundred a request: one process for each server."""
    meter = Meter(bed)
    each = jobs // len(bed.servers)
    with ExitStack() as stack:
        programs = [stack.enter_context(enqueuing(server, "bulk", each)) for server in bed.servers]
        done = [program.line() for program in programs]
    return meter.point(each * len(done), done)


def drain(bed: Bed, jobs: int) -> Point:
    """Work a queue off with one worker process."""
    bulk(bed, jobs)
    bed.rest()
    meter = Meter(bed)
    with working(bed.servers[0], jobs) as worker:
        done = worker.line()
    check_done(bed.servers[0], done["ran"], jobs)
    return meter.point(jobs, [done])


def mixed(bed: Bed, jobs: int) -> Point:
    """Enqueue at the last server, and work at the first with one worker process."""
    meter = Meter(bed)
    with working(bed.servers[0], jobs) as worker, enqueuing(bed.servers[-1], "bulk", jobs) as enqueuer:
        done = [enqueuer.line(), worker.line()]
    check_done(bed.servers[0], done[1]["ran"], jobs)
    # The worker waited for jobs before the enqueuer began.
    done[1]["began"] = done[0]["began"]
    return meter.point(jobs, done)


SHAPES: dict[str, tuple[Callable[[Bed, int], Point], int, int]] = {
    "bulk, 1 server": (bulk, BULK, 1),
    "bulk, 2 servers": (bulk, BULK, 2),
    "drain, 1 server": (drain, DRAIN, 1),
    "end to end, 1 server": (mixed, MIXED, 1),
    "end to end, 2 servers": (mixed, MIXED, 2),
}
"""What measures, how many jobs it takes for that, and with how many servers."""


def latency(bed: Bed, jobs: int) -> list[float]:
    """The seconds from enqueue at one server to the start of the handler at another, sorted."""
    with (
        working(bed.servers[0], jobs, latency=True) as worker,
        enqueuing(bed.servers[1], "paced", jobs, PACE) as enqueuer,
    ):
        enqueuer.line()
        return sorted(worker.line()["seconds"])


def backlog(bed: Bed, jobs: int, part: int) -> tuple[list[float], list[float]]:
    """The rates of parts drained from the head of a backlog, and of as many jobs without one, in turn."""
    head, alone = [], []
    with bed.serving(1) as [server]:
        here = bed.url
        _fill(server, jobs)
        for _ in range(PARTS):
            bed.rest()
            head.append(_drained(server, part))
            with bed.serving(1) as [other]:
                _fill(other, part)
                bed.rest()
                alone.append(_drained(other, part))
            bed.url = here
    return head, alone


def pinned(bed: Bed, jobs: int) -> tuple[list[float], list[float]]:
    """The rates of drains while somebody looks at an old state of the database, and while nobody does."""
    beside, alone = [], []
    for _ in range(PARTS):
        for rates, is_pinned in ((alone, False), (beside, True)):
            with bed.serving(1) as [server], ExitStack() as stack:
                if is_pinned:
                    old = stack.enter_context(psycopg.connect(bed.url))
                    old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
                    old.execute("SELECT count(*) FROM zizq.jobs")
                # What is dead by then cannot be swept: takes must not walk over it again and again.
                for _ in range(2):
                    _fill(server, jobs)
                    last = _drained(server, jobs)
                rates.append(last)
    return beside, alone


def run(command: str, *, rounds: int, size: float, modes: object = None) -> Table:
    """Measure everything, shape by shape and round after round; `modes` is of no use."""
    points: dict[str, list[Point]] = {name: [] for name in SHAPES}
    with scratch(), opened() as bed:
        for number in range(rounds):
            for name, (measure, jobs, servers) in SHAPES.items():
                with bed.serving(servers):
                    bed.rest()
                    point = measure(bed, max(200, int(jobs * size)) // 200 * 200)
                points[name].append(point)
                print(f"round {number + 1}/{rounds}: {name}: {point.rate:,.0f} jobs/s", file=sys.stderr)
        with bed.serving(2):
            seconds = latency(bed, max(50, int(PACE * PACED_S * size)))
        print(f"enqueue to start: p99 {millis(quantile(seconds, 0.99))} ms", file=sys.stderr)
        part = max(200, int(PART * size))
        at_head = backlog(bed, max(4 * part, int(BACKLOG * size)), part)
        print(f"drain at the head of a backlog: {_pair(*at_head)}", file=sys.stderr)
        beside = pinned(bed, part)
    rows = [[name, rate([one.rate for one in taken]), GOALS.get(name, "")] for name, taken in points.items()]
    for name, figure in (("p50", quantile(seconds, 0.5)), ("p99", quantile(seconds, 0.99))):
        label = f"{name} from enqueue to start, ms"
        rows.append([label, millis(figure), GOALS.get(label, "")])
    label = f"drain at {max(4 * part, int(BACKLOG * size)):,} queued"
    rows.append([label, _pair(*at_head), GOALS["drain at 1,000,000 queued"]])
    label = "drain beside an old snapshot"
    rows.append([label, _pair(*beside), GOALS[label]])
    kept = {
        name: [{"rate": one.rate, "cores": one.cores, **asdict(one.cost)} for one in taken]
        for name, taken in points.items()
    }
    percentiles = [quantile(seconds, share / 100) for share in range(101)]
    samples = {"points": kept, "sync_s": sync_time(), "latency_s": percentiles}
    return Table("servers", command, ["figure", "measured", "goal"], rows, samples)


@contextmanager
def opened() -> Iterator[Bed]:
    """A PostgreSQL on the disk of the repository, as it comes but for its memory."""
    # Its own user must be able to enter the folder.
    cluster = Cluster(fsync=True, place=SCRATCH, settings={"shared_buffers": "1GB", "max_wal_size": "4GB"})
    try:
        cluster.start()
        yield Bed(cluster)
    finally:
        cluster.remove()


def _pair(one: Sequence[float], other: Sequence[float]) -> str:
    parts = [first / second for first, second in zip(one, other, strict=True)]
    return f"{rate(one)}: {shown_share(parts)} of {rate(other)}"


def _fill(server: Server, jobs: int) -> None:
    with enqueuing(server, "bulk", jobs) as enqueuer:
        enqueuer.line()


def _drained(server: Server, jobs: int) -> float:
    with working(server, jobs) as worker:
        done = worker.line()
    return jobs / (done["ended"] - done["began"])
