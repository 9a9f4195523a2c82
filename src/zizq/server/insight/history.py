"""The last day by minutes, and the last five minutes by seconds. Pure: the time comes in."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import msgspec

from zizq.server.insight.recorder import NOTHING, Mark
from zizq.wire.insight import Counts, Point

SECONDS = 300
MINUTES = 1440
_SECOND_MS = 1000
_MINUTE_MS = 60_000


class History:
    """Points in two rings.

    Args:
        minutes: Minutes that are known from before, the oldest first.
    """

    def __init__(self, minutes: Iterable[Point] = ()) -> None:
        self._seconds: deque[Point] = deque(maxlen=SECONDS)
        self._minutes: deque[Point] = deque(minutes, maxlen=MINUTES)
        self._before = NOTHING
        self._minute = NOTHING
        self._current: Point | None = None
        # What is known of the current minute from before a restart.
        self._earlier: Point | None = None

    def add(self, at: int, total: Mark, counts: Counts, oldest_ready_ms: int | None) -> None:
        """Note how things are.

        Args:
            at: When that was, in Unix milliseconds: about a second after the last time.
            total: What was counted since the start.
            counts: All jobs.
            oldest_ready_ms: The age of the job that has been ready for longest.
        """
        second, minute = at // _SECOND_MS * _SECOND_MS, at // _MINUTE_MS * _MINUTE_MS
        _cut(self._seconds, second)
        self._seconds.append(_point(second, total, self._before, counts, oldest_ready_ms))
        if self._current is None or self._current.at != minute:
            if self._current is not None:
                self._minutes.append(self._current)
            self._earlier = _cut(self._minutes, minute)
            self._minute = self._before
        current = _point(minute, total, self._minute, counts, oldest_ready_ms)
        self._current = current if self._earlier is None else _joined(self._earlier, current)
        self._before = total

    def seconds(self) -> list[Point]:
        """The last five minutes."""
        return list(self._seconds)

    def minutes(self) -> list[Point]:
        """The last day; the minute that is not over yet is its last."""
        return [*self._minutes, *([self._current] if self._current is not None else [])][-MINUTES:]


def _cut(points: deque[Point], at: int) -> Point | None:
    """Forget what is not before an instant, for the clock may have been set back; returns what was known of it."""
    same = None
    while points and points[-1].at >= at:
        last = points.pop()
        same = last if last.at == at else None
    return same


def _joined(earlier: Point, point: Point) -> Point:
    return msgspec.structs.replace(
        point,
        enqueued=earlier.enqueued + point.enqueued,
        completed=earlier.completed + point.completed,
        failed=earlier.failed + point.failed,
    )


def _point(at: int, total: Mark, before: Mark, counts: Counts, oldest_ready_ms: int | None) -> Point:
    # The very same where nothing has happened: then there is nothing to reckon.
    passed = NOTHING if total is before else total.less(before)
    idle = passed is NOTHING
    return Point(
        at=at,
        enqueued=passed.enqueued,
        completed=passed.completed,
        failed=passed.failed,
        counts=counts,
        oldest_ready_ms=oldest_ready_ms,
        wait_p50_ms=None if idle else passed.wait.quantile(0.5),
        wait_p95_ms=None if idle else passed.wait.quantile(0.95),
        run_p50_ms=None if idle else passed.run.quantile(0.5),
        run_p95_ms=None if idle else passed.run.quantile(0.95),
    )
