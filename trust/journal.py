"""What has happened in a simulated world, seen from everywhere at once, and held against what is promised.

The journal looks on at each call to the store, at each run of a handler and at each answer that a client gets. It
keeps its own account of who holds which job, and draws no conclusion from what the server believes.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from trust.ledger import Ledger
from trust.lives import Hold, Life, Run
from trust.loop import VirtualClock, VirtualLoop
from trust.network import Host, serving
from trust.verdict import Broken
from zizq.budget import Draw
from zizq.cron import CronGroup
from zizq.engine.changes import Change
from zizq.errors import Refusal
from zizq.job import TERMINAL, JobRecord, Status
from zizq.store.memory import MemoryStore

WAITING = (Status.SCHEDULED, Status.READY)
COVERS = {"queued": WAITING, "active": (*WAITING, Status.IN_FLIGHT), "exists": tuple(Status)}
"""In which statuses a job of each scope keeps its key to itself (protocol.md#5)."""


class Journal:
    """What has happened.

    Args:
        loop: Whose time it is.
        store: Where jobs rest.
        limit: How many jobs may be in flight; 0 for any number.
    """

    def __init__(self, loop: VirtualLoop, store: MemoryStore, limit: int) -> None:
        self._loop = loop
        self._store = store
        self._limit = limit
        self._lines: list[tuple[float, str, tuple[object, ...]]] = []
        self.lives: dict[str, Life] = {}
        self.holds: dict[str, Hold] = {}
        self.runs: dict[Run, None] = {}
        self.answered: dict[str, None] = {}
        self.ledger = Ledger()
        self.counts: Counter[str] = Counter()
        self.stopping = False
        self.breach: asyncio.Future[None] = loop.create_future()
        """Ends with the first promise that was broken."""
        self.paused: dict[str, int] = {}
        """The queues that are paused, and since when."""
        self._crons: Mapping[str, CronGroup] = {}
        self._fired: set[tuple[str, str, int | None]] = set()

    def broken(self, what: str) -> NoReturn:
        """A promise was broken: the world ends, whoever may catch the error.

        Raises:
            Broken: Always.
        """
        error = Broken(what)
        if not self.breach.done():
            self.breach.set_exception(error)
        raise error

    # ── the trace ──

    def say(self, what: str, *about: object) -> None:
        """Write down that something happened."""
        self.counts[what] += 1
        self._lines.append((self._loop.now, what, about))

    def trace(self) -> Iterator[str]:
        """All that happened, a line each."""
        for now, what, about in self._lines:
            yield f"{now:10.4f} {what} {' '.join(map(str, about))}".rstrip()

    def digest(self) -> str:
        """A short text that is the same where the trace is, byte for byte."""
        return hashlib.sha256("\n".join(self.trace()).encode()).hexdigest()[:16]

    # ── the store ──

    @contextmanager
    def looking_on(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Iterator[list[Any]]:
        """Look at what a call to the store does; its result is put in the list inside the block."""
        look = getattr(self, f"_on_{name}", None)
        outcome: list[Any] = []
        if look is None:
            yield outcome
            return
        before, self._crons = dict(self._store._jobs), dict(self._store._crons)
        try:
            yield outcome
        except Refusal:
            if self._store._jobs != before:
                self.broken(f"{name} was refused, and has changed something all the same")
            raise
        look(before, outcome[0], *args, **options)

    def _on_enqueue(
        self,
        before: Mapping[str, JobRecord],
        outcome: Sequence[JobRecord],
        jobs: Sequence[JobRecord],
        now: int,
        *_: object,
        **__: object,
    ) -> None:
        there = list(before.values())
        for job, stands in zip(jobs, outcome, strict=True):
            self._check_key(job, stands, there, now)
            if stands is job:
                self.lives[job.id] = Life(job)
                there.append(job)
                self.say("stored", job.id, job.type)
        self._adopt(now)

    def _check_key(self, job: JobRecord, stands: JobRecord, there: Sequence[JobRecord], now: int) -> None:
        if job.unique_key is None:
            return
        alive = [one for one in there if one.unique_key == job.unique_key and not _expired(one, now)]
        scope = COVERS[job.unique_while or ""]
        holders = [one.id for one in alive if one.status in scope and one.status in COVERS[one.unique_while or ""]]
        if stands is job and holders:
            self.broken(f"{job.id} was stored beside {holders[0]}, which has its unique key")
        if stands is not job and stands.id not in holders:
            self.broken(f"{job.id} was taken for a duplicate of {stands.id}, which does not hold its key")

    def _on_fire(
        self, before: Mapping[str, JobRecord], outcome: Any, due: Any, after: Any, jobs: Any, now: int, *_: object
    ) -> None:
        firing = (due.group.name, due.entry.name, due.entry.next_enqueue_at)
        if jobs and firing in self._fired:
            self.broken(f"{firing} fired twice")
        if jobs and due.entry.next_enqueue_at > now:
            self.broken(f"{firing} fired {due.entry.next_enqueue_at - now} ms too early")
        if self._crons[due.group.name].entry(due.entry.name) != due.entry:
            self.broken(f"{firing} fired, and had been changed")
        self._fired.add(firing)
        self.say("fired", *firing)
        self._on_enqueue(before, outcome, jobs, now)

    def next_of(self, queues: Collection[str], limit: int, now: int, *, asked: bool = False) -> list[str]:
        """Which jobs a take from queues (empty: all) must hand out; `asked` where the store is asked too."""
        return self.ledger.affordable(self.ready(queues), limit, now, asked=asked)

    def ready(self, queues: Collection[str]) -> list[JobRecord]:
        """The ready jobs of queues (empty: all) in the order of dispatch, but for those of paused queues."""
        jobs = [job for job in self._store._jobs.values() if job.status is Status.READY]
        open_ = [job for job in jobs if job.queue not in self.paused and (not queues or job.queue in queues)]
        return sorted(open_, key=lambda job: (job.priority, job.id))

    def took(
        self, owner: int, expected: list[str], jobs: Sequence[JobRecord], now: int, timeout_ms: int | None
    ) -> None:
        """A take handed out jobs."""
        connection = serving.get()
        if [job.id for job in jobs] != expected:
            self.broken(f"{connection} took {[job.id for job in jobs]}, and {expected} were next")
        for job in jobs:
            if job.id in self.holds:
                self.broken(f"{job.id} was taken by {connection}, and {self.holds[job.id].connection} holds it")
            hold = Hold(job, owner, connection, self._draw(job, now), timeout_ms)
            self.holds[job.id] = hold
            life = self.lives[job.id]
            life.delivered[connection.host] += 1
            life.last_hold[connection.host] = hold
            self.say("taken", job.id, connection)
        if self._limit and len(self.holds) > self._limit:
            self.broken(f"{len(self.holds)} jobs are in flight: the limit is {self._limit}")

    def _draw(self, job: JobRecord, now: int) -> tuple[Draw, ...]:
        try:
            return self.ledger.take(job.budgets or (), now, VirtualClock(self._loop).wall_ms())
        except Broken as error:
            self.broken(str(error))

    def _on_release(
        self,
        before: Mapping[str, JobRecord],
        count: int,
        owner: int,
        *,
        died_at: int | None = None,
        running: int | None = None,
    ) -> None:
        mine = [hold for hold in self.holds.values() if hold.owner == owner]
        for place, hold in enumerate(mine):
            if hold.connection.gone_at is None and not self.stopping:
                self.broken(f"{hold.job.id} was given back, and {hold.connection} is alive")
            if died_at is None and not self.stopping:
                self.broken(f"{hold.job.id} was given back, and nobody is said to have died: {hold.connection}")
            self._end(hold, "released")
            died = died_at is not None and (running is None or place < running)
            self._bereave(self.lives[hold.job.id], before[hold.job.id], died=died)
        if count != len(mine):
            self.broken(f"{count} jobs were given back: {len(mine)} were held")

    def _bereave(self, life: Life, record: JobRecord, *, died: bool) -> None:
        """A job was given back; where its worker died once too often it must be dead."""
        most = self._store._defaults.max_worker_deaths
        life.deaths += died
        expected = Status.READY
        if died and 0 < most < life.deaths:
            expected, life.end, life.record = Status.DEAD, "dead", record
            life.failures += 1
        job = self._store._jobs.get(record.id)
        if job is not None and job.status is not expected:
            self.broken(f"{record.id} was given back after {life.deaths} deaths, and is {job.status}")
        if job is None and expected is Status.READY:
            self.broken(f"{record.id} was given back, and is gone")

    def _on_release_jobs(
        self, before: Mapping[str, JobRecord], outcome: list[bool], ids: list[str], owners: list[int] | None
    ) -> None:
        host = serving.get().host
        for job_id, found in zip(ids, outcome, strict=True):
            hold = self.holds.get(job_id)
            if hold is not None and owners is not None and hold.owner not in owners:
                hold = None
            if found is not (hold is not None):
                self.broken(f"{job_id} was {'given back' if found else 'kept'}: held is {hold is not None}")
            if hold is not None:
                if hold.connection.host is not host and hold.connection.gone_at is None:
                    self.broken(f"{job_id} was given back by {host}, and {hold.connection} is alive and holds it")
                self._end(hold, "handed back")
                self._bereave(self.lives[job_id], before[job_id], died=False)

    def _on_fail_overdue(self, before: Mapping[str, JobRecord], outcome: int, now: int, limit: int) -> None:
        ended = [hold for hold in self.holds.values() if self._has_left(hold)]
        for hold in ended:
            due_at = self.overdue_at(hold)
            if due_at is None or due_at > now:
                self.broken(f"{hold.job.id} was taken from {hold.connection} before its time was up")
            self._end(hold, "overdue")
            self._count_failure(hold.job.id, before[hold.job.id], self._store._jobs.get(hold.job.id))
        if len(ended) != outcome or outcome > limit:
            self.broken(f"{outcome} of {limit} jobs were overdue: {len(ended)}")

    def _has_left(self, hold: Hold) -> bool:
        job = self._store._jobs.get(hold.job.id)
        return job is None or job.status is not Status.IN_FLIGHT

    def overdue_at(self, hold: Hold) -> int | None:
        """When a job in flight will be overdue, if ever."""
        job = self._store._jobs.get(hold.job.id, hold.job)
        limit = hold.timeout_ms if job.timeout_ms is None else job.timeout_ms
        return None if limit is None else (hold.job.dequeued_at or 0) + limit

    def _count_failure(self, job_id: str, before: JobRecord, after: JobRecord | None) -> None:
        """A job has failed for a reason that leaves the rest to its limit; None where it was removed with that."""
        life = self.lives[job_id]
        life.failures += 1
        life.record = before
        limit = self._store._defaults.retry_limit if before.retry_limit is None else before.retry_limit
        expected = Status.DEAD if life.failures > limit else Status.SCHEDULED
        if after is None or after.status is not expected:
            gone = after is None and expected is Status.DEAD and self._kept(before, "dead") == 0
            if not gone:
                self.broken(f"{job_id} is {after and after.status} after {life.failures} of {limit} failures")
        life.end = "dead" if expected is Status.DEAD else None

    def _on_succeed(self, before: Mapping[str, JobRecord], outcome: list[bool], ids: list[str], now: int) -> None:
        for job_id, found in zip(ids, outcome, strict=True):
            self._settled(job_id, found, "success")
            if found:
                self.lives[job_id].end = "completed"
                self.lives[job_id].record = before[job_id]

    def _on_fail(
        self, before: Mapping[str, JobRecord], outcome: JobRecord | None, job_id: str, failure: Any, now: int
    ) -> None:
        self._settled(job_id, outcome is not None, "kill" if failure.kill else "failure")
        if outcome is None:
            return
        life = self.lives[job_id]
        if failure.kill or failure.retry_at is not None:
            life.failures += 1
            life.record = before[job_id]
            life.end = "dead" if failure.kill else None
            if outcome.status is not (Status.DEAD if failure.kill else Status.SCHEDULED):
                self.broken(f"{job_id} is {outcome.status} after its handler has decided")
        else:
            self._count_failure(job_id, before[job_id], outcome)
        if outcome.attempts != life.failures:
            self.broken(f"{job_id} has {outcome.attempts} attempts after {life.failures} failures")

    def _settled(self, job_id: str, found: bool, outcome: str) -> None:
        hold = self.holds.get(job_id)
        if found is not (hold is not None):
            self.broken(f"{outcome} of {job_id} was {'taken' if found else 'refused'}: held is {hold is not None}")
        if hold is None:
            self.say("refused", outcome, job_id)
            return
        if not self.lives[job_id].outcomes[outcome]:
            self.broken(f"{job_id} is settled as {outcome}, and no handler ended so")
        self._end(hold, outcome)

    def _on_change(self, before: Any, outcome: Any, selection: Any, change: Change, now: int) -> None:
        for job_id in before:
            if job_id not in self._store._jobs:
                self._removed(job_id, "deleted")
            elif before[job_id].status in TERMINAL and self._store._jobs[job_id].status not in TERMINAL:
                life = self.lives[job_id]
                life.end, life.failures, life.deaths = None, 0, 0
        self.say(type(change).__name__.lower(), outcome.jobs)

    def _on_promote(self, before: Mapping[str, JobRecord], outcome: int, now: int, limit: int) -> None:
        for account in self.ledger.accounts.values():
            account.see(now)
        changed = [job for job in before.values() if job is not self._store._jobs[job.id]]
        early = [job.id for job in changed if job.status is not Status.SCHEDULED or job.ready_at > now]
        if early or len(changed) != outcome or outcome > limit:
            self.broken(f"{outcome} of {limit} jobs were promoted: {len(changed)}, too early {early}")

    def _on_reset(self, before: Mapping[str, JobRecord], outcome: object) -> None:
        for job_id in before:
            self._removed(job_id, "deleted")
        self.ledger.accounts.clear()
        self.paused.clear()
        self.say("reset")

    def _on_pause_queue(self, before: Any, outcome: int, queue: str, now: int) -> None:
        # Of two pauses at once the later may be carried out first: it is since its instant, then, for both.
        if outcome != self.paused.setdefault(queue, now):
            self.broken(f"queue {queue} is paused since {outcome}, and not since {self.paused[queue]}")
        self.say("paused", queue)

    def _on_resume_queue(self, before: Any, outcome: bool, queue: str) -> None:
        if outcome is not (queue in self.paused):
            self.broken(f"queue {queue} was resumed, and had been paused is {outcome}")
        self.paused.pop(queue, None)
        self.say("resumed", queue)

    def _on_reap(self, before: Mapping[str, JobRecord], outcome: int, now: int, limit: int) -> None:
        gone = [job for job in before.values() if job.id not in self._store._jobs]
        for job in gone:
            if not _expired(job, now):
                self.broken(f"{job.id} was reaped before its time")
        if len(gone) != outcome:
            self.broken(f"{len(gone)} jobs were reaped, and {outcome} were told of")

    def _on_save_budget(self, before: Any, outcome: bool, key: str, was: Any, after: Any, now: int) -> None:
        self._adopt(now)

    def _on_save_cron(self, before: Any, outcome: bool, name: str, was: Any, after: Any, now: int, *_: object) -> None:
        self._adopt(now)

    def _adopt(self, now: int) -> None:
        self.ledger.adopt([bucket.budget for bucket in self._store._buckets.values()], now)

    def _removed(self, job_id: str, how: str) -> None:
        self.lives[job_id].end = how
        if job_id in self.holds:
            self._end(self.holds[job_id], how)

    def _end(self, hold: Hold, how: str) -> None:
        hold.ended = how
        del self.holds[hold.job.id]
        self.ledger.give_back(hold.draws)
        self.say(how, hold.job.id, hold.connection)

    # ── the server ──

    def crashed(self) -> list[int]:
        """The process of the server has died; returns who held jobs."""
        owners = list(dict.fromkeys(hold.owner for hold in self.holds.values()))
        for hold in list(self.holds.values()):
            self._end(hold, "orphaned")
        return owners

    def closed(self) -> None:
        """The server has closed the store; everything must have been given back before."""
        if self.holds:
            self.broken(f"the server has stopped, and {list(self.holds)} are in flight")

    # ── handlers and clients ──

    def started(self, host: Host, job_id: str, most: int) -> Run:
        """A handler begins.

        Args:
            host: Where.
            job_id: Its job.
            most: How many may run there at once.
        """
        life = self.lives[job_id]
        life.started[host] += 1
        if life.started[host] > life.delivered[host]:
            self.broken(f"{job_id} runs on {host} more often than it was handed to it")
        here = [run for run in self.runs if run.host is host]
        if any(run.job_id == job_id for run in here):
            self.broken(f"{job_id} runs twice at once on {host}")
        if len(here) >= most:
            self.broken(f"{len(here) + 1} handlers run at once on {host}: its concurrency is {most}")
        run = Run(job_id, host, life.last_hold[host])
        left_at = run.hold.connection.left_at
        # At that very instant it may still have to hear of it.
        if left_at is not None and left_at < self._loop.now:
            self.broken(f"{job_id} begins on {host}, which knows that {run.hold.connection} is lost")
        for other in self.runs:
            # Whoever does not know yet that it has lost the job may begin; that is what "at least once" means.
            if other.job_id == job_id and run.hold.ended is None and other.hold.ended is None:
                self.broken(f"{job_id} runs on {host}, and {other.host} holds it and is at work on it")
        self.runs[run] = None
        self.say("starts", job_id, host)
        return run

    def ended(self, run: Run, outcome: str) -> None:
        """A handler has ended."""
        if run.outcome is not None:
            return
        run.outcome = outcome
        del self.runs[run]
        self.lives[run.job_id].outcomes[outcome] += 1
        self.say("ends", outcome, run.job_id, run.host)

    def died(self, host: Host) -> None:
        """A process is dead, and with it what ran there."""
        for run in [run for run in self.runs if run.host is host]:
            self.ended(run, "abandoned")
        self.say("dies", host)

    def enqueued(self, job_id: str, duplicate: bool) -> None:
        """A client was told that it has enqueued a job, or that it was there."""
        if job_id not in self.lives:
            self.broken(f"{job_id} was answered and never stored")
        if not duplicate:
            self.answered[job_id] = None

    # ── the end ──

    def check_end(self, now: int) -> None:
        """Hold what is left in the store to what has happened."""
        store = self._store
        if self.holds or store._owner or store._held or any(bucket._held for bucket in store._buckets.values()):
            self.broken(f"something is left in flight: {list(self.holds) or store._owner or store._held}")
        if self.runs:
            self.broken(f"handlers are left at work: {[run.job_id for run in self.runs]}")
        for job_id, life in self.lives.items():
            self._check_life(job_id, life, store._jobs.get(job_id), now)
        for job_id in store._jobs.keys() - self.lives.keys():
            self.broken(f"{job_id} is in the store, and was never enqueued")
        for account in self.ledger.accounts.values():
            account.check_windows()

    def _check_life(self, job_id: str, life: Life, job: JobRecord | None, now: int) -> None:
        if life.end is None:
            self.broken(f"{job_id} was never run to an end; it is {job and job.status}")
        gone = life.end == "deleted" or self._kept(life.record, life.end) == 0
        if gone and job is not None:
            self.broken(f"{job_id} was {life.end}, and is {job.status}")
        if not gone and job is not None and job.status != life.end:
            self.broken(f"{job_id} was {life.end}, and is {job.status}")

    def _kept(self, record: JobRecord, status: str) -> int:
        """How long a finished job is kept, in milliseconds."""
        own = getattr(record.retention, f"{status}_ms") if record.retention is not None else None
        kept: int = getattr(self._store._defaults, f"{status}_ms") if own is None else own
        return kept


def _expired(job: JobRecord, now: int) -> bool:
    return job.purge_at is not None and job.purge_at <= now
