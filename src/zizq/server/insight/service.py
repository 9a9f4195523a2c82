"""The one read-only service that answers every question about the server; terminal, dashboard, metrics and command
line all show what it says.

It hears of everything that happens from the broker, which costs next to nothing, and looks at the store once a second,
if anything has happened meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec
from msgspec import UNSET

from zizq.budget import Budget
from zizq.clock import Clock
from zizq.engine.lists import JobList
from zizq.engine.transitions import Cause
from zizq.errors import Missing, Unavailable
from zizq.job import ErrorRecord, JobRecord
from zizq.server.broker import Broker
from zizq.server.consumers import Consumer
from zizq.server.crontab import Crontab
from zizq.server.insight.failures import Failures
from zizq.server.insight.history import History
from zizq.server.insight.keeping import Keeping
from zizq.server.insight.recorder import NOTHING, Mark, Recorder, together
from zizq.store.base import Store
from zizq.store.facts import StorageFacts, Times
from zizq.store.inbox import Inbox
from zizq.store.views import Tallied
from zizq.wire.codec import Format, payload_to_send
from zizq.wire.insight import (
    BudgetInsight,
    Counts,
    CronInsight,
    FailureInsight,
    Flow,
    JobInsight,
    Overview,
    Point,
    QueueInsight,
    RunningJob,
    StorageInsight,
    WorkerInsight,
)

log = logging.getLogger("zizq.insight")

FLOW_S = 10
"""Seconds that rates and times are of."""
REST = 20
"""How many times as long as a look at the store took nobody looks again unasked: it takes a twentieth of the time."""
LONGEST_REST_S = 5.0
"""The most of that: a machine under load must not leave the history without its figures."""
SEEDS = 300
"""Dead jobs that are read at the start, for the failures before it."""
MOST_PAYLOAD = 65_536
"""Bytes of a payload that is told of."""
MOST_ERRORS = 5
"""Failures of a job that are told of."""
MOST_BACKTRACE = 8192
"""Characters of a message or a backtrace that are told."""
MOST_STREAMS = 1000
"""Streams that are told of."""
MOST_JOBS = 100
"""Jobs of a stream that are told of."""
KEEP_S = 60


class Watcher(Protocol):
    """Hears of everything that happens to jobs."""

    def moved(self, cause: Cause, jobs: Sequence[JobRecord] | None) -> None:
        """Jobs moved, as `store.base.Listener` says it, or were taken."""


class Look(NamedTuple):
    """What the store said: jobs by queue, and since when the oldest job of each has been ready."""

    counts: Mapping[str, Counts] = {}
    oldest: Mapping[str, int] = {}
    facts: StorageFacts = StorageFacts()


class Sample(NamedTuple):
    """What was counted up to an instant of the monotonic clock."""

    at_s: float
    marks: Mapping[str, Mark]
    total: Mark
    commits: int
    calls: int


class Insights:
    """Answers questions about the server.

    Args:
        broker: Tells what happens, and who takes.
        store: What is looked at.
        crontab: Knows the crons.
        clock: The time.
        version: Of the server.
        keeping: Where the history is kept.
    """

    def __init__(
        self, broker: Broker, store: Store, crontab: Crontab, clock: Clock, version: str, keeping: Keeping
    ) -> None:
        self._broker = broker
        self._store = store
        self._crontab = crontab
        self._clock = clock
        self.version = version
        """Of the server."""
        self._keeping = keeping
        self.recorder = Recorder()
        self._failures = Failures()
        self._history = History()
        self._began_s = clock.mono_s()
        self._began_at = clock.wall_ms()
        self._look = Look()
        self._looked_at_news = -1
        self._look_again_s = 0.0
        self._looking = asyncio.Lock()
        self._samples: deque[Sample] = deque(maxlen=FLOW_S + 1)
        self.watchers: list[Watcher] = []
        """Who hears of what happens, besides."""
        self.begun = asyncio.Event()
        """Set once all is known that was before the start."""
        broker.on_moved = self._moved
        broker.on_taken = self._taken

    # ── what happens ──

    def _moved(self, cause: Cause, jobs: Sequence[JobRecord] | None, errors: Sequence[ErrorRecord]) -> None:
        self.recorder.moved(cause, jobs, self._clock.wall_ms())
        if errors and jobs is not None:
            for job, error in zip(jobs, errors, strict=True):
                self._failures.note(job, error)
        for watcher in self.watchers:
            watcher.moved(cause, jobs)

    def _taken(self, jobs: Sequence[JobRecord], now: int) -> None:
        self.recorder.taken(jobs, now)
        for watcher in self.watchers:
            watcher.moved(Cause.TAKE, jobs)

    # ── the duty ──

    async def run(self) -> None:
        """Look once a second, for ever."""
        self._history = History(await self._keeping.load())
        await self._seed()
        self.begun.set()
        keep_at = self._clock.mono_s() + KEEP_S
        while True:
            try:
                await self.sample()
            except Exception:
                log.exception("insight failed, will be tried again")
            if self._clock.mono_s() >= keep_at:
                keep_at += KEEP_S
                await self._keeping.save(self._history.minutes())
            await asyncio.sleep(1.0)

    async def stop(self) -> None:
        """Keep the history; the duty must have ended."""
        if self._samples:
            await self._keeping.save(self._history.minutes())

    async def sample(self) -> None:
        """Look at the store, if anything has happened, and note how things are."""
        await self._look_again(asked=False)
        marks = self.recorder.marks()
        same = bool(self._samples) and self._samples[-1].marks is marks
        total = self._samples[-1].total if same else together(marks.values())
        facts = self._look.facts
        self._samples.append(Sample(self._clock.mono_s(), marks, total, facts.commits, facts.calls))
        now = self._clock.wall_ms()
        self._history.add(now, total, self.total(), _age(min(self._look.oldest.values(), default=None), now))

    async def _look_again(self, *, asked: bool) -> None:
        """Look at the store, if anything has happened; where nobody asked, only if the last look is long enough ago."""
        async with self._looking:
            is_rested = asked or self._clock.mono_s() >= self._look_again_s
            if is_rested and self.recorder.news != self._looked_at_news:
                await self._look_at_store()

    async def _look_at_store(self) -> None:
        news, began_s, now = self.recorder.news, self._clock.mono_s(), self._clock.wall_ms()
        try:
            tallied = await self._store.tally(now)
            oldest = await self._store.oldest_ready(now)
            facts = await self._store.storage()
        except Unavailable:
            # The store says so itself, in `trouble`.
            return
        self._look = Look(self._by_name(tallied), self._oldest_by_name(oldest), facts)
        self._looked_at_news = news
        ended_s = self._clock.mono_s()
        self._look_again_s = ended_s + min(LONGEST_REST_S, REST * (ended_s - began_s))

    async def _seed(self) -> None:
        """Read the failures of the latest dead jobs."""
        try:
            window = await self._store.window(JobList.DEAD, 0, SEEDS, self._began_at)
            for job in reversed(window.jobs if window is not None else ()):
                error = await self._store.error(job.id, job.attempts)
                if error is not None and error.failed_at < self._began_at:
                    self._failures.note(job, error)
        except Exception:
            # They are told of as they come, so no more is lost than what was before.
            log.exception("failures before the start not read")

    def _by_name(self, tallied: Mapping[Tallied, int]) -> dict[str, Counts]:
        found: dict[str, dict[str, int]] = {}
        for (queue, _, status), count in tallied.items():
            one = found.setdefault(self.recorder.name(queue), {})
            one[status.value] = one.get(status.value, 0) + count
        return {queue: Counts(**one) for queue, one in sorted(found.items())}

    def _oldest_by_name(self, oldest: Mapping[str, int]) -> dict[str, int]:
        found: dict[str, int] = {}
        for queue, at in oldest.items():
            name = self.recorder.name(queue)
            found[name] = min(at, found.get(name, at))
        return found

    # ── what is asked ──

    async def overview(self) -> Overview:
        """The server as a whole."""
        await self._look_again(asked=True)
        return self._overview()

    async def queues(self) -> list[QueueInsight]:
        """All queues that hold jobs, held some since the start, or are paused, by name.

        Of many, the later ones are one, which is paused where any of them is.
        """
        await self._look_again(asked=True)
        return self._queues(await self._paused())

    async def glance(self) -> tuple[Overview, list[QueueInsight]]:
        """The server as a whole and its queues, by one look at the store."""
        await self._look_again(asked=True)
        paused = await self._paused()
        return self._overview(), self._queues(paused)

    def _overview(self) -> Overview:
        return Overview(
            version=self.version,
            uptime_ms=self.uptime_ms(),
            counts=self.total(),
            flow=self._flow(None),
            queues=len(self._look.counts),
            streams=self._broker.stream_count(),
            oldest_ready_ms=_age(min(self._look.oldest.values(), default=None), self._clock.wall_ms()),
            trouble=self._broker.trouble(),
        )

    async def _paused(self) -> set[str]:
        return {self.recorder.name(queue) for queue in await self._store.paused_queues()}

    def _queues(self, paused: set[str]) -> list[QueueInsight]:
        now, look = self._clock.wall_ms(), self._look
        marks = self._samples[-1].marks if self._samples else {}
        return [
            QueueInsight(
                queue=queue,
                counts=look.counts.get(queue, Counts()),
                flow=self._flow(queue),
                oldest_ready_ms=_age(look.oldest.get(queue), now),
                paused=queue in paused,
            )
            for queue in sorted({*look.counts, *marks, *paused}, key=str.encode)
        ]

    async def workers(self) -> list[WorkerInsight]:
        """Take streams, those that have been open for longest first, a thousand at most."""
        return [await self._worker(consumer) for consumer in self._broker.streams(MOST_STREAMS)]

    async def _worker(self, consumer: Consumer) -> WorkerInsight:
        jobs = await self._store.held(consumer.owner, MOST_JOBS)
        return WorkerInsight(
            stream=consumer.owner,
            worker_id=consumer.terms.worker_id,
            peer=consumer.terms.peer,
            queues=list(consumer.queues),
            prefetch=consumer.prefetch,
            concurrency=consumer.terms.concurrency,
            opened_at=consumer.opened_at,
            # Room that is reserved for a take is counted as held until the take is over.
            held=len(jobs) if len(jobs) < MOST_JOBS else consumer.held,
            jobs=[
                RunningJob(id=job.id, type=job.type, queue=job.queue, dequeued_at=job.dequeued_at or 0) for job in jobs
            ],
        )

    async def job(self, job_id: str) -> JobInsight | None:
        """One job in full; None where there is none.

        Raises:
            Unavailable: When the store cannot be read.
        """
        job = await self._store.get(job_id, self._clock.wall_ms())
        if job is None:
            return None
        payload = job.payload or msgspec.Raw()
        # What takes long to be made JSON of would hold up everybody else.
        shown = payload_to_send(payload, Format.JSON) if 0 < len(payload) <= MOST_PAYLOAD else UNSET
        errors = await self._store.errors(job_id, None, "desc", MOST_ERRORS)
        return JobInsight(id=job.id, payload=shown, payload_size=len(payload), errors=[_cut(one) for one in errors])

    async def failures(self) -> list[FailureInsight]:
        """Failures that look alike, together: those that were seen last first."""
        return self._failures.groups()

    async def storage(self) -> StorageInsight:
        """The store and its disk."""
        facts = await self.facts()
        return StorageInsight(
            size=facts.size,
            log_size=facts.log_size,
            free=facts.free,
            commits=facts.commits,
            calls_per_commit=self._calls_per_commit(facts),
            commit_p50_ms=_quantile(facts.commit, 0.5),
            commit_p99_ms=_quantile(facts.commit, 0.99),
            fsync_p99_ms=_quantile(facts.fsync, 0.99),
            checkpoint_at=facts.checkpoint_at,
            trouble=self._broker.trouble(),
        )

    async def crons(self) -> list[CronInsight]:
        """All cron entries, by group and name."""
        found = []
        for name in await self._crontab.names():
            try:
                group = await self._crontab.get(name)
            except Missing:
                continue
            found += [
                CronInsight(
                    group=name,
                    entry=entry.name,
                    expression=entry.expression,
                    timezone=entry.timezone or group.timezone,
                    type=entry.job.type,
                    queue=entry.job.queue,
                    paused=entry.paused or group.paused,
                    next_at=entry.next_enqueue_at,
                    last_at=entry.last_enqueue_at,
                )
                for entry in group.entries
            ]
        return found

    async def budgets(self) -> list[BudgetInsight]:
        """All budgets, by key."""
        tokens = await self._store.tokens(self._clock.wall_ms())
        return [_budget(budget, tokens.get(budget.key, 0)) for budget in await self._store.budgets()]

    async def history(self, step: Literal["second", "minute"]) -> list[Point]:
        """The last five minutes by seconds, or the last day by minutes."""
        return self._history.seconds() if step == "second" else self._history.minutes()

    # ── for metrics and events ──

    async def facts(self) -> StorageFacts:
        """What the store knows of its files and commits; as they were at the last look where it cannot be read."""
        try:
            return await self._store.storage()
        except Unavailable:
            return self._look.facts

    async def posts(self) -> tuple[int, int | None] | None:
        """How many posts wait in the inbox, and the age of the oldest; None without an inbox that can be read."""
        if not isinstance(self._store, Inbox):
            return None
        try:
            count, first_at = await self._store.waiting()
        except Unavailable:
            return None
        return count, None if first_at is None else max(0, self._clock.wall_ms() - first_at)

    def uptime_ms(self) -> int:
        """Since the server was started."""
        return int((self._clock.mono_s() - self._began_s) * 1000)

    def total(self) -> Counts:
        """All jobs, as they were at the last look."""
        shown = self._look.counts.values()
        return Counts(**{name: sum(getattr(one, name) for one in shown) for name in Counts.__struct_fields__})

    def counts(self) -> Mapping[str, Counts]:
        """Jobs by queue, as they were at the last look."""
        return self._look.counts

    def oldest_ready_ms(self) -> dict[str, int]:
        """The age of the job of each queue that has been ready for longest."""
        now = self._clock.wall_ms()
        return {queue: max(0, now - at) for queue, at in self._look.oldest.items()}

    # ── figures ──

    def _flow(self, queue: str | None) -> Flow:
        """What went through a queue over the last ten seconds, or through all."""
        if not self._samples:
            return Flow()
        first, last = self._samples[0], self._samples[-1]
        if first.marks is last.marks or last.at_s <= first.at_s:
            return Flow()
        before, after = (
            (first.total, last.total)
            if queue is None
            else (first.marks.get(queue, NOTHING), last.marks.get(queue, NOTHING))
        )
        passed, seconds = after.less(before), last.at_s - first.at_s
        return Flow(
            enqueued_per_s=round(passed.enqueued / seconds, 3),
            completed_per_s=round(passed.completed / seconds, 3),
            failed_per_s=round(passed.failed / seconds, 3),
            wait_p50_ms=passed.wait.quantile(0.5),
            wait_p95_ms=passed.wait.quantile(0.95),
            run_p50_ms=passed.run.quantile(0.5),
            run_p95_ms=passed.run.quantile(0.95),
        )

    def _calls_per_commit(self, facts: StorageFacts) -> float | None:
        first = self._samples[0] if self._samples else None
        commits = facts.commits - (first.commits if first is not None else 0)
        calls = facts.calls - (first.calls if first is not None else 0)
        return round(calls / commits, 3) if commits > 0 else None


def _age(at: int | None, now: int) -> int | None:
    return None if at is None else max(0, now - at)


def _quantile(times: Times, share: float) -> float | None:
    last = sorted(times.last_us)
    return last[min(len(last) - 1, int(share * len(last)))] / 1000 if last else None


def _budget(budget: Budget, available: int) -> BudgetInsight:
    return BudgetInsight(
        key=budget.key,
        strategy=budget.strategy.type.value,
        allocation=budget.allocation,
        period_ms=budget.strategy.duration_ms,
        capacity=budget.capacity,
        available=available,
    )


def _cut(error: ErrorRecord) -> ErrorRecord:
    backtrace = error.backtrace and error.backtrace[:MOST_BACKTRACE]
    return msgspec.structs.replace(error, message=error.message[:MOST_BACKTRACE], backtrace=backtrace)
