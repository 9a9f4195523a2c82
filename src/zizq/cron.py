"""What a cron is: a group of entries, each of which enqueues a job by a schedule (protocol.md#7)."""

from __future__ import annotations

import msgspec

from zizq.budget import Draw
from zizq.job import Batch
from zizq.policy import Backoff, Retention


class CronJob(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a firing enqueues: an enqueue without its time, as it rests in a store and as it travels.

    `payload` is encoded, MessagePack in a store.
    """

    type: str
    queue: str
    payload: msgspec.Raw
    priority: int
    retry_limit: int | None = None
    backoff: Backoff | None = None
    retention: Retention | None = None
    unique_key: str | None = None
    unique_while: str | None = None
    batch: Batch | None = None
    budgets: tuple[Draw, ...] | None = None
    timeout_ms: int | None = None
    metadata: dict[str, str] | None = None


class CronEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A schedule and its job, as it rests in a store and as it travels. Instants are Unix milliseconds.

    Args:
        name: What it is called in its group.
        expression: When it fires (`engine.cron.grammar`).
        timezone: Whose clocks are meant, as an IANA name; None for those of its group.
        paused: Whether it lets its times go by.
        paused_at: When that began last.
        resumed_at: When that ended last.
        job: What it enqueues.
        next_enqueue_at: Its next time; None when there is none.
        last_enqueue_at: When it fired last.
    """

    name: str
    expression: str
    timezone: str | None = None
    paused: bool
    paused_at: int | None = None
    resumed_at: int | None = None
    job: CronJob
    next_enqueue_at: int | None = None
    last_enqueue_at: int | None = None

    def with_(self, **changes: object) -> CronEntry:
        """The same entry with some fields changed."""
        return msgspec.structs.replace(self, **changes)


class CronGroup(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Entries that are set and paused together.

    Args:
        name: What it is called.
        paused: Whether all its entries let their times go by.
        timezone: The zone of entries that name none, as an IANA name; None for that of the server.
        paused_at: When the pause began last.
        resumed_at: When it ended last.
        entries: In the order of their names, but for a group that is just being set.
    """

    name: str
    paused: bool
    timezone: str | None = None
    paused_at: int | None = None
    resumed_at: int | None = None
    entries: tuple[CronEntry, ...]

    def with_(self, **changes: object) -> CronGroup:
        """The same group with some fields changed."""
        return msgspec.structs.replace(self, **changes)

    def in_order(self) -> CronGroup:
        """The same group with its entries in the order of their names, by their UTF-8 bytes."""
        return self.with_(entries=tuple(sorted(self.entries, key=lambda entry: entry.name.encode())))

    def entry(self, name: str) -> CronEntry | None:
        """The entry of this name; None when there is none."""
        return next((entry for entry in self.entries if entry.name == name), None)
