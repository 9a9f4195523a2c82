"""Looks at a simulated world again and again, for what should have happened and did not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from trust.actors import Laborer, Server, World
from zizq.job import Status
from zizq.server.consumers import Consumer
from zizq.store.memory import MemoryStore

EVERY_S = 0.25
HEARTBEAT_S = 3.0
"""Silence on a take stream after which a heartbeat is sent, and jobs are asked for anew."""
PATIENCE_S = 0.6
"""How long a job may wait beside a consumer with room: far below a heartbeat."""
LATE_S = 2.0
"""How long a duty may be behind its time: it works through what has gathered, but does not sleep meanwhile."""


class Watch:
    """Finds wakes that were lost, jobs that were not given back, and counts that are wrong.

    Args:
        world: Where to look.
        server: Its server.
        store: Where jobs rest.
        laborers: Its workers.
    """

    def __init__(self, world: World, server: Server, store: MemoryStore, laborers: Sequence[Laborer]) -> None:
        self._world = world
        self._server = server
        self._store = store
        self._laborers = laborers
        self._asleep: dict[Any, tuple[float, str]] = {}
        self._excused_until = 0.0

    def forgive(self) -> None:
        """Leave it a while to recover from a full disk: a duty that failed waits a second, a stream for a heartbeat."""
        self._excused_until = self._world.network.loop.now + 4.0

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(EVERY_S)
            app, now = self._server.app, self._world.network.loop.now
            if app is None or self._server.disk.full or now < self._excused_until:
                self._asleep.clear()
                continue
            self._look_at_streams(app.broker._consumers, now)
            if now - self._server.since > LATE_S:
                self._look_at_duties()
                self._look_at_holds(now)

    def _look_at_streams(self, consumers: Any, now: float) -> None:
        asleep, self._asleep = self._asleep, {}
        for consumer in consumers._all.values():
            if consumer._waiter is None or consumer.closed:
                continue
            self._check_count(consumer)
            if consumers.room(consumer) <= 0:
                continue
            next_ids = self._world.journal.next_of(consumer.queues, 1, self._world.clock.wall_ms())
            if not next_ids:
                continue
            # The same sleep, and the same job all the time: nothing has come between.
            since, job_id = asleep.get(consumer._waiter, (now, next_ids[0]))
            if job_id != next_ids[0]:
                since = now
            self._asleep[consumer._waiter] = (since, next_ids[0])
            if now - since > (HEARTBEAT_S if self._is_behind(next_ids[0], consumers) else 0.0) + PATIENCE_S:
                self._world.journal.broken(f"{next_ids[0]} waits, and stream {consumer.owner} has room and sleeps")

    def _is_behind(self, job_id: str, consumers: Any) -> bool:
        """Whether a job that some may take stands for others behind one that waits for a budget.

        A wake may go to one of these; who could have taken it then finds it with its next heartbeat.
        """
        job = self._store._jobs[job_id]
        others = [one for one in consumers._all.values() if not one.queues or job.queue in one.queues]
        seen = [
            self._world.journal.next_of(one.queues, len(self._store._jobs), self._world.clock.wall_ms())
            for one in others
        ]
        return bool(job.budgets) and any(job_id not in ids for ids in seen)

    def _check_count(self, consumer: Consumer) -> None:
        held = sum(1 for hold in self._world.journal.holds.values() if hold.owner == consumer.owner)
        if held != consumer.held:
            self._world.journal.broken(f"stream {consumer.owner} holds {held} jobs, and counts {consumer.held}")
        if consumer.prefetch and held > consumer.prefetch:
            self._world.journal.broken(f"stream {consumer.owner} holds {held} jobs of {consumer.prefetch}")

    def _look_at_duties(self) -> None:
        late = self._world.clock.wall_ms() - LATE_S * 1000
        for job in self._store._jobs.values():
            if job.status is Status.SCHEDULED and job.ready_at < late:
                self._world.journal.broken(f"{job.id} is {late - job.ready_at:g} ms late, and still scheduled")
        for at, due in self._store._timed():
            if at < late:
                self._world.journal.broken(f"cron entry {due.entry.name} is late by {late - at:g} ms")

    def _look_at_holds(self, now: float) -> None:
        for hold in self._world.journal.holds.values():
            gone_at = hold.connection.gone_at
            if gone_at is not None and now - gone_at > PATIENCE_S:
                self._world.journal.broken(f"{hold.job.id} is in flight, and {hold.connection} has gone")
            due_at = self._world.journal.overdue_at(hold)
            if due_at is not None and self._world.clock.wall_ms() - due_at > PATIENCE_S * 1000:
                self._world.journal.broken(f"{hold.job.id} is in flight, and is overdue")
