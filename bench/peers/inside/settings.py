"""What a process is told by whoever measures: where the server is, and how a worker is set."""

from __future__ import annotations

import os

URL = os.environ["BENCH_URL"]
DEFAULTS = os.environ.get("BENCH_WORKER", "default") == "default"
"""Whether a worker runs as it comes; else it is set as best we know."""
CONCURRENCY = int(os.environ.get("BENCH_CONCURRENCY", "0"))
"""Jobs at once, where a worker is set by code and not by its command line; 0 is its default."""
