"""What a worker tells an observer, and what its parts share."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from zizq.client.job import Job
from zizq.clock import Clock, Dice
from zizq.worker.options import Summary

logger = logging.getLogger("zizq")


class Outcome(StrEnum):
    """How the run of a job ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    ABANDONED = "abandoned"
    """The worker had to end first; the server gives the job to another one, without counting an attempt."""


@dataclass(frozen=True, slots=True)
class JobStarted:
    """A handler is about to run."""

    worker: str | None
    job: Job


@dataclass(frozen=True, slots=True)
class JobStopped:
    """A handler has ended."""

    worker: str | None
    job: Job
    outcome: Outcome
    duration: float
    """Seconds from start to end."""
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class Connected:
    """The take stream is open."""

    worker: str | None


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The take stream ended."""

    worker: str | None
    error: BaseException | None
    """Why; None when the server or the worker closed it on purpose."""


@dataclass(frozen=True, slots=True)
class Acked:
    """The server has the outcome of these jobs."""

    worker: str | None
    ids: list[str]


@dataclass(frozen=True, slots=True)
class Hooks:
    """Functions to call when something happens; each is optional, and costs nothing when absent.

    They run on the event loop, so they must not block. One that raises is logged, and changes nothing.
    """

    on_connect: Callable[[Connected], object] | None = None
    on_disconnect: Callable[[Disconnected], object] | None = None
    on_job_start: Callable[[JobStarted], object] | None = None
    on_job_stop: Callable[[JobStopped], object] | None = None
    on_ack: Callable[[Acked], object] | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all parts of one worker share."""

    summary: Summary
    clock: Clock
    dice: Dice
    hooks: Hooks = Hooks()
    worker_id: str | None = None
    """Named in what hooks get."""


def call(hook: Callable[[Any], object] | None, event: Any) -> None:
    """Call a hook, if there is one; what it raises is logged and goes no further."""
    if hook is None:
        return
    try:
        hook(event)
    except Exception:
        logger.exception("a worker hook raised", extra={"fields": {"event": type(event).__name__}})
