"""Processes with all that they started: what they use, and their end. Read from /proc."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def family(root: int) -> list[int]:
    """A process and its descendants, as far as they are alive; parents come first."""
    children: dict[int, list[int]] = {}
    for folder in PROC.iterdir():
        if folder.name.isdigit() and (fields := _stat(int(folder.name))):
            children.setdefault(int(fields[1]), []).append(int(folder.name))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, []))
    return found


def cpu(root: int) -> float:
    """Seconds of processor time of a process, its descendants, and those of them that have ended."""
    return sum(sum(map(int, fields[11:15])) for pid in family(root) if (fields := _stat(pid))) * TICK_S


def memory(root: int) -> int:
    """Bytes that a process and its descendants hold; what they share is counted once."""
    return sum(_proportional(pid) for pid in family(root))


def kill(root: int) -> None:
    """End a process and its descendants at once: those first that could start others."""
    for pid in family(root):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _stat(pid: int) -> list[str]:
    """The fields after the name: state, parent, and so on; none when the process is gone."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _proportional(pid: int) -> int:
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
