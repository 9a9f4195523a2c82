"""What a change makes of a cron group, and what a firing makes of an entry (protocol.md#7.4, protocol.md#7.5).

Zones are asked of a function: it gives the zone of an IANA name, and that of the server for None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import tzinfo
from functools import lru_cache
from typing import TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from zizq.cron import CronEntry, CronGroup, CronJob
from zizq.engine import admit
from zizq.engine.cron.grammar import parse
from zizq.errors import BadRequest, Conflicting, Missing
from zizq.job import JobRecord

Zones = Callable[[str | None], tzinfo]

MAX_ENTRIES = 2000
"""Entries that a group may have: they are changed together, in some 35 ms."""

_schedule = lru_cache(maxsize=1024)(parse)


class NewEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What a request says of an entry; None for `paused` leaves it as it is."""

    name: str
    expression: str
    timezone: str | None = None
    paused: bool | None = None
    job: CronJob


class NewGroup(msgspec.Struct, frozen=True, kw_only=True):
    """What a request says of a whole group; None for `paused` leaves it as it is."""

    entries: tuple[NewEntry, ...]
    paused: bool | None = None
    timezone: str | None = None


class GroupPatch(msgspec.Struct, frozen=True, kw_only=True):
    """What a request changes in a group; None for `timezone` clears it."""

    paused: bool | None = None
    timezone: str | UnsetType | None = UNSET


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────


def check_zone(timezone: str | UnsetType | None, zone: Zones) -> None:
    """Hold the zone that a group or an entry is to have to its rule.

    Raises:
        BadRequest: When there is no such zone.
    """
    if isinstance(timezone, str):
        zone(timezone)


def check_distinct(names: Iterable[str]) -> None:
    """Hold the entries of one request to names of their own, and to a number that is worked off in a moment.

    Raises:
        BadRequest: When two have the same, or there are too many.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise BadRequest(f'duplicate cron entry name: "{name}"')
        seen.add(name)
    _check_room(len(seen))


def _check_room(entries: int) -> None:
    if entries > MAX_ENTRIES:
        raise BadRequest(f"{entries} cron entries are too many for one group: at most {MAX_ENTRIES}, so make several")


def check_entry(entry: NewEntry, zone: Zones) -> None:
    """Hold the expression and the zone of an entry to their rules.

    Raises:
        BadRequest: When one breaks them.
    """
    _schedule(entry.expression)
    check_zone(entry.timezone, zone)


def group_of(group: CronGroup | None, name: str) -> CronGroup:
    """The group that was looked for.

    Raises:
        Missing: When there is none.
    """
    if group is None:
        raise Missing(f"cron group '{name}' not found")
    return group


def entry_of(group: CronGroup | None, name: str, entry: str) -> CronEntry:
    """The entry that was looked for.

    Raises:
        Missing: When there is none.
    """
    found = None if group is None else group.entry(entry)
    if found is None:
        raise Missing(f"cron entry '{entry}' not found in group '{name}'")
    return found


def has_changed(group: CronGroup, entry: CronEntry) -> Conflicting:
    """The refusal to fire an entry that is not what it was."""
    return Conflicting(f"cron entry '{entry.name}' in group '{group.name}' has changed meanwhile: read it again")


# ── changes (protocol.md#7.2, protocol.md#7.4) ───────────────────────────────────────────────────────


def replace(before: CronGroup | None, name: str, new: NewGroup, now: int, zone: Zones) -> CronGroup:
    """The group that a request sets; entries that it does not name are gone."""
    before = before or _empty(name)
    group = _paused(before, new.paused, now).with_(timezone=new.timezone, entries=())
    there = {entry.name: entry for entry in before.entries}
    entries = tuple(_replace(before, there.get(entry.name), group, entry, now, zone) for entry in new.entries)
    return group.with_(entries=entries)


def replace_entry(before: CronGroup | None, name: str, new: NewEntry, now: int, zone: Zones) -> CronGroup:
    """The group once one entry is set in it; a group that is not there begins with it."""
    group = before or _empty(name)
    there = group.entry(new.name)
    if there is None:
        _check_room(len(group.entries) + 1)
    return _with_entry(group, _replace(group, there, group, new, now, zone))


def create_entry(before: CronGroup | None, name: str, new: NewEntry, now: int, zone: Zones) -> CronGroup:
    """The group once one entry is new in it.

    Raises:
        Conflicting: When there is one of its name.
    """
    if before is not None and before.entry(new.name) is not None:
        raise Conflicting(f"cron entry '{new.name}' already exists in group '{name}'")
    return replace_entry(before, name, new, now, zone)


def patch(before: CronGroup | None, name: str, change: GroupPatch, now: int, zone: Zones) -> CronGroup:
    """The group after a change to it.

    Raises:
        Missing: When it is not there.
    """
    before = group_of(before, name)
    group = _paused(before, change.paused, now)
    if change.timezone is not UNSET:
        group = group.with_(timezone=change.timezone)
    entries = tuple(_timed(before, entry, group, entry, now, zone) for entry in before.entries)
    return group.with_(entries=entries)


def pause_entry(before: CronGroup | None, name: str, entry: str, paused: bool, now: int, zone: Zones) -> CronGroup:
    """The group once one of its entries is paused, or is not.

    Raises:
        Missing: When there is no such entry.
    """
    old, group = entry_of(before, name, entry), group_of(before, name)
    return _with_entry(group, _timed(group, old, group, _paused(old, paused, now), now, zone))


def without_entry(before: CronGroup | None, name: str, entry: str) -> CronGroup:
    """The group without one of its entries.

    Raises:
        Missing: When there is no such entry.
    """
    gone, group = entry_of(before, name, entry), group_of(before, name)
    return group.with_(entries=tuple(one for one in group.entries if one is not gone))


# ── firing (protocol.md#7.5) ─────────────────────────────────────────────────────────────────────────


def is_paused(group: CronGroup, entry: CronEntry) -> bool:
    """Whether an entry lets its times go by."""
    return group.paused or entry.paused


def advance(group: CronGroup, entry: CronEntry, now: int, zone: Zones) -> CronEntry:
    """The entry with its next time: after now, however many it has missed."""
    at = _schedule(entry.expression).next_after(now, zone(_zone_name(group, entry)))
    return entry.with_(next_enqueue_at=at)


def fire(group: CronGroup, entry: CronEntry, now: int, zone: Zones) -> CronEntry:
    """The entry once its time has come; one that is paused only goes on to the next."""
    after = advance(group, entry, now, zone)
    return after if is_paused(group, entry) else after.with_(last_enqueue_at=now)


def template_of(job: JobRecord) -> CronJob:
    """What firings enqueue, to make jobs like this one."""
    fields = {name: getattr(job, name) for name in CronJob.__struct_fields__}
    return CronJob(**fields)


def job_of(template: CronJob, job_id: str, now: int) -> JobRecord:
    """The job that a firing enqueues."""
    return admit.new_job(job_id, now, **msgspec.structs.asdict(template))


# ── how ──────────────────────────────────────────────────────────────────────────────────────────────


def _empty(name: str) -> CronGroup:
    return CronGroup(name=name, paused=False, entries=())


def _with_entry(group: CronGroup, entry: CronEntry) -> CronGroup:
    """The group with an entry in the place of the one of its name, if there is one."""
    others = {one.name: one for one in group.entries}
    return group.with_(entries=tuple((others | {entry.name: entry}).values()))


def _replace(
    before: CronGroup, old: CronEntry | None, group: CronGroup, new: NewEntry, now: int, zone: Zones
) -> CronEntry:
    """The entry that a request sets in a group."""
    fresh = CronEntry(name=new.name, expression=new.expression, paused=False, job=new.job)
    entry = (old or fresh).with_(expression=new.expression, timezone=new.timezone, job=new.job)
    return _timed(before, old, group, _paused(entry, new.paused, now), now, zone)


def _timed(
    before: CronGroup, old: CronEntry | None, group: CronGroup, entry: CronEntry, now: int, zone: Zones
) -> CronEntry:
    """The entry with its next time, which is the old one where its schedule has not changed."""
    if old is None or old.next_enqueue_at is None or _meant(before, old) != _meant(group, entry):
        return advance(group, entry, now, zone)
    # Nothing is made up for after a pause, not even a time that has come and was not passed over yet.
    resumed = is_paused(before, old) and not is_paused(group, entry)
    return advance(group, entry, now, zone) if resumed and old.next_enqueue_at <= now else entry


def _meant(group: CronGroup, entry: CronEntry) -> tuple[str, str | None]:
    """What the times of an entry follow from."""
    return entry.expression, _zone_name(group, entry)


def _zone_name(group: CronGroup, entry: CronEntry) -> str | None:
    return entry.timezone if entry.timezone is not None else group.timezone


_Pausable = TypeVar("_Pausable", CronGroup, CronEntry)


def _paused(one: _Pausable, paused: bool | None, now: int) -> _Pausable:
    """The same, paused or not, and when that changed; None leaves it."""
    if paused is None or paused == one.paused:
        return one
    return one.with_(paused=paused, **{"paused_at" if paused else "resumed_at": now})
