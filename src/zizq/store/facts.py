"""What can be told of a store from outside, without opening it as a server does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
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


class Holdup(NamedTuple):
    """What keeps a database from removing dead rows: what it is, and for how long, in seconds, where that is known."""

    what: str
    age_s: float | None = None


class DatabaseFacts(NamedTuple):
    """A database that servers share, as it can be seen by one more.

    Args:
        error: Why no more is known; None where it answered.
        version: Its version, as PostgreSQL counts it: 150004 is 15.4.
        size: The bytes that it takes.
        format: The format of our tables; 0 where there are none.
        known_format: The newest format that this program knows.
        settings: Some of its settings, by their names.
        is_standby: Whether it only follows another one, and cannot be written to.
        holdups: What keeps dead rows.
        sees_all: Whether this user sees the transactions of others.
        dead: By table, how many rows are alive and how many are dead, about.
        connections: How many are open, and how many there may be of ordinary users.
        ahead_ms: How far its clock is ahead of ours.
        apart_ms: What that may be wrong by.
        hears: Whether notifications come; None where that was not tried.
        servers: How many servers have a lease.
        posts: How many jobs wait in the inbox, and how many seconds the first has waited.
    """

    error: str | None = None
    version: int = 0
    size: int = 0
    format: int = 0
    known_format: int = 0
    settings: Mapping[str, str] = MappingProxyType({})
    is_standby: bool = False
    holdups: Sequence[Holdup] = ()
    sees_all: bool = True
    dead: Mapping[str, tuple[int, int]] = MappingProxyType({})
    connections: tuple[int, int] = (0, 0)
    ahead_ms: int = 0
    apart_ms: int = 0
    hears: bool | None = None
    servers: int = 0
    posts: tuple[int, float] = (0, 0.0)


class Times(NamedTuple):
    """How long something took, each time that it was done.

    Args:
        counts: How many took less than 2**n microseconds and not less than half of that, for n from 0.
        total_us: All of them together, in microseconds.
        last_us: The last ones, in microseconds, in no order.
    """

    counts: tuple[int, ...] = ()
    total_us: int = 0
    last_us: tuple[int, ...] = ()


class StorageFacts(NamedTuple):
    """What an open store knows of its files and commits; sizes are in bytes, and 0 where there are no files.

    Args:
        size: The database.
        log_size: The write-ahead log beside it.
        free: How much of the database is of no use just now.
        commits: Commits since the store was opened.
        calls: The calls that they carried out.
        commit: How long commits took, from the first statement on.
        fsync: How long those took of them that waited for the disk.
        checkpoint_at: When the log was last copied into the database, in Unix milliseconds.
    """

    size: int = 0
    log_size: int = 0
    free: int = 0
    commits: int = 0
    calls: int = 0
    commit: Times = Times()
    fsync: Times = Times()
    checkpoint_at: int | None = None
