"""The crontab: cron groups, to be read, set and changed; and the firing of entries that are due (protocol.md#7).

A change is a read, a rule (`engine.cron.rules`) and a write that holds only if what was read is still so; where it is
not, all three are done again. So is a firing, but that is given up: whoever was faster has fired it, or changed it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress

from msgspec import UnsetType

from zizq.budget import Budget
from zizq.clock import Clock
from zizq.cron import CronEntry, CronGroup
from zizq.engine.cron import rules
from zizq.engine.cron.rules import GroupPatch, NewEntry, NewGroup, Zones
from zizq.errors import Conflicting, Refusal, Unavailable
from zizq.job import JobRecord
from zizq.server.broker import Broker
from zizq.store.base import NO_BUDGETS, Due, Store

log = logging.getLogger("zizq.cron")

Rule = Callable[[CronGroup | None, int], CronGroup]
"""Makes a group of what was there and the time."""


class Crontab:
    """What the server does with crons.

    Args:
        store: Where they rest.
        broker: Enqueues what they fire.
        clock: The time by which they fire.
        zone: The zone of a name, and that of the server for None.
    """

    def __init__(self, store: Store, broker: Broker, clock: Clock, zone: Zones) -> None:
        self._store = store
        self._broker = broker
        self._clock = clock
        self._zone = zone
        self.on_saved: Callable[[int], None] = lambda at: None
        """Hears for when an entry of a group that was changed is due."""
        self._saves: set[asyncio.Task[CronGroup]] = set()

    # ── read ──

    async def names(self) -> list[str]:
        """The names of all groups."""
        return await self._store.crons()

    async def get(self, name: str) -> CronGroup:
        """One group.

        Raises:
            Missing: When there is none.
        """
        return rules.group_of(await self._store.cron(name), name)

    async def get_entry(self, name: str, entry: str) -> CronEntry:
        """One entry of a group.

        Raises:
            Missing: When there is none.
        """
        return rules.entry_of(await self._store.cron(name), name, entry)

    # ── change ──

    def check_zone(self, timezone: str | UnsetType | None) -> None:
        """Hold the zone that a group is to have to its rule.

        Raises:
            BadRequest: When there is no such zone.
        """
        rules.check_zone(timezone, self._zone)

    async def check_entry(self, entry: NewEntry, job: JobRecord) -> None:
        """Hold an entry that is to be set to what can be told before.

        Args:
            entry: The entry.
            job: A job as it will enqueue them.

        Raises:
            BadRequest: When its expression or its zone cannot be used.
            Unprocessable: When its batch cannot.
        """
        rules.check_entry(entry, self._zone)
        await self._broker.check_batch(job)

    async def replace(self, name: str, new: NewGroup, create: Mapping[str, Budget] = NO_BUDGETS) -> CronGroup:
        """Set a whole group; returns it with its entries in the order in which they were given.

        Args:
            name: Its name.
            new: What it is to be.
            create: Budgets to create where jobs of its entries draw on them and they are missing.

        Raises:
            Unprocessable: When a job draws on a budget that is missing or too small.
        """
        return await self._change(name, lambda before, now: rules.replace(before, name, new, now, self._zone), create)

    async def patch(self, name: str, patch: GroupPatch) -> CronGroup:
        """Change what a group has beside its entries.

        Raises:
            BadRequest: When its new zone cannot be used.
            Missing: When there is none.
        """
        self.check_zone(patch.timezone)
        return await self._change(name, lambda before, now: rules.patch(before, name, patch, now, self._zone))

    async def delete(self, name: str) -> None:
        """Delete a group with its entries.

        Raises:
            Missing: When there is none.
        """
        while not await self._store.save_cron(name, await self.get(name), None, self._clock.wall_ms()):
            pass

    async def delete_all(self) -> int:
        """Delete all groups; returns how many."""
        return await self._store.delete_crons()

    async def create_entry(self, name: str, new: NewEntry, create: Mapping[str, Budget] = NO_BUDGETS) -> CronEntry:
        """Add an entry to a group, which begins with it if it is not there.

        Raises:
            Conflicting: When the group has one of this name.
            Unprocessable: When its job draws on a budget that is missing or too small.
        """
        return await self._change_entry(
            name, new.name, lambda before, now: rules.create_entry(before, name, new, now, self._zone), create
        )

    async def replace_entry(self, name: str, new: NewEntry, create: Mapping[str, Budget] = NO_BUDGETS) -> CronEntry:
        """Set an entry of a group, which begins with it if it is not there.

        Raises:
            Unprocessable: When its job draws on a budget that is missing or too small.
        """
        return await self._change_entry(
            name, new.name, lambda before, now: rules.replace_entry(before, name, new, now, self._zone), create
        )

    async def pause_entry(self, name: str, entry: str, paused: bool) -> CronEntry:
        """Pause an entry, or let it go on.

        Raises:
            Missing: When there is none.
        """
        return await self._change_entry(
            name, entry, lambda before, now: rules.pause_entry(before, name, entry, paused, now, self._zone)
        )

    async def delete_entry(self, name: str, entry: str) -> None:
        """Delete an entry; its group stays.

        Raises:
            Missing: When there is none.
        """
        await self._change(name, lambda before, now: rules.without_entry(before, name, entry))

    async def _change_entry(
        self, name: str, entry: str, rule: Rule, create: Mapping[str, Budget] = NO_BUDGETS
    ) -> CronEntry:
        return rules.entry_of(await self._change(name, rule, create), name, entry)

    async def _change(self, name: str, rule: Rule, create: Mapping[str, Budget] = NO_BUDGETS) -> CronGroup:
        # What is saved although nobody waits for it any more has to be heard of all the same, or fires late.
        save = asyncio.create_task(self._save(name, rule, create))
        self._saves.add(save)
        save.add_done_callback(self._saved)
        return await asyncio.shield(save)

    def _saved(self, save: asyncio.Task[CronGroup]) -> None:
        self._saves.discard(save)
        if not save.cancelled():
            save.exception()  # whoever asked may have left

    async def _save(self, name: str, rule: Rule, create: Mapping[str, Budget]) -> CronGroup:
        while True:
            before, now = await self._store.cron(name), self._clock.wall_ms()
            after = rule(before, now)
            if after.in_order() == before or await self._store.save_cron(name, before, after, now, create):
                break
        due = [entry.next_enqueue_at for entry in after.entries if entry.next_enqueue_at is not None]
        if due:
            self.on_saved(min(due))
        return after

    # ── fire ──

    async def fire(self, limit: int) -> int | None:
        """Fire all entries that are due, `limit` at a time; returns when the next one is due, in Unix milliseconds.

        An entry that cannot be fired is logged and goes on to its next time.

        Raises:
            Unavailable: When the store cannot write.
        """
        fired = limit
        while fired == limit:
            due = await self._store.due_crons(self._clock.wall_ms(), limit)
            fired = len(due)
            outcomes = await asyncio.gather(*map(self._fire, due), return_exceptions=True)
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    raise outcome
        return await self._store.next_cron()

    async def _fire(self, due: Due) -> None:
        now = self._clock.wall_ms()
        try:
            after = rules.fire(*due, now, self._zone)
            jobs = [] if rules.is_paused(*due) else [rules.job_of(due.entry.job, self._broker.next_id(), now)]
            await self._broker.fire(due, after, jobs)
        except Conflicting:
            return
        except Unavailable:
            raise
        except Exception as error:
            _complain("cron entry skipped", due, error)
            await self._skip(due, now)

    async def _skip(self, due: Due, now: int) -> None:
        """Let a time of an entry go by; where the next cannot be told, the entry rests until it is set anew."""
        try:
            after = rules.advance(*due, now, self._zone)
        except Refusal as error:
            _complain("cron entry fires no more until it is set anew", due, error)
            after = due.entry.with_(next_enqueue_at=None)
        with suppress(Conflicting):
            await self._broker.fire(due, after, [])


def _complain(message: str, due: Due, error: Exception) -> None:
    fields = {"group": due.group.name, "entry": due.entry.name, "error": str(error)}
    log.error(message, exc_info=None if isinstance(error, Refusal) else error, extra={"fields": fields})
