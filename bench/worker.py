"""A process that works: `python -m bench.worker --url URL --jobs N`.

It prints a line when it is about to take, and another when the server has acknowledged N jobs. With `--latency` the
second line has the seconds from each job's enqueue to the start of its handler.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import Any

import zizq
from bench.enqueuer import TYPE
from zizq.worker.running import run_loop

CONCURRENCY = 100
PREFETCH = 2000
"""Room for the next jobs while the acknowledgement of the last is on its way; for jobs that do nothing, many."""


class CountingClient(zizq.Client):
    """A client that sees how many jobs the server has acknowledged.

    Args:
        url: Of the server.
        goal: The number to wait for.
    """

    def __init__(self, url: str, goal: int) -> None:
        super().__init__(url)
        self.left = goal
        self.ended = 0.0
        self.reached = asyncio.Event()

    async def report_success_bulk(self, ids: Any) -> list[str]:
        """Report, and count."""
        missed = await super().report_success_bulk(ids)
        self.left -= len(ids) - len(missed)
        if self.left <= 0 and not self.ended:
            self.ended = time.monotonic()
            self.reached.set()
        return missed


async def work(url: str, jobs: int, *, latency: bool) -> None:
    """Work until so many jobs are acknowledged."""
    router, seconds, ran = zizq.Router(), [], 0

    async def nothing(job: zizq.Job) -> None:
        nonlocal ran
        ran += 1

    async def note(job: zizq.Job) -> None:
        nonlocal ran
        now = time.monotonic()
        seconds.append(now - job.payload["at"])
        ran += 1

    router.route(TYPE)(note if latency else nothing)
    async with CountingClient(url, jobs) as client:
        await client.health()
        worker = zizq.Worker(client, router, concurrency=CONCURRENCY, prefetch=PREFETCH)
        began, spent = time.monotonic(), time.process_time()
        running = asyncio.create_task(worker.run(client.reached))
        if latency:
            await asyncio.sleep(0.5)  # the take stream is open before the first job comes
        tell({"began": began})
        await running
    cpu = time.process_time() - spent
    tell({"began": began, "ended": client.ended, "cpu": cpu, "ran": ran, "seconds": seconds})


def tell(line: dict[str, Any]) -> None:
    """Print a line that is read at once."""
    print(json.dumps(line), flush=True)


def main() -> None:
    """Work as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--latency", action="store_true")
    order = parser.parse_args()
    run_loop(work(order.url, order.jobs, latency=order.latency))


if __name__ == "__main__":
    main()
