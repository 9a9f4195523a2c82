"""What tests of jq expressions share: the processes that run them, as the system sees them."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from zizq.server.jq import Jq

MIB = 2**20
ENDLESS = "def f: f; f"
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
others: set[int] = set()
"""Processes that were there before the test: those of a server that other tests share."""


@asynccontextmanager
async def some_jq(timeout_ms: int = 30_000, memory_bytes: int = 256 * MIB, **more: Any) -> AsyncIterator[Jq]:
    jq = Jq(timeout_ms, memory_bytes, **more)
    try:
        yield jq
    finally:
        await jq.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a process, whose doings no event tells of."""
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise TimeoutError


def contents(pid: int, name: str) -> str:
    """What /proc says of a process; nothing when it is gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""


def stat(pid: int) -> list[str]:
    """The fields of a process from its state on."""
    return contents(pid, "stat").rpartition(")")[2].split()


def children_of(pid: int) -> list[int]:
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return [child for child in pids if (fields := stat(child)) and int(fields[1]) == pid]


def children() -> list[int]:
    """Processes of jq that the test has begun, those that have ended but were not waited for included."""
    begun = [pid for pid in children_of(os.getpid()) if pid not in others]
    return [pid for pid in begun if is_dead(pid) or "jq_process" in contents(pid, "cmdline")]


def is_dead(pid: int) -> bool:
    return stat(pid)[:1] in ([], ["Z"])


def is_at_work(pid: int) -> bool:
    """Whether it has used far more processor time than its start takes."""
    fields = stat(pid)
    return bool(fields) and int(fields[11]) >= 0.3 * os.sysconf("SC_CLK_TCK")


async def at_work() -> int:
    """The only child, once it is in the midst of an expression."""
    await until(lambda: any(map(is_at_work, children())))
    [pid] = children()
    return pid
