"""Counts what happens, by queue. Pure.

This runs beside every enqueue, take and report, so it does as little as it can: a time is noted by the number of its
bits, and of a batch that shares one queue the counts are exact while the times are those of every so many of its jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter, sub
from typing import NamedTuple

from zizq.engine.transitions import Cause
from zizq.job import JobRecord, Status, apart
from zizq.wire.insight import OTHERS

MOST_QUEUES = 200
"""Queues that are told apart by name; what is in the others is counted as in one."""
BITS = 64
SAMPLES = 64
"""Jobs of a batch whose times are noted, at the most about twice so many."""

_of_queue: Callable[[JobRecord], str] = attrgetter("queue")
_of_ready_at: Callable[[JobRecord], int] = attrgetter("ready_at")
_of_dequeued_at: Callable[[JobRecord], int | None] = attrgetter("dequeued_at")


class Spread(NamedTuple):
    """Times, by the number of bits of their milliseconds: at n are those below 2**n, and not below half of that."""

    counts: tuple[int, ...] = (0,) * BITS
    total_ms: int = 0

    def less(self, before: Spread) -> Spread:
        """What has been added since an earlier one."""
        return Spread(tuple(map(sub, self.counts, before.counts)), self.total_ms - before.total_ms)

    def quantile(self, share: float) -> float | None:
        """The time that this share of all did not exceed, in milliseconds; None where there are none."""
        count = sum(self.counts)
        if not count:
            return None
        wanted = share * count
        passed = 0
        for bits, some in enumerate(self.counts):
            if some and passed + some >= wanted:
                low, high = ((1 << bits) >> 1, 1 << bits)
                return round(low + (high - low) * (wanted - passed) / some, 3)
            passed += some
        return float(1 << BITS)


class Mark(NamedTuple):
    """What was counted up to an instant."""

    enqueued: int = 0
    completed: int = 0
    retried: int = 0
    dead: int = 0
    wait: Spread = Spread()
    run: Spread = Spread()

    @property
    def failed(self) -> int:
        """Failures, whatever became of the job."""
        return self.retried + self.dead

    def less(self, before: Mark) -> Mark:
        """What has been added since an earlier one."""
        return Mark(
            self.enqueued - before.enqueued,
            self.completed - before.completed,
            self.retried - before.retried,
            self.dead - before.dead,
            self.wait.less(before.wait),
            self.run.less(before.run),
        )


NOTHING = Mark()


def together(marks: Iterable[Mark]) -> Mark:
    """All of some marks as one."""
    marks = list(marks)
    if len(marks) == 1:
        return marks[0]
    return Mark(
        sum(mark.enqueued for mark in marks),
        sum(mark.completed for mark in marks),
        sum(mark.retried for mark in marks),
        sum(mark.dead for mark in marks),
        _summed([mark.wait for mark in marks]),
        _summed([mark.run for mark in marks]),
    )


def _summed(spreads: Sequence[Spread]) -> Spread:
    if not spreads:
        return Spread()
    counts = tuple(map(sum, zip(*(spread.counts for spread in spreads), strict=True)))
    return Spread(counts, sum(spread.total_ms for spread in spreads))


class Times:
    """Times that are being noted."""

    __slots__ = ("counts", "total_ms")

    def __init__(self) -> None:
        self.counts = [0] * BITS
        self.total_ms = 0

    def note(self, now: int, since: Sequence[int | None], count: int, step: int) -> None:
        """Note the times from some instants until now.

        Args:
            now: The end of all of them.
            since: Their beginnings: those of the first, the `step`-th, and so on, of all that there are.
            count: How many there are.
            step: For how many each of the beginnings stands.
        """
        counts = self.counts
        ms = 0
        for at in since:
            ms = now - at if at is not None and at < now else 0
            counts[ms.bit_length()] += step
            self.total_ms += ms * step
        # The last one stands for fewer.
        spare = step * len(since) - count
        counts[ms.bit_length()] -= spare
        self.total_ms -= ms * spare

    def spread(self) -> Spread:
        """What was noted so far."""
        return Spread(tuple(self.counts), self.total_ms)


class Track:
    """What is counted of one queue."""

    __slots__ = ("completed", "dead", "enqueued", "retried", "run", "wait")

    def __init__(self) -> None:
        self.enqueued = self.completed = self.retried = self.dead = 0
        self.wait = Times()
        self.run = Times()

    def mark(self) -> Mark:
        """What was counted so far."""
        return Mark(self.enqueued, self.completed, self.retried, self.dead, self.wait.spread(), self.run.spread())


class Recorder:
    """Counts by queue; what it counts never goes back."""

    def __init__(self) -> None:
        self._tracks: dict[str, Track] = {}
        self._marks: dict[str, Mark] = {}
        self._marked = 0
        self.news = 0
        """Steps with everything that happens, counted or not."""

    def name(self, queue: str) -> str:
        """What a queue is counted under: its own name, or that of all others."""
        if queue in self._tracks:
            return queue
        if len(self._tracks) - (OTHERS in self._tracks) >= MOST_QUEUES:
            self._tracks.setdefault(OTHERS, Track())
            return OTHERS
        self._tracks[queue] = Track()
        return queue

    def taken(self, jobs: Sequence[JobRecord], now: int) -> None:
        """Jobs were taken."""
        self.news += 1
        for track, some in self._by_queue(jobs):
            step = 1 + len(some) // SAMPLES
            track.wait.note(now, list(map(_of_ready_at, some[::step])), len(some), step)

    def moved(self, cause: Cause, jobs: Sequence[JobRecord] | None, now: int) -> None:
        """Jobs moved, as `store.base.Listener` says it."""
        self.news += 1
        if jobs is None:
            return
        if cause is Cause.SUCCEED:
            for track, some in self._by_queue(jobs):
                track.completed += len(some)
                self._ran(track, some, now)
        elif cause is Cause.ENQUEUE:
            for track, some in self._by_queue(jobs):
                track.enqueued += len(some)
        elif cause is Cause.FAIL:
            for track, some in self._by_queue(jobs):
                dead = sum(1 for job in some if job.status is Status.DEAD)
                track.dead += dead
                track.retried += len(some) - dead
                self._ran(track, some, now)

    def marks(self) -> dict[str, Mark]:
        """What was counted so far, by queue; the same object as before where nothing has happened since."""
        if self._marked != self.news:
            self._marked = self.news
            self._marks = {queue: track.mark() for queue, track in self._tracks.items()}
        return self._marks

    @staticmethod
    def _ran(track: Track, jobs: Sequence[JobRecord], now: int) -> None:
        step = 1 + len(jobs) // SAMPLES
        track.run.note(now, list(map(_of_dequeued_at, jobs[::step])), len(jobs), step)

    def _by_queue(self, jobs: Sequence[JobRecord]) -> Iterable[tuple[Track, Sequence[JobRecord]]]:
        """Jobs with what is counted of their queues."""
        return [(self._track(queue), some) for queue, some in apart(jobs, _of_queue).items()]

    def _track(self, queue: str) -> Track:
        track = self._tracks.get(queue)
        return self._tracks[self.name(queue)] if track is None else track
