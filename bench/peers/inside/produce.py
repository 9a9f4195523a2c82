"""A process that enqueues: `python -m bench.peers.inside.produce SYSTEM SHAPE --do nothing --jobs N --seconds S`.

Each caller enqueues a job, so that all connections are open; then the clock starts, and all enqueue until N more are in
or the time is up. A line says how many there are, how many of them were timed, and when the clock started and stopped.
A system with coroutines has its callers as tasks of one loop, another as threads.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import inspect
import itertools
import json
import os
import threading
import time
from types import ModuleType
from typing import Any, NoReturn

import uvloop

from bench.payload import payload

MANY = 64
"""Callers at once, each with a connection of its own where the system's client can."""
BULKS = 16
BULK_SIZE = 100


class Order:
    """What is to be enqueued, drawn by all callers.

    Args:
        said: The command line.
        bulk: Whether one request takes many.
    """

    def __init__(self, said: argparse.Namespace, *, bulk: bool) -> None:
        self._said, self._batch = said, BULK_SIZE if bulk else 1
        self._numbers = itertools.count()
        self._ends = float("inf")
        self.began = 0.0
        self.warmed = 0

    def warm(self) -> list[dict[str, Any]]:
        """A caller's first request: a job beside those that were ordered, which does nothing."""
        self.warmed += 1
        return [payload() | {"do": "nothing", "number": 0}]

    def begin(self) -> None:
        """Start the clock."""
        self.began = time.monotonic()
        self._ends = self.began + self._said.seconds

    def draw(self) -> list[int]:
        """The numbers of the next jobs; none when it is over."""
        if time.monotonic() > self._ends:
            return []
        numbers = itertools.islice(self._numbers, self._batch)
        return [number for number in numbers if number < self._said.jobs]

    def ahead(self, number: int) -> float:
        """Seconds until a job is due."""
        return max(0.0, self.began + number / self._said.rate - time.monotonic()) if self._said.rate else 0.0

    def payloads(self, numbers: list[int]) -> list[dict[str, Any]]:
        """What these jobs carry, if they are enqueued now."""
        return [payload(time.monotonic()) | {"do": self._said.do, "number": number} for number in numbers]


async def run_async(system: ModuleType, order: Order, callers: int, *, bulk: bool) -> NoReturn:
    """Enqueue from tasks."""
    barrier, done = asyncio.Barrier(callers), 0

    async def send(payloads: list[dict[str, Any]]) -> None:
        await (system.enqueue_bulk(payloads) if bulk else system.enqueue(payloads[0]))

    async def caller() -> None:
        nonlocal done
        await send(order.warm())
        if await barrier.wait() == 0:
            order.begin()
        while numbers := order.draw():
            if ahead := order.ahead(numbers[0]):
                await asyncio.sleep(ahead)
            await send(order.payloads(numbers))
            done += len(numbers)

    await system.open_client()
    await asyncio.gather(*(caller() for _ in range(callers)))
    tell_and_end(order, done)


def run_sync(system: ModuleType, order: Order, callers: int, *, bulk: bool) -> NoReturn:
    """Enqueue from threads."""
    barrier, done = threading.Barrier(callers, action=order.begin), []

    def send(payloads: list[dict[str, Any]]) -> None:
        if bulk:
            system.enqueue_bulk(payloads)
        else:
            system.enqueue(payloads[0])

    def caller() -> None:
        send(order.warm())
        barrier.wait()
        count = 0
        while numbers := order.draw():
            if ahead := order.ahead(numbers[0]):
                time.sleep(ahead)
            send(order.payloads(numbers))
            count += len(numbers)
        done.append(count)

    system.open_client()
    threads = [threading.Thread(target=caller) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tell_and_end(order, sum(done))


def tell_and_end(order: Order, timed: int) -> NoReturn:
    """Print the line, and be gone: pools of connections may take their time to close, or never do."""
    told = {"jobs": order.warmed + timed, "timed": timed, "began": order.began, "ended": time.monotonic()}
    print(json.dumps(told), flush=True)
    os._exit(0)


def main() -> None:
    """Enqueue as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("system")
    parser.add_argument("shape", choices=["one", "many", "bulk", "fill"], help="`fill` is the fastest there is")
    parser.add_argument("--do", default="nothing")
    parser.add_argument("--jobs", type=int, default=10**9)
    parser.add_argument("--seconds", type=float, default=10.0**9)
    parser.add_argument("--rate", type=float, default=0.0, help="jobs a second, whatever the answers")
    said = parser.parse_args()
    system = importlib.import_module(f"bench.peers.systems.{said.system}")
    bulk = said.shape == "bulk" or (said.shape == "fill" and hasattr(system, "enqueue_bulk"))
    order = Order(said, bulk=bulk)
    callers = BULKS if bulk else {"one": 1}.get(said.shape, MANY)
    if inspect.iscoroutinefunction(system.enqueue):
        uvloop.run(run_async(system, order, callers, bulk=bulk))
    else:
        run_sync(system, order, callers, bulk=bulk)


if __name__ == "__main__":
    main()
