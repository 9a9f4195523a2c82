"""The systems, and how each is set. docs/decisions/benchmarks.md says why so.

A worker is one command. `default` is what its documentation starts; `best` is what drained no-op jobs fastest here, of
what one command can start on two cores; `wide` has a hundred jobs at once, or as many as the system can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.peers import servers
from bench.peers.servers import Kind

SYSTEMS = "bench.peers.systems"


@dataclass(frozen=True)
class Worker:
    """A worker's command.

    Args:
        label: What sets it apart, as the page says it.
        command: Program and arguments; `{url}` is the server's address. Empty is our loop around the system's client.
        concurrency: Jobs at once, for systems that are told in code.
        variables: What it is told by the environment.
    """

    label: str
    command: Sequence[str] = ()
    concurrency: int = 0
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class System:
    """A system.

    Args:
        name: As the page calls it.
        module: Its file in `systems/`.
        server: What it keeps its jobs in.
        jobs: How many a drain takes, for some seconds of it: at best settings, and as it comes.
        workers: `default`, `best` and `wide`.
        environment: Where its packages are: `main`, `old-redis`, or `ours`.
        bulk: Whether it can enqueue many at once.
        crash: What its documentation says of jobs whose worker was killed.
    """

    name: str
    module: str
    server: Kind
    jobs: tuple[int, int]
    workers: Mapping[str, Worker]
    crash: str
    environment: str = "main"
    bulk: bool = True


REDIS = Kind(
    "Redis",
    servers.redis,
    quick="Redis as it comes: snapshots, minutes may be lost",
    synced="Redis: log synced at each write",
    version=["redis-server", "--version"],
)
POSTGRESQL = Kind(
    "PostgreSQL",
    servers.postgresql,
    quick="",
    synced="PostgreSQL as it comes: synced at each commit",
    version=["postgres", "--version"],
)
SQLITE = Kind("SQLite", servers.sqlite, quick="", synced="SQLite as Huey sets it: synced at each commit")
BEANSTALKD = Kind(
    "beanstalkd",
    servers.beanstalkd,
    quick="beanstalkd as it comes: memory alone",
    synced="beanstalkd -b -f 0: log synced at each write",
    version=["beanstalkd", "-v"],
)
NATS = Kind(
    "NATS",
    servers.nats,
    quick="JetStream on disk as it comes: synced every 2 minutes",
    synced="",  # Debian's version cannot
    version=["nats-server", "--version"],
)
ZIZQ = Kind(
    "zizq",
    servers.zizq("buffered", "fsync-all"),
    quick="zizq buffered: survives its own death, not a power cut",
    synced="zizq fsync-all: enqueues and acknowledgements are synced",
)
ZIZQ_AS_IT_COMES = Kind(
    "zizq",
    servers.zizq("", "fsync"),
    quick="",
    synced="zizq as it comes: enqueues are synced, acknowledgements are not",
)

ZIZQ_ON_POSTGRESQL = Kind(
    "zizq on PostgreSQL",
    servers.zizq_on_postgresql,
    quick="",
    synced="PostgreSQL as it comes, zizq too: enqueues are synced, acknowledgements are not",
)

OURS = {
    "default": Worker("1 process"),
    "best": Worker("1 process, prefetch 2,000", concurrency=100),
    "wide": Worker("1 process, 100 at once", concurrency=100),
}
CELERY = ["celery", "-A", f"{SYSTEMS}.celery", "worker", "--loglevel", "ERROR"]
LEAN = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--prefetch-multiplier", "128"]
RQ = ["worker", "--url", "{url}", "--quiet"]
HUEY_REDIS = ["huey_consumer", f"{SYSTEMS}.huey_redis.huey", "--quiet"]
HUEY_SQLITE = ["huey_consumer", f"{SYSTEMS}.huey_sqlite.huey", "--quiet"]
DRAMATIQ = ["dramatiq", f"{SYSTEMS}.dramatiq"]
ARQ = ["arq", f"{SYSTEMS}.arq.WorkerSettings"]
ARQ_QUIET = [*ARQ, "--custom-log-dict", f"{SYSTEMS}.arq.quiet"]
SAQ = ["saq", f"{SYSTEMS}.saq.settings", "--quiet"]
TASKIQ = ["taskiq", "worker", f"{SYSTEMS}.taskiq:broker", "--log-level", "ERROR"]
STREAQ = ["streaq", "run", f"{SYSTEMS}.streaq:worker"]
PROCRASTINATE = ["procrastinate", "-a", f"{SYSTEMS}.procrastinate.app", "worker"]
PROCRASTINATE_QUIET = [*PROCRASTINATE[:1], "--log-level", "error", *PROCRASTINATE[1:]]

ALL = {
    "zizq": System("zizq", "zizq", ZIZQ, (100_000, 6_000), OURS, "given to others when the connection ends", "ours"),
    "zizq-fsync": System("zizq", "zizq", ZIZQ_AS_IT_COMES, (100_000, 6_000), OURS, "as above", "ours"),
    "zizq-postgresql": System(
        "zizq on PostgreSQL", "zizq", ZIZQ_ON_POSTGRESQL, (50_000, 4_000), OURS, "as above", "ours"
    ),
    "celery": System("Celery", "celery", REDIS, (4_000, 3_000), {
        "default": Worker("2 processes", [*CELERY]),
        "best": Worker("2 processes, lean, prefetch 128", [*CELERY, *LEAN, "-c", "2"]),
        "wide": Worker("16 processes, lean", [*CELERY, *LEAN[:3], "-c", "16"]),
    }, "acknowledged before they run, and so lost; those only fetched are back after an hour", bulk=False),
    "celery-threads": System("Celery, threads", "celery", REDIS, (4_000, 3_000), {
        "default": Worker("2 threads", [*CELERY, "-P", "threads"]),
        "best": Worker("8 threads, lean, prefetch 128", [*CELERY, *LEAN, "-P", "threads", "-c", "8"]),
        "wide": Worker("100 threads, lean", [*CELERY, *LEAN[:3], "-P", "threads", "-c", "100"]),
    }, "as above", bulk=False),
    "rq": System("RQ", "rq", REDIS, (1_000, 200), {
        "default": Worker("a fork for each job", ["rq", *RQ]),
        "best": Worker("SimpleWorker: no fork", ["rq", *RQ, "-w", "rq.SimpleWorker"]),
        "wide": Worker("16 processes, no fork", ["rq", "worker-pool", *RQ[1:], "-n", "16", "-w", "rq.SimpleWorker"]),
    }, "failed and not tried again, once they are found some minutes later"),
    "dramatiq": System("Dramatiq", "dramatiq", REDIS, (12_000, 8_000), {
        "default": Worker("2 processes, 8 threads each", DRAMATIQ),
        "best": Worker("2 processes, 2 threads each, prefetch 1,000", [*DRAMATIQ, "-p", "2", "-t", "2"],
                       variables={"dramatiq_queue_prefetch": "1000"}),
        "wide": Worker("1 process, 100 threads", [*DRAMATIQ, "-p", "1", "-t", "100"]),
    }, "given to others once a worker has been silent for a minute, by chance: 1 in 1,000 at each command", bulk=False),
    "huey-redis": System("Huey on Redis", "huey_redis", REDIS, (15_000, 8_000), {
        "default": Worker("1 thread", HUEY_REDIS),
        "best": Worker("2 processes", [*HUEY_REDIS, "-k", "process", "-w", "2"]),
        "wide": Worker("100 threads", [*HUEY_REDIS, "-w", "100"]),
    }, "lost: they are off the queue before they run", bulk=False),
    "huey-sqlite": System("Huey on SQLite", "huey_sqlite", SQLITE, (2_000, 1_000), {
        "default": Worker("1 thread", HUEY_SQLITE),
        "best": Worker("1 thread, polls each ms", [*HUEY_SQLITE, "-d", "0.001", "-m", "0.001"]),
        "wide": Worker("100 threads", [*HUEY_SQLITE, "-w", "100"]),
    }, "lost: they are off the queue before they run", bulk=False),
    "arq": System("arq", "arq", REDIS, (3_000, 1_000), {
        "default": Worker("10 at once", ARQ),
        "best": Worker("500 at once, polls each 5 ms, quiet, no results, uvloop", ARQ_QUIET, 500),
        "wide": Worker("100 at once, quiet", ARQ_QUIET, 100),
    }, "run again when their time limit of 5 minutes is over", "old-redis", bulk=False),
    "saq": System("SAQ", "saq", REDIS, (4_000, 3_000), {
        "default": Worker("10 at once", SAQ),
        "best": Worker("2 processes, 32 at once each, uvloop, no results", [*SAQ, "--workers", "2"], 32),
        "wide": Worker("100 at once, uvloop", SAQ, 100),
    }, "found by a sweep each minute; not tried again unless the job asks for it", "old-redis", bulk=False),
    "taskiq": System("Taskiq", "taskiq", REDIS, (6_000, 5_000), {
        "default": Worker("2 processes, 100 at once each", TASKIQ),
        "best": Worker("2 processes, prefetch 100, no parsing", [*TASKIQ, "--no-parse", "--max-prefetch", "100"]),
        "wide": Worker("1 process, 100 at once", [*TASKIQ, "-w", "1", "--max-async-tasks", "100"]),
    }, "given to others after 10 minutes", bulk=False),
    "streaq": System("streaQ", "streaq", REDIS, (2_000, 1_500), {
        "default": Worker("16 at once", STREAQ),
        "best": Worker("2 processes, 100 at once each, no results", [*STREAQ, "-w", "2"], 100),
        "wide": Worker("100 at once", STREAQ, 100),
    }, "given to others after a minute"),
    "procrastinate": System("Procrastinate", "procrastinate", POSTGRESQL, (1_000, 400), {
        "default": Worker("1 at once", PROCRASTINATE),
        "best": Worker("20 at once, quiet", [*PROCRASTINATE_QUIET, "-c", "20"]),
        "wide": Worker("100 at once, quiet", [*PROCRASTINATE_QUIET, "-c", "100"]),
    }, "stay `doing` until the application asks for stalled jobs and retries them"),
    "pgqueuer": System("PgQueuer", "pgqueuer", POSTGRESQL, (15_000, 4_000), {
        "default": Worker("batches of 10"),
        "best": Worker("batches of 1,000", concurrency=1000),
        "wide": Worker("batches of 100", concurrency=100),
    }, "given to others 30 s after the last heartbeat"),
    "oban": System("Oban for Python", "oban", POSTGRESQL, (6_000, 2_000), {
        "default": Worker("10 at once", concurrency=10),
        "best": Worker("200 at once", concurrency=200),
        "wide": Worker("100 at once", concurrency=100),
    }, "rescued by a sweep each minute when they have run for 5"),
    "beanstalkd": System("beanstalkd", "beanstalkd", BEANSTALKD, (25_000, 15_000), {
        "default": Worker("1 connection"),
        "best": Worker("4 connections, a thread each", concurrency=4),
        "wide": Worker("100 connections, a thread each", concurrency=100),
    }, "given to others when the connection ends", bulk=False),
    "nats": System("NATS JetStream", "nats", NATS, (30_000, 5_000), {
        "default": Worker("fetches 1 at a time"),
        "best": Worker("fetches 500 at a time", concurrency=500),
        "wide": Worker("fetches 100 at a time", concurrency=100),
    }, "given to others 30 s after they were delivered"),
}  # fmt: skip
