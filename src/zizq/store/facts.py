"""What can be told of a store from outside, without opening it as a server does."""

from __future__ import annotations

from typing import NamedTuple


class StoreFacts(NamedTuple):
    """An embedded store, as it lies on disk; sizes are in bytes.

    Args:
        error: Why no more is known; None where all is well.
        format: The format of its database.
        known_format: The newest format that this program knows.
        size: The database.
        free: How much of it is of no use just now.
        log_size: The write-ahead log beside it.
        holder: The process of the server that runs on it; None where there is none that can be seen.
    """

    error: str | None = None
    format: int = 0
    known_format: int = 0
    size: int = 0
    free: int = 0
    log_size: int = 0
    holder: int | None = None
