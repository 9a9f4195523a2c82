"""What is measured, on a new server each time: every shape is the same for every system."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from bench.peers.bed import Bed
from bench.report import quantile

ENQUEUE_S = 1.5
FILL_S = 12.0
BACKLOG = 1_000_000
LATENCIES = {"idle": (10, 5.0), "paced": (1000, 3.0)}
"""Jobs a second, and for how many seconds."""
CATCH_UP_S = 10.0
"""For those who cannot keep up with a thousand a second: what has run by then counts."""
HELD_JOBS = 50
SETTLE_S = 1.5
"""No other job began for so long: the worker has in hand what it can."""
AT_ONCE_S, BACK_S = 8.0, 150.0
"""How long a killed worker's jobs are waited for, with the machine to ourselves, and in all."""
ONE_IS_BUSY = threading.Lock()
DRAIN_S = 90.0

Figures = dict[str, float]


def enqueue(shape: str) -> Callable[[Bed, float], Figures]:
    """Enqueue for some seconds: jobs a second."""

    def measure(bed: Bed, size: float) -> Figures:
        if shape == "bulk" and not bed.system.bulk:
            return {}
        told = bed.enqueue(shape, seconds=ENQUEUE_S * max(size, 0.25))
        return {shape: told["timed"] / (told["ended"] - told["began"])}

    return measure


def drain(settings: str) -> Callable[[Bed, float], Figures]:
    """Work off a queue, from the first job to the moment when the server has none left; and what that cost."""

    def measure(bed: Bed, size: float) -> Figures:
        name = {"default": "drain default", "best": "drain"}[settings]
        jobs = _count(bed, size, settings)
        rate, cpu = _drain(bed, settings, jobs, "nothing")
        return {name: rate, f"{name} jobs": jobs, **({} if settings == "default" else cpu)}

    return measure


def io(bed: Bed, size: float) -> Figures:
    """The same with jobs that wait for 10 ms each, a hundred at once."""
    rate, _ = _drain(bed, "wide", min(20_000, _count(bed, size)), "sleep")
    return {"io": rate}


def mixed(bed: Bed, size: float) -> Figures:
    """Enqueue and drain at once: from the first enqueue to the moment when nothing is left."""
    jobs = _count(bed, size)
    with bed.working("best", warm=True):
        before = bed.tally.read().jobs
        with bed.produce("fill", jobs=jobs) as producer:
            told = producer.line()
            _ran(bed, before + told["jobs"])
        left, at = bed.left()
    _all_done(bed, left)
    return {"mixed": told["timed"] / (at - told["began"])}


def latency(load: str) -> Callable[[Bed, float], Figures]:
    """From just before the enqueue to the start of the handler, at a pace that heeds no answer: seconds."""

    def measure(bed: Bed, size: float) -> Figures:
        rate, lasts = LATENCIES[load]
        jobs = max(20, int(rate * lasts * size))
        with bed.working("best", warm=True):
            before = bed.tally.read().jobs
            with bed.produce("many", jobs=jobs, rate=rate, do="stamp") as producer:
                all_jobs = before + producer.line()["jobs"]
            ran = bed.wait_ran(all_jobs, CATCH_UP_S)
        seconds = bed.tally.stamps()
        return {
            f"{load} p50": quantile(seconds, 0.5),
            f"{load} p99": quantile(seconds, 0.99),
            f"{load} missed": float(all_jobs - ran),
        }

    return measure


def backlog(bed: Bed, size: float) -> Figures:
    """What a queue of a million costs in memory and on disk, and the time until the server is back with it."""
    server = bed.server
    memory, disk = server.memory(), server.disk()
    told = bed.enqueue("fill", jobs=int(BACKLOG * size), seconds=FILL_S * max(size, 0.1))
    jobs = told["jobs"]
    figures = {"backlog": jobs, "memory": (server.memory() - memory) / jobs}
    server.stop()
    figures["disk"] = (server.disk() - disk) / jobs
    began = server.start()
    there = bed.there(jobs)
    took = time.monotonic() - began
    return figures | ({"start": took} if there == jobs else {"start lost": jobs - there})


def kill(bed: Bed, size: float) -> Figures:
    """End a worker that has fifty jobs in hand, start another, and see when each job runs again.

    `size` changes nothing. Trials run beside each other, for they wait for the better part of it; but one at a time is
    busy. Jobs that had not begun when the worker ended are looked for as well: it may have fetched them.
    """
    with ExitStack() as stack:
        with ONE_IS_BUSY:
            with bed.working("wide", warm=True):
                with bed.produce("many", settings="default", jobs=HELD_JOBS, do="hold") as producer:
                    producer.line()
                began = {number for _, number in _settled(bed)}
            at, seen = time.monotonic(), len(bed.tally.held())
            bed.tally.release()
            stack.enter_context(bed.working("wide"))
            _back(bed, seen, at + AT_ONCE_S)
        back = {number: instant - at for number, instant in _back(bed, seen, at + BACK_S).items()}
        left, _ = bed.left(HELD_JOBS)
    again = [back[number] for number in began if number in back]
    kept = min(HELD_JOBS - len(back), left)
    return {
        "in hand": len(began), "again": len(again), "again s": max(again, default=0.0),
        "waiting": kept, "lost": HELD_JOBS - len(back) - kept,
    }  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """A measurement.

    Args:
        measure: Does it.
        synced: Whether it is of interest what syncing costs it.
        once: Whether it hardly varies, and is done in the first round alone.
    """

    measure: Callable[[Bed, float], Figures]
    synced: bool = False
    once: bool = False


SHAPES = {
    "one": Shape(enqueue("one"), synced=True),
    "many": Shape(enqueue("many"), synced=True),
    "bulk": Shape(enqueue("bulk"), synced=True),
    "drain": Shape(drain("best"), synced=True),
    "default": Shape(drain("default")),
    "mixed": Shape(mixed),
    "idle": Shape(latency("idle"), once=True),
    "paced": Shape(latency("paced")),
    "io": Shape(io),
    "backlog": Shape(backlog, once=True),
    "kill": Shape(kill, once=True),
}


def _count(bed: Bed, size: float, settings: str = "best") -> int:
    best, as_it_comes = bed.system.jobs
    return max(50, int((as_it_comes if settings == "default" else best) * size))


def _drain(bed: Bed, settings: str, jobs: int, do: str) -> tuple[float, Figures]:
    told = bed.enqueue("fill", settings=settings if settings == "default" else "best", jobs=jobs, do=do)
    jobs = int(told["jobs"])
    server_s = bed.server.cpu()
    with bed.working(settings) as worker:
        bed.wait_ran(1, DRAIN_S)
        worker_s = worker.family_cpu()
        _ran(bed, jobs)
        left, at = bed.left()
        server_s, worker_s = bed.server.cpu() - server_s, worker.family_cpu() - worker_s
    _all_done(bed, left)
    seconds = at - bed.tally.read().first
    return jobs / seconds, {"server cpu": server_s / jobs, "worker cpu": worker_s / jobs}


def _ran(bed: Bed, jobs: int) -> None:
    ran = bed.wait_ran(jobs, DRAIN_S)
    if ran != jobs:
        raise RuntimeError(f"{bed.system.name} ran {ran} of {jobs} jobs")


def _all_done(bed: Bed, left: int) -> None:
    if left:
        raise RuntimeError(f"{bed.system.name} has run all jobs, but has {left} left")


def _settled(bed: Bed) -> list[tuple[float, int]]:
    """What has begun, once nothing more begins."""
    held, since = bed.tally.held(), time.monotonic()
    while len(held) < HELD_JOBS and time.monotonic() < since + SETTLE_S:
        time.sleep(0.05)
        if len(now := bed.tally.held()) > len(held):
            held, since = now, time.monotonic()
    return held


def _back(bed: Bed, seen: int, until: float) -> dict[int, float]:
    """When each held job began again, once all have, or the time has come."""
    while True:
        back: dict[int, float] = {}
        for instant, number in bed.tally.held()[seen:]:
            back.setdefault(number, instant)
        if len(back) == HELD_JOBS or time.monotonic() > until:
            return back
        time.sleep(0.02)
