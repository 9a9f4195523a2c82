"""Paused queues: how many there may be, and what is said of one too many."""

from __future__ import annotations

from zizq.errors import Unprocessable

MAX_PAUSED = 8_192
"""How many queues may be paused at once: their names are kept in memory, and need not belong to any job."""


def too_many_paused(queue: str) -> Unprocessable:
    """One more paused queue would be over the maximum."""
    return Unprocessable(
        f"cannot pause queue '{queue}': the server already has its maximum of {MAX_PAUSED} paused queues. "
        "Resume one that need not be paused."
    )
