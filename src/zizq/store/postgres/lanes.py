"""Takes of jobs that draw on budgets: which lanes there are, and which of them can pay.

The truth is in the database. Tokens are rows, and a take holds those of all lanes that it looks at before it looks: so
takes from one budget come one after another, whichever servers they are made on, and the first in line goes first.

What a server remembers spares it a look and no more: which lanes there are, which of them wait, and from where on there
are jobs in them. A lane need not wait any more when a row of one of its budgets has a new version, when another job
stands first in it, or when its time has come.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from heapq import nsmallest
from typing import NamedTuple

from zizq.budget import Draw
from zizq.engine.purse import Key, Purse, lane, lane_of, parts
from zizq.engine.window import ReadySet, key_of
from zizq.job import JobRecord, Status
from zizq.store import rows
from zizq.store.postgres import budget_rows
from zizq.store.postgres.database import Transaction
from zizq.store.postgres.floors import END, Floors

LOOK_S = 0.025
"""For how long a server may not notice a lane that another one has opened."""
SPARE = 32
"""A take looks at twice as many lanes as it wants jobs, and at so many more: some cannot pay, or have no jobs."""
SHARE = 20
"""Looking for lanes takes at most this fraction of the time."""

_IN_FLIGHT = "SELECT FROM zizq.flight f WHERE f.id = j.id"
_OF_LANE = "j.status = 1 AND j.budgets <> '' AND j.queue = lane.queue AND j.budgets = lane.budgets"


def _every_lane(*columns: str, among: str = "") -> str:
    """Finds lanes in one step each, however many jobs they have, and whether or not these are in flight."""
    following = f"""SELECT queue, budgets FROM zizq.jobs WHERE status = 1 AND budgets <> '' {among} {{}}
                    ORDER BY queue, budgets LIMIT 1"""  # noqa: S608 - constants
    return f"""WITH RECURSIVE lane AS (
            ({following.format("")})
            UNION ALL
            SELECT following.* FROM lane,
                LATERAL ({following.format("AND (queue, budgets) > (lane.queue, lane.budgets)")}) following
        )
        SELECT {", ".join(("lane.queue", "lane.budgets", *columns))} FROM lane"""  # noqa: S608 - constants


_LANES = f"""
    {_every_lane("first.priority, first.id")}, LATERAL (
        SELECT j.priority, j.id FROM zizq.jobs j WHERE {_OF_LANE} AND NOT EXISTS ({_IN_FLIGHT})
        ORDER BY j.priority, j.id LIMIT 1
    ) first
    WHERE lane.queue NOT IN (SELECT queue FROM zizq.paused_queues)"""  # noqa: S608 - constants
_OF_QUEUE = _every_lane(among="AND queue = $1")
_HEADS = f"""
    SELECT j.id, j.queue, j.priority, j.options, j.version
    FROM unnest($1::text[], $2::text[], $3::integer[], $4::integer[], $5::text[])
        lane (queue, budgets, most, priority, id),
        LATERAL (
            SELECT j.id, j.queue, j.priority, j.options, j.xmin::text::bigint AS version FROM zizq.jobs j
            WHERE {_OF_LANE} AND (j.priority, j.id) >= (lane.priority, lane.id) AND NOT EXISTS ({_IN_FLIGHT})
            ORDER BY j.priority, j.id LIMIT lane.most
        ) j
    WHERE lane.queue NOT IN (SELECT queue FROM zizq.paused_queues)"""  # noqa: S608 - constants


class Chosen(NamedTuple):
    """A job that can pay.

    Args:
        job: Of the job its identifier, its queue, its priority and what it draws.
        version: That of its row: whoever changes the job makes another one.
        draws: What it pays, as `flight.draws` has it; None for nothing.
    """

    job: JobRecord
    version: int
    draws: str | None


class _Purse(Purse):
    """A purse that lets nobody go while takes are under way: they do not look at him, and he would be overtaken."""

    def __init__(self) -> None:
        super().__init__()
        self._later: set[str] | None = None

    def begin(self) -> None:
        """Takes begin."""
        self._later = set()

    def end(self) -> None:
        """They are over."""
        later, self._later = self._later or (), None
        self.revive(later)

    def revive(self, keys: Iterable[str]) -> None:
        """Let all lanes that wait for one of the budgets be looked at again, when takes are over."""
        if self._later is None:
            super().revive(keys)
        else:
            self._later.update(keys)

    def clear(self) -> None:
        """Forget all budgets, and all who wait."""
        super().clear()
        self._later = None


class Lanes:
    """The lanes of ready jobs that draw on budgets, as far as a server knows of them.

    Takes that share a transaction go through `begin`, then each through `choose` and `pay`, then `end` or `stop`.

    Args:
        tell: Hears of queues whose jobs may be affordable.
    """

    def __init__(self, tell: Callable[[Collection[str]], None]) -> None:
        self._tell = tell
        self._purse = _Purse()
        self._purse.on_revived = tell
        self._known: dict[str, Key] = {}
        """The lanes, and which key none of their ready jobs is before."""
        self._lowered: dict[str, Key] = {}
        """Of lanes in which jobs became ready since takes began, the first of these."""
        self._places: dict[str, Key] = {}
        """Of lanes that were looked at since, the first job that was left there."""
        self._floors = Floors()
        self._versions: dict[str, int] = {}
        """Those of the rows of budgets, when they were last read or written here."""
        self._look_at = 0.0
        self._heard = 0
        self._heard_of: dict[str, int] = {}
        """When lanes were last heard of, in numbers that only grow."""
        self._missed: set[str] = set()
        """Lanes whose jobs could not be had, since somebody else was about them."""
        self._more: set[str] = set()
        """Queues in which takes have left jobs for which they had room."""
        self._held: set[str] = set()
        """Lanes whose budgets are held by the takes that are under way."""
        self._rows: dict[str, int] = {}
        """The versions of the rows of jobs that were looked at."""
        self._reached: dict[Collection[str], Key | None] = {}

    # ── what is heard ──

    def ready(self, keys: Mapping[str, Key]) -> None:
        """Jobs became ready: by lane, the first of them."""
        self._floors.lower(keys)
        self._heard += 1
        for name, key in keys.items():
            self._known[name] = min(key, self._known.get(name, key))
            self._lowered[name] = min(key, self._lowered.get(name, key))
            self._heard_of[name] = self._heard
            self._purse.unpark(name)

    def revive(self, keys: Iterable[str]) -> None:
        """Budgets have got tokens, or somebody has left the line for them."""
        self._purse.revive(keys)

    def stale(self) -> None:
        """Whatever is known may be wrong: the next take looks at everything."""
        self._floors.clear()
        self._look_at = 0.0

    def clear(self) -> None:
        """There are no jobs any more, and no budgets."""
        self._known.clear()
        self._purse.clear()
        self.stale()

    def ring(self, now: int) -> None:
        """Let go those whose time has come."""
        self._purse.ring(now)

    def next_alarm(self) -> int | None:
        """When time alone lets the next one go; None where nobody waits for time."""
        return self._purse.next_alarm()

    # ── look ──

    @property
    def is_due(self) -> bool:
        """Whether it is time to look at what others have done."""
        return _monotonic() >= self._look_at

    async def look(self, db: Transaction) -> None:
        """Find out which lanes there are, and which of them need not wait any more; tell of them."""
        begun, heard, held = _monotonic(), self._heard, set(self._held)
        parked, waited_for = self._purse.heads(), self._purse.waited_for() - _budgets_of(held)
        known = {key: self._versions.get(key) for key in waited_for}
        heads: dict[str, Key] = {lane(*row[:2]): (row[2], row[3]) for row in await db.fetch(_LANES)}
        versions = await budget_rows.versions(db, known) if known else {}
        self._forget(self._known.keys() - heads.keys(), heard)
        new = (heads.keys() - self._known.keys()) | (heads.keys() & self._missed)
        self._missed.clear()
        self._floors.lower(heads)
        self._known.update((name, min(key, self._known.get(name, key))) for name, key in heads.items())
        # Of what takes have been about meanwhile, they know better.
        now_parked = self._purse.heads()
        for name, key in parked.items():
            if name not in held and now_parked.get(name) == key and heads.get(name, key) != key:
                self._purse.unpark(name)
        changed = [key for key, version in known.items() if versions.get(key) != version]
        self._purse.revive([key for key in changed if self._versions.get(key) == known[key]])
        self._look_at = begun + max(LOOK_S, SHARE * (_monotonic() - begun))
        if new:
            self._tell({parts(name)[0] for name in new})

    def _forget(self, names: Iterable[str], heard: int) -> None:
        """Lanes have no jobs, if nothing was heard of them since."""
        for name in names:
            if self._heard_of.get(name, 0) <= heard:
                self._heard_of.pop(name, None)
                self._known.pop(name, None)
                self._purse.unpark(name)

    # ── take ──

    async def begin(self, db: Transaction, takes: Mapping[frozenset[str], int], now: int) -> None:
        """Takes begin: hold the budgets of the lanes that they may get jobs of, those whose jobs stand first.

        Args:
            db: Their transaction, which has locked nothing yet.
            takes: Of what queues they are, all where none is named; and how many jobs they want.
            now: The wall clock.
        """
        if self.is_due:
            await self.look(db)
        self._purse.ring(now)
        self._reached.clear()
        for queues, limit in takes.items() if self._known else ():
            self._held.update(nsmallest(SPARE + 2 * limit, self._in_sight(queues), self._known.__getitem__))
        if not self._held:
            return
        self._lowered.clear()
        self._places.clear()
        self._floors.begin()
        self._purse.begin()
        keys = _budgets_of(self._held)
        for bucket, version in await budget_rows.hold(db, keys):
            key = bucket.budget.key
            keys.remove(key)
            self._purse.restore(bucket)
            if key in self._purse.waited_for() and self._versions.get(key) != version:
                # Whoever waits for it has not heard of that yet.
                self._purse.revive([key])
            self._versions[key] = version
        for key in keys:
            self._purse.remove(key)

    async def choose(self, db: Transaction, queues: Collection[str], limit: int, now: int) -> list[Chosen]:
        """The first jobs that can pay, in their order; `pay` is to be told what becomes of them."""
        in_sight = self._in_sight(queues) if self._held else set()
        names = self._held & in_sight
        if not names:
            return []
        heard = self._heard
        heads = await self._heads(db, names, limit, now)
        self._forget(names - heads.keys(), heard)
        self._places.update((name, key_of(jobs[0])) for name, jobs in heads.items())
        # Nobody is handed out behind whom those may stand that are not looked at.
        edge = min((self._known[name] for name in in_sight - names if name in self._known), default=END)
        ready = ReadySet(len(names) * (limit + 1), limit + 1)
        ready.purse = self._purse
        for name, jobs in heads.items():
            if before := [job for job in jobs if key_of(job) < edge]:
                ready.refill(name, before, None)
        # Most that are taken together draw the same.
        draws: dict[Sequence[Draw], str | None] = {}
        chosen = []
        for job in ready.take(queues, limit, now):
            drawn = job.budgets or ()
            if drawn not in draws:
                draws[drawn] = self._paid(drawn)
            chosen.append(Chosen(job, self._rows[job.id], draws[drawn]))
        if edge != END and len(chosen) < limit:
            self._more.update(parts(name)[0] for name in in_sight)
        return chosen

    def _paid(self, drawn: Sequence[Draw]) -> str | None:
        """What a job that was chosen pays, as `flight.draws` has it."""
        paid = {draw.key: draw.cost for draw in drawn if self._purse.bucket(draw.key) is not None}
        return json.dumps(paid) if paid else None

    async def pay(self, db: Transaction, chosen: Sequence[Chosen], taken: Collection[str], now: int) -> None:
        """Write down what the jobs have paid that were chosen and are handed out; the others have not."""
        paid = [one.job for one in chosen if one.job.id in taken]
        for one in chosen:
            if one.job.id not in taken:
                self._purse.refund(one.job)
                self._missed.add(lane_of(one.job))
        buckets = [bucket for key in sorted(drawn_by(paid)) if (bucket := self._purse.bucket(key)) is not None]
        if buckets:
            self._versions.update(await budget_rows.write(db, buckets, now))
        for job in paid:
            name, key = lane_of(job), key_of(job)
            self._reached[(name,)] = self._places[name] = key

    def end(self) -> None:
        """The takes are over, and certain."""
        if self._held:
            self._held.clear()
            self._floors.end(self._reached)
            self._purse.end()
            for name in self._known.keys() & self._places.keys():
                self._known[name] = min(self._places[name], self._lowered.get(name, END))
        if self._more:
            more, self._more = self._more, set()
            self._tell(more)

    def stop(self) -> None:
        """The takes have failed: nothing that was thought to be paid is."""
        self._held.clear()
        self._floors.end()
        # Who waits is not known any more, and so not who is to be told.
        self._purse.clear()
        self._missed |= self._known.keys()
        self._more.clear()
        self.stale()

    def _in_sight(self, queues: Collection[str]) -> set[str]:
        """The lanes of some queues (empty: all) that need not wait."""

        def sees(name: str) -> bool:
            return not queues or parts(name)[0] in queues

        return set(filter(sees, self._purse.awake(set(self._known), sees)))

    async def _heads(self, db: Transaction, names: Iterable[str], limit: int, now: int) -> dict[str, list[JobRecord]]:
        """The first ready jobs of lanes: as many as they may be able to pay, and one that waits behind them."""
        places = []
        for name in names:
            queue, keys = parts(name)
            buckets = [bucket for key in keys.split(",") if (bucket := self._purse.bucket(key)) is not None]
            most = min([limit, *(max(0, bucket.tokens(now)) + 1 for bucket in buckets)])
            places.append((queue, keys, most, *self._floors.of((name,))[name]))
        heads: dict[str, list[JobRecord]] = {}
        self._rows.clear()
        for job_id, queue, priority, options, version in await db.fetch(_HEADS, *zip(*places, strict=True)):
            job = _job(job_id, queue, priority, rows.draws_of(options))
            heads.setdefault(lane_of(job), []).append(job)
            self._rows[job_id] = version
        return heads


async def of_queue(db: Transaction, queue: str) -> list[str]:
    """The lanes of a queue, paused or not, in which jobs are ready or in flight."""
    return [lane(*row) for row in await db.fetch(_OF_QUEUE, queue)]


def _budgets_of(names: Iterable[str]) -> set[str]:
    """The budgets of some lanes."""
    return {key for name in names for key in parts(name)[1].split(",")}


def drawn_by(jobs: Iterable[JobRecord]) -> set[str]:
    """The budgets on which some jobs draw."""
    return {draw.key for job in jobs for draw in job.budgets or ()}


def _job(job_id: str, queue: str, priority: int, budgets: tuple[Draw, ...] | None) -> JobRecord:
    """As much of a ready job as it takes to know who is next."""
    return JobRecord(
        id=job_id, type="", queue=queue, priority=priority, status=Status.READY, payload=None, ready_at=0, attempts=0,
        budgets=budgets,
    )  # fmt: skip


def _monotonic() -> float:
    return asyncio.get_running_loop().time()
