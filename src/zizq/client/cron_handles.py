"""Handles of cron groups and their entries: a name, and what can be done to what it names."""

from __future__ import annotations

from typing import Unpack

from zizq.client.cron import CronCalls, CronEntry, CronGroup
from zizq.client.enqueue import Options
from zizq.client.steps import Send, SendAsync


class CronHandle:
    """A cron group by its name, for coroutines: made by `Client.cron`; whether there is one, each call finds out.

    Every call but `entry` raises NotFound where there is no such group.
    """

    def __init__(self, send: SendAsync, calls: CronCalls, name: str) -> None:
        self._send = send
        self._calls = calls
        self.name = name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    async def get(self) -> CronGroup:
        """Read the group, with its entries in the order of their names."""
        return await self._send(self._calls.get(self.name))

    async def pause(self) -> CronGroup:
        """Let all its entries rest: their times go by, and nothing is made up for later."""
        return await self._send(self._calls.pause(self.name, True))

    async def resume(self) -> CronGroup:
        """Let its entries go on, but for those that are paused themselves."""
        return await self._send(self._calls.pause(self.name, False))

    async def delete(self) -> None:
        """Delete the group with its entries; the jobs that they enqueued stay."""
        await self._send(self._calls.delete(self.name))

    def entry(self, name: str) -> CronEntryHandle:
        """A handle of one of its entries; nothing is sent."""
        return CronEntryHandle(self._send, self._calls, self.name, name)


class CronEntryHandle:
    """An entry of a cron group by its name, for coroutines: made by `CronHandle.entry`.

    Every call but `put` raises NotFound where there is no such entry.
    """

    def __init__(self, send: SendAsync, calls: CronCalls, group: str, name: str) -> None:
        self._send = send
        self._calls = calls
        self.group = group
        self.name = name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.group!r} {self.name!r}>"

    async def get(self) -> CronEntry:
        """Read the entry."""
        return await self._send(self._calls.get_entry(self.group, self.name))

    async def put(
        self,
        expression: str,
        kind_or_request: object,
        *,
        timezone: str | None = None,
        paused: bool | None = None,
        **overrides: Unpack[Options],
    ) -> CronEntry:
        """Create the entry, or replace the one that is there; a group that is not there begins with it.

        Args:
            expression: When it is due.
            kind_or_request: What it enqueues: an instance of a kind (see `job_kind`), or an `Enqueue`.
            timezone: Whose clocks are meant, as an IANA name; None is the zone of the group.
            paused: Whether it is paused; None leaves it as it is.
            **overrides: Options of `Enqueue`, but for `ready_at` and `delay`, that replace those of the kind.

        Raises:
            ConfigError: When an argument has no such value.
            EncodeError: When the payload cannot travel.
            InvalidRequest: When the server finds the expression, the zone or the job wrong.
        """
        body = self._calls.entry(self.name, expression, kind_or_request, timezone, paused, overrides)
        return await self._send(self._calls.put_entry(self.group, body))

    async def pause(self) -> CronEntry:
        """Let the entry rest: its times go by, and nothing is made up for later."""
        return await self._send(self._calls.pause_entry(self.group, self.name, True))

    async def resume(self) -> CronEntry:
        """Let the entry go on, unless its group is paused."""
        return await self._send(self._calls.pause_entry(self.group, self.name, False))

    async def delete(self) -> None:
        """Delete the entry; its group stays, and so do the jobs that it enqueued."""
        await self._send(self._calls.delete_entry(self.group, self.name))


class SyncCronHandle:
    """A cron group by its name, for threads: made by `SyncClient.cron`; whether there is one, each call finds out.

    Every call but `entry` raises NotFound where there is no such group.
    """

    def __init__(self, send: Send, calls: CronCalls, name: str) -> None:
        self._send = send
        self._calls = calls
        self.name = name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    def get(self) -> CronGroup:
        """Read the group, with its entries in the order of their names."""
        return self._send(self._calls.get(self.name))

    def pause(self) -> CronGroup:
        """Let all its entries rest: their times go by, and nothing is made up for later."""
        return self._send(self._calls.pause(self.name, True))

    def resume(self) -> CronGroup:
        """Let its entries go on, but for those that are paused themselves."""
        return self._send(self._calls.pause(self.name, False))

    def delete(self) -> None:
        """Delete the group with its entries; the jobs that they enqueued stay."""
        self._send(self._calls.delete(self.name))

    def entry(self, name: str) -> SyncCronEntryHandle:
        """A handle of one of its entries; nothing is sent."""
        return SyncCronEntryHandle(self._send, self._calls, self.name, name)


class SyncCronEntryHandle:
    """An entry of a cron group by its name, for threads: made by `SyncCronHandle.entry`.

    Every call but `put` raises NotFound where there is no such entry.
    """

    def __init__(self, send: Send, calls: CronCalls, group: str, name: str) -> None:
        self._send = send
        self._calls = calls
        self.group = group
        self.name = name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.group!r} {self.name!r}>"

    def get(self) -> CronEntry:
        """Read the entry."""
        return self._send(self._calls.get_entry(self.group, self.name))

    def put(
        self,
        expression: str,
        kind_or_request: object,
        *,
        timezone: str | None = None,
        paused: bool | None = None,
        **overrides: Unpack[Options],
    ) -> CronEntry:
        """Create the entry, or replace the one that is there; a group that is not there begins with it.

        Args:
            expression: When it is due.
            kind_or_request: What it enqueues: an instance of a kind (see `job_kind`), or an `Enqueue`.
            timezone: Whose clocks are meant, as an IANA name; None is the zone of the group.
            paused: Whether it is paused; None leaves it as it is.
            **overrides: Options of `Enqueue`, but for `ready_at` and `delay`, that replace those of the kind.

        Raises:
            ConfigError: When an argument has no such value.
            EncodeError: When the payload cannot travel.
            InvalidRequest: When the server finds the expression, the zone or the job wrong.
        """
        body = self._calls.entry(self.name, expression, kind_or_request, timezone, paused, overrides)
        return self._send(self._calls.put_entry(self.group, body))

    def pause(self) -> CronEntry:
        """Let the entry rest: its times go by, and nothing is made up for later."""
        return self._send(self._calls.pause_entry(self.group, self.name, True))

    def resume(self) -> CronEntry:
        """Let the entry go on, unless its group is paused."""
        return self._send(self._calls.pause_entry(self.group, self.name, False))

    def delete(self) -> None:
        """Delete the entry; its group stays, and so do the jobs that it enqueued."""
        self._send(self._calls.delete_entry(self.group, self.name))
