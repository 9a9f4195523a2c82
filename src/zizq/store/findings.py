"""What a check of a store finds, whatever it is made of: it reads the rows, and here they are judged. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from zizq.budget import Budget
from zizq.engine.bucket import BucketState
from zizq.job import JobRecord
from zizq.store import flaws
from zizq.store.rows import NAMED, Row, is_finished
from zizq.words import count

SHOWN = 20
"""Violations of one kind that are told one by one."""

_budget = msgspec.msgpack.Decoder(Budget).decode
_state = msgspec.msgpack.Decoder(BucketState).decode


class Checked(NamedTuple):
    """What came of a check.

    Args:
        jobs: How many jobs are stored, by status. Those that were in flight are stored as ready.
        unfinished: How many of them a change of many, which is certain, has still to reach.
        size: The bytes of the database and its log.
        violations: What is wrong, a line each; of each kind only the first, and then how many more there are.
        found: How many violations there are in all.
    """

    jobs: dict[str, int]
    unfinished: int
    size: int
    violations: list[str]
    found: int


class Findings:
    """What was found, by kind; the first of each kind are kept.

    Counts of jobs come before all else, and budgets before who draws on them.
    """

    def __init__(self) -> None:
        self._kept: dict[str, list[str]] = {}
        self._found: Counter[str] = Counter()
        self._jobs: Counter[str] = Counter()
        self._budgets: dict[str, Budget] = {}

    def add(self, kind: str, text: str) -> None:
        """Note a violation."""
        self._found[kind] += 1
        if self._found[kind] <= SHOWN:
            self._kept.setdefault(kind, []).append(text)

    @property
    def jobs(self) -> int:
        """How many jobs there are, by the counts."""
        return self._jobs.total()

    def checked(self, unfinished: int = 0) -> Checked:
        """What came of the check; its size is left at 0."""
        jobs = {str(status): self._jobs[status] for status in NAMED}
        return Checked(jobs, unfinished, 0, list(self._lines()), self._found.total())

    def count(self, queue: str, kind: str, status: int, there: int, noted: int) -> None:
        """Judge how many jobs are counted of a queue, type and status."""
        is_known = status in range(len(NAMED))
        if is_known:
            self._jobs[NAMED[status]] += there
        if there != noted:
            told = f"tally: queue {queue!r}, type {kind!r}, status {NAMED[status] if is_known else status}"
            self.add("tally", f"{told}: {noted} jobs are counted, and there are {there}")

    def job(self, row: Row, stored: Callable[[str], Any] = str) -> JobRecord | None:
        """Judge a row of `flaws.JOB_COLUMNS`; returns its job, or None where it cannot be read.

        Args:
            row: The row.
            stored: How a name of `rows.key_of` is stored.
        """
        job = flaws.read_job(row)
        if not isinstance(job, JobRecord):
            self._add(f"job {row[0]}", job)
            return None
        for flaw in flaws.job_flaws(job, row, stored):
            self._add(f"job {job.id}", flaw)
        return job

    def draws(self, job: JobRecord, noted: Mapping[str, tuple[int, bool]]) -> None:
        """Judge what is noted of the budgets that a job draws on: by budget the cost, and whether it is finished."""
        for draw in job.budgets or ():
            if noted.get(draw.key) != (draw.cost, is_finished(job)):
                self.add("draws", f"job {job.id}: {flaws.draw_flaw(draw, is_finished(job), noted.get(draw.key))}")

    def errors(self, job: JobRecord, there: int, first: int, last: int) -> None:
        """Judge the errors of a job, of which there is one for each attempt."""
        if (there, first, last) != (job.attempts, 1, job.attempts):
            self.add("errors", f"job {job.id}: {flaws.attempts_flaw(job, there, first, last)}")

    def budget(self, key: str, stored: bytes, state: bytes | None = None) -> None:
        """Judge a budget, and its tokens where they are written down."""
        try:
            budget = self._budgets[key] = _budget(stored)
            if state is not None:
                _state(state)
        except flaws.UNREADABLE as error:
            self.add("budget", f"budget {key!r}: it cannot be read: {error}")
            return
        if budget.key != key:
            self.add("budget", f"budget {key!r}: it calls itself {budget.key!r}")

    def drawn(self, key: str, cost: int, who: str) -> None:
        """Judge the highest cost that somebody draws on a budget."""
        if flaw := flaws.capacity_flaw(self._budgets.get(key), cost, who):
            self.add("budget", f"budget {key!r}: {flaw}")

    def cron(self, name: str, settings: bytes) -> None:
        """Judge a cron group, without its entries."""
        if flaw := flaws.group_flaw(settings, name):
            self.add("cron", f"cron {name!r}: {flaw}")

    def entry(self, cron: str, name: str, next_at: int | None, stored: bytes, draws: dict[str, int]) -> None:
        """Judge a cron entry, and what its job is noted to draw, by budget."""
        for flaw in flaws.entry_flaws(stored, name, next_at, draws):
            self._add(f"cron entry {cron}/{name}", flaw)
        for key, cost in draws.items():
            self.drawn(key, cost, f"jobs of cron entry {cron}/{name}")

    def pause(self, queue: Any, paused_at: Any) -> None:
        """Judge a paused queue."""
        for flaw in flaws.pause_flaws(queue, paused_at):
            self.add("pause", f"paused queue {queue!r}: {flaw}")

    def _add(self, what: str, flaw: flaws.Flaw) -> None:
        kind, text = flaw
        self.add(kind, f"{what}: {text}")

    def _lines(self) -> Iterator[str]:
        """What is told of them."""
        for kind, texts in self._kept.items():
            yield from texts
            if self._found[kind] > SHOWN:
                yield f"{kind}: {count(self._found[kind] - SHOWN)} more of this kind, {count(self._found[kind])} in all"
