"""What the clients of the crash trial know: what was answered must be so, what was not answered may be so."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from trust.verdict import Broken
from zizq import Job

T = TypeVar("T")


class Fact(Generic[T]):
    """Something that the server keeps: what it is, and what requests without an answer may have made of it.

    Args:
        now: What it is.
    """

    def __init__(self, now: T) -> None:
        self.now = now
        self.maybe: list[T] = []

    def ask(self, after: T) -> None:
        """A request is sent that is to change it."""
        self.maybe.append(after)

    def answer(self, after: T) -> None:
        """The request was answered."""
        self.now, self.maybe = after, []

    def could_be(self) -> list[T]:
        """All that it may be."""
        return [self.now, *self.maybe]


@dataclass(frozen=True)
class Known:
    """A job that is stored, as far as it is known; None for what is not."""

    queue: str
    priority: int
    retry_limit: int | None = None
    state: str = "waiting"  # scheduled or ready, or completed, or dead
    attempts: int = 0
    ready_at: int | None = None
    keep: bool = False

    def with_(self, **changes: Any) -> Known:
        """The same with some changes."""
        return replace(self, **changes)

    def completed(self) -> Known | None:
        """What a success makes of it."""
        return self.with_(state="completed") if self.keep else None

    def is_seen_as(self, job: Job) -> bool:
        """Whether a job that the server shows is this one."""
        state = "waiting" if job.status in ("scheduled", "ready") else job.status
        shown = (job.queue, job.priority, job.retry_limit, state, job.attempts)
        same = shown == (self.queue, self.priority, self.retry_limit, self.state, self.attempts)
        return same and self.ready_at in (None, job.ready_at_ms)


@dataclass(eq=False)
class Entry:
    """A job of the trial, found by the number in its payload."""

    number: int
    fact: Fact[Known | None]
    id: str | None = None
    busy: bool = False
    """Whether a request about it is under way: there is one at a time, so that what it may be is known."""
    seen: bool = False
    """Whether it was taken before its enqueue was answered, so that it is known to be there."""
    done: bool = False
    """Whether its success was answered."""
    messages: dict[int, str] = field(default_factory=dict)
    """What its failures said, by attempt; also those that may not have happened."""

    @property
    def is_there(self) -> bool:
        """Whether it is stored for sure."""
        return None not in self.fact.could_be()


class Journal:
    """All that was asked for and answered."""

    def __init__(self) -> None:
        self._next = 0
        self.entries: dict[int, Entry] = {}
        self.by_id: dict[str, Entry] = {}
        self.enqueues: list[Sequence[Entry]] = []
        """Jobs of enqueues without an answer: all of them are there, or none is."""
        self.changes: list[Sequence[Entry]] = []
        """Jobs of other requests without an answer: they were done to all of them, or to none."""
        self.holders: dict[str, int] = {}
        """Which stream holds a job in flight."""
        self.counts: dict[str, int] = defaultdict(int)

    # ── while the server lives ──

    def new(self, *shapes: Known) -> list[Entry]:
        """Jobs that are about to be enqueued together."""
        entries = []
        for shape in shapes:
            self._next += 1
            entry = self.entries[self._next] = Entry(self._next, Fact(None))
            entry.fact.ask(shape)
            entry.busy = True
            entries.append(entry)
        self.enqueues.append(entries)
        return entries

    def enqueued(self, entries: Sequence[Entry], jobs: Sequence[Job]) -> None:
        """An enqueue was answered."""
        for entry, job in zip(entries, jobs, strict=True):
            if entry.id not in (None, job.id):
                raise Broken(f"job {entry.number} was enqueued as {job.id}, and taken as {entry.id}")
            self._name(entry, job.id)
            if not entry.seen:
                entry.fact.answer(entry.fact.maybe[-1])
            entry.busy = False
        self.count("enqueued", len(entries))
        self.enqueues = [some for some in self.enqueues if some is not entries]

    def duplicate(self, entries: Sequence[Entry]) -> None:
        """An enqueue was answered with another job."""
        self.enqueues = [some for some in self.enqueues if some is not entries]
        for entry in entries:
            del self.entries[entry.number]
        self.count("duplicates")

    def ask(self, entries: Sequence[Entry], after: Sequence[Known | None]) -> None:
        """A change of jobs is sent: to all of them or to none."""
        for entry, shape in zip(entries, after, strict=True):
            entry.busy = True
            entry.fact.ask(shape)
        self.changes.append(entries)

    def answer(self, entries: Sequence[Entry], kind: str) -> None:
        """It was answered."""
        for entry in entries:
            entry.fact.answer(entry.fact.maybe[-1])
            entry.busy = False
        self.count(kind, len(entries))
        self.changes = [some for some in self.changes if some is not entries]

    def take(self, job: Job, stream: int) -> Entry:
        """A job came in a stream.

        Raises:
            Broken: When another stream holds it, or it cannot be there.
        """
        number = job.payload["n"]
        entry = self.entries.get(number)
        if job.id in self.holders:
            raise Broken(f"job {job.id} was handed to stream {stream} while stream {self.holders[job.id]} held it")
        if entry is None or entry.id not in (None, job.id):
            raise Broken(f"job {job.id} with number {number} was taken, and is {entry and entry.id}")
        if entry.done:
            raise Broken(f"job {job.id} was taken again after its success was answered")
        self._name(entry, job.id)
        if not entry.seen and entry.fact.now is None and entry.fact.maybe:
            # It was taken before its enqueue was answered: so it is there.
            entry.fact.answer(entry.fact.maybe[0])
            entry.seen = True
        self.holders[job.id] = stream
        self.counts["taken"] += 1
        return entry

    def let_go(self, entry: Entry) -> None:
        """What ends the flight of a job is about to be sent: from now on another stream may have it."""
        self.holders.pop(entry.id or "", None)

    def idle(self, state: str, queues: Collection[str] = ()) -> list[Entry]:
        """Jobs of a state that no request is about."""
        return [
            entry
            for entry in self.by_id.values()
            if not entry.busy
            and (now := entry.fact.now) is not None
            and now.state == state
            and (not queues or now.queue in queues)
        ]

    def count(self, kind: str, number: int = 1) -> None:
        """One more request was answered, that was about so many things of a kind."""
        self.counts["requests"] += 1
        self.counts[kind] += number

    def _name(self, entry: Entry, job_id: str) -> None:
        entry.id = job_id
        self.by_id[job_id] = entry

    # ── after a crash ──

    def compare(self, jobs: Iterable[Job]) -> list[Entry]:
        """Hold all jobs that the server shows to what is known; returns those that an answer was missing for.

        Raises:
            Broken: When something that was answered is not so, or something is there that nobody asked for.
        """
        shown: dict[int, Job] = {}
        for job in jobs:
            number = job.payload["n"]
            if number in shown:
                raise Broken(f"job number {number} is there twice, as {shown[number].id} and {job.id}")
            shown[number] = job
        if strange := shown.keys() - self.entries.keys():
            raise Broken(f"job {shown[min(strange)].id} is there, which is gone or was never enqueued")
        outcomes = {number: _outcomes(entry, shown.get(number)) for number, entry in self.entries.items()}
        self._compare_groups(outcomes)
        open_ones = [entry for entry in self.entries.values() if entry.fact.maybe]
        for number, entry in list(self.entries.items()):
            self._learn(entry, entry.fact.could_be()[outcomes[number][-1]], shown.get(number))
        self.enqueues.clear()
        self.changes.clear()
        self.holders.clear()
        return open_ones

    def _compare_groups(self, outcomes: dict[int, list[int]]) -> None:
        for entries in self.enqueues:
            there = {entry.seen or outcomes[entry.number] != [0] for entry in entries}
            if len(there) > 1:
                raise Broken(f"only some of the jobs {_span(entries)} of one enqueue are there")
        for entries in self.changes:
            # A change that changes nothing about a job leaves both possible.
            undone = all(outcomes[entry.number][0] == 0 for entry in entries)
            done = all(outcomes[entry.number][-1] > 0 for entry in entries)
            if not undone and not done:
                raise Broken(f"one request about the jobs {_span(entries)} was done to some of them")

    def _learn(self, entry: Entry, known: Known | None, job: Job | None) -> None:
        entry.fact.answer(known if known is None or job is None else known.with_(ready_at=job.ready_at_ms))
        entry.busy, entry.seen = False, False
        if job is not None:
            self._name(entry, job.id)
        if known is None:
            # Gone for good: if it is ever shown again, that is a job that nobody enqueued.
            del self.entries[entry.number]
            self.by_id.pop(entry.id or "", None)


def _span(entries: Sequence[Entry]) -> str:
    return f"{entries[0].number} to {entries[-1].number}"


def _outcomes(entry: Entry, job: Job | None) -> list[int]:
    """Which of what a job may be it is: 0 for what is known.

    Raises:
        Broken: When it is none.
    """
    if job is not None and entry.id not in (None, job.id):
        raise Broken(f"job {entry.id} is there again as {job.id}")
    could_be = entry.fact.could_be()
    found = [
        number
        for number, known in enumerate(could_be)
        if (known is None and job is None) or (known is not None and job is not None and known.is_seen_as(job))
    ]
    if not found:
        told = "gone" if job is None else repr(job)
        raise Broken(f"job {entry.id} (number {entry.number}) is {told}, and could be {could_be}")
    return found
