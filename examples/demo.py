"""A server, a client and a worker at work: enqueue real jobs, work them, show progress, print the result.

Run it with `make demo`. The server runs as a process of its own, with its embedded store in a folder that is removed
at the end.
"""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass

import zizq

JOBS = 20_000
FLAKY = 50


@zizq.job_kind("resize_image", queue="images")
@dataclass
class ResizeImage:
    """A job that succeeds."""

    number: int
    width: int


@zizq.job_kind("call_partner", queue="calls", priority=100, backoff=zizq.Backoff(base=0, exponent=0, jitter=0))
@dataclass
class CallPartner:
    """A job that fails the first time and succeeds when it is retried, a second later."""

    number: int


@contextmanager
def server():
    """A server on a free port; yields its address."""
    with tempfile.TemporaryDirectory() as folder:
        ports = ["--port", "0", "--no-admin"]
        command = [sys.executable, "-m", "zizq", "serve", "--root-dir", folder, *ports, "--log-format", "json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            for line in process.stdout:
                fields = json.loads(line)["fields"]
                if fields.get("api") == "primary":
                    break
            yield f"http://{fields['addr']}"
        finally:
            process.terminate()
            process.communicate()


def make_router(runs: Counter) -> zizq.Router:
    """The handlers; each run is counted."""
    router = zizq.Router()

    @router.route
    async def resize(job: ResizeImage) -> None:
        runs[("resize_image", job.number)] += 1

    @router.route
    async def call(job: CallPartner, ctx: zizq.Context) -> None:
        runs[("call_partner", job.number)] += 1
        if ctx.job.attempts == 0:
            raise ConnectionError("the partner does not answer")

    return router


def show(done: int, total: int) -> None:
    """Draw the progress."""
    filled = 40 * done // total
    print(f"\r  working  [{'#' * filled}{'.' * (40 - filled)}] {done:,} of {total:,} runs", end="", flush=True)


async def demo(url: str) -> bool:
    """Enqueue, work, and check; returns whether every job ran as often as it should."""
    runs: Counter = Counter()
    async with zizq.Client(url) as client:
        print(f"server    {url}, version {await client.version()}")
        started = time.perf_counter()
        jobs = [ResizeImage(number, width=640) for number in range(JOBS)]
        for begin in range(0, JOBS, 500):
            await client.enqueue_bulk(jobs[begin : begin + 500])
        for number in range(FLAKY):
            await client.enqueue(CallPartner(number))
        took = time.perf_counter() - started
        print(f"enqueued  {JOBS + FLAKY:,} jobs, each safe on disk, in {took:.2f} s")

        total = JOBS + 2 * FLAKY
        worker = zizq.Worker(client, make_router(runs), concurrency=100, prefetch=500)
        working = asyncio.create_task(worker.run())
        started = time.perf_counter()
        shown = -1
        while shown < total:
            await asyncio.sleep(0.05)
            if shown != runs.total():
                shown = runs.total()
                show(shown, total)
        took = time.perf_counter() - started
        worker.stop()
        summary = await working
        counts = f"{summary.processed + summary.failed:,} runs, {summary.failed} of which failed and were retried"
        print(f"\nworked    {counts}, in {took:.2f} s")
        left = await client.queues()
    expected = Counter({("resize_image", n): 1 for n in range(JOBS)} | {("call_partner", n): 2 for n in range(FLAKY)})
    good = runs == expected and not left
    print(f"result    {'every job ran to its end, and none is left' if good else 'NOT as expected'}")
    return good


if __name__ == "__main__":
    logging.getLogger("zizq").setLevel(logging.ERROR)  # the failures of this demo are part of it
    with server() as address:
        sys.exit(0 if asyncio.run(demo(address)) else 1)
