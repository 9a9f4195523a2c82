"""The no-op job in Dramatiq."""

from __future__ import annotations

from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from tally import REDIS_URL, tally

dramatiq.set_broker(RedisBroker(url=REDIS_URL))


@dramatiq.actor
def noop(payload: dict[str, Any]) -> None:
    """Do nothing, but be counted."""
    tally.ran()


enqueue = noop.send
