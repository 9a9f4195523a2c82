"""What changes make of cron groups, and what firings make of entries (protocol.md#7.4, protocol.md#7.5)."""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from msgspec import UNSET

from zizq.cron import CronEntry, CronGroup, CronJob
from zizq.engine.cron import rules
from zizq.engine.cron.rules import GroupPatch, NewEntry, NewGroup
from zizq.errors import BadRequest, Conflicting, Missing
from zizq.job import Batch, Status
from zizq.policy import Backoff, Retention

NOW = int(datetime.fromisoformat("2026-09-21T14:13:20Z").timestamp() * 1000)
HOUR = 3_600_000
JOB = CronJob(type="t", queue="q", payload=msgspec.Raw(b"\x01"), priority=5)
OTHER_JOB = CronJob(type="u", queue="r", payload=msgspec.Raw(b"\x02"), priority=6)


def zone(name: str | None) -> tzinfo:
    """The server's own clocks are those of New York."""
    return ZoneInfo(name or "America/New_York")


def new_entry(name: str = "e", expression: str = "0 12 * * *", **more: Any) -> NewEntry:
    return NewEntry(name=name, expression=expression, job=more.pop("job", JOB), **more)


def put(before: CronGroup | None, *entries: NewEntry, now: int = NOW, **more: Any) -> CronGroup:
    return rules.replace(before, "g", NewGroup(entries=entries, **more), now, zone)


def put_one(before: CronGroup | None, now: int = NOW, **more: Any) -> CronEntry:
    """The entry of a group that is set once more with just one."""
    return put(before, new_entry(**more), now=now).entries[0]


def patched(before: CronGroup, now: int = NOW, **more: Any) -> CronGroup:
    return rules.patch(before, "g", GroupPatch(**more), now, zone)


def paused(before: CronGroup, flag: bool, now: int = NOW) -> CronEntry:
    return rules.pause_entry(before, "g", "e", flag, now, zone).entries[0]


def at(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp() * 1000)


NOON_NEW_YORK, NOON_LONDON, NOON_TOKYO = at("2026-09-21T16:00Z"), at("2026-09-22T11:00Z"), at("2026-09-22T03:00Z")


# ── a new group ──


def test_a_new_group_has_what_was_given() -> None:
    group = put(None, new_entry("b", timezone="UTC"), new_entry("a"), timezone="Asia/Tokyo")
    assert (group.name, group.paused, group.paused_at, group.resumed_at) == ("g", False, None, None)
    assert group.timezone == "Asia/Tokyo"
    assert [entry.name for entry in group.entries] == ["b", "a"]
    first = group.entries[0]
    assert (first.expression, first.timezone, first.job) == ("0 12 * * *", "UTC", JOB)
    assert (first.paused, first.paused_at, first.resumed_at, first.last_enqueue_at) == (False, None, None, None)


def test_a_new_group_may_be_empty() -> None:
    assert put(None) == CronGroup(name="g", paused=False, entries=())


def test_what_is_new_and_paused_says_since_when() -> None:
    group = put(None, new_entry(paused=True), paused=True)
    assert (group.paused, group.paused_at, group.resumed_at) == (True, NOW, None)
    entry = group.entries[0]
    assert (entry.paused, entry.paused_at, entry.resumed_at) == (True, NOW, None)
    assert entry.next_enqueue_at == NOON_NEW_YORK


def test_what_is_new_and_expressly_not_paused_says_nothing() -> None:
    group = put(None, new_entry(paused=False), paused=False)
    assert group == put(None, new_entry())


@pytest.mark.parametrize(
    ("own", "of_group", "expected"),
    [
        (None, None, NOON_NEW_YORK), (None, "Europe/London", NOON_LONDON),
        ("Asia/Tokyo", "Europe/London", NOON_TOKYO), ("Asia/Tokyo", None, NOON_TOKYO),
    ],
)  # fmt: skip
def test_the_clocks_are_those_of_the_entry_then_the_group_then_the_server(
    own: str | None, of_group: str | None, expected: int
) -> None:
    group = put(None, new_entry(timezone=own), timezone=of_group)
    assert group.entries[0].next_enqueue_at == expected


def test_the_next_time_is_after_the_second_that_has_begun() -> None:
    assert put_one(None, NOW, expression="* * * * * *").next_enqueue_at == NOW + 1000
    assert put_one(None, NOW + 999, expression="* * * * * *").next_enqueue_at == NOW + 1000


def test_an_entry_whose_time_never_comes_has_no_next() -> None:
    assert put_one(None, expression="0 0 0 1 1 * 2020").next_enqueue_at is None


# ── the same again ──


def test_the_same_group_again_changes_nothing() -> None:
    entries = (new_entry("a", paused=True), new_entry("b", "*/5 * * * *", timezone="UTC"))
    group = put(None, *entries, timezone="Asia/Tokyo", paused=True)
    assert put(group, *entries, timezone="Asia/Tokyo", paused=True, now=NOW + 1) == group
    assert put(group, *map(without_pause, entries), timezone="Asia/Tokyo", now=NOW + 1) == group


def without_pause(entry: NewEntry) -> NewEntry:
    return msgspec.structs.replace(entry, paused=None)


def test_another_job_does_not_disturb_the_schedule() -> None:
    group = fired(put(None, new_entry()))
    entry = put_one(group, NOW + 9 * HOUR, job=OTHER_JOB)
    assert entry == group.entries[0].with_(job=OTHER_JOB)


@pytest.mark.parametrize(
    ("change", "expected"),
    [({"expression": "0 13 * * *"}, NOON_NEW_YORK + HOUR), ({"timezone": "Europe/London"}, NOON_LONDON)],
)
def test_another_schedule_counts_from_now_and_the_rest_survives(change: dict[str, Any], expected: int) -> None:
    first = put(None, new_entry(paused=True)).entries[0]
    full = CronGroup(name="g", paused=False, entries=(first.with_(resumed_at=7, last_enqueue_at=8, next_enqueue_at=9),))
    entry = put_one(full, NOW, **change)
    assert entry.next_enqueue_at == expected
    stamps = (entry.paused, entry.paused_at, entry.resumed_at, entry.last_enqueue_at)
    assert stamps == (True, NOW, 7, 8)


def test_a_schedule_is_the_same_if_the_zone_that_counts_is() -> None:
    group = put(None, new_entry(timezone="Asia/Tokyo"))
    later = NOW + 100 * HOUR
    moved = put(group, new_entry(), timezone="Asia/Tokyo", now=later).entries[0]
    assert moved.next_enqueue_at == NOON_TOKYO
    assert moved.timezone is None
    # The same text of an expression means other times by other clocks.
    assert put(group, new_entry(), now=later).entries[0].next_enqueue_at != NOON_TOKYO


def test_a_time_that_was_missed_stays_due_when_the_group_is_set_again() -> None:
    group = put(None, new_entry())
    assert put_one(group, NOW + 100 * HOUR).next_enqueue_at == NOON_NEW_YORK


def test_an_entry_without_a_next_time_is_looked_at_anew() -> None:
    group = put(None, new_entry())
    resting = group.with_(entries=(group.entries[0].with_(next_enqueue_at=None),))
    assert put_one(resting).next_enqueue_at == NOON_NEW_YORK


def test_entries_that_are_not_named_are_gone() -> None:
    group = put(None, new_entry("a"), new_entry("b"))
    assert [entry.name for entry in put(group, new_entry("c"), new_entry("b")).entries] == ["c", "b"]


def test_a_zone_that_is_left_out_is_cleared() -> None:
    group = put(None, new_entry(timezone="Asia/Tokyo"), timezone="Asia/Tokyo")
    again = put(group, new_entry())
    assert (again.timezone, again.entries[0].timezone) == (None, None)
    assert again.entries[0].next_enqueue_at == NOON_NEW_YORK


def test_an_entry_of_another_group_is_another_entry() -> None:
    group = fired(put(None, new_entry("a")))
    assert put(group, new_entry("b")).entries[0].last_enqueue_at is None


# ── pauses ──


def test_a_change_of_the_pause_is_stamped_and_the_other_stamp_kept() -> None:
    group = put(None, new_entry(), paused=True)
    for after in (put(group, new_entry(), paused=False, now=NOW + 1), patched(group, NOW + 1, paused=False)):
        assert (after.paused, after.paused_at, after.resumed_at) == (False, NOW, NOW + 1)
        again = patched(after, NOW + 2, paused=True)
        assert (again.paused, again.paused_at, again.resumed_at) == (True, NOW + 2, NOW + 1)


def test_a_pause_that_is_no_change_is_not_stamped() -> None:
    group = put(None, new_entry(), paused=True)
    assert patched(group, NOW + 1, paused=True) == group
    assert patched(group, NOW + 1) == group
    running = put(None, new_entry())
    assert patched(running, NOW + 1, paused=False) == running


def test_the_pause_of_an_entry_is_stamped_as_well() -> None:
    group = put(None, new_entry("d"), new_entry("e"))
    after = rules.pause_entry(group, "g", "e", True, NOW + 1, zone)
    assert after.entries[0] == group.entries[0]
    entry = after.entries[1]
    assert (entry.paused, entry.paused_at, entry.resumed_at) == (True, NOW + 1, None)
    [again] = rules.pause_entry(after.with_(entries=(entry,)), "g", "e", False, NOW + 2, zone).entries
    assert (again.paused, again.paused_at, again.resumed_at) == (False, NOW + 1, NOW + 2)
    assert again.next_enqueue_at == NOON_NEW_YORK
    assert paused(after.with_(entries=(again,)), False, NOW + 3) == again
    assert put_one(after.with_(entries=(again,)), NOW + 4, paused=True).paused_at == NOW + 4


def test_a_time_that_went_by_in_a_pause_is_not_made_up_for() -> None:
    overdue = NOON_NEW_YORK + 1
    tomorrow = NOON_NEW_YORK + 24 * HOUR
    of_entry = put(None, new_entry(paused=True))
    assert paused(of_entry, False, overdue).next_enqueue_at == tomorrow
    assert put_one(of_entry, overdue, paused=False).next_enqueue_at == tomorrow
    of_group = put(None, new_entry(), paused=True)
    assert patched(of_group, overdue, paused=False).entries[0].next_enqueue_at == tomorrow
    assert put(of_group, new_entry(), paused=False, now=overdue).entries[0].next_enqueue_at == tomorrow


def test_half_a_pause_is_a_pause() -> None:
    both = put(None, new_entry(paused=True), paused=True)
    overdue = NOON_NEW_YORK + 1
    # What goes on is passed over when its time comes, and not before.
    assert paused(both, False, overdue).next_enqueue_at == NOON_NEW_YORK
    assert patched(both, overdue, paused=False).entries[0].next_enqueue_at == NOON_NEW_YORK


# ── zones ──


def test_another_zone_of_a_group_moves_the_entries_that_have_none() -> None:
    group = fired(put(None, new_entry("a"), new_entry("b", timezone="UTC")))
    after = patched(group, NOW + 1, timezone="Europe/London")
    assert after.timezone == "Europe/London"
    assert after.entries[0] == group.entries[0].with_(next_enqueue_at=NOON_LONDON)
    assert after.entries[1] == group.entries[1]
    cleared = patched(after, NOW + 2, timezone=None)
    assert (cleared.timezone, cleared.entries[0].next_enqueue_at) == (None, NOON_NEW_YORK)


def test_a_patch_that_says_nothing_changes_nothing() -> None:
    group = put(None, new_entry(), timezone="UTC", paused=True)
    assert patched(group, NOW + 99 * HOUR, timezone=UNSET) == group
    assert patched(group, NOW + 99 * HOUR, timezone="UTC") == group


# ── single entries ──


def test_an_entry_begins_a_group() -> None:
    for rule in (rules.create_entry, rules.replace_entry):
        group = rule(None, "g", new_entry(), NOW, zone)
        assert group == put(None, new_entry())


def test_an_entry_comes_to_the_others() -> None:
    group = put(None, new_entry("a"), timezone="Asia/Tokyo", paused=True)
    for rule in (rules.create_entry, rules.replace_entry):
        after = rule(group, "g", new_entry("b"), NOW, zone)
        assert after.with_(entries=()) == group.with_(entries=())
        assert [entry.name for entry in after.entries] == ["a", "b"]
        assert after.entries[1].next_enqueue_at == NOON_TOKYO


def test_an_entry_is_replaced_in_its_place() -> None:
    group = put(None, new_entry("a"), new_entry("b"))
    after = rules.replace_entry(group, "g", new_entry("a", "0 13 * * *", job=OTHER_JOB), NOW, zone)
    assert [(entry.name, entry.expression) for entry in after.entries] == [("a", "0 13 * * *"), ("b", "0 12 * * *")]
    assert after.entries[0].job == OTHER_JOB


def test_an_entry_that_is_there_cannot_be_created() -> None:
    with pytest.raises(Conflicting, match=r"^cron entry 'e' already exists in group 'g'$"):
        rules.create_entry(put(None, new_entry()), "g", new_entry(), NOW, zone)


def test_an_entry_can_be_taken_out() -> None:
    group = put(None, new_entry("a"), new_entry("e"))
    assert [entry.name for entry in rules.without_entry(group, "g", "e").entries] == ["a"]


def test_what_is_not_there_is_missing() -> None:
    with pytest.raises(Missing, match=r"^cron group 'g' not found$"):
        rules.patch(None, "g", GroupPatch(), NOW, zone)
    for before in (None, put(None, new_entry("a"))):
        with pytest.raises(Missing, match=r"^cron entry 'e' not found in group 'g'$"):
            rules.pause_entry(before, "g", "e", True, NOW, zone)
        with pytest.raises(Missing, match=r"^cron entry 'e' not found in group 'g'$"):
            rules.without_entry(before, "g", "e")


def test_two_entries_of_a_request_have_two_names() -> None:
    rules.check_distinct(["a", "b", "A"])
    with pytest.raises(BadRequest, match=r'^duplicate cron entry name: "b"$'):
        rules.check_distinct(["a", "b", "b", "a"])


# ── firing ──


def fired(group: CronGroup, now: int = NOW) -> CronGroup:
    """The group once all its entries have fired."""
    return group.with_(entries=tuple(rules.fire(group, entry, now, zone) for entry in group.entries))


def test_a_firing_goes_on_to_the_next_time() -> None:
    group = put(None, new_entry())
    late = NOON_NEW_YORK + 250
    [entry] = fired(group, late).entries
    # The actual time and not the nominal one.
    assert (entry.last_enqueue_at, entry.next_enqueue_at) == (late, NOON_NEW_YORK + 24 * HOUR)


def test_times_that_were_missed_count_as_one() -> None:
    group = put(None, new_entry(expression="*/10 * * * *"))
    late = NOW + 50 * HOUR
    [entry] = fired(group, late).entries
    assert entry.last_enqueue_at == late
    assert entry.next_enqueue_at == at("2026-09-23T16:20Z")


@pytest.mark.parametrize(("of_group", "of_entry"), [(True, False), (False, True), (True, True)])
def test_what_is_paused_lets_its_times_go_by(of_group: bool, of_entry: bool) -> None:
    group = put(None, new_entry(paused=of_entry), paused=of_group)
    assert rules.is_paused(group, group.entries[0])
    [entry] = fired(group, NOON_NEW_YORK).entries
    assert (entry.last_enqueue_at, entry.next_enqueue_at) == (None, NOON_NEW_YORK + 24 * HOUR)


def test_an_entry_that_fires_for_the_last_time_rests() -> None:
    group = put(None, new_entry(expression="0 0 12 21 9 * 2026"))
    assert group.entries[0].next_enqueue_at == NOON_NEW_YORK
    [entry] = fired(group, NOON_NEW_YORK).entries
    assert (entry.last_enqueue_at, entry.next_enqueue_at) == (NOON_NEW_YORK, None)


def test_a_job_is_made_like_its_template() -> None:
    full = CronJob(
        type="t", queue="q", payload=msgspec.Raw(b"\x01"), priority=0, retry_limit=0, backoff=Backoff(1.0, 2, 3),
        retention=Retention(0, 4), batch=Batch("k", "w", "f"),
    )  # fmt: skip
    unique = msgspec.structs.replace(JOB, unique_key="", unique_while="exists")
    for template in (JOB, full, unique):
        job = rules.job_of(template, "id", NOW)
        assert (job.id, job.status, job.ready_at, job.attempts) == ("id", Status.READY, NOW, 0)
        assert rules.template_of(job) == template
