"""What a journal notes of each job: its life, who holds it, and the handlers that run it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from trust.network import Connection, Host
from zizq.budget import Draw
from zizq.job import JobRecord


@dataclass(eq=False)
class Hold:
    """A job in the hands of a take stream."""

    job: JobRecord
    owner: int
    connection: Connection
    draws: tuple[Draw, ...]
    timeout_ms: int | None
    ended: str | None = None


@dataclass(eq=False)
class Run:
    """A handler at work on a job."""

    job_id: str
    host: Host
    hold: Hold
    outcome: str | None = None


@dataclass(eq=False)
class Life:
    """All that befell one job."""

    record: JobRecord
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: int = 0
    deaths: int = 0
    delivered: Counter[Host] = field(default_factory=Counter)
    started: Counter[Host] = field(default_factory=Counter)
    last_hold: dict[Host, Hold] = field(default_factory=dict)
    end: str | None = None
