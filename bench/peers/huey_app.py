"""The no-op job in Huey."""

from __future__ import annotations

from typing import Any

from huey import RedisHuey
from tally import REDIS_URL, tally

huey = RedisHuey("bench", url=REDIS_URL)


@huey.task()
def noop(payload: dict[str, Any]) -> None:
    """Do nothing, but be counted."""
    tally.ran()


enqueue = noop
