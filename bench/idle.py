"""What a server costs that has nothing to do: memory, and its share of a core."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from statistics import median

import zizq
from bench import trees
from bench.programs import scratch, working
from bench.report import Table, mebibytes
from bench.watching import LOOKS, Watched, looking

SETTLE_S, WATCHED_S = 5.0, 60.0
"""Before it is watched, and for how long."""
MEMORY_GOAL, SHARE_GOAL = 60 * 2**20, 0.003
SETTINGS: dict[str, tuple[bool, tuple[str, ...]]] = {
    "nobody is connected": (False, ()),
    "a worker waits for jobs": (True, ()),
    "so do a dashboard and top": (True, tuple(LOOKS)),
}
"""Whether a worker is there, and what somebody looks at."""


def run(command: str, *, rounds: int, size: float, modes: object = None) -> Table:
    """Watch each setting, round after round; `modes` is of no use, for nothing is committed."""
    samples: dict[str, list[tuple[float, float]]] = {}
    for number in range(rounds):
        for setting, (works, looks) in SETTINGS.items():
            samples.setdefault(setting, []).append(_watch(WATCHED_S * size, works=works, looks=looks))
            print(f"round {number + 1}/{rounds}: {setting}: done", file=sys.stderr)
    rows = [_row(setting, some) for setting, some in samples.items()]
    columns = ["server with both APIs", "memory, MiB", "goal", "share of a core", "goal"]
    return Table("idle", command, columns, rows, dict(samples))


def _watch(seconds: float, *, works: bool, looks: Sequence[str]) -> tuple[float, float]:
    """Bytes of memory, and the share of a core."""
    with (
        scratch() as folder,
        Watched(folder / "store", "fsync", records=True) as server,
        working(server, 1) if works else nullcontext(),
        looking(server.admin, looks),
    ):
        with zizq.SyncClient(server.url) as client:
            client.health()
        time.sleep(SETTLE_S)
        before = server.family_cpu()
        time.sleep(seconds)
        return trees.memory(server.pid), (server.family_cpu() - before) / seconds


def _row(setting: str, samples: Sequence[tuple[float, float]]) -> list[str]:
    memory, share = (median(figures) for figures in zip(*samples, strict=True))
    goals = f"< {mebibytes(MEMORY_GOAL)}", f"< {SHARE_GOAL:.1%}"
    return [setting, mebibytes(memory), goals[0], f"{share:.2%}", goals[1]]
