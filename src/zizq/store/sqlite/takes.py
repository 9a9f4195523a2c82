"""Take, release and settle: what happens to jobs in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import apsw
import msgspec

from zizq.clock import Dice
from zizq.engine import decide
from zizq.engine.decide import Settled
from zizq.engine.transitions import Cause
from zizq.engine.window import FIRST
from zizq.job import Failure, JobRecord
from zizq.store.sqlite.flight import IN_TRANSIT, settled_ids
from zizq.store.sqlite.parts import Parts
from zizq.store.sqlite.statements import Deaths, Refill, Refilled, Release, Step

REFILL_MOST = 2048
"""Jobs a refill reads at most: some 3 ms of the writer's time."""


class TakeCalls(Parts):
    """The calls that hand out jobs, and those that end or give back what was handed out."""

    _dice: Dice
    _noting: asyncio.Future[Any] | None
    _refills: dict[str, asyncio.Future[Any]]

    # ── take and release ──

    async def take(
        self, owner: int, queues: Collection[str], limit: int, now: int, timeout_ms: int | None = None
    ) -> list[JobRecord]:
        """Hand out the first ready jobs; reads only where memory does not have them."""
        while not (jobs := self._sifted(found := self._ready.take(queues, limit, now))):
            if found:
                continue
            blind = self._ready.blind(queues)
            if not blind:
                self._note_tokens(now)
                return []
            # Waited for and not awaited: a stream that closes must not cancel the refill that others wait for.
            refills, _ = await asyncio.wait([self._refill(lane) for lane in blind])
            for refill in refills:
                refill.result()
        for lane in self._ready.low(queues):
            _ = self._refill(lane)
        if len(self._purse):
            self._note_tokens(now)
        taken = [decide.on_take(job, now) for job in jobs]
        batched = [job.id for job in taken if job.batch is not None]
        if batched:
            _ = self._write(Step.SEAL, batched)
        if any(job.payload is None for job in taken):
            return await self._hand_out(owner, jobs, taken, timeout_ms)
        self._flight.add(taken, owner, timeout_ms)
        self._tell_overdue()
        return taken

    def _sifted(self, found: list[JobRecord]) -> list[JobRecord]:
        """What of the jobs that a window gave may be handed out."""
        jobs = self._ice.sift(found)
        if len(jobs) < len(found):
            for job in found:
                if job.budgets is not None and job not in jobs:
                    self._purse.refund(job)
        return jobs

    async def _hand_out(
        self, owner: int, jobs: list[JobRecord], taken: list[JobRecord], timeout_ms: int | None
    ) -> list[JobRecord]:
        """Hand out jobs of which some wait for their payloads; when those cannot be read, nothing was taken."""
        self._flight.add(taken, IN_TRANSIT, timeout_ms)
        try:
            whole = await self._with_payloads(taken)
        except BaseException:
            ids = set(self._flight.recall([job.id for job in jobs]))
            back = [job for job in jobs if job.id in ids]
            for job in back:
                self._purse.refund(job)
            self._announce(back)
            raise
        whole = [job for job in whole if job.id in self._flight]
        self._flight.hand([job.id for job in whole], owner)
        self._tell_overdue()
        return whole

    async def release(self, owner: int, *, died_at: int | None = None, running: int | None = None) -> int:
        """Give back what an owner holds."""
        claimed = self._flight.claim_owned(owner)
        if claimed:
            deaths = None if died_at is None else Deaths(claimed[:running], died_at, self._defaults)
            await self._release(claimed, deaths)
        return len(claimed)

    async def release_jobs(self, ids: Sequence[str], owners: Collection[int] | None = None) -> list[bool]:
        """Give back jobs that are in flight."""
        claimed = self._flight.claim(ids, owners)
        if any(claimed):
            await self._release([job for job in claimed if job is not None])
        return [job is not None for job in claimed]

    async def _release(self, claimed: Sequence[JobRecord], deaths: Deaths | None = None) -> None:
        def give_back(dead: Sequence[Settled] = ()) -> None:
            ended = set(settled_ids(dead))
            # Those deleted meanwhile are not in flight any more, and others may have been patched.
            held = self._flight.among([job.id for job in claimed])
            self._land(list(held))
            released = [decide.on_release(job) for job_id, job in held.items() if job_id not in ended]
            self._announce(released)
            if released:
                self._listener.moved(Cause.RELEASE, released)
            if dead:
                self._tell_settled(dead)
                if self._changes.held:
                    self._changes.ended(dead)

        call = Release(claimed, deaths)
        await asyncio.wait([self._write(Step.RELEASE, call, then=give_back, otherwise=give_back)])

    def _refill(self, lane: str) -> asyncio.Future[Any]:
        """Ask for the ready jobs behind the edge of a lane; one question at a time for each."""
        waiting = self._refills.get(lane)
        if waiting is not None and not waiting.done():
            return waiting
        edge = self._ready.edge(lane) or FIRST

        def put_in(refilled: Refilled) -> None:
            # An insert may have pulled the edge in meanwhile: then the answer has a gap, and is asked for again.
            if self._ready.edge(lane) == edge:
                self._ready.refill(lane, self._flight.others(refilled.jobs), refilled.edge)

        limit = min(REFILL_MOST, self._ready.wanted(lane))
        call = self._writer.call(Step.REFILL, Refill(lane, edge, limit), then=put_in)
        self._refills[lane] = call
        return call

    async def _with_payloads(self, taken: Sequence[JobRecord]) -> list[JobRecord]:
        """Jobs with the payloads that were too heavy to wait in memory; those deleted meanwhile are left out."""
        ids = [job.id for job in taken if job.payload is None]

        def question(db: apsw.Connection) -> dict[str, bytes]:
            found: dict[str, bytes] = {}
            for job_id in ids:
                found.update(db.execute("SELECT id, payload FROM jobs WHERE id = ?", (job_id,)))
            return found

        payloads = await self._readers.read(question)
        whole = []
        for job in taken:
            if job.payload is not None:
                whole.append(job)
            elif job.id in payloads:
                whole.append(job.with_(payload=msgspec.Raw(payloads[job.id])))
        return whole

    # ── settle ──

    async def in_flight(self, ids: Collection[str]) -> dict[str, JobRecord]:
        """Those of the jobs that are in flight."""
        return self._flight.among(ids)

    async def succeed(self, ids: Sequence[str], now: int) -> list[bool]:
        """Complete jobs that are in flight."""
        claimed = self._flight.claim(ids)
        settled = [decide.on_success(job, now, self._defaults) for job in claimed if job is not None]
        if settled:
            await self._settle(settled)
        return [job is not None for job in claimed]

    async def fail(self, job_id: str, failure: Failure, now: int) -> JobRecord | None:
        """Count and record a failure."""
        [job] = self._flight.claim([job_id])
        if job is None:
            return None
        settled = decide.on_failure(job, failure, now, self._defaults, self._dice.unit())
        await self._settle([settled])
        return settled.job

    async def fail_overdue(self, now: int, limit: int) -> int:
        """Fail jobs that were held for longer than they may be."""
        overdue = self._flight.claim_overdue(now, limit)
        if overdue:
            await self._settle([decide.on_timeout(*one, now, self._defaults, self._dice.unit()) for one in overdue])
        return len(overdue)

    async def next_overdue(self) -> int | None:
        """When the next job will have been held for too long."""
        return self._flight.next_overdue

    def _tell_overdue(self) -> None:
        at = self._flight.next_overdue
        if at is not None:
            self._listener.overdue(at)

    def _settle(self, settled: Sequence[Settled]) -> asyncio.Future[Any]:
        ids = settled_ids(settled)

        def then(_: object) -> None:
            self._land(ids)
            if self._changes.held:
                self._changes.ended(settled)
            self._tell_settled(settled)

        return self._write(Step.SETTLE, settled, then=then, otherwise=partial(self._unclaim, ids))

    def _unclaim(self, ids: Sequence[str]) -> None:
        """The store refused the write: the jobs stay in flight, or are ready where their owner has gone."""
        orphans = self._flight.unclaim(ids)
        self._land([job.id for job in orphans])
        released = [decide.on_release(job) for job in orphans]
        self._announce(released)
        if released:
            self._listener.moved(Cause.RELEASE, released)
        self._tell_overdue()

    def _note_tokens(self, now: int) -> None:
        """Write down how many tokens are left, soon: a restart must not hand them out again."""
        if self._purse.dirty and (self._noting is None or self._noting.done()):
            states = self._purse.states(now)
            self._noting = self._write(Step.TOKENS, states, otherwise=partial(self._purse.dirty.update, states))
        alarm = self._purse.next_alarm()
        if alarm is not None:
            self._listener.scheduled(alarm)
