"""Simulated worlds: server, workers, clients and network in one event loop, each world from a seed.

A world has no sockets, threads or time of its own, so ten thousand take minutes, and each can be seen again: under the
same seed everything happens again in the same order. What is promised, and checked at every event, is in `journal.py`
and `watch.py`.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Iterator

from trust.verdict import Broken
from trust.world import live

SEEDS = 10_000
_COLLECT_EVERY = 50
"""Worlds between two collections of garbage."""


def run(*, size: float, seed: int | None) -> Iterator[str]:
    """Let worlds come and go, and hold each to the promises; a seed lets one come again and tells all that happens.

    Raises:
        Broken: When a promise was broken, with the seed.
    """
    if seed is not None:
        yield from _show(seed)
        return
    began, count = time.perf_counter(), max(1, round(SEEDS * size))
    totals: Counter[str] = Counter()
    lasted = 0.0
    for one in range(count):
        outcome = live(one)
        if outcome.broken is not None:
            raise Broken(f"{outcome.broken} (python -m trust simulate --seed {one})")
        totals += outcome.journal.counts
        lasted += outcome.seconds
        if one % _COLLECT_EVERY == 0:
            gc.collect()
    took = time.perf_counter() - began
    yield f"{count:,} worlds kept all promises; they lasted {lasted / 3600:,.1f} h, and took {took:,.1f} s"
    told = ("stored", "starts", "ends", "released", "orphaned", "fired", "server crashes", "dies", "cut off")
    yield ", ".join(f"{what}: {totals[what]:,}" for what in told)


def _show(seed: int) -> Iterator[str]:
    outcome = live(seed)
    yield from outcome.journal.trace()
    yield f"seed {seed}, digest {outcome.journal.digest()}"
    if outcome.broken is not None:
        raise Broken(f"{outcome.broken} (seed {seed})")
