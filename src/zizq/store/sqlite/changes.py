"""Deletes, patches and retries, on the event loop: what becomes of memory when jobs change on disk.

Between the call of a change and its commit, a take could hand out one of the jobs. So they are *on ice* meanwhile: a
take that comes upon one sets it aside. Jobs of a change of many that were in flight when they were noted are *held*:
they do not become ready again before the change has reached them. (The steps of such a change are told in
`change_statements`.)
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

from zizq.engine.changes import Change, Delete, Rebind
from zizq.engine.decide import Settled, on_release
from zizq.engine.selection import Selection
from zizq.engine.transitions import Cause
from zizq.engine.window import ReadySet
from zizq.errors import Unavailable
from zizq.job import JobRecord, Status
from zizq.store.base import Changed
from zizq.store.rows import STATUS
from zizq.store.sqlite.change_statements import ApplyCall, Armed, ChangeCall, Kind, Moved
from zizq.store.sqlite.flight import Flight
from zizq.store.sqlite.mending import Lost
from zizq.store.sqlite.statements import Step

FEW = 1000
"""Jobs that are changed in one commit: some 20 ms of the writer's time. More are changed in several."""
RETRY_S = 1.0
"""The wait after the disk refused a part of a change that has to be carried on."""

Find = Callable[[Selection, str | None, int, int], Awaitable[list[str]]]


class Write(Protocol):
    """Puts a call to the writer."""

    def __call__(
        self,
        step: Step,
        argument: Any,
        *,
        then: Callable[[Any], None] | None = None,
        otherwise: Callable[[], None] | None = None,
    ) -> asyncio.Future[Any]:
        """As `Writer.call` does."""


class Ice:
    """Jobs that no take may hand out just now, for something is being written about them; they may be ready or not.

    Args:
        ready: The windows that takes take from.
        announce: Puts ready jobs back into their windows, and tells of them.
    """

    def __init__(self, ready: ReadySet, announce: Callable[[Sequence[JobRecord]], None]) -> None:
        self._ready = ready
        self._announce = announce
        self._frozen: Counter[str] = Counter()
        self._aside: dict[str, JobRecord] = {}

    def freeze(self, ids: Iterable[str]) -> None:
        """Begin to hold jobs back; one may be frozen twice, and then needs to be thawed twice."""
        self._frozen.update(ids)

    def thaw(self, ids: Iterable[str]) -> None:
        """End it: what takes came upon meanwhile is ready again."""
        self._frozen.subtract(ids)
        self._frozen = +self._frozen
        back = [job for job_id, job in self._aside.items() if job_id not in self._frozen]
        for job in back:
            del self._aside[job.id]
        self._announce(back)

    def sift(self, jobs: list[JobRecord]) -> list[JobRecord]:
        """Of jobs that are about to be taken, those that may be; the others are set aside."""
        if not self._frozen:
            return jobs
        self._aside.update((job.id, job) for job in jobs if job.id in self._frozen)
        return [job for job in jobs if job.id not in self._frozen]

    def withdraw(self, job: JobRecord) -> None:
        """A job that was ready is not to be taken any more."""
        if self._aside.pop(job.id, None) is None:
            self._ready.discard(job)

    def clear(self) -> None:
        """There are no jobs any more."""
        self._aside.clear()


class Changes:
    """Carries out changes, one after the other.

    Args:
        write: Puts a call to the writer.
        find: The next identifiers of a selection after one, up to a limit, by the clock.
        announce: Puts ready jobs into their windows, and tells of them.
        reopen: Lets the windows of lanes be read from the store again, and tells of them.
        land: Forgets jobs that were in flight, and tells of it.
        flight: The jobs in flight.
        ice: What takes must not hand out.
        tell: Hears of jobs that were changed; None for many.
    """

    def __init__(
        self,
        write: Write,
        find: Find,
        announce: Callable[[Sequence[JobRecord]], None],
        reopen: Callable[[Sequence[str]], None],
        land: Callable[[Sequence[str]], None],
        flight: Flight,
        ice: Ice,
        tell: Callable[[Cause, Sequence[JobRecord] | None], None],
    ) -> None:
        self._write = write
        self._find = find
        self._announce = announce
        self._reopen = reopen
        self._land = land
        self._flight = flight
        self._ice = ice
        self._tell = tell
        self._one_at_a_time = asyncio.Lock()
        self._turns: set[asyncio.Task[Changed]] = set()
        self._finishing: asyncio.Task[None] | None = None
        # Done as soon as the disk holds up what is being finished.
        self._held_up: asyncio.Future[Unavailable] = asyncio.get_running_loop().create_future()
        self._pending: Counter[Kind] = Counter()
        self.held: set[str] = set()
        """Jobs of a change of many that were in flight when they were noted."""
        self.armed: Armed | None = None
        """The change of many that has happened and is still being carried out."""
        self.in_bulk = False
        """Whether a change of many is under way, armed or not."""

    # ── what the store asks on its way ──

    def resume(self, armed: Armed | None) -> None:
        """At the start: go on with what was armed when the server died."""
        if armed is not None:
            self.in_bulk, self.armed = True, armed
            self._finishing = asyncio.create_task(self._finish(armed))

    async def stop(self) -> None:
        """Leave what is not finished to the next start."""
        tasks = [*self._turns, *([self._finishing] if self._finishing is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def whole(self) -> None:
        """Wait until no patch or retry is half carried out: only then can lists be read.

        Raises:
            Unavailable: When the disk holds it up.
        """
        while self.is_half_done and self._finishing is not None:
            await self._finished()

    @property
    def is_half_done(self) -> bool:
        """Whether a patch or a retry has happened and is not yet to be seen in all of its rows."""
        return self.armed is not None and not isinstance(self.armed.change, Delete)

    async def _finished(self) -> None:
        """Wait until what was armed is carried out, and what was given up is forgotten."""
        # Of now: by the time that one is heard of, the next change may be under way.
        finishing, held_up = self._finishing, self._held_up
        if finishing is None:
            return
        either: list[asyncio.Future[Any]] = [finishing, held_up]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not finishing.done():
            raise Unavailable(f"a change of many jobs is half carried out: {held_up.result()}")

    @property
    def leaving(self) -> Counter[Kind] | None:
        """How many jobs are deleted and still stored; None where there are none."""
        if self.armed is None or not isinstance(self.armed.change, Delete):
            return None
        return Counter(self.armed.pending)

    def ended(self, settled: Sequence[Settled]) -> None:
        """Jobs in flight ended: those that a change of many has noted count as what they are now."""
        for one in settled:
            if one.job.id in self.held:
                self.held.discard(one.job.id)
                self._pending[one.job.queue, one.job.type, STATUS[Status.IN_FLIGHT]] -= 1
                if one.kept:
                    self._pending[one.job.queue, one.job.type, STATUS[one.job.status]] += 1

    def clear(self) -> None:
        """The store was emptied."""
        self._pending.clear()
        self.held.clear()

    # ── few ──

    async def change(self, selection: Selection, change: Change, now: int) -> Changed:
        """Change the jobs of a selection (`Store.change`)."""
        if selection.is_empty and not isinstance(change, Rebind):
            # What jobs are to draw must be there even where there is no job.
            return Changed(0)
        ids = selection.ids if selection.ids is not None and len(selection.ids) <= FEW else None
        if ids is not None and selection == Selection(ids=ids) and isinstance(change, Delete) and not self.in_bulk:
            # Whatever a take does meanwhile, a deleted job is gone: nothing to freeze, nobody to wait for.
            call = self._call(ids, selection, change, now)
            return _summary(selection, await self._write(Step.CHANGE, call, then=partial(self._moved, change)))
        turn = asyncio.create_task(self._in_turn(selection, change, now))
        self._turns.add(turn)
        turn.add_done_callback(self._turns.discard)
        # A request that is cancelled must not leave a change half done.
        return await asyncio.shield(turn)

    async def _in_turn(self, selection: Selection, change: Change, now: int) -> Changed:
        changed, finishing = await self._begin(selection, change, now)
        if finishing is not None:
            await self._carried_out(finishing)
        return changed

    async def _carried_out(self, finishing: asyncio.Task[None]) -> None:
        """Wait for a change that has happened; the disk may hold it up, and it is no less certain for that."""
        while not finishing.done():
            either: list[asyncio.Future[Any]] = [finishing, self._held_up]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if self._held_up.done() and not finishing.done():
                error = self._held_up.result()
                if isinstance(error.__cause__, Lost):
                    raise error
                await asyncio.wait([finishing], timeout=RETRY_S)

    async def _begin(self, selection: Selection, change: Change, now: int) -> tuple[Changed, asyncio.Task[None] | None]:
        """Carry out a change, or make it certain; what is to be waited for before it is answered."""
        async with self._one_at_a_time:
            if self.armed is None:
                # One that was given up may still have to be forgotten.
                await self._finished()
            # After a crash one may be half carried out, and its turn is not over.
            await self.whole()
            parts = self._parts(selection, now)
            ids: Sequence[str] = []
            async for more in parts:
                if ids:
                    return await self._change_many(_chained(ids, more, parts), selection, change, now)
                ids = more
            call = self._call(ids, selection, change, now)
            return _summary(selection, await self._freeze(Step.CHANGE, call, partial(self._moved, change))), None

    async def _parts(self, selection: Selection, now: int) -> AsyncIterator[Sequence[str]]:
        """The identifiers of a selection, `FEW` at a time."""
        if selection.ids is not None:
            ids = sorted(selection.ids)
            for start in range(0, len(ids), FEW):
                yield ids[start : start + FEW]
            return
        some = await self._find(selection, None, FEW, now)
        while some:
            yield some
            some = await self._find(selection, some[-1], FEW, now) if len(some) == FEW else []

    def _call(self, ids: Sequence[str] | frozenset[str], selection: Selection, change: Change, now: int) -> ChangeCall:
        return ChangeCall(list(ids), selection.with_(ids=None), change, now, self._flight.among(ids))

    async def _freeze(self, step: Step, call: ChangeCall, then: Callable[[Any], None]) -> Any:
        """Put in a call, and let none of its jobs be taken until it has been heard of."""

        thaw = partial(self._ice.thaw, call.ids)

        def heard(outcome: Any) -> None:
            try:
                then(outcome)
            finally:
                thaw()

        self._ice.freeze(call.ids)
        return await self._write(step, call, then=heard, otherwise=thaw)

    def _moved(self, change: Change, moved: Sequence[Moved]) -> None:
        """Jobs were changed."""
        for job, _ in moved:
            if job.id not in self._flight and job.status in (Status.READY, Status.IN_FLIGHT):
                self._ice.withdraw(job)
        stay = self._enter(moved)
        if moved:
            self._tell(change.cause, stay or [job for job, _ in moved])

    def _enter(self, moved: Sequence[Moved]) -> list[JobRecord]:
        """Put changed jobs where they belong now; returns those that are still there, as they are."""
        landed, arrived, held = [], [], []
        for before, after in moved:
            if before.id in self._flight:
                if after is None:
                    landed.append(before.id)
                else:
                    self._flight.replace(after)
                    held.append(after)
            elif after is not None:
                # What was in flight at the call may have been released meanwhile.
                arrived.append(on_release(after) if after.status is Status.IN_FLIGHT else after)
        self._land(landed)
        self._announce(arrived)
        return [*arrived, *held]

    # ── many ──

    async def _change_many(
        self, parts: AsyncIterator[Sequence[str]], selection: Selection, change: Change, now: int
    ) -> tuple[Changed, asyncio.Task[None] | None]:
        await self._finished()
        self.in_bulk = True
        self._pending = Counter()
        try:
            async for ids in parts:
                await self._freeze(Step.COLLECT, self._call(ids, selection, change, now), self._collected)
            armed = Armed(change, now, self._pending)
            await self._write(Step.ARM, (change, now), then=lambda _: self._arm(armed))
        except Exception:
            self._finishing = asyncio.create_task(self._give_up())
            raise
        count = armed.pending.total()
        self._finishing = asyncio.create_task(self._finish(armed))
        return Changed(count), None if isinstance(change, Delete) else self._finishing

    def _collected(self, jobs: Sequence[JobRecord]) -> None:
        """Jobs were noted."""
        for job in jobs:
            self._pending[job.queue, job.type, STATUS[job.status]] += 1
            if job.id in self._flight:
                self.held.add(job.id)
            elif job.status in (Status.READY, Status.IN_FLIGHT):
                self._ice.withdraw(job)

    def _arm(self, armed: Armed) -> None:
        """The change has happened."""
        self.armed = armed
        self._tell(armed.change.cause, None)
        held = self._flight.among(self.held)
        if isinstance(armed.change, Delete):
            self._land(list(held))
            self.held.clear()
            return
        self._enter([Moved(job, armed.change.apply(job, armed.now)) for job in held.values()])

    async def _finish(self, armed: Armed) -> None:
        """Carry out what is armed, part by part, until nothing is left."""
        moved: Sequence[Moved] | None = ()
        while moved is not None:
            call = ApplyCall(armed.change, armed.now, self._flight.among(self.held), FEW)
            moved = await self._persist(Step.APPLY, call, partial(self._applied, armed))

    def _applied(self, armed: Armed, moved: Sequence[Moved] | None) -> None:
        """The rows of a part have been changed."""
        if moved is None:
            self.armed, self.in_bulk = None, False
            self.held.clear()
        elif isinstance(armed.change, Delete):
            armed.pending.subtract((job.queue, job.type, STATUS[job.status]) for job, _ in moved)
        else:
            self.held.difference_update(job.id for job, _ in moved)
            self._enter(moved)

    async def _give_up(self) -> None:
        """Forget what was collected: the change has not happened."""

        def forgotten(lanes: Sequence[str]) -> None:
            self.in_bulk = False
            self.held.clear()
            self._reopen(lanes)

        await self._persist(Step.CLEAR, None, forgotten)

    async def _persist(self, step: Step, argument: Any, then: Callable[[Any], None]) -> Any:
        while True:
            try:
                outcome = await self._write(step, argument, then=then)
            except Unavailable as error:
                if self._held_up.done():
                    self._held_up = asyncio.get_running_loop().create_future()
                self._held_up.set_result(error)
                await asyncio.sleep(RETRY_S)
            else:
                if self._held_up.done():
                    self._held_up = asyncio.get_running_loop().create_future()
                return outcome


def _summary(selection: Selection, moved: Sequence[Moved]) -> Changed:
    named = selection.ids is not None and len(selection.ids) == 1
    after = moved[0].after if named and moved else None
    return Changed(len(moved), after and after.with_(payload=None))


async def _chained(
    first: Sequence[str], second: Sequence[str], rest: AsyncIterator[Sequence[str]]
) -> AsyncIterator[Sequence[str]]:
    yield first
    yield second
    async for some in rest:
        yield some
