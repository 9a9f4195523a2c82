"""All budgets of a server at once: who can be taken, who waits for what, and who wakes (protocol.md#8.5).

A job that draws on budgets is taken when all of them can pay at once. One that cannot be paid waits in all its
budgets, and nobody behind it may overtake it in any of them. Jobs of one queue that draw on the same budgets form a
*lane*, so it is enough to let lanes wait: what stands behind in a lane waits with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, KeysView, Sequence
from heapq import heappop, heappush

from zizq.budget import Budget, Draw
from zizq.engine.bucket import Bucket, BucketState
from zizq.job import JobRecord

Key = tuple[int, str]
"""Where a job stands in the order of dispatch: its priority and its identifier."""
_SEPARATOR = "\0"
"""Between the queue and the budgets of a lane; no name has it."""


def budget_keys(job: JobRecord) -> str:
    """The budgets that a job draws on, as one text; "" for none."""
    draws = job.budgets or ()
    if len(draws) == 1:
        # Most jobs that draw at all: a third of the time that follows.
        return draws[0].key
    return ",".join(sorted(draw.key for draw in draws))


def lane_of(job: JobRecord) -> str:
    """The lane of a job: its queue, and the budgets that it draws on, if any."""
    return lane(job.queue, budget_keys(job))


def lane(queue: str, keys: str) -> str:
    """The lane of a queue and the text of `budget_keys`."""
    return f"{queue}{_SEPARATOR}{keys}" if keys else queue


def parts(name: str) -> tuple[str, str]:
    """The queue of a lane, and its budgets as one text."""
    queue, _, keys = name.partition(_SEPARATOR)
    return queue, keys


class Purse:
    """The buckets of all budgets, and the lanes that wait for them."""

    def __init__(self) -> None:
        self._buckets: dict[str, Bucket] = {}
        self._waiting: dict[str, dict[str, Key]] = {}
        self._parked: dict[str, tuple[str, ...]] = {}
        self._before: dict[str, str] = {}
        self._alarms: list[tuple[int, str]] = []
        self._alarm_of: dict[str, int] = {}
        self._paid: set[str] = set()
        """Budgets from which a take that is not over yet has paid while lanes waited."""
        self.dirty: set[str] = set()
        """Budgets whose tokens have changed since they were last written down."""
        self.on_revived: Callable[[set[str]], None] = lambda queues: None
        """Hears of queues whose jobs may be affordable again."""

    def __len__(self) -> int:
        return len(self._buckets)

    # ── budgets ──

    def budgets(self) -> list[Budget]:
        """All budgets, sorted by their keys."""
        return [self._buckets[key].budget for key in sorted(self._buckets)]

    def tokens(self, now: int) -> dict[str, int]:
        """How many tokens each budget has; fewer than none are a debt."""
        return {key: bucket.tokens(now) for key, bucket in self._buckets.items()}

    def put(self, budget: Budget, now: int, state: BucketState | None = None) -> None:
        """Note a budget that is new, that has changed, or that was read with its state at the start."""
        bucket = self._buckets.get(budget.key)
        if bucket is not None:
            bucket.change(budget, now)
        else:
            self._buckets[budget.key] = Bucket(budget, now) if state is None else Bucket.restored(budget, state)
        self._note(self._buckets[budget.key])
        self.revive([budget.key])

    def restore(self, bucket: Bucket) -> None:
        """Note the tokens of a budget as they were read, whatever was thought of them."""
        self._buckets[bucket.budget.key] = bucket

    def bucket(self, key: str) -> Bucket | None:
        """The tokens of a budget; None where there is none."""
        return self._buckets.get(key)

    def remove(self, key: str) -> None:
        """Forget a budget; jobs that name it no longer wait for it."""
        self._buckets.pop(key, None)
        self.dirty.discard(key)
        self.revive([key])

    def clear(self) -> None:
        """Forget all budgets, and all who wait."""
        for kept in (
            self._buckets,
            self._waiting,
            self._parked,
            self._before,
            self._alarms,
            self._alarm_of,
            self.dirty,
        ):
            kept.clear()

    def states(self, now: int) -> dict[str, BucketState]:
        """What is to be written down of the budgets that have changed; nothing is in flight after a restart."""
        found = {key: self._buckets[key].state(now) for key in self.dirty if key in self._buckets}
        self.dirty.clear()
        return {key: BucketState(state.tokens, state.remainder, state.at) for key, state in found.items()}

    # ── take ──

    def is_parked(self, name: str, sees: Callable[[str], bool]) -> bool:
        """Whether a lane waits for a budget, or behind a lane that whoever takes would get jobs of as well."""
        return name in self._parked and (name not in self._before or sees(self._before[name]))

    def awake(self, names: set[str], sees: Callable[[str], bool]) -> set[str]:
        """Those of some lanes that need not wait, as `is_parked` has it."""
        awake = names.difference(self._parked)
        awake.update(name for name, other in self._before.items() if name in names and not sees(other))
        return awake

    def pay(self, name: str, jobs: Sequence[JobRecord], now: int, sees: Callable[[str], bool]) -> int:
        """Take the tokens of the first jobs of a lane; returns how many have paid. Where none can, the lane waits.

        Args:
            name: The lane.
            jobs: Its first jobs, which all draw the same.
            now: The wall clock.
            sees: Whether whoever takes would get jobs of a lane: only those can stand before it.
        """
        first, draws = (jobs[0].priority, jobs[0].id), jobs[0].budgets or ()
        # Where nobody waits there is little to ask.
        before = self._before_it(name, first, draws, sees) if self._waiting else None
        buckets = [(bucket, draw.cost) for draw in draws if (bucket := self._buckets.get(draw.key)) is not None]
        # Others that wait may stand between them.
        most = 1 if self._waiting else len(jobs)
        count = min([most, *(bucket.times(cost, now) for bucket, cost in buckets)])
        if before is not None or not count:
            self._park(name, first, buckets, now, before)
            return 0
        for bucket, cost in buckets:
            bucket.take(count * cost, now)
            self._note(bucket)
        if self._waiting:
            self._paid.update(bucket.budget.key for bucket, _ in buckets)
        return count

    def end_take(self, now: int) -> None:
        """A take is over: whoever waited only behind a job that has paid may go now.

        Not before: a lane that this take has left out must go on to keep back those behind it.
        """
        if self._paid:
            paid, self._paid = self._paid, set()
            self.revive(key for key in paid if self._buckets[key].tokens(now) > 0)

    def _before_it(self, name: str, key: Key, draws: Iterable[Draw], sees: Callable[[str], bool]) -> str | None:
        """A lane that waits for one of the budgets with a job before a key; None when there is none."""
        self._drop(name)
        heads = (head for draw in draws for head in self._waiting.get(draw.key, {}).items())
        return next((other for other, head in heads if head < key and sees(other)), None)

    def refund(self, job: JobRecord) -> None:
        """Undo a payment: the job was not handed out after all."""
        for draw in job.budgets or ():
            if draw.key in self._buckets:
                self._buckets[draw.key].refund(draw.cost)
                self._note(self._buckets[draw.key])
        self.revive(draw.key for draw in job.budgets or ())

    def give_back(self, jobs: Iterable[JobRecord]) -> None:
        """Jobs left in flight, for whatever reason."""
        costs: dict[str, int] = {}
        for job in jobs:
            for draw in job.budgets or ():
                costs[draw.key] = costs.get(draw.key, 0) + draw.cost
        for key, cost in costs.items():
            if key in self._buckets:
                self._buckets[key].give_back(cost)
        if self._waiting:
            self.revive(costs)

    # ── wait ──

    def waited_for(self) -> KeysView[str]:
        """The budgets that lanes wait for."""
        return self._waiting.keys()

    def heads(self) -> dict[str, Key]:
        """The lanes that wait, and the first job of each when they came to wait."""
        return {name: self._waiting[keys[0]][name] for name, keys in self._parked.items() if keys}

    def next_alarm(self) -> int | None:
        """When time alone may let the next lane go; None when nobody waits for time."""
        return self._alarms[0][0] if self._alarms else None

    def ring(self, now: int) -> None:
        """Let go the lanes whose time has come."""
        rung: set[str] = set()
        while self._alarms and self._alarms[0][0] <= now:
            _, name = heappop(self._alarms)
            self._alarm_of.pop(name, None)
            rung.update(self._parked.get(name, ()))
        self.revive(rung)

    def unpark(self, name: str) -> None:
        """The first job of a lane is another one now: it is to be looked at again, and so are those behind it."""
        self.revive(self._parked.get(name, ()))

    def _park(self, name: str, key: Key, draws: list[tuple[Bucket, int]], now: int, before: str | None) -> None:
        keys = tuple(bucket.budget.key for bucket, _ in draws)
        self._parked[name] = keys
        for one in keys:
            self._waiting.setdefault(one, {})[name] = key
        if before is not None:
            # Whoever stands before it wakes it.
            self._before[name] = before
            return
        times = [bucket.affordable_at(cost, now) for bucket, cost in draws]
        known = [at for at in times if at is not None]
        if known and len(known) == len(times) and self._alarm_of.get(name) != max(known):
            self._alarm_of[name] = max(known)
            heappush(self._alarms, (max(known), name))

    def _note(self, bucket: Bucket) -> None:
        # What comes back when jobs leave is all there after a restart: nothing is in flight then.
        if bucket.budget.strategy.duration_ms is not None:
            self.dirty.add(bucket.budget.key)

    def revive(self, keys: Iterable[str]) -> None:
        """Let all lanes that wait for one of the budgets be looked at again, and tell of their queues."""
        names = {name for key in keys for name in self._waiting.get(key, ())}
        for name in names:
            self._drop(name)
        if names:
            self.on_revived({parts(name)[0] for name in names})

    def _drop(self, name: str) -> None:
        """Forget that a lane waits, if it does."""
        self._before.pop(name, None)
        for key in self._parked.pop(name, ()):
            waiting = self._waiting[key]
            del waiting[name]
            if not waiting:
                del self._waiting[key]
