"""What Huey does alike on each of its stores; no system itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from huey.api import Huey

from bench.peers.inside.jobs import handle


def with_job(huey: Huey) -> Callable[[dict[str, Any]], object]:
    """A function that enqueues the job."""

    @huey.task()
    def job(payload: dict[str, Any]) -> None:
        handle(payload)

    return job
