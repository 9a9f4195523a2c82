"""How long names may be: they are in rows of indexes, which have room for 2,700 bytes. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from zizq.engine.purse import budget_keys
from zizq.errors import Unprocessable
from zizq.job import JobRecord

MOST_BYTES = 2000
"""What the queue of a job and its type, or its queue and the keys of its budgets, may have together."""
_SURELY = MOST_BYTES // 4
"""So many characters are not too many bytes."""


def check(jobs: Sequence[JobRecord]) -> None:
    """Hold the names of new jobs to what can be stored. One that could not would undo what others do with it.

    Raises:
        Unprocessable: When some are too long; it says of which job.
    """
    for index, job in enumerate(jobs):
        if job.budgets is None and len(job.queue) + len(job.type) <= _SURELY:
            continue
        for what, other in (("type", job.type), ("budgets", budget_keys(job))):
            size = len(job.queue.encode()) + len(other.encode())
            if size > MOST_BYTES:
                raise Unprocessable(
                    f"queue and {what} have {size} bytes, and may have {MOST_BYTES} in PostgreSQL: use shorter names"
                ).at(index)
