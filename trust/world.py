"""A whole zizq in one event loop: a server, workers and programs, from their first call until nothing is left.

First comes a *storm*: programs bring work, workers do it, and faults happen. Then it is *calm*: there are no faults any
more and handlers succeed, and within a bounded time every job must have come to its end. Then all stop in good order.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

from trust.actors import Laborer, Program, SeededDice, Server, World
from trust.journal import Journal
from trust.loop import VirtualClock, VirtualLoop, current_process, run
from trust.network import Connection, Disconnected, Network
from trust.plan import CALM, STORM_S, Plan, WorkerPlan, draw
from trust.tenure import Disk
from trust.verdict import Broken
from trust.watch import HEARTBEAT_S, Watch
from zizq.errors import ClientError, Unavailable, ZizqError
from zizq.job import TERMINAL
from zizq.policy import Backoff, Defaults
from zizq.server.settings import Settings
from zizq.store.memory import MemoryStore

CALM_S = 600.0
"""How long the calm may last until nothing is left to do."""
EVERYTHING = WorkerPlan((), 2, 3)


@dataclass(frozen=True)
class Outcome:
    """What became of a world.

    Args:
        seed: What it was made from.
        broken: Which promise was broken; None when all were kept.
        journal: What has happened.
        seconds: How long it lasted, in its own time.
    """

    seed: int
    broken: str | None
    journal: Journal
    seconds: float


def live(seed: int) -> Outcome:
    """Let a world come and go."""
    found: list[tuple[Journal, VirtualLoop]] = []

    async def main(loop: VirtualLoop) -> None:
        creation = Creation(seed, loop)
        found.append((creation.journal, loop))
        await creation.live()

    broken = None
    # A collection would come at another moment each time, and end forgotten tasks then.
    gc.disable()
    try:
        run(main)
    except Broken as error:
        broken = str(error)
    finally:
        gc.enable()
    [(journal, loop)] = found
    return Outcome(seed, broken, journal, loop.now)


class Creation:
    """A world with all that is in it.

    Args:
        seed: What it is made from.
        loop: Whose time passes.
    """

    def __init__(self, seed: int, loop: VirtualLoop) -> None:
        dice = Random(seed)
        self.plan = plan = draw(dice)
        clock = VirtualClock(loop)
        defaults = Defaults(2, Backoff(1.0, 100, 200), plan.completed_ms, plan.dead_ms, max_worker_deaths=plan.deaths)
        self.store = MemoryStore(defaults, SeededDice(dice))
        self.journal = Journal(loop, self.store, plan.limit)
        network = Network(loop, dice, plan.weather, self._server_failed)
        self.world = World(plan, dice, clock, self.journal, network)
        self._loop = loop
        self._dice = dice
        self._disk = Disk(dice, plan.slow_disk_s)
        self.server = Server(self.world, self.store, self._disk, _settings(plan))
        self.laborers = [Laborer(self.world, f"worker-{n}", one) for n, one in enumerate(plan.workers)]
        self._programs = [Program(self.world, f"program-{n}") for n in range(plan.clients)]
        self._watch = Watch(self.world, self.server, self.store, self.laborers)

    async def live(self) -> None:
        """Let everything happen, or end with the first promise that is broken."""
        self.journal.say("plan", self.plan)
        with _hearing(self.journal):
            story = asyncio.create_task(self._story())
            await asyncio.wait({story, self.journal.breach}, return_when=asyncio.FIRST_COMPLETED)
            if self.journal.breach.done():
                self.journal.breach.result()
            await story

    async def _story(self) -> None:
        await self.server.start()
        watching = asyncio.create_task(self._watch.run())
        for laborer in self.laborers:
            laborer.start()
        programs = [asyncio.create_task(program.live()) for program in self._programs]
        await self._storm()
        await self._calm_down()
        await self._within(120.0, "the programs have not ended", asyncio.gather(*programs))
        await self._drain()
        watching.cancel()
        for laborer in self.laborers:
            await self._within(60.0, "a worker has not stopped", laborer.stop())
        await self._within(60.0, "the server has not stopped", self.server.stop())
        await asyncio.wait({watching})
        self.journal.check_end(self.world.clock.wall_ms())

    async def _within(self, seconds: float, otherwise: str, work: Awaitable[object]) -> None:
        try:
            async with asyncio.timeout(seconds):
                await work
        except TimeoutError:
            raise Broken(f"{otherwise} within {seconds:g} s") from None

    # ── storm ──

    async def _storm(self) -> None:
        plan = self.plan
        faults = (
            (plan.crash_every_s, self._end_server),
            (plan.death_every_s, self._end_worker),
            (plan.partition_every_s, self._cut_off),
            (plan.full_disk_every_s, self._fill_disk),
        )
        tasks = [asyncio.create_task(self._again(every, fault)) for every, fault in faults if every]
        await asyncio.sleep(STORM_S)
        self.world.calm = True
        if tasks:
            await asyncio.wait(tasks)
        for task in tasks:
            task.result()

    async def _again(self, every_s: float, fault: Callable[[], Awaitable[None]]) -> None:
        await self.world.pause(every_s)
        while not self.world.calm:
            await fault()
            await self.world.pause(every_s)

    async def _end_server(self) -> None:
        draw = self._dice.random()
        if draw < 0.3:
            await self._within(60.0, "the server has not stopped", self.server.stop())
        else:
            await self.server.crash(heard=draw < 0.9)
        await asyncio.sleep(self._dice.choice((0.0, 0.1, 8.0)) * self._dice.random())
        await self.server.start()

    async def _end_worker(self) -> None:
        laborer = self._dice.choice(self.laborers)
        draw = self._dice.random()
        if draw < 0.3:
            await self._within(60.0, "a worker has not stopped", laborer.stop())
        else:
            await laborer.die(heard=draw < 0.8)
        await asyncio.sleep(self._dice.choice((0.0, 5.0)) * self._dice.random())
        laborer.start()

    async def _cut_off(self) -> None:
        host = self._dice.choice(self.laborers).host
        seconds = self._dice.choice((1.0, 5.0, 45.0)) * self._dice.random()
        host.cut_until = self._loop.now + seconds
        self.journal.say("cut off", host, f"{seconds:.3f} s")

    async def _fill_disk(self) -> None:
        self._disk.full = True
        self.journal.say("disk full")
        await asyncio.sleep(4 * self._dice.random())
        self._disk.full = False
        self._watch.forgive()
        self.journal.say("disk has room")

    # ── calm ──

    async def _calm_down(self) -> None:
        self.journal.say("calm")
        self.world.network.weather = CALM
        self._disk.full = False
        closer = Laborer(self.world, "closer", EVERYTHING)
        closer.start()
        self.laborers.append(closer)

    async def _drain(self) -> None:
        await self._within(60.0, "the crons are not deleted", self._delete_crons())
        until = self._loop.now + CALM_S
        while any(job.status not in TERMINAL for job in self.store._jobs.values()):
            if self._loop.now > until:
                left = [f"{job.id} {job.status}" for job in self.store._jobs.values() if job.status not in TERMINAL]
                raise Broken(f"after {CALM_S:g} s of calm there are still {', '.join(left[:5])}")
            await asyncio.sleep(0.5)

    async def _delete_crons(self) -> None:
        while True:
            try:
                await self._programs[0].clean()
                return
            except ClientError:
                raise
            except ZizqError:
                await asyncio.sleep(1.0)

    def _server_failed(self, connection: Connection, error: BaseException) -> None:
        if not isinstance(error, Disconnected) and not self.journal.breach.done():
            self.journal.breach.set_exception(Broken(f"serving {connection} ended with {error!r}"))


def _settings(plan: Plan) -> Settings:
    return Settings(
        heartbeat_interval=round(HEARTBEAT_S * 1000),
        global_in_flight_limit=plan.limit,
        reaper_check_interval=5000,
        scheduler_batch_size=plan.promoted,
        max_worker_deaths=plan.deaths,
    )


class _Ear(logging.Handler):
    """Takes an error in the log for a broken promise, but for those that a full disk explains."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(logging.ERROR)
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        process = current_process()
        if isinstance(error, Unavailable) or (process is not None and not process.alive):
            return
        if not self._journal.breach.done():
            self._journal.breach.set_exception(Broken(f"an error was logged: {record.getMessage()}: {error!r}"))


@contextmanager
def _hearing(journal: Journal) -> Iterator[None]:
    logger = logging.getLogger("zizq")
    before = (logger.level, logger.propagate)
    ear = _Ear(journal)
    logger.addHandler(ear)
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(ear)
        logger.setLevel(before[0])
        logger.propagate = before[1]
