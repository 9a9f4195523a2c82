"""A process that is many workers: `python -m bench.fleet --url URL --workers W`.

Each has a client, and so connections, of its own. It prints a line when all have their take streams open, and then
answers each line of its input: `wait N` once its workers have run N jobs in all, with when that was so; `stamps` with
the seconds from enqueue to start of each job so far, which are then forgotten.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from contextlib import AsyncExitStack

import zizq
from bench.enqueuer import TYPE
from bench.worker import tell
from zizq.worker.running import run_loop

POLL_S = 0.002
CONCURRENCY, PREFETCH = 10, 200
"""Of each worker; those of a large fleet are small."""
OPENING = 50
"""Workers that connect at once."""


class Fleet:
    """Workers that count together."""

    def __init__(self) -> None:
        self.ran, self.last = 0, 0.0
        self.seconds: list[float] = []

    async def run(self, job: zizq.Job) -> None:
        """Do nothing, but be counted."""
        self.last = time.monotonic()
        self.ran += 1
        self.seconds.append(self.last - job.payload["at"])

    async def live(self, url: str, workers: int) -> None:
        """Have so many workers until the input ends."""
        router = zizq.Router()
        router.route(TYPE)(self.run)
        async with AsyncExitStack() as stack:
            for first in range(0, workers, OPENING):
                await self._open(stack, url, router, min(OPENING, workers - first))
            tell({"connected": workers})
            await self._answer()

    async def _open(self, stack: AsyncExitStack, url: str, router: zizq.Router, count: int) -> None:
        opened = []
        for _ in range(count):
            client = await stack.enter_async_context(zizq.Client(url))
            worker = zizq.Worker(client, router, concurrency=CONCURRENCY, prefetch=PREFETCH)
            opened.append(await stack.enter_async_context(worker))
        while not all(worker.health().connected for worker in opened):  # noqa: ASYNC110 - health has no event
            await asyncio.sleep(POLL_S)

    async def _answer(self) -> None:
        while line := await asyncio.to_thread(sys.stdin.readline):
            if line.startswith("wait "):
                while self.ran < int(line.split()[1]):  # noqa: ASYNC110 - an event would cost each job
                    await asyncio.sleep(POLL_S)
                tell({"ran": self.ran, "last": self.last})
            else:
                seconds, self.seconds = self.seconds, []
                tell({"seconds": seconds})


def main() -> None:
    """Work as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--workers", type=int, required=True)
    order = parser.parse_args()
    run_loop(Fleet().live(order.url, order.workers))


if __name__ == "__main__":
    main()
