"""What a server holds of the jobs in flight, and what it has lost. Pure.

The truth is in the database. This is for what cannot be read there any more: whom to tell of jobs that others have
ended, and which late reports are of jobs that this server has lost, and that somebody else may hold by now.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from itertools import filterfalse

REMEMBERED = 100_000
"""Lost jobs whose late reports are refused."""


class Holdings:
    """The jobs that a server holds, and their owners."""

    def __init__(self) -> None:
        self._owner: dict[str, int] = {}
        self._owned: dict[int, dict[str, None]] = {}
        self._lost: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._owner)

    def of(self, owner: int) -> list[str]:
        """The jobs that an owner holds, those that it has held longest first."""
        return list(self._owned.get(owner, ()))

    def add(self, ids: Collection[str], owner: int) -> None:
        """An owner got jobs."""
        self._owner.update(dict.fromkeys(ids, owner))
        self._owned.setdefault(owner, {}).update(dict.fromkeys(ids))
        if self._lost:
            for job_id in ids:
                self._lost.pop(job_id, None)

    def leave(self, ids: Iterable[str]) -> Counter[int]:
        """Jobs are not in flight any more; returns how many each owner is rid of."""
        freed: Counter[int] = Counter()
        for job_id in ids:
            owner = self._owner.pop(job_id, None)
            if owner is not None:
                freed[owner] += 1
                del self._owned[owner][job_id]
        for owner in freed:
            if not self._owned[owner]:
                del self._owned[owner]
        return freed

    def lose(self) -> Counter[int]:
        """The lease is lost, and all jobs with it; returns how many each owner is rid of."""
        self._lost.update(dict.fromkeys(self._owner))
        for job_id in list(self._lost)[: len(self._lost) - REMEMBERED]:
            del self._lost[job_id]
        freed = Counter(self._owner.values())
        self._owner.clear()
        self._owned.clear()
        return freed

    def not_lost(self, ids: Iterable[str]) -> list[str]:
        """Those of some jobs that this server has not lost."""
        return [job_id for job_id in ids if job_id not in self._lost] if self._lost else list(ids)

    def others(self, ids: Collection[str]) -> list[str]:
        """Those of some jobs that this server does not know to hold."""
        return list(filterfalse(self._owner.__contains__, ids))
