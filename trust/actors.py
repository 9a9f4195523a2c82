"""Who acts in a simulated world: the server's processes, those of workers, and programs that enqueue and change."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Any, TypeVar

from trust.journal import Journal
from trust.lives import Run
from trust.loop import Process, VirtualClock
from trust.network import Connection, Host, Network, SimulatedTransport, serving
from trust.plan import QUEUES, STORM_S, Plan, WorkerPlan
from trust.tenure import Disk, Tenure, crash
from zizq.client.aio import Client
from zizq.client.budgets import Draw, TimeBased, WhileInFlight
from zizq.client.enqueue import Enqueue
from zizq.client.job import Job
from zizq.client.options import Backoff, Retention
from zizq.errors import Cancel, ClientError, RetryLater, ZizqError
from zizq.server.app import App
from zizq.server.http.exchange import Receive, Scope, Send
from zizq.server.settings import Settings
from zizq.store.memory import MemoryStore
from zizq.worker.worker import Worker

T = TypeVar("T")
DRAIN_S = 30.0
"""How long requests may take to end when the server stops."""
BUDGETS = {
    "narrow": WhileInFlight(1),
    "wide": WhileInFlight(3),
    "rate": TimeBased(4, per=1.0, burst=3),
}
KEYS = (("k1", "queued"), ("k2", "active"), ("k3", "exists"), ("k4", "queued"), ("k5", "active"))
TRIES = 8
"""How often a program makes a call that may succeed later."""
MOST_PAUSE_S = 8.0
"""How long a program waits between two of them, on average, at most: it has to come to an end."""


class SeededDice:
    """Dice that fall as a seed says.

    Args:
        dice: The generator.
    """

    def __init__(self, dice: Random) -> None:
        self.unit = dice.random
        self.bits = dice.getrandbits


class World:
    """What all actors share."""

    def __init__(self, plan: Plan, dice: Random, clock: VirtualClock, journal: Journal, network: Network) -> None:
        self.plan = plan
        self.dice = dice
        self.clock = clock
        self.journal = journal
        self.network = network
        self.calm = False

    async def pause(self, mean_s: float) -> None:
        """Wait for a while."""
        await asyncio.sleep(self.dice.expovariate(1 / mean_s))


# ── the server ───────────────────────────────────────────────────────────────────────────────────────


class Server:
    """The server, through all its processes.

    Args:
        world: Where it is.
        store: Where its jobs rest.
        disk: What that stands on.
        settings: Its options.
    """

    def __init__(self, world: World, store: MemoryStore, disk: Disk, settings: Settings) -> None:
        self._world = world
        self._store = store
        self._settings = settings
        self.disk = disk
        self.app: App | None = None
        self.since = 0.0
        self._starts = 0
        self._process = Process("server")

    async def start(self) -> None:
        """Start a process."""
        world = self._world
        self._starts += 1
        self._process = Process(f"server-{self._starts}")
        world.journal.stopping = False
        tenure: Any = Tenure(self._store, self._process, world.journal, self.disk)
        app = App(self._settings, store=tenure, clock=world.clock, dice=SeededDice(world.dice))
        world.journal.say("server starts", self._process.name)
        await self._process.spawn(app.start())
        self.app, self.since = app, world.network.loop.now
        world.network.server = self

    def serve(self, connection: Connection, scope: Scope, receive: Receive, send: Send) -> asyncio.Task[None]:
        """Serve a request, in a task that ends with the process."""
        app = self.app
        assert app is not None

        async def work() -> None:
            serving.set(connection)
            await app.asgi(scope, receive, send)

        return self._process.spawn(work(), f"{connection}")

    async def crash(self, *, heard: bool) -> None:
        """End the process without a goodbye; clients hear of it, or not where the machine went with it."""
        world = self._world
        world.network.server = self.app = None
        world.journal.say("server crashes")
        for connection in list(world.network.connections):
            connection.cut_off(heard=heard)
        self._process.die()
        await crash(self._store, world.journal.crashed())

    async def stop(self) -> None:
        """Stop in good order, as `serve.listening` does."""
        world, app = self._world, self.app
        assert app is not None
        world.journal.say("server stops")
        world.network.server = self.app = None
        world.journal.stopping = True
        app.end_streams()
        tasks = [connection.task for connection in world.network.connections if connection.task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=DRAIN_S)
            for task in late:
                task.cancel()
            await asyncio.wait(tasks)
        await self._process.spawn(app.stop())
        world.journal.say("server has stopped")


# ── workers ──────────────────────────────────────────────────────────────────────────────────────────


class Laborer:
    """A worker, through all its processes.

    Args:
        world: Where it is.
        name: What it is called.
        plan: Its options.
    """

    def __init__(self, world: World, name: str, plan: WorkerPlan) -> None:
        self._world = world
        self._name = name
        self._plan = plan
        self._starts = 0
        self.host: Host
        self._life: asyncio.Task[Any]

    def start(self) -> None:
        """Start a process."""
        world, plan = self._world, self._plan
        self._starts += 1
        self.host = Host(Process(f"{self._name}.{self._starts}"))
        client = _client(world, self.host)
        worker = Worker(
            client,
            _Handler(world, self.host, plan.concurrency).handle,
            concurrency=plan.concurrency,
            prefetch=plan.prefetch,
            queues=plan.queues,
            shutdown_timeout=world.dice.choice((2.0, 30.0)),
            job_timeout=plan.job_timeout,
            ack_max_batch=world.dice.choice((1, 3, 1000)),
            worker_id=self.host.process.name,
            clock=world.clock,
            dice=SeededDice(world.dice),
        )
        self.worker = worker
        self._life = self.host.process.spawn(worker.run(), self.host.process.name)
        world.journal.say("worker starts", self.host)

    def check(self) -> None:
        """Hold the worker to its promise to go on until it is told to stop."""
        if self._life.done():
            self._world.journal.broken(f"{self.host} has ended by itself: {self._life!r}")

    async def die(self, *, heard: bool) -> None:
        """End the process without a goodbye."""
        self.check()
        self._world.network.kill(self.host, heard=heard)
        self._world.journal.died(self.host)
        await asyncio.wait({self._life})

    async def stop(self) -> None:
        """Stop in good order, and fail where the worker did."""
        self.check()
        self.worker.stop()
        await self._life
        self._world.journal.say("worker stops", self.host, self.worker.summary)


class _Handler:
    """What a worker runs."""

    def __init__(self, world: World, host: Host, most: int) -> None:
        self._world = world
        self._host = host
        self._most = most

    async def handle(self, job: Job) -> None:
        journal = self._world.journal
        run = journal.started(self._host, job.id, self._most)
        try:
            await self._work()
        except asyncio.CancelledError:
            journal.ended(run, "abandoned")
            raise
        self._end(run)

    async def _work(self) -> None:
        draw, dice = self._world.dice.random(), self._world.dice
        if self._world.plan.slow_handlers and draw < 0.2:
            await asyncio.sleep(20 * dice.random())
        elif draw < 0.8:
            await asyncio.sleep(dice.choice((0.001, 0.05, 1.0)) * dice.random())

    def _end(self, run: Run) -> None:
        journal, world = self._world.journal, self._world
        if world.calm or world.dice.random() >= world.plan.failing:
            journal.ended(run, "success")
            return
        draw = world.dice.random()
        if draw < 0.1:
            journal.ended(run, "kill")
            raise Cancel("enough")
        journal.ended(run, "failure")
        if draw < 0.3:
            raise RetryLater(after=5 * world.dice.random())
        raise ValueError("a failure")


# ── programs ─────────────────────────────────────────────────────────────────────────────────────────


class Program:
    """A client that brings work, reads and changes it, and repeats what may succeed later.

    Args:
        world: Where it is.
        name: What it is called.
    """

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._dice = world.dice
        self._ids: list[str] = []
        self._client = _client(world, Host(Process(name)))
        self.host_name = name
        kinds: dict[str, list[Callable[[], Awaitable[object]]]] = {
            "": [self._enqueue] * 4 + [self._enqueue_bulk] * 2 + [self._read],
            "changes": [self._delete, self._patch, self._move, self._move, self._retry, self._delete_some],
            "crons": [self._define_cron, self._define_cron, self._pause_cron],
            "budgets": [self._update_budget],
            "pauses": [self._pause, self._resume, self._resume],
        }
        self._calls = [
            call for kind, calls in kinds.items() if not kind or kind in world.plan.features for call in calls
        ]

    async def live(self) -> None:
        """Make all calls of the plan."""
        plan = self._world.plan
        if "budgets" in plan.features:
            await self._define_budgets()
        for _ in range(plan.calls):
            await self._world.pause(STORM_S * plan.spread / plan.calls)
            await self._persist(self._dice.choice(self._calls))
        if "reset" in plan.features and self._dice.random() < 0.3:
            await self._persist(self._client.reset)

    async def clean(self) -> None:
        """Delete what would bring work for ever, and resume what would let it lie."""
        for name in await self._client.crons():
            with suppress(ClientError):
                await self._client.cron(name).delete()

        for state in await self._client.queue_states():
            await self._client.resume_queue(state.queue)

    async def _persist(self, call: Callable[[], Awaitable[object]]) -> None:
        """Make a call until it is answered, but not for ever."""
        for tries in range(TRIES):
            try:
                await call()
                return
            except ZizqError as error:
                self._world.journal.say("error", self.host_name, type(error).__name__, error)
                if not error.retryable:
                    return
            await self._world.pause(min(MOST_PAUSE_S, 0.2 * 2**tries))

    # ── enqueue ──

    def _request(self) -> Enqueue:
        dice, features = self._dice, self._world.plan.features
        request = Enqueue(
            "t", self._world.journal.counts["stored"], queue=dice.choice(QUEUES), priority=dice.choice((None, 0, 1, 1)),
            retry_limit=dice.choice((None, 0, 1, 3)),
            backoff=dice.choice((None, Backoff(base=0.05, exponent=0.5, jitter=0.5))),
            retention=dice.choice((None, None, Retention(completed=2.0, dead=3.0))),
        )  # fmt: skip
        if "delays" in features and dice.random() < 0.3:
            request = request.with_(delay=round(8 * dice.random(), 3))
        if "timeouts" in features and dice.random() < 0.3:
            request = request.with_(timeout=dice.choice((0.1, 1.0, 5.0)))
        if "keys" in features and dice.random() < 0.4:
            key, scope = dice.choice(KEYS)
            request = request.with_(unique_key=key, unique_while=scope)  # type: ignore[typeddict-item]
        if "budgets" in features and dice.random() < 0.5:
            names = dice.sample(sorted(BUDGETS), dice.choice((1, 1, 2)))
            request = request.with_(
                budgets=[Draw(name, 1 if name == "narrow" else dice.randint(1, 2)) for name in names]
            )
        return request

    async def _enqueue(self) -> None:
        self._told([await self._client.enqueue(self._request())])

    async def _enqueue_bulk(self) -> None:
        self._told(await self._client.enqueue_bulk([self._request() for _ in range(self._dice.randint(2, 6))]))

    def _told(self, jobs: list[Job]) -> None:
        for job in jobs:
            self._world.journal.enqueued(job.id, job.duplicate)
            self._ids.append(job.id)

    # ── read and change ──

    def _any(self) -> str:
        return self._dice.choice(self._ids) if self._ids else "0" * 25

    async def _read(self) -> None:
        await self._client.get_job(self._any())

    async def _delete(self) -> None:
        await self._client.delete_job(self._any())

    async def _delete_some(self) -> None:
        await self._client.jobs(queue=self._dice.choice(QUEUES), priority=0).delete()

    async def _patch(self) -> None:
        if self._dice.random() < 0.5:
            await self._client.patch_job(self._any(), priority=self._dice.choice((0, 1, 2)))
        else:
            await self._client.patch_job(self._any(), queue=self._dice.choice(QUEUES))

    async def _move(self) -> None:
        where = self._client.jobs(queue=self._dice.choice(QUEUES), status=["ready", "scheduled"])
        await where.update(queue=self._dice.choice(QUEUES), priority=self._dice.choice((0, 1, 2)))

    async def _retry(self) -> None:
        await self._client.retry_job(self._any())

    # ── pauses ──

    async def _pause(self) -> None:
        await self._client.pause_queue(self._dice.choice(QUEUES))

    async def _resume(self) -> None:
        await self._client.resume_queue(self._dice.choice(QUEUES))

    # ── crons and budgets ──

    async def _define_cron(self) -> None:
        async with self._client.define_cron(self._dice.choice(("g", "h")), timezone="UTC") as cron:
            for name in self._dice.sample(("x", "y", "z"), self._dice.randint(0, 2)):
                cron.entry(name, self._dice.choice(("* * * * * *", "*/3 * * * * *", "*/10 * * * * *")), self._plain())

    def _plain(self) -> Enqueue:
        return Enqueue("cron", None, queue=self._dice.choice(QUEUES), retry_limit=1)

    async def _pause_cron(self) -> None:
        handle = self._client.cron(self._dice.choice(("g", "h")))
        await (handle.pause() if self._dice.random() < 0.5 else handle.resume())

    async def _define_budgets(self) -> None:
        for key, policy in BUDGETS.items():
            await self._persist(lambda key=key, policy=policy: self._client.define_budget(key, policy))  # type: ignore[misc]

    async def _update_budget(self) -> None:
        if self._dice.random() < 0.5:
            await self._client.update_budget("wide", allocation=self._dice.randint(2, 4))
        else:
            await self._client.update_budget(
                "rate", allocation=self._dice.randint(2, 8), burst=self._dice.randint(2, 4)
            )


def _client(world: World, host: Host) -> Client:
    transport = SimulatedTransport(world.network, host)
    form = "json" if world.dice.random() < 0.2 else "msgpack"
    return Client("http://server", format=form, transport=transport, clock=world.clock)  # type: ignore[arg-type]
