"""What a check of a store finds. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from zizq.store.rows import NAMED
from zizq.words import count

SHOWN = 20
"""Violations of one kind that are told one by one."""


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
    """What was found, by kind; the first of each kind are kept."""

    def __init__(self) -> None:
        self._kept: dict[str, list[str]] = {}
        self._found: Counter[str] = Counter()

    def add(self, kind: str, text: str) -> None:
        """Note a violation."""
        self._found[kind] += 1
        if self._found[kind] <= SHOWN:
            self._kept.setdefault(kind, []).append(text)

    def total(self) -> int:
        """How many there are in all."""
        return self._found.total()

    def lines(self) -> Iterator[str]:
        """What is told of them."""
        for kind, texts in self._kept.items():
            yield from texts
            if self._found[kind] > SHOWN:
                yield f"{kind}: {count(self._found[kind] - SHOWN)} more of this kind, {count(self._found[kind])} in all"


def tally_flaw(queue: str, kind: str, status: int, there: int, noted: int) -> str:
    """That a count of jobs is wrong."""
    name = NAMED[status] if status in range(len(NAMED)) else status
    told = f"tally: queue {queue!r}, type {kind!r}, status {name}"
    return f"{told}: {noted} jobs are counted, and there are {there}"
