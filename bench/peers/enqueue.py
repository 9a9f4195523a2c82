"""Enqueues one by one: `python enqueue.py APP N PAYLOAD`; runs in the peers' environment, and prints a line."""

from __future__ import annotations

import importlib
import json
import sys
import time


def main() -> None:
    """Enqueue as the command line says, on a connection that is open already."""
    enqueue = importlib.import_module(sys.argv[1]).enqueue
    jobs, payload = int(sys.argv[2]), json.loads(sys.argv[3])
    enqueue(payload)
    began = time.monotonic()
    for _ in range(jobs - 1):
        enqueue(payload)
    print(json.dumps({"jobs": jobs - 1, "seconds": time.monotonic() - began}), flush=True)


if __name__ == "__main__":
    main()
