"""What a seed makes of a world: how large it is, what it works on, and which faults it has.

Each fault is there in some worlds and not in others, so that every pair of them also meets alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from trust.network import Weather

QUEUES = ("a", "b", "c")
STORM_S = 45.0
"""How long faults come, and clients bring work."""


@dataclass(frozen=True)
class WorkerPlan:
    """One worker.

    Args:
        queues: What it takes from; empty for all.
        concurrency: How many handlers run at once.
        prefetch: How many jobs it holds.
        job_timeout: How long it may hold a job that does not say so itself; None for as long as it likes.
    """

    queues: tuple[str, ...]
    concurrency: int
    prefetch: int
    job_timeout: float | None = None


@dataclass(frozen=True)
class Plan:
    """A world.

    Args:
        clients: Programs that enqueue and change jobs.
        calls: How many calls each makes.
        spread: Over which part of the storm.
        workers: What works.
        weather: What befalls connections.
        limit: Jobs in flight at most; 0 for any number.
        slow_disk_s: The longest that a call to the store waits.
        crash_every_s: Between two ends of the server, in the mean; 0 for none.
        death_every_s: Between two ends of workers; 0 for none.
        partition_every_s: Between two times at which a host is cut off; 0 for none.
        full_disk_every_s: Between two times at which the disk is full; 0 for none.
        failing: The chance that a handler fails.
        slow_handlers: Whether some handlers take many seconds.
        features: Which kinds of jobs there are: delays, keys, budgets, crons, changes, timeouts; and
            whether queues are paused, and everything is reset.
        completed_ms: How long completed jobs are kept.
        dead_ms: How long dead jobs are kept.
        promoted: Scheduled jobs that are promoted together.
        deaths: How many workers may die with a job; 0 for any number.
    """

    clients: int
    calls: int
    spread: float
    workers: tuple[WorkerPlan, ...]
    weather: Weather
    limit: int
    slow_disk_s: float
    crash_every_s: float
    death_every_s: float
    partition_every_s: float
    full_disk_every_s: float
    failing: float
    slow_handlers: bool
    features: frozenset[str]
    completed_ms: int
    dead_ms: int
    promoted: int
    deaths: int


def draw(dice: Random) -> Plan:
    """The plan of a world."""

    def sometimes(value: float) -> float:
        return value if dice.random() < 0.5 else 0.0

    features = ("delays", "keys", "budgets", "crons", "changes", "timeouts", "pauses", "reset")
    return Plan(
        clients=dice.randint(1, 3),
        calls=dice.randint(5, 25),
        spread=dice.choice((0.05, 0.6, 0.6)),
        workers=tuple(_worker(dice) for _ in range(dice.randint(1, 4))),
        weather=Weather(
            delay_s=dice.choice((0.0005, 0.005, 0.05)),
            slow=sometimes(0.1),
            refused=sometimes(0.05),
            lost=sometimes(0.05),
            cut=sometimes(0.03),
            unanswered=sometimes(0.08),
            silent=sometimes(0.02),
            stream_life_s=sometimes(dice.choice((1.0, 10.0))),
            stream_silent=sometimes(0.4),
        ),
        limit=dice.choice((0, 0, 2, 5, 1024)),
        slow_disk_s=sometimes(dice.choice((0.002, 0.05))),
        crash_every_s=sometimes(15.0),
        death_every_s=sometimes(dice.choice((3.0, 10.0))),
        partition_every_s=sometimes(15.0),
        full_disk_every_s=0.0 if dice.random() < 0.8 else 15.0,
        failing=sometimes(0.3),
        slow_handlers=dice.random() < 0.3,
        features=frozenset(name for name in features if dice.random() < (0.1 if name == "reset" else 0.5)),
        completed_ms=dice.choice((0, 0, 4000)),
        dead_ms=dice.choice((0, 20_000, 600_000)),
        promoted=dice.choice((1, 3, 200)),
        deaths=dice.choice((0, 1, 5)),
    )


def _worker(dice: Random) -> WorkerPlan:
    queues = tuple(queue for queue in QUEUES if dice.random() < 0.6)
    concurrency = dice.choice((1, 1, 2, 4))
    prefetch = concurrency + dice.choice((0, 0, 1, 4))
    return WorkerPlan(queues, concurrency, prefetch, dice.choice((None, None, None, 2.0)))


CALM = Weather()
"""The weather in which everything must come to an end."""
