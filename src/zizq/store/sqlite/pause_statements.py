"""What the writer does to the database where queues are paused and resumed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import apsw

from zizq.engine import pauses
from zizq.errors import Refusal


class SavePause(NamedTuple):
    """A queue, and when it is paused, in Unix milliseconds; None resumes it."""

    queue: str
    paused_at: int | None


class PauseStatements:
    """The step of pauses, on the writer's connection."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def load(self) -> dict[str, int]:
        """The queues that are paused, and since when."""
        rows: Any = self._db.execute("SELECT queue, paused_at FROM paused_queues").fetchall()
        return dict(rows)

    def save(self, calls: Sequence[SavePause]) -> list[int | Refusal | None]:
        """Pause queues and resume others; the outcome is since when a queue is paused, or was until now."""
        return [self._resume(queue) if at is None else self._pause(queue, at) for queue, at in calls]

    def _pause(self, queue: str, at: int) -> int | Refusal:
        since = self._since(queue)
        if since is not None:
            return since
        paused: int = self._db.execute("SELECT count(*) FROM paused_queues").get
        if paused >= pauses.MAX_PAUSED:
            return pauses.too_many_paused(queue)
        self._db.execute("INSERT INTO paused_queues (queue, paused_at) VALUES (?, ?)", (queue, at))
        return at

    def _resume(self, queue: str) -> int | None:
        since = self._since(queue)
        if since is not None:
            self._db.execute("DELETE FROM paused_queues WHERE queue = ?", (queue,))
        return since

    def _since(self, queue: str) -> int | None:
        since: int | None = self._db.execute("SELECT paused_at FROM paused_queues WHERE queue = ?", (queue,)).get
        return since
