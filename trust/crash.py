"""Kills a server that is busy with everything, again and again, and holds what it answered against what it has kept.

The process is a real `zizq serve`, ended by SIGKILL at any moment, also while it starts; it gets its store back each
time, in the two commit modes by turns. After each kill the store is proved whole as `zizq check` does it, and what the
next process shows is held against the clients' journal: whatever was answered is so, whatever was not answered was
done or was not, to all jobs that it was about; nothing is there twice, or was handed out while somebody held it.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from bench.programs import Program, Server, scratch, serve_command

from trust.crash_journal import Journal
from trust.crash_load import PARKED, SLOTS, Load
from trust.verdict import Broken
from zizq import Client, Enqueue, Job, TimeBased, WhileInFlight
from zizq.store.opening import check_store

KILLS = 1000
MODES = ("buffered", "fsync-all")
_ANSWERS = 60
"""How many requests are answered at most before a server is killed: by time alone, a busy machine would try little."""
_LOAD_S = (0.005, 1.0)
"""How long it is loaded at least, and at most."""
_WITHIN_S = 0.01
"""How long after an answer it dies at most."""
_STARTS = 0.05
"""The share of servers that are killed while they start."""
_START_S = 0.35
_MOST_JOBS = 1000
"""Beyond this the parked and the finished jobs are deleted."""
_LISTED = 5
"""Jobs whose errors are read after each kill."""
TRY_ALL = 100
"""In so many lives of a server everything has happened that is to be tried."""
KINDS = (
    "enqueued", "enqueued in bulk", "enqueued to draw on budgets", "duplicates", "batched", "taken", "released",
    "succeeded", "succeeded in bulk", "failed", "patched", "deleted", "retried", "changed in many commits",
    "fired by cron", "budgets, crons and queues changed",
)  # fmt: skip


def run(*, size: float, seed: int | None) -> Iterator[str]:
    """Kill a server some times.

    Raises:
        Broken: When an answer was not kept, the store is damaged, or something never happened that has to be tried.
            Under the same seed servers die after the same time, and each client decides the same; when its requests
            meet those of others is up to the machine.
    """
    kills = max(4, round(KILLS * size))
    seed = Random().randrange(10**6) if seed is None else seed
    began = time.monotonic()
    with scratch() as folder:
        trial = _Trial(folder / "store", seed)
        try:
            asyncio.run(trial.run(kills))
        except Broken as error:
            raise Broken(f"kill {trial.kills}: {error} (--seed {seed})") from error
    spent, counts = time.monotonic() - began, trial.journal.counts
    yield f"{kills} kills ({trial.starting} of them while starting), {trial.checks} checks of the whole store"
    yield f"{counts['requests']:,} requests answered, {trial.unanswered:,} jobs of requests that were not"
    if (missing := [kind for kind in KINDS if not counts[kind]]) and kills >= TRY_ALL:
        raise Broken(f"nothing was {' or '.join(missing)} in {kills} kills: so nothing is known of it (--seed {seed})")
    yield ", ".join(f"{counts[kind]:,} {kind}" for kind in KINDS)
    yield f"0 violations, {spent:.0f} s, {spent / kills:.2f} s a kill, seed {seed}"


class _Trial:
    """One store, its journal, and the servers that come and go."""

    def __init__(self, store: Path, seed: int) -> None:
        self.journal = Journal()
        self.kills = self.starting = self.checks = self.unanswered = 0
        self._store = store
        self._seed = seed
        self._dice = Random(seed)
        self._load = Load(self.journal)

    async def run(self, kills: int) -> None:
        """Let servers live and die."""
        while self.kills < kills:
            # Of its own for each life: how often the last one was asked for more must not matter.
            self._dice = Random(f"{self._seed} {self.kills}")
            if self.kills and self._dice.random() < _STARTS:
                await self._die_early()
            else:
                await self._live(self.kills < kills)
            self.kills += 1
            self._check()
        # The last one is only to be looked at.
        with self._serve() as server:
            async with Client(server.url) as client:
                await self._verify(client)

    def _serve(self) -> Server:
        return Server(self._store, MODES[self.kills % 2])

    async def _live(self, loaded: bool) -> None:
        with self._serve() as server:
            async with Client(server.url) as client:
                await (self._verify(client) if self.kills else _set_up(client))
                answers, delay_s = self._dice.randrange(_ANSWERS), self._dice.random() * _WITHIN_S
                wanted = self.journal.counts["requests"] + answers

                async def kill() -> None:
                    until = time.monotonic() + _LOAD_S[1]
                    await asyncio.sleep(_LOAD_S[0])
                    while self.journal.counts["requests"] < wanted and time.monotonic() < until:  # noqa: ASYNC110
                        await asyncio.sleep(0.001)
                    await asyncio.sleep(delay_s)
                    server.stop(signal.SIGKILL)

                await self._load.run(client, kill, f"{self._seed} {self.kills}")

    async def _die_early(self) -> None:
        self.starting += 1
        program = Program(serve_command(self._store, MODES[self.kills % 2]))
        await asyncio.sleep(self._dice.random() * _START_S)
        program.stop(signal.SIGKILL)

    def _check(self) -> None:
        checked = check_store(self._store, int(time.time() * 1000))
        self.checks += 1
        if checked.found:
            raise Broken(f"the store is damaged: {'; '.join(checked.violations)}")

    # ── what is shown after a kill ──

    async def _verify(self, client: Client) -> None:
        jobs: dict[str, list[Job]] = {"t": [], "batch": [], "tick": []}
        async for page in client.jobs().page_size(2000).pages():
            for job in page:
                jobs[job.type].append(job)
        self.unanswered += len(self.journal.compare(jobs["t"]))
        await self._verify_errors(client)
        await self._verify_settings(client)
        await self._verify_ticks(client, jobs["tick"])
        await self._verify_batches(client, jobs["batch"])
        if len(jobs["t"]) > _MOST_JOBS:
            await self._make_room(client)

    async def _verify_errors(self, client: Client) -> None:
        failed = [one for one in self.journal.by_id.values() if one.fact.now is not None and one.fact.now.attempts]
        for entry in self._dice.sample(failed, min(len(failed), _LISTED)):
            shown = {error.attempt: error.message async for error in client.job_errors(str(entry.id))}
            attempts = entry.fact.now.attempts if entry.fact.now is not None else 0
            if shown != {attempt: entry.messages[attempt] for attempt in range(1, attempts + 1)}:
                raise Broken(f"job {entry.id} has the errors {shown}, and failed with {entry.messages}")

    async def _verify_settings(self, client: Client) -> None:
        allocation = (await client.budget("slots")).allocation
        paused = (await client.cron("side").get()).paused
        resting = (await client.queue(PARKED)).paused
        for fact, shown, name in (
            (self._load.slots, allocation, "the allocation of a budget"),
            (self._load.paused, paused, "whether a cron group is paused"),
            (self._load.resting, resting, "whether a queue is paused"),
        ):
            if shown not in fact.could_be():
                raise Broken(f"{name} is {shown}, and could be {fact.could_be()}")
            fact.answer(shown)

    async def _verify_ticks(self, client: Client, ticks: list[Job]) -> None:
        """An entry that is due each second: never twice for one second, and its last time is that of its last job."""
        entry = await client.cron("clock").entry("tick").get()
        # It may have fired since the jobs were read.
        last = [job.ready_at_ms async for job in client.jobs(type="tick").order("desc").limit(1)]
        again = await client.cron("clock").entry("tick").get()
        if again == entry and last != [entry.last_enqueue_at_ms] and (last or entry.last_enqueue_at_ms):
            raise Broken(f"a cron entry fired last at {entry.last_enqueue_at_ms}, and its last job is of {last}")
        seconds = [job.ready_at_ms // 1000 for job in ticks]
        if len(set(seconds)) < len(seconds):
            raise Broken(f"a cron entry fired twice for one second: {seconds}")
        self.journal.counts["fired by cron"] += len(ticks[:-1])
        if len(ticks) > 1:
            await client.jobs(id=[job.id for job in ticks[:-1]]).delete()

    async def _verify_batches(self, client: Client, batches: list[Job]) -> None:
        """Each number that was answered is in one job, once."""
        numbers = [number for job in batches for number in job.payload]
        batched = self._load.batched
        lost = {number for number, answered in batched.items() if answered} - set(numbers)
        if lost or len(set(numbers)) < len(numbers) or not batched.keys() >= set(numbers):
            raise Broken(f"jobs were folded into {numbers}, and it should be {batched}")
        if len(numbers) > 50:
            await client.jobs(type="batch").delete()
            batched.clear()

    async def _make_room(self, client: Client) -> None:
        for entries, query in (
            (self.journal.idle("completed"), client.jobs(status="completed")),
            (self.journal.idle("dead"), client.jobs(status="dead")),
            (self.journal.idle("waiting", (PARKED,)), client.jobs(queue=PARKED, status=("scheduled", "ready"))),
        ):
            self.journal.ask(entries, [None] * len(entries))
            if (count := await query.delete()) != len(entries):
                raise Broken(f"{count} jobs were deleted, and {len(entries)} were there")
            self.journal.answer(entries, "deleted")


async def _set_up(client: Client) -> None:
    await client.define_budget("slots", WhileInFlight(SLOTS[0]))
    await client.define_budget("rate", TimeBased(100_000, per=1))
    await client.cron("clock").entry("tick").put("* * * * * *", Enqueue("tick", None, queue="ticks"))
    await client.cron("side").entry("never").put("0 0 1 1 *", Enqueue("t", None, queue="never", budgets="rate"))
