"""Parts of the lists that are shown, read from one instant; and the oldest job of each queue.

A list is a merge of ranges of an index, each of which is in the order of the list: SQLite merges them, outside the
interpreter's lock, and looks at no row before a part is found. Jobs in flight are stored as ready, mostly at the head
of their list. So a place in the ready list is first looked for as if all of them stood before it, and what was wrong
with that is made good by a few steps back.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from zizq.engine.lists import JobList, Key, ListQuery, first_of, in_order, key_in
from zizq.job import JobRecord
from zizq.store import rows
from zizq.store.sqlite import pages, sql
from zizq.store.sqlite.change_statements import ready_lanes, unless_pending
from zizq.store.sqlite.pages import Instant
from zizq.store.views import Found, Window, find_in, window_in

FEW = 20_000
"""Of so many jobs the next one is found by looking at all of them: among others it may be far away."""
MOST_PARTS = 400
"""Ranges that one statement merges at most; of more, SQLite sorts what the list has. It takes 500 at the very most."""


class Part(NamedTuple):
    """A range of an index in the order of a list: what is read, the values in it, and the columns of its key."""

    text: str
    values: tuple[Any, ...]
    key: str


def oldest_ready(at: Instant) -> dict[str, int]:
    """By queue: the `ready_at` of the ready job with the smallest identifier."""
    text = f"""SELECT id FROM jobs INDEXED BY place
               WHERE queue = ? AND type = ? AND status = 1 {_unless_leaving(at)} ORDER BY id"""  # noqa: S608
    oldest: dict[str, str] = {}
    kinds: list[Any] = at.db.execute("SELECT queue, type FROM tally WHERE status = 1 AND jobs > 0").fetchall()
    for queue, kind in kinds:
        ids = (row[0] for row in at.db.execute(text, (queue, kind)))
        job_id = next((one for one in ids if one not in at.flying), None)
        if job_id is not None and job_id < oldest.get(queue, "~"):
            oldest[queue] = job_id
    found: dict[str, Any] = {}
    for queue, job_id in oldest.items():
        found[queue] = at.db.execute("SELECT ready_at FROM jobs WHERE id = ?", (job_id,)).get
    return found


def window(at: Instant, of: JobList, place: int | str, limit: int) -> Window | None:
    """A part of a list; None where the job that was named is not in it."""
    if of is JobList.IN_FLIGHT:
        return window_in(in_order(of, at.flying.values()), place, limit)
    listed = Listed(at, of)
    if isinstance(place, str):
        key = listed.key(place)
        if key is None:
            return None
        place = listed.position(key) - limit // 2
    return listed.window(place, limit)


def find(at: Instant, of: JobList, query: ListQuery, beside: str | None, backward: bool, limit: int) -> Found | None:
    """The next job of a list that a query lets through."""
    if of is JobList.IN_FLIGHT:
        return find_in(in_order(of, at.flying.values()), query, beside, backward, limit)
    listed = Listed(at, of)
    start = None if beside is None else listed.key(beside)
    if beside is not None and start is None:
        return None
    found = next(Listed(at, of, query).walk(start, backward, 1), None)
    if found is None:
        return None
    position = listed.position(found)
    return Found(position, listed.window(position - limit // 2, limit))


class Listed:
    """One of the lists of jobs that are stored.

    Args:
        at: The store.
        of: Which list.
        query: Which of its jobs.
    """

    def __init__(self, at: Instant, of: JobList, query: ListQuery | None = None) -> None:
        self._at = at
        self._of = of
        self._parts = list(_parts(at, of, query))
        # Those in flight that are met in the list as it is stored, in its order.
        self._flying = sorted(map(key_in(of), at.flying.values())) if of is JobList.READY else []

    def total(self) -> int:
        """How many jobs it has."""
        status = rows.STATUS[self._of.status]
        return sum(n for kind, n in pages.tally(self._at).items() if kind[2] == status) - len(self._flying)

    def window(self, place: int, limit: int) -> Window:
        """So many jobs from a position on, which is drawn back where the list ends too soon."""
        total = self.total()
        first = first_of(place, limit, total)
        return Window(self.jobs(self.at(first, min(limit, total), total)), first, total)

    def key(self, job_id: str) -> Key | None:
        """Where a job stands; None where it is not in the list."""
        text = f"""SELECT {rows.BARE} FROM jobs WHERE id = ? AND (purge_at IS NULL OR purge_at > ?)
                   {_unless_leaving(self._at)}"""  # noqa: S608 - constants
        row = self._at.db.execute(text, (job_id, self._at.now)).fetchone()
        job = None if row is None or job_id in self._at.flying else rows.to_job(row)
        return key_in(self._of)(job) if job is not None and job.status is self._of.status else None

    def position(self, key: Key) -> int:
        """How many jobs come before a place."""
        sign = ">" if self._of.descends else "<"
        terms = [f"SELECT count(*) AS n FROM ({part.text} AND {_beyond(part, sign)})" for part in self._parts]  # noqa: S608
        values = [value for part in self._parts for value in (*part.values, *_values(part, key))]
        stored: Any = self._at.db.execute(f"SELECT total(n) FROM ({' UNION ALL '.join(terms)})", values).get  # noqa: S608
        return int(stored) - bisect_left(self._flying, key)

    def at(self, first: int, count: int, total: int) -> list[Key]:
        """The keys of so many jobs from a position on, which there are."""
        left = total - first - count
        if left < first:
            return self._nth(left, count, backward=True)[::-1]
        return self._nth(first, count, backward=False)

    def _nth(self, skipped: int, count: int, *, backward: bool) -> list[Key]:
        """The keys of so many jobs after so many others, from the head on or from the end."""
        assumed = len(self._flying) if skipped and not backward else 0
        start = next(self._read(None, backward, 1, skipped + assumed), None) if skipped else None
        if start is None:
            return list(self.walk(None, backward, count))
        passed = len(self._flying) - bisect_right(self._flying, start) if backward else bisect_left(self._flying, start)
        # Where fewer of them stand before it than was thought, it is too far; where more do, not far enough.
        if (off := assumed - passed) > 0:
            start = list(self.walk(start, not backward, off))[-1]
        short = max(0, -off)
        return list(self.walk(start, backward, short + count, inclusive=True))[short:]

    def walk(self, start: Key | None, backward: bool, most: int, *, inclusive: bool = False) -> Iterator[Key]:
        """The keys of the jobs beyond a place, one after the other, so many at most."""
        keys = self._read(start, backward, most + len(self._flying), 0, inclusive=inclusive)
        return islice((key for key in keys if key[1] not in self._at.flying), most)

    def _read(
        self, start: Key | None, backward: bool, limit: int, skipped: int, *, inclusive: bool = False
    ) -> Iterator[Key]:
        """Keys as they are stored, in the order of the list or against it."""
        rises = backward == self._of.descends
        sign = (">" if rises else "<") + ("=" if inclusive else "")
        way = "ASC" if rises else "DESC"
        terms, values = [], []
        for part in self._parts:
            terms.append(part.text if start is None else f"{part.text} AND {_beyond(part, sign)}")
            values += [*part.values, *(() if start is None else _values(part, start))]
        if not terms:
            return iter(())
        # The dead have no number in their keys; a constant in the order would have SQLite sort them.
        order = f"id {way}" if self._of is JobList.DEAD else f"k {way}, id {way}"
        text = f"{' UNION ALL '.join(terms)} ORDER BY {order} LIMIT ? OFFSET ?"
        found: Any = self._at.db.execute(text, (*values, limit, skipped))
        return iter(found)

    def jobs(self, keys: Iterable[Key]) -> list[JobRecord]:
        """The jobs of some keys, in their order."""
        ids = [key[1] for key in keys]
        text = f"SELECT {rows.BARE} FROM jobs WHERE id IN {sql.AMONG}"  # noqa: S608 - constants
        found = {row[0]: rows.to_job(row) for row in sql.among(self._at.db, text, ids)}
        return [found[job_id] for job_id in ids]


def _parts(at: Instant, of: JobList, query: ListQuery | None) -> Iterator[Part]:
    """The ranges that make up a list."""
    asked = query if query is not None and query != ListQuery() else None
    kinds = _kinds(at, of, asked) if asked is not None or of is JobList.DEAD else {}
    if asked is not None and not kinds:
        return
    condition, values = _conditions(at, of, kinds if asked is not None else {})
    column, index, key = _ORDERED[of]
    text = f"SELECT {column} AS k, id FROM jobs INDEXED BY {{}} WHERE status = {rows.STATUS[of.status]}"  # noqa: S608
    if len(kinds) <= MOST_PARTS and (of is JobList.DEAD or (asked is not None and sum(kinds.values()) <= FEW)):
        for kind in kinds:
            yield Part(f"{text.format('place')} AND queue = ? AND type = ?{condition}", (*kind, *values), key)
        return
    lanes = ready_lanes(at.db) if of is JobList.READY else []
    if of is not JobList.READY or len(lanes) > MOST_PARTS:
        yield Part(text.format(index) + condition, values, key)
        return
    queues = {queue for queue, _ in kinds}
    for lane in lanes:
        # Each range is read up to its first job that is asked for: one that has none would be read to its end.
        if asked is None or lane[0] in queues:
            yield Part(f"{text.format(index)} AND queue = ? AND budgets = ?{condition}", (*lane, *values), key)


_ORDERED = {
    JobList.SCHEDULED: ("ready_at", "due", "(ready_at, id)"),
    JobList.READY: ("priority", "ready", "(priority, id)"),
    JobList.DEAD: ("0", "place", "id"),
}
"""By list: the column that comes first in its order, the index that is in this order, and the columns of its key."""


def _conditions(at: Instant, of: JobList, kinds: Mapping[tuple[str, str], int]) -> tuple[str, tuple[Any, ...]]:
    """What must hold for each row of a list; without kinds those of all are in it."""
    text = _unless_leaving(at)
    values: list[Any] = []
    if of is JobList.DEAD:
        text += " AND (purge_at IS NULL OR purge_at > ?)"
        values.append(at.now)
    if kinds:
        text += " AND queue IN (SELECT value FROM json_each(?)) AND type IN (SELECT value FROM json_each(?))"
        values += [_named(queue for queue, _ in kinds), _named(kind for _, kind in kinds)]
    return text, tuple(values)


def _kinds(at: Instant, of: JobList, query: ListQuery | None) -> dict[tuple[str, str], int]:
    """How many jobs there are of each queue and type that is looked for."""
    text = "SELECT queue, type, jobs FROM tally WHERE status = ? AND jobs > 0"
    found: Any = at.db.execute(text, (rows.STATUS[of.status],))
    return {(queue, kind): jobs for queue, kind, jobs in found if query is None or query.lets_in(queue, kind)}


def _named(names: Iterable[str]) -> str:
    return json.dumps(sorted(set(names)))


def _unless_leaving(at: Instant) -> str:
    return unless_pending(at.leaving is not None)


def _beyond(part: Part, sign: str) -> str:
    return f"id {sign} ?" if part.key == "id" else f"{part.key} {sign} (?, ?)"


def _values(part: Part, key: Key) -> tuple[Any, ...]:
    return key[1:] if part.key == "id" else key
