"""Take: ready jobs come to be in flight."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial

from zizq.engine import decide
from zizq.engine.purse import Key
from zizq.job import JobRecord
from zizq.store.postgres.claims import Claimed, Take, claim
from zizq.store.postgres.database import Transaction
from zizq.store.postgres.floors import NOWHERE
from zizq.store.postgres.gather import Gather
from zizq.store.postgres.settles import SettleCalls
from zizq.store.postgres.settling import ReleaseJobs

MOST_TAKEN = 5000
"""Jobs that one transaction takes at most, but for a call that wants more."""


class TakeCalls(SettleCalls):
    """The calls that hand out jobs."""

    _takes: Gather[Take, list[JobRecord]]
    _turn: int
    """How many jobs this server has taken, or tried to."""
    _doubtful: list[tuple[int, int, int]]
    """Of takes whose end is not known: their fence, and the turns between which jobs may be in flight by them."""

    def _gather_takes(self) -> Gather[Take, list[JobRecord]]:
        return Gather(self._take_all, MOST_TAKEN, lambda call: call.limit, self._give_back)

    async def take(
        self, owner: int, queues: Collection[str], limit: int, now: int, timeout_ms: int | None = None
    ) -> list[JobRecord]:
        """Hand out the first ready jobs."""
        # No database can hold such a name, and so no queue has it.
        known = frozenset(queue for queue in queues if "\0" not in queue)
        if queues and not known:
            return []
        self._watched.add(owner, known)
        return await self._takes.call(Take(owner, known, limit, now, timeout_ms))

    async def _take_all(self, calls: Sequence[Take]) -> Sequence[list[JobRecord]]:
        fence, first = self._fence, self._turn
        reached: Mapping[Collection[str], Key | None] = NOWHERE
        self._floors.begin()
        try:
            claimed = await self._db.again(partial(self._claim_all, fence, calls))
            reached = {queues: one.reached for queues, one in claimed.items()}
        except BaseException:
            self._doubtful.append((fence, first, self._turn))
            # As if nothing had been found: looking around tells of what there is, once that can be seen again.
            reached = {call.queues: None for call in calls}
            raise
        finally:
            self._floors.end(reached)
        if fence != self._fence:
            # The lease was lost meanwhile: others have these jobs by now, or will.
            return [[] for _ in calls]
        lots = {queues: iter(one.jobs) for queues, one in claimed.items()}
        outcome = [next(lots[call.queues]) for call in calls]
        self._took(calls, outcome)
        return outcome

    async def _claim_all(self, fence: int, calls: Sequence[Take]) -> dict[frozenset[str], Claimed]:
        """One transaction."""
        lots: dict[frozenset[str], list[Take]] = {}
        for call in calls:
            lots.setdefault(call.queues, []).append(call)
        try:
            async with self._db.writing(durable=False, hot=True, in_order=True, calls=len(calls)) as db:
                wanted = {queues: sum(take.limit for take in takes) for queues, takes in lots.items()}
                await self._lanes.begin(db, wanted, max(call.now for call in calls))
                claimed = {queues: await self._claim(db, fence, takes) for queues, takes in lots.items()}
        except BaseException:
            self._lanes.stop()
            raise
        self._lanes.end()
        return claimed

    async def _claim(self, db: Transaction, fence: int, takes: Sequence[Take]) -> Claimed:
        """Put ready jobs into flight, for takes of the same queues."""
        turn, queues, now = self._turn, takes[0].queues, max(take.now for take in takes)
        limit = sum(take.limit for take in takes)
        self._turn += limit
        chosen = await self._lanes.choose(db, queues, limit, now)
        claimed = await claim(db, fence, turn, self._floors.of(queues), takes, chosen)
        if chosen:
            await self._lanes.pay(db, chosen, {job.id for jobs in claimed.jobs for job in jobs}, now)
        return claimed

    def _took(self, calls: Sequence[Take], outcome: Sequence[Sequence[JobRecord]]) -> None:
        """Takes are committed: remember who holds what, and until when."""
        overdue: list[int] = []
        for call, jobs in zip(calls, outcome, strict=True):
            self._holdings.add([job.id for job in jobs], call.owner)
            if call.timeout_ms is not None or any(job.timeout_ms is not None for job in jobs):
                times = (decide.overdue_at(job, call.timeout_ms) for job in jobs)
                overdue += [at for at in times if at is not None]
        if overdue:
            self._listener.overdue(min(overdue))
        payable = self._lanes.next_alarm()
        if payable is not None:
            self._listener.scheduled(payable)

    def _give_back(self, call: Take, jobs: Sequence[JobRecord]) -> None:
        """Whoever took jobs has gone before it got them."""
        if jobs:
            _ = self._later(self._owe(ReleaseJobs([job.id for job in jobs], [call.owner])))
