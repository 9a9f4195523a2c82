"""Cron groups: how a program defines them, what the server says of them, and the calls between (protocol.md#7)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Unpack, cast

import msgspec

from zizq import budget, job, policy
from zizq.client.batch import RawBatch
from zizq.client.budgets import Draw
from zizq.client.call import Call, CallMaker, read_nothing, reading
from zizq.client.enqueue import Enqueue, Options
from zizq.client.keys import Scope
from zizq.client.kinds import request_for
from zizq.client.options import Backoff, Retention, maybe_instant_of
from zizq.errors import ConfigError
from zizq.wire import messages, operations

# ── what the server says ─────────────────────────────────────────────────────────────────────────────


class Template(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an entry enqueues, as the server sent it."""

    type: str
    queue: str
    payload: Any
    priority: int
    retry_limit: int | None = None
    backoff: policy.Backoff | None = None
    retention: policy.Retention | None = None
    unique_key: str | None = None
    unique_while: str | None = None
    batch: job.Batch | None = None
    budgets: tuple[budget.Draw, ...] | None = None
    timeout_ms: int | None = None
    metadata: dict[str, str] | None = None

    def request(self) -> Enqueue:
        """The same as a request."""
        batch = self.batch
        return Enqueue(
            self.type,
            self.payload,
            queue=self.queue,
            priority=self.priority,
            retry_limit=self.retry_limit,
            backoff=None if self.backoff is None else Backoff.from_wire(self.backoff),
            retention=None if self.retention is None else Retention.from_wire(self.retention),
            unique_key=self.unique_key,
            unique_while=cast("Scope | None", self.unique_while),
            batch=None if batch is None else RawBatch(key=batch.key, when=batch.when, fold=batch.fold),
            budgets=None if self.budgets is None else tuple(Draw(draw.key, draw.cost) for draw in self.budgets),
            timeout=None if self.timeout_ms is None else timedelta(milliseconds=self.timeout_ms),
            metadata=self.metadata,
        )


_STAMPS = {
    "paused_at_ms": "paused_at",
    "resumed_at_ms": "resumed_at",
    "next_enqueue_at_ms": "next_enqueue_at",
    "last_enqueue_at_ms": "last_enqueue_at",
}


class CronEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={**_STAMPS, "template": "job"}):
    """An entry of a cron group, as the server has it.

    `timezone` is its own, and None where that of the group holds. `paused` is its own as well: an entry of a paused
    group rests too.
    """

    name: str
    expression: str
    timezone: str | None = None
    paused: bool
    paused_at_ms: int | None = None
    resumed_at_ms: int | None = None
    template: Template
    next_enqueue_at_ms: int | None = None
    last_enqueue_at_ms: int | None = None

    @property
    def job(self) -> Enqueue:
        """What it enqueues each time."""
        return self.template.request()

    @property
    def next_enqueue_at(self) -> datetime | None:
        """When it is due next, whether or not it is paused; None where it never is again."""
        return maybe_instant_of(self.next_enqueue_at_ms)

    @property
    def last_enqueue_at(self) -> datetime | None:
        """When it enqueued last."""
        return maybe_instant_of(self.last_enqueue_at_ms)

    @property
    def paused_at(self) -> datetime | None:
        """When it was last paused."""
        return maybe_instant_of(self.paused_at_ms)

    @property
    def resumed_at(self) -> datetime | None:
        """When it was last resumed."""
        return maybe_instant_of(self.resumed_at_ms)


class CronGroup(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename=_STAMPS):
    """A cron group, as the server has it; `timezone` is None where that of the server holds."""

    name: str
    paused: bool
    timezone: str | None = None
    paused_at_ms: int | None = None
    resumed_at_ms: int | None = None
    entries: tuple[CronEntry, ...]

    @property
    def paused_at(self) -> datetime | None:
        """When it was last paused."""
        return maybe_instant_of(self.paused_at_ms)

    @property
    def resumed_at(self) -> datetime | None:
        """When it was last resumed."""
        return maybe_instant_of(self.resumed_at_ms)


# ── calls ────────────────────────────────────────────────────────────────────────────────────────────

_read_group = reading(CronGroup)
_read_entry = reading(CronEntry)
_read_crons = reading(messages.Crons)
_NO_TIME = 0
"""What a delay would count from: an entry has none."""


class CronCalls(CallMaker):
    """The calls on crons in one format."""

    def list_groups(self) -> Call[list[str]]:
        """Ask for the names of all groups."""
        return self._call(operations.LIST_CRONS, lambda answer: _read_crons(answer).crons)

    def get(self, group: str) -> Call[CronGroup]:
        """Read a group."""
        return self._call(operations.GET_CRON, _read_group, group)

    def replace(self, group: str, body: messages.CronGroupBody) -> Call[CronGroup]:
        """Replace a group, with all its entries."""
        return self._call(operations.REPLACE_CRON, _read_group, group, body=body)

    def pause(self, group: str, paused: bool) -> Call[CronGroup]:
        """Pause a group, or resume it."""
        body = messages.CronGroupPatchBody(paused=paused)
        return self._call(operations.PATCH_CRON, _read_group, group, body=body)

    def delete(self, group: str) -> Call[None]:
        """Delete a group."""
        return self._call(operations.DELETE_CRON, read_nothing, group)

    def get_entry(self, group: str, name: str) -> Call[CronEntry]:
        """Read an entry."""
        return self._call(operations.GET_CRON_ENTRY, _read_entry, group, name)

    def put_entry(self, group: str, body: messages.CronEntryBody) -> Call[CronEntry]:
        """Create an entry, or replace the one that is there."""
        return self._call(operations.REPLACE_CRON_ENTRY, _read_entry, group, body.name, body=body)

    def pause_entry(self, group: str, name: str, paused: bool) -> Call[CronEntry]:
        """Pause an entry, or resume it."""
        body = messages.CronEntryPatchBody(paused)
        return self._call(operations.PATCH_CRON_ENTRY, _read_entry, group, name, body=body)

    def delete_entry(self, group: str, name: str) -> Call[None]:
        """Delete an entry."""
        return self._call(operations.DELETE_CRON_ENTRY, read_nothing, group, name)

    def entry(
        self,
        name: str,
        expression: str,
        source: object,
        timezone: str | None,
        paused: bool | None,
        options: Options,
    ) -> messages.CronEntryBody:
        """An entry as it is sent.

        Raises:
            ConfigError: When an argument has no such value, or the request has a time of its own.
            EncodeError: When the payload has no equivalent in JSON.
        """
        request = request_for(source, **options)
        if not request.is_for_now:
            raise ConfigError(f"cron entry {name!r}: its jobs run when it is due; leave out ready_at and delay")
        return messages.CronEntryBody(
            name=_text("name", name),
            expression=_text("expression", expression),
            timezone=_zone(timezone),
            paused=_flag(paused),
            job=request.to_wire(_NO_TIME),
        )


class CronDefinition:
    """What a cron group is to be: the block of `Client.define_cron` adds its entries.

    Args:
        calls: How to write them down.
        name: The name of the group.
        timezone: The zone of entries that name none; None is that of the server.
        paused: Whether the group is paused; None leaves it as it is.

    Raises:
        ConfigError: When an argument has no such value.
    """

    def __init__(self, calls: CronCalls, name: str, timezone: str | None, paused: bool | None) -> None:
        self._calls = calls
        self._name = _text("name", name)
        self._timezone = _zone(timezone)
        self._paused = _flag(paused)
        self._entries: dict[str, messages.CronEntryBody] = {}

    def entry(
        self,
        name: str,
        expression: str,
        kind_or_request: object,
        *,
        timezone: str | None = None,
        paused: bool | None = None,
        **overrides: Unpack[Options],
    ) -> None:
        """Add an entry.

        Args:
            name: Its name in the group.
            expression: When it is due, such as `0 3 * * *`; a guide of its own explains them.
            kind_or_request: What it enqueues: an instance of a kind (see `job_kind`), or an `Enqueue`.
            timezone: Whose clocks are meant, as an IANA name; None is the zone of the group.
            paused: Whether it is paused; None leaves it as it is.
            **overrides: Options of `Enqueue`, but for `ready_at` and `delay`, that replace those of the kind.

        Raises:
            ConfigError: When the group has an entry of this name, or an argument has no such value.
            EncodeError: When the payload has no equivalent in JSON; that a number in it is too large is told when the
                group is sent.
        """
        if name in self._entries:
            raise ConfigError(f"cron group {self._name!r} has an entry {name!r} already: give each a name of its own")
        self._entries[name] = self._calls.entry(name, expression, kind_or_request, timezone, paused, overrides)

    def call(self) -> Call[CronGroup]:
        """The call that makes it so."""
        entries = list(self._entries.values())
        body = messages.CronGroupBody(timezone=self._timezone, paused=self._paused, entries=entries)
        return self._calls.replace(self._name, body)


def _text(name: str, value: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{name}={value!r} of a cron is none: give text that is not empty")
    return value


def _zone(timezone: str | None) -> str | None:
    if timezone is not None and (not isinstance(timezone, str) or not timezone):
        raise ConfigError(f"timezone={timezone!r} is no zone: give an IANA name such as 'Europe/London'")
    return timezone


def _flag(paused: bool | None) -> bool | None:
    if paused is not None and not isinstance(paused, bool):
        raise ConfigError(f"paused={paused!r} is neither True nor False: leave it out to keep it as it is")
    return paused
