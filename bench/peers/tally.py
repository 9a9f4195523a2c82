"""Counts the jobs that really ran, over all processes and threads of a worker; runs in the peers' environment.

A job costs an addition under a lock: what was counted goes to Redis every few milliseconds, not with each job, for
otherwise the counting would be the better part of a job that does nothing. `python tally.py N` waits until N jobs have
run, and prints a line.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time

import redis

REDIS_URL = os.environ["BENCH_REDIS"]
_KEY = "bench:tally"
_FLUSH_S = 0.02


class Tally:
    """What one process has run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count, self._first, self._last = 0, 0.0, 0.0
        self._flushing = False

    def ran(self) -> None:
        """Count a job, now."""
        now = time.monotonic()
        with self._lock:
            self._first = self._first or now
            self._last = now
            self._count += 1
            if not self._flushing:
                self._flushing = True
                threading.Thread(target=self._flush_often, daemon=True).start()

    def _flush_often(self) -> None:
        client = redis.Redis.from_url(REDIS_URL)
        while True:
            time.sleep(_FLUSH_S)
            with self._lock:
                counted, self._count = self._count, 0
                line = json.dumps({"jobs": counted, "first": self._first, "last": self._last})
            if counted:
                client.rpush(_KEY, line)


tally = Tally()
os.register_at_fork(after_in_child=tally.__init__)


def wait(jobs: int) -> dict[str, float]:
    """Wait until so many jobs have run; how many did, and from the start of the first to the last."""
    client = redis.Redis.from_url(REDIS_URL)
    while True:
        lines = [json.loads(line) for line in client.lrange(_KEY, 0, -1)]
        ran = sum(line["jobs"] for line in lines)
        if ran >= jobs:
            began = min(line["first"] for line in lines)
            return {"jobs": ran, "seconds": max(line["last"] for line in lines) - began}
        time.sleep(0.1)


if __name__ == "__main__":
    print(json.dumps(wait(int(sys.argv[1]))), flush=True)
