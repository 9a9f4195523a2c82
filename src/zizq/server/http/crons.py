"""Handlers of crons: they parse, call the crontab, and answer; no rule is here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from zizq.budget import Budget
from zizq.cron import CronGroup
from zizq.engine.cron import rules
from zizq.engine.cron.rules import GroupPatch, NewEntry, NewGroup
from zizq.errors import BadRequest, Unprocessable
from zizq.job import JobRecord, check_name
from zizq.server.broker import Broker
from zizq.server.crontab import Crontab
from zizq.server.http import bodies
from zizq.server.http.exchange import NO_CONTENT, Request, Response
from zizq.server.payloads import Payloads
from zizq.wire import codec
from zizq.wire import operations as op
from zizq.wire.codec import Body
from zizq.wire.messages import (
    CronEntryBody,
    CronEntryPatchBody,
    CronGroupBody,
    CronGroupPatchBody,
    Crons,
    Deleted,
)

_GROUP = Body(CronGroupBody)
_GROUP_PATCH = Body(CronGroupPatchBody)
_ENTRY = Body(CronEntryBody)
_ENTRY_PATCH = Body(CronEntryPatchBody)


class CronHandlers:
    """The calls on cron groups and their entries."""

    def __init__(self, crontab: Crontab, broker: Broker, payloads: Payloads) -> None:
        self._crontab = crontab
        self._payloads = payloads
        self._broker = broker

    @property
    def routes(self) -> dict[op.Operation, Callable[..., Awaitable[Response]]]:
        """Which of them does what."""
        return {
            op.LIST_CRONS: self.list_groups,
            op.DELETE_CRONS: self.delete_groups,
            op.GET_CRON: self.get,
            op.REPLACE_CRON: self.replace,
            op.PATCH_CRON: self.patch,
            op.DELETE_CRON: self.delete,
            op.CREATE_CRON_ENTRY: self.create_entry,
            op.GET_CRON_ENTRY: self.get_entry,
            op.REPLACE_CRON_ENTRY: self.replace_entry,
            op.PATCH_CRON_ENTRY: self.patch_entry,
            op.DELETE_CRON_ENTRY: self.delete_entry,
        }

    async def list_groups(self, request: Request) -> Response:
        """GET /crons (protocol.md#7.1)."""
        return request.answer(200, Crons(await self._crontab.names()))

    async def delete_groups(self, request: Request) -> Response:
        """DELETE /crons (protocol.md#7.1)."""
        return request.answer(200, Deleted(await self._crontab.delete_all()))

    async def get(self, request: Request, group: str) -> Response:
        """GET /crons/{group} (protocol.md#7.1)."""
        return _answer(request, await self._crontab.get(group))

    async def replace(self, request: Request, group: str) -> Response:
        """PUT /crons/{group} (protocol.md#7.2)."""
        body = await request.read(_GROUP)
        check_name("cron group name", group)
        self._crontab.check_zone(body.timezone)
        rules.check_distinct(entry.name for entry in body.entries)
        with _all_is_bad_request():
            entries = tuple([await self._entry(request, entry) for entry in body.entries])
            new = NewGroup(entries=entries, paused=body.paused, timezone=body.timezone)
            return _answer(request, await self._crontab.replace(group, new, self._creations(body.entries)))

    async def patch(self, request: Request, group: str) -> Response:
        """PATCH /crons/{group} (protocol.md#7.4)."""
        body = await request.read(_GROUP_PATCH)
        patch = GroupPatch(paused=body.paused, timezone=body.timezone)
        return _answer(request, await self._crontab.patch(group, patch))

    async def delete(self, request: Request, group: str) -> Response:
        """DELETE /crons/{group} (protocol.md#7.1)."""
        await self._crontab.delete(group)
        return NO_CONTENT

    async def create_entry(self, request: Request, group: str) -> Response:
        """POST /crons/{group}/entries (protocol.md#7.1)."""
        body = await request.read(_ENTRY)
        check_name("cron group name", group)
        with _all_is_bad_request():
            new = await self._entry(request, body)
            entry = await self._crontab.create_entry(group, new, self._creations([body]))
        return request.answer(201, codec.entry_to_send(entry, request.form))

    async def get_entry(self, request: Request, group: str, entry: str) -> Response:
        """GET /crons/{group}/entries/{entry} (protocol.md#7.1)."""
        found = await self._crontab.get_entry(group, entry)
        return request.answer(200, codec.entry_to_send(found, request.form))

    async def replace_entry(self, request: Request, group: str, entry: str) -> Response:
        """PUT /crons/{group}/entries/{entry} (protocol.md#7.1)."""
        body = await request.read(_ENTRY)
        check_name("cron group name", group)
        with _all_is_bad_request():
            # The name in the path counts, whatever the one in the body.
            new = msgspec.structs.replace(await self._entry(request, body), name=entry)
            found = await self._crontab.replace_entry(group, new, self._creations([body]))
        return request.answer(200, codec.entry_to_send(found, request.form))

    async def patch_entry(self, request: Request, group: str, entry: str) -> Response:
        """PATCH /crons/{group}/entries/{entry} (protocol.md#7.4)."""
        body = await request.read(_ENTRY_PATCH)
        found = await self._crontab.pause_entry(group, entry, body.paused)
        return request.answer(200, codec.entry_to_send(found, request.form))

    async def delete_entry(self, request: Request, group: str, entry: str) -> Response:
        """DELETE /crons/{group}/entries/{entry} (protocol.md#7.1)."""
        await self._crontab.delete_entry(group, entry)
        return NO_CONTENT

    async def _entry(self, request: Request, body: CronEntryBody) -> NewEntry:
        """The entry that a body sets, held to all rules."""
        check_name("cron entry name", body.name)
        job = await self._job(request, body)
        entry = NewEntry(
            name=body.name,
            expression=body.expression,
            timezone=body.timezone,
            paused=body.paused,
            job=rules.template_of(job),
        )
        await self._crontab.check_entry(entry, job)
        # A group may have thousands: others get their turn.
        await asyncio.sleep(0)
        return entry

    async def _job(self, request: Request, body: CronEntryBody) -> JobRecord:
        """A job as an entry will enqueue them."""
        if body.job.ready_at is not None:
            raise BadRequest("ready_at is not supported for cron entries")
        stored = await self._payloads.stored(body.job.payload, request.body_form)
        return bodies.new_job(self._broker.next_id(), self._broker.now(), body.job, request.body_form, stored)

    def _creations(self, entries: Sequence[CronEntryBody]) -> dict[str, Budget]:
        """The budgets that jobs of entries bring along."""
        return bodies.creations((draw for entry in entries for draw in entry.job.budgets or ()), self._broker.now())


@contextmanager
def _all_is_bad_request() -> Iterator[None]:
    """Whatever is wrong with a job is a fault of the body that it is part of (protocol.md#7.2)."""
    try:
        yield
    except Unprocessable as refusal:
        raise BadRequest(str(refusal)) from refusal


def _answer(request: Request, group: CronGroup) -> Response:
    return request.answer(200, codec.group_to_send(group, request.form))
