"""The load of the crash trial: clients that ask for everything at once, until the server dies under them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from random import Random

from trust.crash_journal import Entry, Fact, Journal, Known
from trust.verdict import Broken
from zizq import Client, Enqueue, Job, NotFound, RawBatch, ResponseError, Retention, TransportError

PARKED = "parked"
"""A queue that nobody works."""
MANY = "many"
"""A queue whose jobs are changed all at once."""
CHANGED = ("work", "uniq", "slots", PARKED)
"""Queues whose jobs are changed one by one or a few at a time."""
SLOTS = range(3, 7)
"""How many tokens the budget `slots` may have."""
_MANY_JOBS = 1200
"""More than the server changes in one commit."""
_KEPT = Retention(completed=3600)
_HEAVY = "x" * 5000
"""Makes a payload so large that it does not wait in memory with its job."""
_SCOPES = ("queued", "active", "active", "exists")

Actor = Callable[[Client], Awaitable[None]]
_dice: ContextVar[Random] = ContextVar("dice")
"""Each actor has its own: what it decides must not hang on when others do."""


class Load:
    """Everything that happens between a start and a kill.

    Args:
        journal: What is known.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.slots = Fact(SLOTS[0])
        """The allocation of the budget `slots`."""
        self.paused = Fact(False)
        """Whether the cron group `side` is paused."""
        self.resting = Fact(False)
        """Whether the queue `parked` is paused."""
        self.batched: dict[int, bool] = {}
        """The numbers that were enqueued to be folded into one job, and whether that was answered."""
        self._alive = False
        self._most_slots = 0
        self._costs: dict[str, int] = {}

    async def run(self, client: Client, kill: Callable[[], Awaitable[None]], seed: str) -> None:
        """Load the server until it has been killed.

        Args:
            client: What reaches it.
            kill: Kills it at some time.
            seed: Decides what happens.

        Raises:
            Broken: When an answer or a frame breaks a promise.
        """
        self._most_slots = max(self.slots.could_be())
        self._alive = True
        _dice.set(Random(seed))
        actors = self._actors()
        tasks = [
            asyncio.create_task(_until_killed(actor, client, Random(f"{seed} {number}")))
            for number, actor in enumerate(actors)
        ]
        await kill()
        self._alive = False
        # What was answered before is still to be read.
        _, late = await asyncio.wait(tasks, timeout=2)
        for task in late:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome

    def _actors(self) -> list[Actor]:
        actors: list[Actor] = [
            self._enqueue, self._enqueue, self._enqueue_some, self._enqueue_unique, self._patch, self._delete,
            self._retry, self._set_up, self._hold,
        ]  # fmt: skip
        streams = ((("work", "uniq"), 20), (("work",), 5), (("slots",), 50))
        for number, (queues, prefetch) in enumerate(streams):
            actors.append(self._worker(number, queues, prefetch))
        if self._dice.random() < 0.5:
            actors.append(self._change_many)
        if self._dice.random() < 0.1:
            actors.append(self._enqueue_batched)
        return actors

    @property
    def _dice(self) -> Random:
        return _dice.get()

    async def _pause(self, most_ms: int) -> None:
        await asyncio.sleep(self._dice.random() * most_ms / 1000)

    # ── enqueue ──

    async def _enqueue(self, client: Client) -> None:
        while self._alive:
            await self._enqueue_all(client, [self._shape()])
            await self._pause(4)

    async def _enqueue_some(self, client: Client) -> None:
        while self._alive:
            await self._enqueue_all(client, [self._shape() for _ in range(self._dice.choice((2, 5, 30, 150)))])
            await self._pause(60)

    async def _enqueue_all(self, client: Client, shapes: Sequence[Known]) -> None:
        entries = self._journal.new(*shapes)
        requests = [self._request(entry, shape) for entry, shape in zip(entries, shapes, strict=True)]
        if len(requests) == 1:
            jobs = [await client.enqueue(requests[0])]
        else:
            jobs = await client.enqueue_bulk(requests)
            self._journal.counts["enqueued in bulk"] += len(jobs)
        self._journal.enqueued(entries, jobs)
        self._journal.counts["enqueued to draw on budgets"] += sum(bool(one.budgets) for one in requests)

    def _shape(self) -> Known:
        dice = self._dice
        return Known(
            queue=dice.choice(("work", "work", "work", "slots", PARKED)),
            priority=dice.randrange(5),
            retry_limit=dice.choice((None, None, 2)),
            ready_at=_now_ms() + dice.randrange(1, 400) if dice.random() < 0.15 else None,
            keep=dice.random() < 0.2,
        )

    def _request(self, entry: Entry, shape: Known) -> Enqueue:
        heavy, limited = self._dice.random() < 0.02, self._dice.random() < 0.2
        rate = "rate" if limited else None
        return Enqueue(
            "t",
            {"n": entry.number, "pad": _HEAVY if heavy else ""},
            queue=shape.queue,
            priority=shape.priority,
            retry_limit=shape.retry_limit,
            ready_at=None if shape.ready_at is None else _instant(shape.ready_at),
            retention=_KEPT if shape.keep else None,
            budgets=("slots", self._dice.randrange(1, 3)) if shape.queue == "slots" else rate,
        )

    async def _enqueue_unique(self, client: Client) -> None:
        while self._alive:
            shape = Known(queue="uniq", priority=1)
            [entry] = entries = self._journal.new(shape)
            key, scope = f"k{self._dice.randrange(6)}", self._dice.choice(_SCOPES)
            job = await client.enqueue(self._request(entry, shape).with_(unique_key=key, unique_while=scope))
            if not job.duplicate:
                self._journal.enqueued(entries, [job])
            elif job.id in self._journal.by_id:
                self._journal.duplicate(entries)
            else:
                raise Broken(f"a duplicate was answered with job {job.id}, which was not there")
            await self._pause(10)

    async def _enqueue_batched(self, client: Client) -> None:
        fold = RawBatch(key="b", when="true", fold="$existing + $new")
        while self._alive:
            number = len(self.batched) + 1
            self.batched[number] = False
            await client.enqueue_raw("batch", [number], queue="batches", batch=fold)
            self.batched[number] = True
            self._journal.count("batched")

    # ── work ──

    def _worker(self, stream: int, queues: Sequence[str], prefetch: int) -> Actor:
        async def work(client: Client) -> None:
            async with client.take(queues, prefetch=prefetch) as jobs:
                async for some in jobs.batches():
                    await self._settle(client, [self._take(job, stream) for job in some])

        return work

    async def _hold(self, client: Client) -> None:
        """Take some of the jobs that are changed all at once, and never let go."""
        async with client.take(MANY, prefetch=10) as jobs:
            async for job in jobs:
                self._take(job, -1)

    def _take(self, job: Job, stream: int) -> Entry:
        self._costs[job.id] = sum(draw.cost for draw in job.budgets if draw.key == "slots")
        entry = self._journal.take(job, stream)
        flying = [entry for job_id in self._journal.holders if (entry := self._journal.by_id[job_id]).is_there]
        held = sum(self._costs[str(entry.id)] for entry in flying)
        if held > self._most_slots:
            raise Broken(f"jobs in flight hold {held} tokens of a budget that never had more than {self._most_slots}")
        return entry

    async def _settle(self, client: Client, entries: Sequence[Entry]) -> None:
        """Do something about jobs that came together, or nothing."""
        together = []
        for entry in entries:
            while entry.busy and self._alive:  # noqa: ASYNC110 - thousands of jobs, of which few have to wait
                await asyncio.sleep(0.0005)
            if not self._alive:
                return
            known, chance = entry.fact.now, self._dice.random()
            if known is None:
                # It was deleted on its way here.
                self._journal.let_go(entry)
            elif chance < 0.4:
                together.append(entry)
            elif chance < 0.7:
                await self._succeed(client, [entry])
            elif chance < 0.88:
                await self._fail(client, entry, known, kill=chance > 0.82)
            elif chance < 0.94:
                await self._release(client, entry, known)
        together = [entry for entry in together if not entry.busy and entry.fact.now is not None]
        if together:
            await self._succeed(client, together)

    async def _succeed(self, client: Client, entries: Sequence[Entry]) -> None:
        self._journal.ask(entries, [now.completed() for one in entries if (now := one.fact.now) is not None])
        for entry in entries:
            self._journal.let_go(entry)
        ids = [str(entry.id) for entry in entries]
        if len(ids) == 1:
            missing = []
            try:
                await client.report_success(ids[0])
            except NotFound:
                missing = ids
        else:
            missing = await client.report_success_bulk(ids)
            self._journal.counts["succeeded in bulk"] += len(ids)
        if missing:
            raise Broken(f"job {missing[0]} was in flight, and its success was refused")
        self._journal.answer(entries, "succeeded")
        for entry in entries:
            entry.done = True

    async def _release(self, client: Client, entry: Entry, known: Known) -> None:
        self._journal.ask([entry], [known])
        self._journal.let_go(entry)
        if await client.release([str(entry.id)]):
            raise Broken(f"job {entry.id} was in flight, and could not be released")
        self._journal.answer([entry], "released")

    async def _fail(self, client: Client, entry: Entry, known: Known, *, kill: bool) -> None:
        after = known.with_(attempts=known.attempts + 1, state="dead" if kill else "waiting", ready_at=None)
        entry.messages[after.attempts] = message = f"failure {after.attempts} of {entry.number}"
        self._journal.ask([entry], [after])
        self._journal.let_go(entry)
        await client.report_failure(str(entry.id), message, kill=kill, retry_in=None if kill else 0.03)
        self._journal.answer([entry], "failed")

    # ── change ──

    async def _patch(self, client: Client) -> None:
        while self._alive:
            await self._pause(8)
            if some := self._some("waiting"):
                change = self._dice.choice(
                    (
                        {"priority": self._dice.randrange(5)},
                        {"retry_limit": self._dice.randrange(9)},
                        {"queue": self._dice.choice(("work", PARKED))},
                        {"ready_at": _now_ms() + self._dice.randrange(-50, 300)},
                    )
                )
                await self._patch_all(client, some, change)

    async def _patch_all(self, client: Client, entries: Sequence[Entry], change: dict[str, object]) -> None:
        self._journal.ask(entries, [now.with_(**change) for one in entries if (now := one.fact.now) is not None])
        sent = {name: _instant(value) if name == "ready_at" else value for name, value in change.items()}
        if len(entries) == 1:
            await client.patch_job(str(entries[0].id), **sent)
        else:
            self._compare_count(entries, await client.jobs(id=[str(one.id) for one in entries]).update(**sent))
        self._journal.answer(entries, "patched")

    async def _delete(self, client: Client) -> None:
        while self._alive:
            await self._pause(8)
            if some := self._some(self._dice.choice(("waiting", "waiting", "completed", "dead"))):
                self._leave(some)
                if len(some) == 1:
                    await client.delete_job(str(some[0].id))
                else:
                    self._compare_count(some, await client.jobs(id=[str(one.id) for one in some]).delete())
                self._journal.answer(some, "deleted")

    async def _retry(self, client: Client) -> None:
        while self._alive:
            await self._pause(20)
            if some := self._some("dead"):
                after = [now.with_(state="waiting", attempts=0, ready_at=None) for one in some if (now := one.fact.now)]
                self._journal.ask(some, after)
                if len(some) == 1:
                    await client.retry_job(str(some[0].id))
                else:
                    self._compare_count(some, await client.jobs(id=[str(one.id) for one in some]).retry())
                self._journal.answer(some, "retried")

    async def _change_many(self, client: Client) -> None:
        while self._alive:
            there = self._journal.idle("waiting", (MANY,))
            query = client.jobs(queue=MANY)
            if not there:
                await self._enqueue_all(client, [Known(queue=MANY, priority=7) for _ in range(_MANY_JOBS)])
            elif self._dice.random() < 0.7:
                change = {"priority": self._dice.randrange(100), "retry_limit": self._dice.randrange(100)}
                self._journal.ask(there, [now.with_(**change) for one in there if (now := one.fact.now) is not None])
                self._compare_count(there, await query.update(**change))
                self._journal.answer(there, "patched")
                self._journal.counts["changed in many commits"] += len(there)
            else:
                self._leave(there)
                self._compare_count(there, await query.delete())
                self._journal.answer(there, "deleted")
                self._journal.counts["changed in many commits"] += len(there)
            await self._pause(50)

    def _some(self, state: str) -> list[Entry]:
        """One job of a state, or a few, or none where there is none."""
        idle = self._journal.idle(state, CHANGED)
        return self._dice.sample(idle, min(len(idle), self._dice.choice((1, 1, 1, 3, 9))))

    def _leave(self, entries: Sequence[Entry]) -> None:
        """A deletion of jobs is about to be sent."""
        self._journal.ask(entries, [None] * len(entries))
        for entry in entries:
            self._journal.let_go(entry)

    def _compare_count(self, entries: Sequence[Entry], count: int) -> None:
        if count != len(entries):
            raise Broken(f"a change of {len(entries)} jobs that are there was answered with {count}")

    # ── settings ──

    async def _set_up(self, client: Client) -> None:
        while self._alive:
            await self._pause(40)
            allocation = self._dice.choice(SLOTS)
            self._most_slots = max(self._most_slots, allocation)
            self.slots.ask(allocation)
            await client.update_budget("slots", allocation=allocation)
            self.slots.answer(allocation)
            paused = not self.paused.now
            self.paused.ask(paused)
            await (client.cron("side").pause() if paused else client.cron("side").resume())
            self.paused.answer(paused)
            resting = not self.resting.now
            self.resting.ask(resting)
            await (client.pause_queue(PARKED) if resting else client.resume_queue(PARKED))
            self.resting.answer(resting)
            self._journal.count("budgets, crons and queues changed")


async def _until_killed(actor: Actor, client: Client, dice: Random) -> None:
    _dice.set(dice)
    with suppress(TransportError):
        try:
            await actor(client)
        except ResponseError as error:
            raise Broken(f"what could be done was refused: {error}") from error


def _now_ms() -> int:
    return int(time.time() * 1000)


def _instant(at: object) -> datetime:
    assert isinstance(at, int)
    return datetime.fromtimestamp(at / 1000, UTC)
