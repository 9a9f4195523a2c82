"""The no-op job in Celery."""

from __future__ import annotations

from typing import Any

from celery import Celery
from tally import REDIS_URL, tally

app = Celery("bench", broker=REDIS_URL)
app.conf.task_ignore_result = True


@app.task
def noop(payload: dict[str, Any]) -> None:
    """Do nothing, but be counted."""
    tally.ran()


enqueue = noop.delay
